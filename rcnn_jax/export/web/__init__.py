"""The web page of a model: `page` writes it, `onnxruntime_web` runs it, `assets` holds its parts."""
