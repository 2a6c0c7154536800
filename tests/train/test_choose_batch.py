"""`batch_size_per_gpu: 0`: the most images that fit, by the compiler's figures; a resume keeps them."""

import dataclasses

import jax
import numpy as np
import pytest

from rcnn_jax.settings.training import TeacherSettings
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.distillation import TERMS, Teacher
from rcnn_jax.train import choose_batch, parallel, sharding
from rcnn_jax.train.teacher import Taught
from tests.e2e.tiny import write_tiny


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    spec = write_tiny(tmp_path_factory.mktemp("batch"))
    spec.write_text(spec.read_text().replace("batch_size_per_gpu: 2", "batch_size_per_gpu: 0"))
    return build_experiment(load_spec(spec).config, "faster_rcnn")


def test_a_given_batch_is_left_alone(experiment):
    given = dataclasses.replace(experiment, batch_per_device=3)
    source = experiment.train_source()
    assert choose_batch.with_chosen_batch(given, source, parallel.choose_devices(1), None) == (
        given,
        "",
    )


@pytest.mark.parametrize(("devices", "parts", "batch"), [(1, 1, 8), (2, 1, 4), (2, 2, 2)])
def test_a_run_that_goes_on_keeps_its_batch(experiment, devices, parts, batch):
    cut = dataclasses.replace(
        experiment, run=dataclasses.replace(experiment.run, accumulate_steps=parts)
    )
    stored = {"fingerprint": {"global_batch": 8}}
    chosen, why = choose_batch.with_chosen_batch(
        cut, experiment.train_source(), parallel.choose_devices(devices), stored
    )
    assert chosen.batch_per_device == batch
    assert why == f"batch of {batch} images per device, as this run began"


@pytest.mark.long
def test_a_fresh_run_takes_the_most_images_that_fit(experiment, monkeypatch):
    source, devices = experiment.train_source(), parallel.choose_devices(1)
    peaks = {size: choose_batch._peak(experiment, source, devices, size) for size in (1, 2)}
    each = peaks[2] - peaks[1]
    assert each > 96 * 96 * 3  # an image at least
    limit = peaks[2] + each + each // 2
    monkeypatch.setattr(choose_batch, "device_limit", lambda device: limit)
    chosen, why = choose_batch.with_chosen_batch(experiment, source, devices, None)
    assert choose_batch._peak(experiment, source, devices, chosen.batch_per_device) <= limit
    assert chosen.batch_per_device in (2, 3)
    assert why.startswith(
        f"batch of {chosen.batch_per_device} images per device: the most that fit"
    )


def _bytes(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@pytest.mark.long
def test_a_teacher_takes_memory_of_its_own(experiment):
    source, devices = experiment.train_source(), parallel.choose_devices(1)
    task = experiment.task
    levels = jax.eval_shape(
        lambda v, x: task.model.apply(v, x, train=False, method="extract"),
        jax.eval_shape(task.init, jax.random.key(0)),
        jax.ShapeDtypeStruct((1, 96, 96, 3), np.float32),
    )
    teacher = Teacher(
        model=task.model,
        pixels=task.pixels,
        settings=task.settings,
        channels={level: np.arange(leaf.shape[-1]) for level, leaf in levels.items()},
    )
    weights = jax.eval_shape(task.init, jax.random.key(0))
    taught = Taught(teacher=teacher, variables=weights)
    learner = dataclasses.replace(
        experiment,
        teacher=TeacherSettings(model="teacher.tlt"),
        task=dataclasses.replace(
            task, loss_weight_pairs=(*task.loss_weight_pairs, *((name, 1.0) for name in TERMS))
        ),
    )
    alone = choose_batch._peak(experiment, source, devices, 1)
    together = choose_batch._peak(learner, source, devices, 1, taught)
    assert together >= alone + _bytes(weights)


@pytest.mark.long
def test_slices_of_weights_leave_room_for_images(experiment, monkeypatch):
    monkeypatch.setattr(sharding, "LEAST", 16)  # the weights of this network are few
    source = experiment.train_source()
    whole = choose_batch._peak(experiment, source, parallel.choose_devices(4), 1)
    sliced = choose_batch._peak(experiment, source, parallel.choose_devices(4, divided=True), 1)
    weights = _bytes(jax.eval_shape(experiment.task.init, jax.random.key(0))["params"])
    # Three quarters of the weights and of their moments lie elsewhere; gathers take some of it back.
    assert sliced < whole - weights // 2
