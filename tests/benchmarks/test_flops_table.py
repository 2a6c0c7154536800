"""The count at 832x1344, per image: docs/reference/performance.md, "Floating point operations".

Its numbers come from XLA's cost analysis of another program for the same network.
"""

import dataclasses

import jax
import pytest

from benchmarks.detectors import MASK, TRAINED, prepare, random_batch
from benchmarks.flops import flops_by_stage
from benchmarks.options import Options
from benchmarks.stages import FORWARD
from rcnn_jax.tasks.mask_rcnn import task as mask_rcnn

FORWARD_GFLOP = {
    "backbone": 181.4,
    "FPN": 125.9,
    "RPN head": 109.7,
    "box head": 14.7,
    "mask head": 125.3,
}
TRAINING_GFLOP = 1668.0


@pytest.fixture(scope="module")
def counted():
    # A loop of unknown length counts once: one round of all rois, as the table has it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_rcnn, "MASK_CHUNK", 128)
        yield _count()


def _count():
    (detector,) = (one for one in TRAINED["real"] if one.name.startswith(MASK))
    subject = prepare(detector, Options(size="real"))
    task = subject.experiment.task
    task = dataclasses.replace(task, model=task.model.clone(bn_axis_name=None))
    variables = jax.eval_shape(task.init, jax.random.key(0))
    keys = jax.random.split(jax.random.key(0), 1)
    rest = {name: tree for name, tree in variables.items() if name != "params"}

    def run(params, rest, batch):
        def loss(params):
            terms, _ = task.losses({"params": params, **rest}, batch, keys)
            return sum(total.sum() for total, _ in terms.values())

        return jax.grad(loss)(params)

    return flops_by_stage(run, variables["params"], rest, random_batch(subject))


@pytest.mark.parametrize("stage", FORWARD_GFLOP)
def test_forward_pass_of_a_stage(counted, stage):
    assert counted[stage, FORWARD] / 1e9 == pytest.approx(FORWARD_GFLOP[stage], rel=0.02)


def test_whole_training_step(counted):
    assert sum(counted.values()) / 1e9 == pytest.approx(TRAINING_GFLOP, rel=0.02)


def test_little_is_left_without_a_stage(counted):
    rest = sum(value for (stage, _), value in counted.items() if stage == "other")
    assert rest < 0.001 * sum(counted.values())
