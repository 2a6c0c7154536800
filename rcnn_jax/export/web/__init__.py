"""The web page of a model: written by `page`, its parts in `assets/`."""
