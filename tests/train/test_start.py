"""Where a run begins, from real files: the table, the coverage, and what is left to chance."""

import io

import jax
import numpy as np
import pytest
from rich.console import Console

from rcnn_jax.checkpoints.bundle import Bundle, write_bundle
from rcnn_jax.checkpoints.leaves import flatten
from rcnn_jax.checkpoints.schemes import by_layer
from rcnn_jax.cli.main import main
from rcnn_jax.cli.session import Session
from rcnn_jax.errors import CheckpointError
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.train.schedules import make_schedule
from rcnn_jax.train.start import begin
from rcnn_jax.train.step import init_state
from tests.checkpoints.headers import MODEL_HEADER
from tests.e2e import tiny, tiny_mask
from tests.models.tiny import random_variables


def experiment_of(spec, kind):
    return build_experiment(load_spec(spec, kind).config, kind)


def start(experiment, key=None):
    """(state before loading, state after it, what was printed)."""
    variables = random_variables(experiment.task.model, seed=1)
    schedule = make_schedule(experiment.schedule, 10, 1)
    template = init_state(experiment.task, variables, experiment.optimizer, schedule, 0)
    session = Session("test", status_folder=None)
    session.console = Console(file=io.StringIO(), width=200, soft_wrap=True)
    state, progress = begin(experiment, template, key=key, reporter=session)
    assert progress.run_id
    return template, state, session.console.file.getvalue()


def statuses(printed):
    """{layer: (class, status)} of the printed table."""
    rows = [line.split() for line in printed.splitlines() if line.endswith(("Yes", "No", "None"))]
    return {r[0].split("(")[0]: (r[0].split("(")[1].rstrip(")"), r[1]) for r in rows if len(r) == 2}


def same(a, b, layer):
    return all(
        np.array_equal(a.params[layer][leaf], b.params[layer][leaf]) for leaf in a.params[layer]
    )


def other_weights(experiment):
    """{our flat name: array} of the network with other numbers."""
    variables = jax.tree.map(np.asarray, random_variables(experiment.task.model, seed=2))
    return {n: a + 0.25 for name, tree in variables.items() for n, a in flatten(tree, name).items()}


def faster(root, file, training=""):
    spec = tiny.write_tiny(root, images=2, training=f'pretrained_weights: "{file}"\n{training}')
    return experiment_of(spec, "faster_rcnn")


def write_arch(spec, arch, *fields):
    """Puts another backbone into the spec, in place of the narrow ResNet."""
    given = ("channel_plan", *(field.split(":")[0] for field in fields))
    rows = [row for row in spec.read_text().splitlines() if not row.strip().startswith(given)]
    text = "\n".join(rows).replace('arch: "resnet:10"', "\n".join([f'arch: "{arch}"', *fields]))
    spec.write_text(text)


def mask(root, *lines):
    spec = tiny_mask.write_tiny(root)
    text = "\n".join(lines) + "\n" + spec.read_text()
    spec.write_text(
        "\n".join(row for row in text.splitlines() if "checkpoint:" not in row or row in lines)
    )
    return experiment_of(spec, "mask_rcnn")


def test_a_keras_model_fills_backbone_and_tail_and_leaves_the_heads_to_chance(tmp_path):
    h5py = pytest.importorskip("h5py", reason="the extra keras-weights is not installed")
    file = tmp_path / "classifier.hdf5"
    experiment = faster(tmp_path, file)
    weights = by_layer(other_weights(experiment))
    with h5py.File(file, "w") as model:
        for layer, leaves in weights.items():
            if experiment.task.is_backbone(layer):
                for leaf, array in leaves.items():
                    model[f"model_weights/{layer}/{layer}/{leaf}:0"] = array
        model["model_weights/predictions/predictions/kernel:0"] = np.ones((8, 1000))
    before, after, printed = start(experiment)
    rows = statuses(printed)
    assert rows["conv1"] == ("Conv2D", "Yes")
    assert rows["block_4a_bn_1"] == ("BatchNormalization", "Yes")
    assert rows["block_1a_relu"] == ("Activation", "None")
    assert rows["rpn_conv1"] == ("Conv2D", "No") and rows["dense_class_td"] == ("Dense", "No")
    assert f"100.0% of the backbone comes from {file}" in printed
    np.testing.assert_array_equal(
        after.collections["batch_stats"]["bn_conv1"]["moving_mean"],
        weights["bn_conv1"]["moving_mean"],
    )
    for layer in before.params:
        assert same(before, after, layer) != experiment.task.is_backbone(layer), layer


def test_an_encrypted_bundle_gives_all_layers_and_needs_its_key(tmp_path):
    file = tmp_path / "model.tlt"
    experiment = faster(tmp_path, file)
    write_bundle(file, Bundle("faster_rcnn", MODEL_HEADER, other_weights(experiment)), "secret")
    *_, printed = start(experiment, key="secret")
    assert {status for _, status in statuses(printed).values()} == {"Yes", "None"}
    with pytest.raises(CheckpointError, match="the key is wrong"):
        start(experiment, key="other")


def test_a_network_without_batch_norm_starts_too(tmp_path):
    file = tmp_path / "w.npz"
    spec = tiny.write_tiny(tmp_path, images=2, training=f'pretrained_weights: "{file}"')
    blocks = {1: 2, 2: 2, 3: 3, 4: 3, 5: 3}
    names = [f"block{b}_conv{i + 1}" for b, count in blocks.items() for i in range(count)]
    plan = [f'channel_plan {{ key: "{n}" value: 8 }}' for n in (*names, "fc1", "fc2")]
    write_arch(spec, "vgg16", *plan)
    experiment = experiment_of(spec, "faster_rcnn")
    np.savez(file, **other_weights(experiment))
    before, after, printed = start(experiment)
    assert "100.0% of the backbone comes from" in printed
    assert jax.tree.structure(before) == jax.tree.structure(after)


def test_a_layer_of_another_shape_is_no_and_keeps_its_start(tmp_path):
    file = tmp_path / "w.npz"
    experiment = faster(tmp_path, file)
    arrays = other_weights(experiment)
    arrays["params/conv1/kernel"] = np.ones((7, 7, 4, 8), np.float32)
    np.savez(file, **arrays)
    before, after, printed = start(experiment)
    assert statuses(printed)["conv1"] == ("Conv2D", "No")
    assert same(before, after, "conv1") and not same(before, after, "block_1a_conv_1")
    total = sum(a.size for n, a in arrays.items() if experiment.task.is_backbone(n.split("/")[1]))
    ours = before.params["conv1"]["kernel"].size
    fraction = 1 - ours / (total - arrays["params/conv1/kernel"].size + ours)
    assert f"{fraction:.1%} of the backbone comes from" in printed


def test_a_file_of_another_project_stops_the_run_with_exit_code_2(tmp_path, capsys):
    file = tmp_path / "timm.npz"
    np.savez(file, **{"stages.0.0.conv.weight": np.ones((4, 3, 3, 3)), "stem.1.weight": np.ones(3)})
    spec = tiny.write_tiny(tmp_path, images=2, training=f'pretrained_weights: "{file}"')
    assert main(["faster_rcnn", "train", "-e", str(spec)]) == 2
    message = capsys.readouterr().err
    assert (
        f"{file}: fills 0% of the weights expected from it, at least 50% are wanted. Its names look "
        "like those of timm ('stages.0.0.conv'), the model's are like "
    ) in message
    assert "lower min_pretrained_coverage to accept a random start" in message
    assert "Traceback" not in message
    assert not list((tmp_path / "run").glob("**/*.tlt"))


def test_a_lower_minimum_accepts_a_random_start(tmp_path):
    file = tmp_path / "w.npz"
    experiment = faster(tmp_path, file, "min_pretrained_coverage: 0")
    np.savez(file, **{"params/conv9/kernel": np.ones((1, 1, 1, 1))})
    before, after, printed = start(experiment)
    assert "0.0% of the backbone comes from" in printed
    assert all(same(before, after, layer) for layer in before.params)


def test_skipped_names_of_mask_rcnn_keep_their_start_and_are_not_expected(tmp_path):
    file = tmp_path / "w.npz"
    lines = (f'checkpoint: "{file}"', 'skip_checkpoint_variables: "head|^block_[234]"')
    experiment = mask(tmp_path, *lines)
    arrays = other_weights(experiment)
    np.savez(file, **{n: a for n, a in arrays.items() if not n.split("/")[1].startswith("block_3")})
    before, after, printed = start(experiment)
    rows = statuses(printed)
    for layer in (
        "fc6",
        "class-predict",
        "mask-conv-l0",
        "mask_fcn_logits",
        "rpn-box",
        "block_2a_conv_1",
    ):
        assert rows[layer][1] == "No" and same(before, after, layer), layer
    for layer in ("conv1", "block_1a_conv_1", "l3", "post_hoc_d2"):
        assert rows[layer][1] == "Yes" and not same(before, after, layer), layer
    assert "skip_checkpoint_variables 'head|^block_[234]' leaves out: " in printed
    # block 3 is neither in the file nor expected from it
    assert "100.0% of the backbone comes from" in printed


def test_a_pattern_that_finds_nothing_is_warned_about(tmp_path, capsys):
    file = tmp_path / "w.npz"
    experiment = mask(tmp_path, f'checkpoint: "{file}"', 'skip_checkpoint_variables: "haed"')
    np.savez(file, **other_weights(experiment))
    *_, printed = start(experiment)
    assert f"skip_checkpoint_variables 'haed' matches no layer of {file}" in printed


@pytest.mark.parametrize(
    ("arch", "file", "convolutions"),
    [
        ("mobilenet_v1", "mobilenet_v1_1.0_224_imagenet_notop.npz", 27),
        ("mobilenet_v2", "mobilenet_v2_1.0_224_imagenet.npz", 52),
    ],
)
def test_faster_rcnn_starts_from_real_imagenet_weights(shared, tmp_path, arch, file, convolutions):
    path = shared / "data" / "weights" / file
    spec = tiny.write_tiny(tmp_path, images=2, training=f'pretrained_weights: "{path}"')
    write_arch(spec, arch, "all_projections: false", "use_bias: false")
    experiment = experiment_of(spec, "faster_rcnn")
    before, after, printed = start(experiment)
    assert f"100.0% of the backbone comes from {path}" in printed
    rows = statuses(printed)
    filled = [kind for kind, status in rows.values() if status == "Yes"]
    assert filled.count("Conv2D") + filled.count("DepthwiseConv2D") == convolutions
    assert filled.count("BatchNormalization") == convolutions
    assert {name for name, (_, status) in rows.items() if status == "No"} == {
        "rpn_conv1",
        "rpn_out_class",
        "rpn_out_regress",
        "dense_class_td",
        "dense_regress_td",
    }
    assert rows["conv1_relu"] == ("Activation", "None")
    # folded away in the file: a scale of 1 and the bias as shift
    norm = "bn_conv1" if arch == "mobilenet_v2" else "conv1_bn"
    statistics = after.collections["batch_stats"][norm]
    np.testing.assert_array_equal(after.params[norm]["gamma"], 1.0)
    np.testing.assert_array_equal(statistics["moving_mean"], 0.0)
    np.testing.assert_allclose(statistics["moving_variance"], 1.0 - 1e-3, rtol=1e-7)
    np.testing.assert_array_equal(after.params[norm]["beta"], np.load(path)["00_conv.b"])
