"""The newer architecture (batch norm in pyramid and heads, deeper RPN and box head) from scratch, and as
a model that others start from."""

import json
from pathlib import Path

import jax
import numpy as np
import onnx
import pytest

import rcnn_jax
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


def test_it_is_exported_in_int8(run):
    root, spec = run
    model, graph = root / "run" / "model.step-2.tlt", root / "int8" / "model.onnx"
    words = ["--data_type", "int8", "--batches", "1", "--batch_size", "2", "--accept-loss"]
    words += ["--cal_cache_file", str(graph.with_suffix(".cal"))]
    graph.parent.mkdir()
    assert (
        main(["mask_rcnn", "export", "-e", str(spec), "-m", str(model), "-o", str(graph), *words])
        == 0
    )
    kinds = [node.op_type for node in onnx.load(graph).graph.node]
    # 8 of the pyramid, 2 of the RPN, 5 of the box head and 4 of the mask head, beside the backbone.
    assert kinds.count("QuantizeLinear") > 15
    assert "BatchNormalization" not in kinds


def test_its_weakest_filters_can_be_removed(run, capsys):
    root, _ = run
    model = str(root / "run" / "model.step-2.tlt")
    words = ["mask_rcnn", "prune", "-m", model, "--keep-params", "0.6", "-pg", "4", "-nf", "4"]
    assert main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "box-conv-l3" in shown and "rpn-conv-l1" in shown
    assert not (root / "pruned").exists()
    assert main([*words, "-o", str(root / "pruned")]) == 0
    before, after = (
        read_bundle(path).arrays for path in (Path(model), root / "pruned" / "model.tlt")
    )
    for layer in ("box-conv-l1", "rpn-conv-l1"):
        norm = f"batch_stats/{layer}_bn/moving_mean"
        kernel = after[f"params/{layer}/kernel"]
        assert kernel.shape[-1] < before[f"params/{layer}/kernel"].shape[-1]
        assert norm not in after or after[norm].shape == kernel.shape[-1:]
    picture = np.zeros((60, 64, 3), np.uint8)
    assert rcnn_jax.load(root / "pruned" / "model.tlt")(picture).picture is not None


def test_it_is_trained_with_rounding(tmp_path):
    spec = write_tiny(
        tmp_path,
        *NEWER,
        ("num_steps_per_eval: 4", "num_steps_per_eval: 2"),
        ("seed:", "enable_qat: true qat_start: 0.5 seed:"),
    )
    words = ["mask_rcnn", "train", "-e", str(spec), "-d", str(tmp_path / "run"), "--gpus", "1"]
    assert main(words) == 0
    best = read_bundle(tmp_path / "run" / "best.tlt")
    rounded = {name.split("/")[1] for name in best.arrays if name.startswith("quant/")}
    assert best.header["quant_plan"] and rounded
    assert all(
        np.isfinite(array).all() for array in best.arrays.values() if array.dtype.kind == "f"
    )
