"""The commands of the quickstart fit together; `make quickstart` itself runs them."""

import re
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from rcnn_jax.cli import main as program
from rcnn_jax.cli import quickstart
from rcnn_jax.spec import load_spec

ROOT = Path(__file__).parents[2]
PARSED = [
    (title, program._parser("rcnn-jax").parse_args(shlex.split(command)))
    for title, command in quickstart.COMMANDS
]


def task_of(command):
    return tuple(shlex.split(command)[:2])


def test_both_detectors_go_through_every_task_and_end_in_onnx_runtime():
    tasks = [task_of(command) for _, command in quickstart.COMMANDS]
    for detector in ("faster_rcnn", "mask_rcnn"):
        own = [task for kind, task in tasks if kind == detector]
        wanted = ["dataset_convert", "train", "evaluate", "inference", "export", "inference"]
        assert list(dict.fromkeys(own)) == list(dict.fromkeys(wanted))
        assert own[-2:] == ["export", "inference"]
    for detector in ("faster_rcnn", "mask_rcnn"):
        *_, last = [c for _, c in quickstart.COMMANDS if c.startswith(detector)]
        assert ".onnx" in last and "inference" in last


@pytest.mark.parametrize(("title", "args"), PARSED, ids=[title for title, _ in PARSED])
def test_models_are_made_before_they_are_used(title, args):
    made = set()
    for other, earlier in PARSED:
        if other == title:
            break
        if getattr(earlier, "workdir", None) and "export" not in str(earlier.workdir):
            made.add(earlier.workdir / "best.tlt")
        if getattr(earlier, "output", None):
            made.add(earlier.output)
    if getattr(args, "model", None):
        assert args.model in made


def test_the_specs_name_the_data_that_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in (("TRAIN_IMAGES", 2), ("VAL_IMAGES", 1), ("NEW_IMAGES", 1)):
        monkeypatch.setattr(quickstart, name, value)
    quickstart.write_data(Console(quiet=True))
    pictures = [Path(folder) for folder in ("data", "masks/data", "new")]
    for folder, count in zip(pictures, (3, 3, 1), strict=True):
        assert len(list((quickstart.OUTPUT / folder / "images").iterdir())) == count
    first, second = (
        quickstart.OUTPUT / folder / "images" / "000000.png" for folder in pictures[:2]
    )
    assert first.read_bytes() == second.read_bytes()  # the same cells for both detectors
    mask = load_spec(ROOT / quickstart.MASK, "mask_rcnn").config.data_config
    assert Path(mask.val_json_file).is_file()
    convert = load_spec(ROOT / quickstart.CONVERT_SPEC, "dataset_convert").config.kitti_config
    assert (Path(convert.root_directory_path) / convert.label_dir_name).is_dir()
    faster = load_spec(ROOT / quickstart.FASTER, "faster_rcnn").config
    assert Path(faster.inference_config.images_dir).is_dir()


def test_every_spec_that_is_shown_exists():
    for _, command in quickstart.COMMANDS:
        for path in re.findall(r"configs/\S+", command):
            assert (ROOT / path).is_file()
