"""`init` on images that one object fills."""

import shlex

import pytest

from rcnn_jax.cli.main import main
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from tests.data.layouts.folders import kitti_line, picture, text


def folder_of(path, side):
    """Ten images of 96 x 128 pixels with an object of a side."""
    for index in range(10):
        picture(path / "images" / f"{index}.png", 96, 128)
        text(path / "labels" / f"{index}.txt", kitti_line("cat", 4, 4, 4 + side, 4 + side))
    return path


@pytest.mark.parametrize(
    ("side", "flags", "canonical"),
    [
        (70, "--canvas 192x256", 55.0),  # a quarter of the root of 192 x 256
        (20, "--canvas 192x256", 224.0),
        (70, "--canvas 384x512", 111.0),
    ],
)
def test_objects_as_large_as_the_image_are_pooled_from_coarse_levels(
    tmp_path, monkeypatch, side, flags, canonical
):
    monkeypatch.setenv("RCNN_JAX_CACHE", str(tmp_path / "cache"))
    spec = tmp_path / "spec.txt"
    words = f"--detector mask_rcnn --weights none --threads 1 --accept-errors {flags}"
    data = folder_of(tmp_path / "data", side)
    assert main(["init", str(data), "-o", str(spec), *shlex.split(words)]) == 0
    loaded = load_spec(spec, task="train")
    assert loaded.config.maskrcnn_config.canonical_box_size == canonical
    task = build_experiment(loaded.config, "mask_rcnn").task
    assert task.settings.canonical_box_size == canonical
