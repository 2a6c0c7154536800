"""Every backbone takes one step, predicts, is saved, reloaded, and detects the same.

All are the real networks of the spec at an eighth of their widths, on images of 64 x 64 pixels.
Some blocks are frozen: they must keep every bit while everything else moves. Adam moves every leaf
by about the learning rate, however large or small the gradients of fresh deep networks are.

Almost all of the time goes into compiling, which grows with the layers that train. The small members
of a family train all blocks but two; the deep ones, built of the same blocks, what comes last.
"""

import dataclasses

import jax
import numpy as np
import pytest

from rcnn_jax.checkpoints.bundle import read_bundle, write_bundle
from rcnn_jax.checkpoints.leaves import flatten
from rcnn_jax.checkpoints.state import load_model, training_bundle, variables_of
from rcnn_jax.data.loader.pipeline import training_batches
from rcnn_jax.data.synthetic import write_kitti
from rcnn_jax.models import BACKBONES, find_backbone, narrowed
from rcnn_jax.runtime.bundle import jax_predictor
from rcnn_jax.settings.data import LoaderSettings
from rcnn_jax.spec.load import parse_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.train import parallel
from rcnn_jax.train.optimizer import split_params
from rcnn_jax.train.run_state import RunState
from rcnn_jax.train.schedules import make_schedule
from rcnn_jax.train.step import init_state, make_step
from tests.e2e.tiny import SPEC
from tests.models.tiny import random_variables

IMAGES = 2
TRAINED_OF_DEEP = {"resnet:101": 0, "resnet101": 0, "darknet:53": 1} | {
    f"efficientnet:b{index}": 1 for index in range(1, 8)
}
"""How many of the blocks that can be frozen train; what cannot be frozen trains in any case."""
OPTIONS = "dropout_rate: 0.2 drop_connect_rate: 0.2"


@pytest.fixture(autouse=True)
def programs_are_not_kept():
    """They run once and take gigabytes: neither in memory nor in the cache, which aborts."""
    kept = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)
    yield
    jax.config.update("jax_persistent_cache_min_compile_time_secs", kept)
    jax.clear_caches()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones")
    write_kitti(folder / "data", seed=3, count=IMAGES, height=64, width=64)
    return folder


def experiment_of(root, arch, model_fields=""):
    """The experiment at full width."""
    text = SPEC.format(root=root, epochs=1, plan=model_fields, training="")
    for old, new in (
        ("height: 96 width: 96", "height: 64 width: 64"),
        ("image_channel_order: 'bgr'", "image_channel_order: 'bgr' image_scaling_factor: 128.0"),
        ("optimizer { sgd { momentum: 0.9 } }", "optimizer { adam { } }"),
        ("resnet:10", arch),
    ):
        assert old in text
        text = text.replace(old, new)
    return build_experiment(parse_spec(text).config, "faster_rcnn")


def first_batch(experiment):
    batches = training_batches(
        experiment.train_source(),
        experiment.geometry,
        experiment.augment,
        experiment.train_gt,
        "bgr",
        LoaderSettings(global_batch=IMAGES, seed=1),
    )
    return next(batches)


def with_model(experiment, model):
    return dataclasses.replace(experiment, task=dataclasses.replace(experiment.task, model=model))


def calm_variables(task):
    """Fresh weights that keep the scale of activations even before batch norm has seen any.

    A hundred layers with the initial statistics would carry pixels to where boxes are infinite.
    Frozen layers keep theirs: through swish, which halves small values, the pixels would fade.
    """
    swish = task.model.arch.startswith("efficientnet")

    def calm(path, leaf):
        layer, name = path[-2].key, path[-1].key
        if name == "gamma":
            return leaf if swish and task.is_frozen(layer) else np.float32(0.7) * leaf
        return np.float32(1e-4) * leaf if name == "kernel" and "regress" in layer else leaf

    variables = jax.tree.map(np.asarray, random_variables(task.model))  # no program per shape
    return jax.tree_util.tree_map_with_path(calm, variables)


def one_step(experiment, batch):
    """(state before, state after, metrics), on one device."""
    task, device = experiment.task, parallel.choose_devices(1)
    schedule = make_schedule(experiment.schedule, 10)
    variables = calm_variables(task)
    before = init_state(task, variables, experiment.optimizer, schedule, experiment.seed)
    step = make_step(
        task, experiment.optimizer, schedule, steps_per_epoch=1, axis_name=parallel.AXIS
    )
    replicas, metrics = parallel.map_step(step, device)(
        parallel.replicate(before, device), parallel.shard(batch, device)
    )
    return before, *(parallel.first_replica(tree, device) for tree in (replicas, metrics))


def moved(before, after):
    """{leaf: whether a bit of it has changed}."""
    old, new = flatten(before, "it"), flatten(after, "it")
    assert old.keys() == new.keys()
    return {name: not np.array_equal(old[name], new[name]) for name in old}


@pytest.mark.parametrize(
    "arch",
    [
        pytest.param(arch, marks=pytest.mark.slow) if arch in TRAINED_OF_DEEP else arch
        for arch in BACKBONES
    ],
)
def test_one_step_and_back_from_the_file(arch, root, tmp_path):
    ids = find_backbone(arch).freeze_ids
    trained = TRAINED_OF_DEEP.get(arch)
    frozen = (ids[0], ids[-2]) if trained is None else ids[: len(ids) - trained]
    fields = " ".join(f"freeze_blocks: {block}" for block in frozen)
    wide = experiment_of(root, arch, f"{fields} {OPTIONS}")
    narrow = with_model(wide, narrowed(wide.task.model, 1 / 8))

    before, after, metrics = one_step(narrow, first_batch(narrow))
    assert np.isfinite(metrics["loss"])
    is_frozen = narrow.task.is_frozen
    for old, new in (
        (before.params, after.params),
        (before.collections.get("batch_stats", {}), after.collections.get("batch_stats", {})),
    ):
        changes = moved(old, new)
        assert changes == {name: not is_frozen(name.split("/")[1]) for name in changes}
    trainable, kept = split_params(before.params, is_frozen)
    moments = [leaf for leaf in jax.tree.leaves(after.opt_state) if leaf.ndim]
    assert kept and len(moments) == 2 * len(trainable)

    path = tmp_path / "model.tlt"
    write_bundle(path, training_bundle(narrow, after, RunState(run_id="a").to_json()))
    reloaded, variables = load_model(path, wide, None)
    assert reloaded.task == narrow.task and read_bundle(path).header["arch"] == arch
    predictor = jax_predictor(reloaded, reloaded.inference)
    images = np.asarray(first_batch(narrow).images)
    ours, theirs = (predictor(v)(images) for v in (variables_of(after), variables))
    assert ours[0].valid.any()
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_dropping_branches_reaches_the_trunk(root):
    """The class loss of the RPN reads the trunk only."""
    losses = []
    for rate in (0.0, 0.9):
        wide = experiment_of(root, "efficientnet:b0", f"drop_connect_rate: {rate}")
        task = with_model(wide, narrowed(wide.task.model, 1 / 8)).task
        shard = jax.tree.map(lambda leaf: leaf[None], first_batch(wide))
        keys = jax.random.split(jax.random.key(1), (1, IMAGES))
        terms = jax.jit(jax.vmap(task.losses, in_axes=(None, 0, 0), axis_name=parallel.AXIS))
        total, count = terms(calm_variables(task), shard, keys)[0]["rpn_class"]
        losses.append((total / count).item())
    assert abs(losses[0] - losses[1]) > 1e-3
