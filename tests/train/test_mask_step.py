"""The train step of Mask R-CNN on two devices, and the fields about devices and their memory."""

import jax
import numpy as np
import pytest

from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from tests.e2e import tiny, tiny_mask
from tests.train.test_step import run


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    spec = tiny_mask.write_tiny(tmp_path_factory.mktemp("step"))
    return build_experiment(load_spec(spec).config, "mask_rcnn")


def test_results_do_not_depend_on_the_number_of_devices(experiment):
    """Counts of masks differ from device to device; each loss is divided by that of all."""
    _, one, metrics_one, _ = run(experiment, 1, 2)
    _, two, metrics_two, _ = run(experiment, 2, 2)
    assert metrics_one[0]["mask"] > 0
    for a, b in zip(metrics_one, metrics_two, strict=True):
        assert a == pytest.approx(b, rel=2e-4, abs=1e-6)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("faster_rcnn", 'training_config { sharding: "fsdp" }'),
        ("faster_rcnn", "training_config { model_parallelism: 0.3 model_parallelism: 0.7 }"),
        ("mask_rcnn", 'sharding: "fsdp"'),
    ],
)
def test_a_spec_divides_the_weights_among_devices(tmp_path, kind, field):
    write = tiny.write_tiny if kind == "faster_rcnn" else tiny_mask.write_tiny
    spec = write(tmp_path)
    assert build_experiment(load_spec(spec).config, kind).run.sharding == "none"
    spec.write_text(f"{spec.read_text()}\n{field}\n")
    divided = build_experiment(load_spec(spec).config, kind)
    assert divided.run.sharding == "fsdp"


@pytest.mark.parametrize(
    ("kind", "field"),
    [("faster_rcnn", "training_config { remat: true }"), ("mask_rcnn", "remat: true")],
)
def test_a_spec_asks_for_activations_to_be_computed_again(tmp_path, kind, field):
    write = tiny.write_tiny if kind == "faster_rcnn" else tiny_mask.write_tiny
    spec = write(tmp_path)
    assert not build_experiment(load_spec(spec).config, kind).task.model.remat
    spec.write_text(f"{spec.read_text()}\n{field}\n")
    assert build_experiment(load_spec(spec).config, kind).task.model.remat
