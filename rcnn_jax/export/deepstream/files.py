"""Names of the files of a DeepStream bundle, next to the model. Nothing heavy is imported."""

from pathlib import Path

INFER_CONFIG, LABELS, CLASS_MAP = "nvinfer_config.txt", "labels.txt", "class_map.txt"
APP_CONFIG, README = "deepstream_app_config.txt", "deepstream_README.md"


def bundle_files(model: Path, *, class_map: bool) -> dict[str, Path]:
    """Returns {name: path} of the files next to a model.

    Args:
      model: the exported file.
      class_map: with the file of classes for tao-deploy, which one of the parsers needs.
    """
    names = (INFER_CONFIG, LABELS, APP_CONFIG, README, *([CLASS_MAP] if class_map else []))
    return {name: model.with_name(name) for name in names}
