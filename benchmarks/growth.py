"""Growth of time and memory with every size of the problem.

A narrow Mask R-CNN is measured at one, four and sixteen times a size. The exponent is that of what
is added, log(third step / second step) / log 4, so that fixed costs do not hide it: 1 is linear, 0 is
flat. Memory is what the compiler states; the exponents of times are as good as the clock.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import jax

from benchmarks.case import Case, effort
from benchmarks.detectors import ROOT, Subject, random_batch, random_images
from benchmarks.jax_side import jitted
from benchmarks.measure import Side, compare
from benchmarks.options import Options
from benchmarks.results import Aim, Benchmark, SideResult
from benchmarks.train_step import fresh_state, stepping
from rcnn_jax.spec import load_spec
from rcnn_jax.tasks.build import build_experiment

SPEC = ROOT / "benchmarks/specs/mask_tiny.txt"
# Geometric: the exponent is the slope between two steps on a logarithmic scale, and three points
# show whether the first was hidden by fixed costs.
FACTORS = (1, 4, 16)
TIME_LIMIT, MEMORY_LIMIT = 1.25, 1.1
"""Linear, with room for the clock and for what is rounded up to whole tiles."""
QUADRATIC = 2.25
"""Greedy suppression compares every candidate with every kept box."""
_SMALL = 2**20  # growth of less memory than this says nothing


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of a step or a prediction.

    Attributes:
      area: pixels of the canvas, a square number.
      batch: images.
      proposals: candidates before NMS and proposals after it, training and test.
      rois: rois per image that train the heads.
      classes: without background.
      objects: ground truths per image.
    """

    area: int = 256 * 256
    batch: int = 1
    proposals: int = 250
    rois: int = 64
    classes: int = 4
    objects: int = 25


# Narrow and small, so that sixteen times any size still runs on two cores.
BASE = Sizes()
TINY_BASE = Sizes(area=64 * 64, proposals=32, rois=16, objects=4)
BASES = {
    ("train", "rois"): dataclasses.replace(BASE, rois=256, area=64 * 64),
    ("predict", "proposals"): dataclasses.replace(BASE, proposals=1000),
    ("predict", "classes"): dataclasses.replace(BASE, classes=16),
}
"""Where a growth begins that feature maps would hide: a few boxes fit into what maps have left."""
TRAIN = ("area", "batch", "proposals", "rois", "classes", "objects")
PREDICT = ("area", "batch", "proposals", "classes")


def cases(options: Options) -> list[Case]:
    """Returns one case per size, of the training step and of prediction."""
    if options.size == "tiny":
        wanted = [("train", "rois"), ("predict", "classes")]
    else:
        wanted = [("train", name) for name in TRAIN] + [("predict", name) for name in PREDICT]
    return [_case(what, name, options) for what, name in wanted]


def _case(what: str, field: str, options: Options) -> Case:
    name = f"{what}, {field}"
    return Case(name, lambda: _measure(name, what, field, options))


def _measure(name: str, what: str, field: str, options: Options) -> Benchmark:
    base = TINY_BASE if options.size == "tiny" else BASES.get((what, field), BASE)
    points = [
        dataclasses.replace(base, **{field: factor * getattr(base, field)}) for factor in FACTORS
    ]
    make = _step if what == "train" else _prediction
    makers = {
        f"x{factor}": lambda sizes=sizes: make(sizes)
        for factor, sizes in zip(FACTORS, points, strict=True)
    }
    sides, notes = compare(makers, effort(options))
    # `compare` drops a side that fails, which an exponent cannot do without.
    if len(sides) != len(FACTORS):
        raise RuntimeError("; ".join(notes))
    return Benchmark(
        name=name,
        parameters={
            **dataclasses.asdict(base),
            field: " ".join(str(getattr(point, field)) for point in points),
        },
        sides=sides,
        aims=_aims(name, field, sides),
    )


def _aims(name: str, field: str, sides: tuple[SideResult, ...]) -> tuple[Aim, ...]:
    times = [side.median for side in sides]
    limit = QUADRATIC if field == "proposals" else TIME_LIMIT
    aims = [_aim(f"{name}: exponent of time", exponent(times), limit)]
    memory = [side.temp_bytes for side in sides if side.temp_bytes is not None]
    if len(memory) == len(sides):
        # The compiler rounds buffers up: from one page to two is no growth.
        least = _SMALL if max(memory) - min(memory) < _SMALL else 0
        aims.append(_aim(f"{name}: exponent of memory", exponent(memory, least), MEMORY_LIMIT))
    return tuple(aims)


def _aim(what: str, value: float, limit: float) -> Aim:
    return Aim(what=what, value=value, relation="at most", limit=limit, unit="")


def exponent(costs: list[Any], least: float = 0.0) -> float:
    """Returns log4 of (third - second) / (second - first), 0 where nothing is added.

    Args:
      costs: at one, four and sixteen times a size.
      least: growth up to this much counts as none.
    """
    first, second, third = costs
    early, late = second - first, third - second
    if late <= least:
        return 0.0
    early = max(
        early, late / FACTORS[1] ** 3
    )  # a first step that the clock has lost: at most cubic
    return max(math.log(late / early, FACTORS[1]), 0.0)


def subject_of(sizes: Sizes) -> Subject:
    """Returns the narrow detector at these sizes."""
    config: Any = load_spec(SPEC).config
    network, data = config.maskrcnn_config, config.data_config
    for phase in ("train", "test"):
        network[f"{phase}_rpn_pre_nms_topn"] = sizes.proposals
        network[f"{phase}_rpn_post_nms_topn"] = sizes.proposals
    network.batch_size_per_im = sizes.rois
    data.num_classes = sizes.classes + 1
    data.max_num_instances = sizes.objects
    experiment = build_experiment(config, "mask_rcnn")
    side = math.isqrt(sizes.area)
    geometry = dataclasses.replace(experiment.geometry, height=side, width=side)
    return Subject(
        name="narrow",
        experiment=dataclasses.replace(experiment, geometry=geometry),
        arch=experiment.task.model.arch,
        canvas=(side, side),
        batch=sizes.batch,
        bf16=False,
    )


def _step(sizes: Sizes) -> Side:
    subject = subject_of(sizes)
    return stepping(subject, fresh_state(subject), random_batch(subject, sizes.objects))


def _prediction(sizes: Sizes) -> Side:
    subject = subject_of(sizes)
    experiment = subject.experiment
    variables = experiment.task.init(jax.random.key(0))

    def run(variables: Any, images: Any) -> Any:
        return experiment.task.predict(variables, images, experiment.inference)

    return jitted(run, variables, random_images(subject))
