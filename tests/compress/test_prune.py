"""A model file in, a smaller one out: what is in it, and the laws of pruning again."""

import json
from dataclasses import replace

import numpy as np
import pytest

from rcnn_jax import api
from rcnn_jax.checkpoints.bundle import read_bundle, write_bundle
from rcnn_jax.checkpoints.leaves import flatten
from rcnn_jax.cli.main import main
from rcnn_jax.compress.criteria import PruneSettings
from rcnn_jax.compress.qat import collection
from rcnn_jax.errors import CheckpointError
from rcnn_jax.export.precision.aware import plan_of
from rcnn_jax.runtime.bundle import open_bundle
from tests.export.tiny import images

FINE = ("-nf", "2", "-pg", "2")


def run(kind, *argv, code=0):
    assert main([kind, "prune", *map(str, argv)]) == code


def weights(path, key=None):
    arrays = read_bundle(path, key).arrays
    return {n: a for n, a in arrays.items() if n.split("/")[0] in ("params", "batch_stats")}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.fixture(scope="module")
def pruned(boxes_files, tmp_path_factory):
    """A tiny Faster R-CNN, pruned at 0.9."""
    path = tmp_path_factory.mktemp("pruned") / "pruned.tlt"
    run("faster_rcnn", "-m", boxes_files.model, "-o", path, "-pth", "0.9", *FINE)
    return path


def test_kept_filters_are_the_strongest_of_the_layer_that_was_trained(boxes_files, pruned):
    before, after = weights(boxes_files.model), weights(pruned)
    kernel = "params/block_2a_conv_1/kernel"  # decides for itself
    norms = np.linalg.norm(before[kernel].reshape(-1, before[kernel].shape[-1]), axis=0)
    count = max(2, -(-int((norms > 0.9 * norms.max()).sum()) // 2) * 2)
    chosen = np.sort(np.argsort(-norms, kind="stable")[:count])
    gamma = "params/block_2a_bn_1/gamma"
    np.testing.assert_array_equal(after[gamma], before[gamma][chosen])
    assert after[kernel].shape[-1] == len(chosen) < before[kernel].shape[-1]


def test_the_file_says_its_widths_and_its_history_and_has_no_optimizer(pruned):
    bundle = read_bundle(pruned)
    plan = bundle.header["channel_plan"]
    assert all(plan[n] == bundle.arrays[f"params/{n}/kernel"].shape[-1] for n in plan)
    (record,) = bundle.header["pruning"]
    assert record["threshold"] == 0.9 and record["criterion"] == "union"
    assert record["parameters"][0] > record["parameters"][1]
    assert {name.split("/")[0] for name in bundle.arrays} == {"params", "batch_stats", "pruning"}


def test_a_model_trained_with_fake_quantisation_is_pruned_to_a_float_model(
    boxes_files, pruned, tmp_path, capsys
):
    float_model = open_bundle(boxes_files.model, None)
    experiment, variables = float_model.load(float_model.stored_experiment())
    plan = plan_of(experiment)
    ranges = {(name, i): 0.1 for name, inputs in plan.sites for i in inputs}
    quant = flatten(collection(plan, ranges), "quant")
    header = {**float_model.bundle.header, "quant_plan": plan.to_json()}
    rounded = tmp_path / "rounded.tlt"
    arrays = {**float_model.bundle.arrays, **quant}
    write_bundle(rounded, replace(float_model.bundle, header=header, arrays=arrays))
    assert open_bundle(rounded, None).load(experiment)[0].task.model.quant == plan

    run("faster_rcnn", "-m", rounded, "-o", tmp_path / "out.tlt", "-pth", "0.9", *FINE)
    assert "its ranges are left out" in " ".join(capsys.readouterr().out.split())
    out = read_bundle(tmp_path / "out.tlt")
    assert "quant_plan" not in out.header
    assert not any(name.startswith("quant/") for name in out.arrays)
    assert_same(weights(pruned), weights(tmp_path / "out.tlt"))


def test_pruning_is_a_function_of_the_library(boxes_files, pruned, tmp_path, capfd):
    settings = PruneSettings(min_filters=2, granularity=2)
    choices = {"thresholds": (0.9,), "settings": settings}
    summary = api.prune(boxes_files.model, tmp_path / "out.tlt", **choices)
    assert_same(weights(pruned), weights(tmp_path / "out.tlt"))
    record = read_bundle(pruned).header["pruning"][0]
    assert record["parameters"] == [summary.costs.parameters, summary.choices[0].costs.parameters]
    assert capfd.readouterr().out == ""


def test_pruning_twice_is_pruning_once(pruned, tmp_path, capsys):
    run("faster_rcnn", "-m", pruned, "-o", tmp_path / "again.tlt", "-pth", "0.9", *FINE)
    assert_same(weights(pruned), weights(tmp_path / "again.tlt"))
    assert "removes nothing: the lowest threshold that does is" in capsys.readouterr().out


@pytest.mark.parametrize(
    "more", [(), ("-n", "l2"), ("-eq", "intersection", "--rank", "isomorphic")]
)
def test_two_steps_are_one_at_the_higher_threshold(boxes_files, tmp_path, more):
    low, high = ("2.5", "2.9") if "-n" in more else ("0.7", "0.9")
    once, first, twice = (tmp_path / f"{name}.tlt" for name in ("once", "first", "twice"))
    run("faster_rcnn", "-m", boxes_files.model, "-o", once, "-pth", high, *FINE, *more)
    run("faster_rcnn", "-m", boxes_files.model, "-o", first, "-pth", low, *FINE, *more)
    run("faster_rcnn", "-m", first, "-o", twice, "-pth", high, *FINE, *more)
    assert_same(weights(once), weights(twice))
    changed = [n for n, a in weights(once).items() if a.shape != weights(first)[n].shape]
    assert changed, "the two thresholds must differ for the law to say anything"


def test_a_threshold_of_zero_changes_nothing(boxes_files, tmp_path):
    run("faster_rcnn", "-m", boxes_files.model, "-o", tmp_path / "same.tlt", "-pth", "0", *FINE)
    assert_same(weights(boxes_files.model), weights(tmp_path / "same.tlt"))


def test_a_encrypted_model_stays_encrypted(boxes_files, tmp_path):
    encrypted, out = tmp_path / "encrypted.tlt", tmp_path / "out.tlt"
    write_bundle(encrypted, read_bundle(boxes_files.model), "secret")
    run("faster_rcnn", "-m", encrypted, "-o", out, "-k", "secret", "-pth", "0.9", *FINE)
    with pytest.raises(CheckpointError, match="key"):
        read_bundle(out, None)
    assert weights(out, "secret")


def test_excluded_layers_and_all_that_share_their_decision_keep_every_filter(boxes_files, tmp_path):
    out = tmp_path / "out.tlt"
    layers = ("conv1", "block_1a_conv_shortcut")
    run("faster_rcnn", "-m", boxes_files.model, "-o", out, "-pth", "0.99", *FINE, "-el", *layers)
    before, after = weights(boxes_files.model), weights(out)
    for layer in (*layers, "block_1a_conv_2"):
        assert (
            after[f"params/{layer}/kernel"].shape[-1] == before[f"params/{layer}/kernel"].shape[-1]
        )
    plan = read_bundle(out).header["channel_plan"]
    assert plan["block_4a_conv_1"] < 8


def test_an_unknown_layer_is_named_with_the_nearest(boxes_files, capsys):
    run("faster_rcnn", "-m", boxes_files.model, "--dry-run", "-el", "block_1a_conv", code=2)
    assert "did you mean block_1a_conv_" in capsys.readouterr().err


def test_a_mask_rcnn_goes_into_a_folder_and_must_not_replace_a_model(masks_files, tmp_path, capsys):
    flags = ("-m", masks_files.model, "-o", tmp_path, "-pth", "0.9", *FINE)
    run("mask_rcnn", *flags)
    assert (tmp_path / "model.tlt").is_file()
    plan = read_bundle(tmp_path / "model.tlt").header["channel_plan"]
    before = read_bundle(masks_files.model).arrays
    for level in range(2, 6):  # as in the original
        name = f"post_hoc_d{level}"
        assert plan.get(name, 0) in (0, before[f"params/{name}/kernel"].shape[-1])
    run("mask_rcnn", *flags, code=2)
    assert "exists already" in capsys.readouterr().err


def test_a_pruned_model_predicts_without_special_cases(pruned, boxes_files):
    opened = open_bundle(pruned, None)
    experiment = opened.stored_experiment()
    predict = opened.predictor(experiment, experiment.inference)
    detections, _ = predict(images(1, (96, 96)))
    assert np.isfinite(np.asarray(detections.boxes)).all()


def test_a_dry_run_shows_several_thresholds_and_writes_no_model(boxes_files, tmp_path, capsys):
    flags = ("--dry-run", "-pth", "0.1,0.9", "-r", tmp_path, *FINE)
    run("faster_rcnn", "-m", boxes_files.model, *flags)
    shown = capsys.readouterr().out
    assert "-pth 0.1 removes nothing: the lowest threshold that does is" in shown
    assert "the floor -nf 2 held in block_1a_conv_1" in shown
    assert {p.name for p in tmp_path.iterdir()} == {
        "model.pruning.json",
        "model.pruning.png",
        "status.json",
    }
    report = json.loads((tmp_path / "model.pruning.json").read_text())
    layers = {row["name"]: row for row in report["layers"]}
    assert layers["block_1a_conv_2"]["group"] == layers["block_1a_conv_shortcut"]["group"]
    assert layers["dense_class_td"]["decided_by"] == "classes or anchors"
    assert all(row["decided_by"] for row in report["layers"]), "no layer without a reason"
    first, second = report["thresholds"]
    assert first["parameters"] == report["before"]["parameters"] > second["parameters"]


def test_latency_is_measured_beside_the_parameters(boxes_files, tmp_path, capsys):
    flags = ("--dry-run", "-pth", "0.9", "-r", tmp_path, "--latency", *FINE)
    run("faster_rcnn", "-m", boxes_files.model, *flags)
    assert "ms in JAX" in capsys.readouterr().out
    report = json.loads((tmp_path / "model.pruning.json").read_text())
    assert report["before"]["seconds"] > 0 and report["thresholds"][0]["seconds"] > 0


def test_a_narrow_granularity_warns(boxes_files, capsys):
    run("faster_rcnn", "-m", boxes_files.model, "--dry-run", "-pg", "4")
    assert (
        "-pg 4: kernels of TensorRT and of int8 work on multiples of 8" in capsys.readouterr().out
    )


@pytest.mark.parametrize("flag", ["--keep-params", "--keep-flops"])
def test_a_fraction_finds_the_lowest_threshold_that_keeps_no_more(boxes_files, tmp_path, flag):
    flags = ("-m", boxes_files.model, "--dry-run", "-r", tmp_path, *FINE)
    run("faster_rcnn", *flags, flag, "0.6")
    report = json.loads((tmp_path / "model.pruning.json").read_text())
    (choice,) = report["thresholds"]
    cost = "parameters" if flag == "--keep-params" else "flops"
    assert choice[cost] <= 0.6 * report["before"][cost]
    run("faster_rcnn", *flags, "-pth", repr(float(np.nextafter(choice["threshold"], 0))))
    (less,) = json.loads((tmp_path / "model.pruning.json").read_text())["thresholds"]
    assert less[cost] > 0.6 * report["before"][cost]


def test_a_fraction_that_the_floors_forbid_is_refused_with_the_least(boxes_files, capsys):
    run("faster_rcnn", "-m", boxes_files.model, "--dry-run", "--keep-params", "0.001", code=2)
    assert "the least that can be kept is 1.000, with -nf 16 and -pg 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["-pth", "0.1,0.2", "-o", "x.tlt"], "several go with --dry-run"),
        (["-pth", "x", "--dry-run"], "expected a number"),
        (["-pth", "-1", "--dry-run"], "expected 0 or more"),
        (["-pth", "nan", "--dry-run"], "expected 0 or more"),
        (["-pth", "0.1", "--keep-params", "0.5", "--dry-run"], "give one of them"),
        (["--keep-flops", "20", "--dry-run"], "a fraction between 0 and 1"),
        (["-pg", "0", "--dry-run"], "-pg 0: expected 1 or more"),
        (["-n", "l3", "--dry-run"], "expected max or L2"),
        (["-eq", "both", "--dry-run"], "arithmetic_mean"),
        ([], "required: -o, or --dry-run"),
    ],
)
def test_flags_that_cannot_be_are_refused_in_one_message(boxes_files, flags, expected, capsys):
    run("faster_rcnn", "-m", boxes_files.model, *flags, code=2)
    assert expected in capsys.readouterr().err


def test_a_model_of_the_other_detector_is_refused(boxes_files, tmp_path, capsys):
    run("mask_rcnn", "-m", boxes_files.model, "-o", tmp_path, code=2)
    assert "faster_rcnn" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"norms": np.zeros(0, np.float32)},
        {"kept": np.zeros(8, np.int32)},
        {"kept": np.arange(900, 908, dtype=np.int32)},
        {"norms": np.full(8, np.nan, np.float32)},
        {"shape": np.zeros((2, 2), np.int32)},
    ],
)
def test_norms_that_are_not_of_the_layer_are_refused(pruned, tmp_path, change, capsys):
    bundle = read_bundle(pruned)
    arrays = {f"pruning/conv1/{name}": array for name, array in change.items()}
    write_bundle(
        tmp_path / "forged.tlt",
        type(bundle)(bundle.kind, bundle.header, {**bundle.arrays, **arrays}),
    )
    run("faster_rcnn", "-m", tmp_path / "forged.tlt", "--dry-run", code=2)
    assert "the norms of conv1 that pruning stored do not fit" in capsys.readouterr().err
