"""Writes the files of a DeepStream bundle, after reading them back as nvinfer would."""

import configparser
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.errors import ExportError
from rcnn_jax.export.deepstream.config import (
    COLOR_FORMATS,
    DeepStreamBundle,
    app_config,
    infer_config,
    labels,
)
from rcnn_jax.export.deepstream.files import (
    APP_CONFIG,
    CLASS_MAP,
    INFER_CONFIG,
    LABELS,
    README,
    bundle_files,
)
from rcnn_jax.export.deepstream.parsers import parser_of
from rcnn_jax.export.deepstream.readme import readme
from rcnn_jax.runtime.header import Header


def write_bundle(bundle: DeepStreamBundle) -> list[Path]:
    """Writes the files next to the model, over those of an earlier export; returns their paths.

    Raises:
      ExportError: what nvinfer would read is not what the model takes.
    """
    files = {
        INFER_CONFIG: infer_config(bundle),
        LABELS: "\n".join(labels(bundle.header)) + "\n",
        APP_CONFIG: app_config(bundle),
        README: readme(bundle),
    }
    shifted = parser_of(bundle.header).background_first
    if shifted:
        files[CLASS_MAP] = "\n".join(bundle.header.class_names) + "\n"
    verify(files, bundle.header)
    paths = bundle_files(bundle.model, class_map=shifted)
    for name, path in paths.items():
        write_file(path, [files[name].encode()])
    return list(paths.values())


def verify(files: dict[str, str], header: Header) -> None:
    """Reads config and labels back as nvinfer does and compares them with the header.

    Args:
      files: {name: text} of the bundle.
      header: of the graph.

    Raises:
      ExportError: they say something else.
    """
    # GLib's key files separate by '=' only; ':' stands in paths and URIs.
    config = configparser.ConfigParser(delimiters=("=",), comment_prefixes=("#",))
    config.read_string(files[INFER_CONFIG])
    keys = config["property"]
    lines = files[LABELS].splitlines()
    size = ";".join(str(dim) for dim in (len(header.mean), *header.canvas))
    order = str(COLOR_FORMATS[header.channel_order])
    for what, right in (
        ("net-scale-factor and offsets", _scaled_alike(keys, header)),
        ("model-color-format", keys["model-color-format"] == order),
        ("infer-dims", keys["infer-dims"] == size),
        ("num-detected-classes", keys["num-detected-classes"] == str(len(lines))),
        (LABELS, lines == labels(header)),
    ):
        if not right:
            raise ExportError(f"the DeepStream bundle was not written: {what} are not the model's")


def _scaled_alike(keys: Mapping[str, str], header: Header) -> bool:
    """Returns whether nvinfer normalises every pixel value as the training did."""
    offsets = np.asarray(keys["offsets"].split(";"), np.float32)
    if offsets.size != len(header.mean):
        return False
    # Every pixel value there is, in nvinfer's float32: a swapped mean or an inverted factor cannot
    # hide.
    pixels = np.arange(256, dtype=np.float32)[:, None]
    wanted = (pixels - np.asarray(header.mean, np.float32)) / np.asarray(header.std, np.float32)
    given = np.float32(keys["net-scale-factor"]) * (pixels - offsets)
    return np.allclose(given, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
