"""A cascade from training to int8 and pruning, from the command line."""

import json

import numpy as np
import onnx
import pytest

from rcnn_jax.checkpoints.bundle import read_bundle
from rcnn_jax.cli.main import main
from tests.e2e.tiny_mask import write_tiny

pytestmark = pytest.mark.long

CASCADE = (
    ("num_epochs: 2", "total_steps: 2"),
    ("num_steps_per_eval: 4", "num_steps_per_eval: 2"),
    (
        "include_mask: true",
        'include_mask: true\n  cascade_ious: [0.5, 0.6, 0.7]\n  head_norm: "group"\n  fpn_norm: "group"',
    ),
    (
        'channel_plan { key: "rpn"',
        "".join(
            f'channel_plan {{ key: "{name}-{head}" value: 32 }}\n  '
            for name in ("fc6", "fc7")
            for head in (2, 3)
        )
        + 'channel_plan { key: "rpn"',
    ),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(root, spec) after two steps."""
    root = tmp_path_factory.mktemp("cascade")
    spec = write_tiny(root, *CASCADE)
    words = ["mask_rcnn", "train", "-e", str(spec), "-d", str(root / "run"), "--gpus", "1"]
    assert main(words) == 0
    return root, spec


def test_it_trains_all_heads_and_reports_their_losses(run):
    root, _ = run
    rows = [json.loads(line) for line in (root / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("box_3" in json.dumps(row) for row in rows)
    arrays = read_bundle(root / "run" / "model.step-2.tlt").arrays
    assert arrays["params/box-predict-3/bias"].shape == (4,)
    assert np.abs(arrays["params/box-predict-3/bias"]).max() > 0
    assert "params/mask-conv-l0_gn/gamma" in arrays


def test_it_is_evaluated(run):
    root, spec = run
    model = str(root / "run" / "model.step-2.tlt")
    assert main(["mask_rcnn", "evaluate", "-e", str(spec), "-m", model]) == 0


def test_it_is_exported_and_agrees(run):
    root, _ = run
    model, graph = root / "run" / "model.step-2.tlt", root / "model.onnx"
    assert main(["mask_rcnn", "export", "-m", str(model), "-o", str(graph)]) == 0
    kinds = [node.op_type for node in onnx.load(graph).graph.node]
    assert kinds.count("InstanceNormalization") == 8 + 4  # pyramid, mask head
    assert json.loads((root / "model.onnx.check.json").read_text())


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_it_is_exported_in_lower_precision(run, precision):
    root, spec = run
    model, graph = root / "run" / "model.step-2.tlt", root / precision / "model.onnx"
    words = ["--data_type", precision, "--accept-loss"]
    if precision == "int8":
        words += ["--batches", "1", "--batch_size", "2"]
        words += ["--cal_cache_file", str(graph.with_suffix(".cal"))]
    graph.parent.mkdir()
    words = ["-e", str(spec), "-m", str(model), "-o", str(graph), *words]
    assert main(["mask_rcnn", "export", *words]) == 0


def test_its_weakest_filters_can_be_removed(run, capsys):
    root, _ = run
    model = str(root / "run" / "model.step-2.tlt")
    words = ["mask_rcnn", "prune", "-m", model, "--keep-params", "0.6", "-pg", "4", "-nf", "4"]
    assert main([*words, "-o", str(root / "pruned")]) == 0
    assert "fc6-2" in capsys.readouterr().out
