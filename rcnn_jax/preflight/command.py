"""Answers for a spec: of its data first, then of a trial.

    data -> anchors, pixels, labels -> weights -> overfit of four images -> evaluation -> export -> plan

What needs no program to be compiled comes first, and a no-go there ends it.
"""

import time

from rcnn_jax.data.sources.tiles import tiled
from rcnn_jax.diagnose.preflight import Preflight, merged
from rcnn_jax.preflight.data_checks import check_data
from rcnn_jax.preflight.trial import Clock, check_learning, few
from rcnn_jax.reporter import Reporter
from rcnn_jax.tasks.experiment import Experiment


def preflight(
    experiment: Experiment, key: str | None, seconds: float, reporter: Reporter
) -> Preflight:
    """Returns the answers for an experiment.

    Args:
      experiment: of the spec.
      key: of encrypted weights to start from.
      seconds: to take, about.
      reporter: for progress.

    Raises:
      RcnnError: the data or the weights cannot be used.
    """
    clock = Clock(time.monotonic(), seconds)
    source = tiled(experiment.train_source(), experiment.tiling)
    checks = check_data(experiment, source, reporter)
    # A step takes long to compile, and would say nothing that the data have not.
    if any(check.outcome == "no-go" for check in checks):
        return merged(checks)
    part = few(source)
    reporter.note(f"overfit of {len(part)} images")
    checks += check_learning(experiment, part, len(source), key, clock)
    return merged(checks)
