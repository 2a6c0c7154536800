"""The train step of the tiny experiment on one, two and four (virtual) devices."""

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest

from rcnn_jax.data.loader.pipeline import training_batches
from rcnn_jax.models.backbones import resnet
from rcnn_jax.settings.data import LoaderSettings
from rcnn_jax.spec.load import load_spec
from rcnn_jax.structures import GroundTruth
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.train import parallel
from rcnn_jax.train.optimizer import split_params
from rcnn_jax.train.schedules import make_schedule
from rcnn_jax.train.step import init_state, make_step
from tests.e2e.tiny import write_tiny

GLOBAL_BATCH = 4
STEPS_PER_EPOCH = 2


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    spec = write_tiny(tmp_path_factory.mktemp("step"), training="ema_decay: 0.9")
    return build_experiment(load_spec(spec).config, "faster_rcnn")


def frozen_experiment(experiment, *, freeze_bn=False, freeze_blocks=()):
    options = dataclasses.replace(experiment.task.model.options, freeze_bn=freeze_bn)
    model = experiment.task.model.clone(options=options, freeze_blocks=freeze_blocks)
    return dataclasses.replace(experiment, task=dataclasses.replace(experiment.task, model=model))


def batches(experiment):
    loader = LoaderSettings(global_batch=GLOBAL_BATCH, seed=1)
    return training_batches(
        experiment.train_source(),
        experiment.geometry,
        experiment.augment,
        experiment.train_gt,
        "bgr",
        loader,
    )


def run(
    experiment,
    devices,
    steps,
    change=lambda batch: batch,
    body="shard_map",
    accumulate=1,
    divided=False,
):
    """Returns (state, list of metrics, number of traces) after some steps on some devices."""
    task, chosen = experiment.task, parallel.choose_devices(devices, body, divided)
    schedule = make_schedule(experiment.schedule, 10)
    state = init_state(
        task, task.init(jax.random.key(0)), experiment.optimizer, schedule, experiment.seed
    )
    step = make_step(
        task,
        experiment.optimizer,
        schedule,
        steps_per_epoch=STEPS_PER_EPOCH,
        axis_name=parallel.AXIS,
        accumulate=accumulate,
        slices=chosen.slices,
    )
    traces = []

    def counted(state, batch):
        traces.append(1)
        return step(state, batch)

    mapped = parallel.map_step(counted, chosen, state)
    replicas = parallel.replicate(state, chosen)
    seen = []
    stream = batches(experiment)
    for _ in range(steps):
        replicas, metrics = mapped(replicas, parallel.shard(change(next(stream)), chosen))
        seen.append(
            {name: float(v) for name, v in parallel.on_first_device(metrics, chosen).items()}
        )
    return state, parallel.first_replica(replicas, chosen), seen, len(traces)


@pytest.fixture(scope="module")
def runs(experiment):
    return cache(lambda devices, body="shard_map": run(experiment, devices, 3, body=body))


def test_the_step_is_traced_once(runs):
    assert runs(1)[3] == 1


def test_losses_are_finite_and_named(runs):
    for metrics in runs(1)[2]:
        assert set(metrics) == {
            "rpn_class", "rpn_box", "class", "box", "penalty", "loss", "learning_rate",
        }  # fmt: skip
        assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("devices", [2, 4])
def test_results_do_not_depend_on_the_number_of_devices(runs, devices):
    """The same global batch: losses, weights and statistics agree up to the order of sums."""
    _, one, metrics_one, _ = runs(1)
    _, many, metrics_many, _ = runs(devices)
    for a, b in zip(metrics_one, metrics_many, strict=True):
        assert a == pytest.approx(b, rel=2e-4, abs=1e-6)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(many.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5)
    for a, b in zip(
        jax.tree.leaves(one.collections), jax.tree.leaves(many.collections), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_both_bodies_take_the_same_steps(runs):
    """`pmap` cuts the batch as `shard_map` does: what differs is the last bit of fused sums."""
    _, one, metrics_one, _ = runs(2)
    _, other, metrics_other, _ = runs(2, "pmap")
    for a, b in zip(metrics_one, metrics_other, strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-7)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", [{"accumulate": 2}, {"remat": True}], ids=str)
def test_ways_to_save_memory_leave_losses_and_weights_as_they_are(experiment, how):
    """With frozen statistics; trained ones are taken over a part, which `docs/cluster.md` says."""
    frozen = frozen_experiment(experiment, freeze_bn=True)
    _, plain, metrics, _ = run(frozen, 1, 2)
    changed = frozen
    if how.pop("remat", False):
        task = dataclasses.replace(frozen.task, model=frozen.task.model.clone(remat=True))
        changed = dataclasses.replace(frozen, task=task)
    _, saved, metrics_saved, traces = run(changed, 1, 2, **how)
    assert traces == 1
    for a, b in zip(metrics, metrics_saved, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6)
    for a, b in zip(jax.tree.leaves(plain.params), jax.tree.leaves(saved.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_weights_divided_among_devices_take_the_same_steps(experiment, monkeypatch):
    """The same program up to the slices: losses and weights agree to the order of sums."""
    monkeypatch.setattr("rcnn_jax.train.sharding.LEAST", 64)  # the network is tiny
    clipped = dataclasses.replace(
        experiment, optimizer=dataclasses.replace(experiment.optimizer, clip_norm=1.0)
    )
    _, whole, metrics, _ = run(clipped, 4, 2)
    _, divided, metrics_divided, traces = run(clipped, 4, 2, divided=True)
    assert traces == 1
    assert share_on_a_device(divided) < 0.4
    for a, b in zip(metrics, metrics_divided, strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-7)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(divided), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def share_on_a_device(state):
    """The part of weights and momenta that one of four devices keeps."""
    chosen = parallel.choose_devices(4, "shard_map", True)
    trees = [state, parallel.on_first_device(parallel.replicate(state, chosen), chosen)]
    whole, own = (
        sum(leaf.size for leaf in jax.tree.leaves((tree.params, tree.opt_state, tree.ema)))
        for tree in trees
    )
    return own / whole


def test_a_device_keeps_its_share_of_large_leaves_only():
    slices = parallel.Slices(parallel.AXIS, 4)
    assert slices.axis((3, 3, 64, 128)) == 3
    assert slices.axis((7, 7, 3, 64)) == 3
    assert slices.axis((64,)) is None
    assert slices.axis((4096, 3)) == 0
    assert slices.axis((4097, 3)) is None


def test_epoch_sums_start_anew_with_every_epoch(runs):
    _, state, metrics, _ = runs(1)
    total, count = state.epoch_sums["loss"]
    assert count == 3 - STEPS_PER_EPOCH
    assert total == pytest.approx(metrics[-1]["loss"])


def test_average_lies_between_the_weights_it_averages(runs):
    before, state, _, _ = runs(1)
    kernel = ("conv1", "kernel")
    start, now, mean = (
        np.asarray(tree[kernel[0]][kernel[1]]) for tree in (before.params, state.params, state.ema)
    )
    assert not np.array_equal(mean, now)
    assert np.abs(mean - start).max() < np.abs(now - start).max()


def test_frozen_blocks_keep_every_bit_and_everything_else_moves(experiment):
    frozen = frozen_experiment(experiment, freeze_blocks=(0, 1))
    before, after, _, _ = run(frozen, 1, 2)
    for layer, leaves in before.params.items():
        kept = layer in ("conv1", "bn_conv1") or layer.startswith("block_1a")
        for leaf, value in leaves.items():
            same = np.array_equal(value, after.params[layer][leaf])
            assert same == kept, f"{layer}/{leaf}"
    for layer, leaves in before.collections["batch_stats"].items():
        kept = layer == "bn_conv1" or layer.startswith("block_1a")
        for leaf, value in leaves.items():
            same = np.array_equal(value, after.collections["batch_stats"][layer][leaf])
            assert same == kept, f"{layer}/{leaf}"


def test_optimizer_keeps_no_state_for_frozen_layers(experiment):
    frozen = frozen_experiment(experiment, freeze_blocks=(0, 1))
    task = frozen.task
    state = init_state(
        task,
        task.init(jax.random.key(0)),
        frozen.optimizer,
        make_schedule(frozen.schedule, 10),
        0,
    )
    trainable, _ = split_params(state.params, task.is_frozen)
    momenta = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    assert len(momenta) == len(trainable)
    assert sum(leaf.size for leaf in momenta) == sum(leaf.size for leaf in trainable.values())


def test_frozen_batch_norm_keeps_statistics_and_trains_gamma_and_beta(experiment):
    before, after, _, _ = run(frozen_experiment(experiment, freeze_bn=True), 1, 2)
    assert jax.tree.all(
        jax.tree.map(
            np.array_equal, before.collections["batch_stats"], after.collections["batch_stats"]
        )
    )
    for leaf in ("gamma", "beta"):
        assert not np.array_equal(before.params["bn_conv1"][leaf], after.params["bn_conv1"][leaf])


def test_folding_frozen_batch_norm_leaves_losses_and_gradients_as_they_are(experiment, monkeypatch):
    """Plain SGD makes weights after one step those before, less gradients."""
    plain = dataclasses.replace(experiment.optimizer, momentum=0.0)
    frozen = dataclasses.replace(frozen_experiment(experiment, freeze_bn=True), optimizer=plain)
    before, folded, metrics, _ = run(frozen, 1, 1)
    monkeypatch.setattr(resnet, "normalised", lambda conv, norm, x, train: norm(conv(x), train))
    _, unfolded, expected, _ = run(frozen, 1, 1)
    for name, value in metrics[0].items():
        assert value == pytest.approx(expected[0][name], rel=1e-5)
    rate = metrics[0]["learning_rate"]
    moves = [
        jax.tree.map(lambda a, b: (a - b) / rate, s.params, before.params)
        for s in (folded, unfolded)
    ]
    for one, other in zip(*map(jax.tree.leaves, moves), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(other).max()))


def test_images_without_objects_give_finite_losses(experiment):
    def emptied(batch):
        gt = batch.gt
        return batch.replace(
            gt=GroundTruth(gt.boxes, gt.classes, np.zeros_like(gt.valid), gt.crowd)
        )

    _, _, metrics, _ = run(experiment, 1, 1, emptied)
    assert all(np.isfinite(value) for value in metrics[0].values())
    assert metrics[0]["box"] == 0.0
    assert metrics[0]["rpn_box"] == 0.0
