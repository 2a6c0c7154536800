"""Unfolded batch norm: statistics as training sees them, outputs as before."""

import jax
import numpy as np
import pytest

from rcnn_jax.cli.main import main
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from tests.e2e.tiny import write_tiny


@pytest.fixture(scope="module")
def unfolded(tmp_path_factory):
    """(experiment, folded arrays, unfolded arrays) of the tiny network, through the command."""
    folder = tmp_path_factory.mktemp("unfold")
    spec = write_tiny(folder)
    experiment = build_experiment(load_spec(spec).config, "faster_rcnn")
    variables = experiment.task.init(jax.random.key(1))
    rng = np.random.default_rng(0)
    folded = {
        f"params/{layer}/{leaf}": np.asarray(array)
        if leaf == "kernel"
        else rng.normal(1.0 if leaf == "gamma" else 0.0, 0.2, array.shape).astype(np.float32)
        for layer, leaves in variables["params"].items()
        for leaf, array in leaves.items()
    }
    for layer, leaves in variables["batch_stats"].items():
        for leaf, array in leaves.items():
            constant = np.zeros if leaf == "moving_mean" else np.ones
            folded[f"batch_stats/{layer}/{leaf}"] = constant(array.shape, np.float32)
    given, output = folder / "folded.npz", folder / "unfolded.npz"
    np.savez(given, allow_pickle=False, **folded)
    flags = ["-e", str(spec), "-w", str(given), "-o", str(output), "--batches", "2"]
    assert main(["unfold_batch_norm", *flags]) == 0
    with np.load(output) as file:
        return experiment, folded, dict(file)


def test_statistics_are_found_and_kernels_stay(unfolded):
    _, folded, statistics = unfolded
    assert set(statistics) <= set(folded) and any("moving_mean" in name for name in statistics)
    for name, array in statistics.items():
        if name.endswith("kernel"):
            np.testing.assert_array_equal(array, folded[name])
    means = [array for name, array in statistics.items() if name.endswith("moving_mean")]
    assert all(np.abs(mean).max() > 0 for mean in means)


def test_the_network_computes_what_it_did(unfolded):
    experiment, folded, statistics = unfolded
    task = experiment.task

    def features(arrays):
        variables = {"params": {}, "batch_stats": {}}
        for name, array in {**folded, **arrays}.items():
            group, layer, leaf = name.split("/")
            variables[group].setdefault(layer, {})[leaf] = array
        images = np.random.default_rng(3).normal(size=(1, 64, 64, 3)).astype(np.float32)
        return task.model.apply(variables, images, train=False, method="extract")

    before, after = jax.tree.leaves(features({})), jax.tree.leaves(features(statistics))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * np.abs(one).max())


def test_wrong_flags_are_one_message(tmp_path, capsys):
    spec = write_tiny(tmp_path)
    flags = ["-e", str(spec), "-w", str(spec), "-o", str(tmp_path / "x.tlt")]
    assert main(["unfold_batch_norm", *flags]) == 2
    assert "expected a name ending in .npz" in capsys.readouterr().err
