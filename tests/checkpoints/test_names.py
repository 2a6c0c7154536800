from pathlib import Path

import pytest

from rcnn_jax.checkpoints.names import Progress, epoch_bundle, parse, step_bundle


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("frcnn_kitti_resnet18_retrain.epoch12.tlt", ("frcnn_kitti_resnet18_retrain", "epoch", 12)),
        ("frcnn_resnet_18.epoch_7.tlt", ("frcnn_resnet_18", "epoch", 7)),
        ("frcnn_resnet_18.epoch_007.hdf5", ("frcnn_resnet_18", "epoch", 7)),
        ("model.step-25000.tlt", ("model", "step", 25000)),
        ("model.epoch-3.tlt", ("model", "epoch", 3)),
        ("a.epoch1.b.epoch2.tlt", ("a.epoch1.b", "epoch", 2)),
    ],
)
def test_names_of_all_generations_are_read(name, expected):
    assert parse(Path("/some.epoch9.tlt/folder") / name) == Progress(*expected)


@pytest.mark.parametrize("name", ["best.tlt", "model.tlt", "epoch3.tlt", "a.epoch.tlt", "a.epoch3"])
def test_other_names_say_nothing(name):
    assert parse(name) is None


def test_made_names_are_read_back():
    assert epoch_bundle("out/x.tlt", 3) == Path("out/x.epoch3.tlt")
    assert epoch_bundle(Path("out/x.v2"), 3) == Path("out/x.v2.epoch3.tlt")
    assert parse(epoch_bundle("x.tlt", 3)) == Progress("x", "epoch", 3)
    assert parse(step_bundle("out", 40)) == Progress("model", "step", 40)
