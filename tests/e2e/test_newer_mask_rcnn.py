"""The newer architecture (batch norm in pyramid and heads, deeper RPN and box head) from scratch, and as
a model that others start from."""

import json

import jax
import numpy as np
import pytest

from rcnn_jax.checkpoints.bundle import read_bundle
from rcnn_jax.cli.main import main
from tests.e2e.tiny_mask import write_tiny

pytestmark = pytest.mark.long

NEWER = (
    (
        "num_epochs: 2",
        "total_steps: 2\nheads_only_steps: 1\nbackbone_lr_factor: 0.5\nlayer_decay: 0.9",
    ),
    (
        "include_mask: true",
        'include_mask: true\n  rpn_conv_depth: 2\n  box_head: "4conv1fc"\n  fpn_norm: "bn"\n'
        '  head_norm: "bn"',
    ),
    (
        'channel_plan { key: "rpn"',
        "".join(f'channel_plan {{ key: "box-conv-l{i}" value: 32 }}\n  ' for i in range(4))
        + 'channel_plan { key: "rpn-conv-l1" value: 32 }\n  channel_plan { key: "rpn"',
    ),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(root, spec) after two steps, of which the first trains the heads alone."""
    root = tmp_path_factory.mktemp("newer")
    spec = write_tiny(root, *NEWER, ("num_steps_per_eval: 4", "num_steps_per_eval: 1"))
    assert (
        main(["mask_rcnn", "train", "-e", str(spec), "-d", str(root / "run"), "--gpus", "1"]) == 0
    )
    return root, spec


def test_its_layers_are_trained_and_statistics_move(run):
    root, _ = run
    one, two = (read_bundle(root / "run" / f"model.step-{n}.tlt").arrays for n in (1, 2))
    for name in (
        "params/l3_bn/gamma",
        "params/rpn-conv-l1/kernel",
        "params/box-conv-l2/kernel",
        "batch_stats/box-conv-l0_bn/moving_mean",
        "batch_stats/post_hoc_d4_bn/moving_variance",
    ):
        assert not np.array_equal(one[name], two[name]), name
    assert "params/fc7/kernel" not in two and "params/l3/bias" not in two
    assert all(np.isfinite(array).all() for array in two.values() if array.dtype.kind == "f")


def test_the_backbone_keeps_its_values_while_the_heads_are_trained_alone(run):
    root, spec = run
    from rcnn_jax.spec.load import load_spec
    from rcnn_jax.tasks.build import build_experiment

    experiment = build_experiment(load_spec(spec).config, "mask_rcnn")
    start = experiment.task.init(jax.random.key(experiment.seed))
    one = read_bundle(root / "run" / "model.step-1.tlt").arrays
    two = read_bundle(root / "run" / "model.step-2.tlt").arrays
    kernel, mean = "params/block_2a_conv_1/kernel", "batch_stats/bn_conv1/moving_mean"
    assert not np.array_equal(one[kernel], two[kernel]) and not np.array_equal(one[mean], two[mean])
    assert not one[mean].any()  # as at the start
    assert np.array_equal(one["params/bn_conv1/gamma"], start["params"]["bn_conv1"]["gamma"])


def test_it_is_exported_and_agrees(run):
    root, spec = run
    model, graph = root / "run" / "model.step-2.tlt", root / "model.onnx"
    assert main(["mask_rcnn", "export", "-m", str(model), "-o", str(graph)]) == 0
    assert json.loads((root / "model.onnx.check.json").read_text())
