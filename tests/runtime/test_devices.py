"""A bundle on several devices finds what it finds on one, bit for bit."""

import jax
import numpy as np
import pytest

from rcnn_jax.errors import UsageError
from rcnn_jax.runtime.bundle import jax_predictor
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from tests.e2e.tiny import write_tiny


def test_devices_share_a_batch_and_change_no_bit(tmp_path):
    experiment = build_experiment(load_spec(write_tiny(tmp_path)).config, "faster_rcnn")
    variables = experiment.task.init(jax.random.key(0))
    images = np.random.default_rng(1).integers(0, 256, (2, 96, 96, 3), np.uint8)
    one = jax_predictor(experiment, experiment.evaluation)(variables)
    two = jax_predictor(experiment, experiment.evaluation, 2)(variables)
    alone = [jax.tree.map(np.asarray, one(images[i : i + 1])) for i in range(2)]
    shared = jax.tree.map(np.asarray, two(images))
    for i in range(2):
        for a, b in zip(jax.tree.leaves(alone[i]), jax.tree.leaves(shared), strict=True):
            np.testing.assert_array_equal(a[0], b[i])
    with pytest.raises(UsageError, match="--gpus 99 asks for more devices than there are: found 4"):
        jax_predictor(experiment, experiment.evaluation, 99)
