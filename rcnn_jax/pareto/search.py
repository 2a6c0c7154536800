"""The order of a search: from the model as it is to smaller ones, until one loses too much.

keep 1, 1/2, 1/4 ... the first that fails ---> between it and the last good one
for each: float, then int8 by calibration, then QAT where calibration loses too much
"""

from collections.abc import Callable

from rcnn_jax.pareto.candidate import Candidate, Precision, Result

FRACTIONS = (0.5, 0.25, 0.125)
"""Of the parameters, one after the other while they are good."""
CLOSE = 1.3
"""Fractions whose ratio is less are not worth another training."""

Measure = Callable[[Candidate], Result]


def search(measure: Measure, max_drop: float, least: float = 0.0) -> list[Result]:
    """Returns the results of all candidates that were worth trying, the float model first.

    Loss grows as parameters go, near enough for a bisection; training noise is not averaged out.

    Args:
      measure: makes a candidate and measures it.
      max_drop: points of the metric that may be lost.
      least: smallest fraction that is tried.
    """
    results: list[Result] = []

    def tried(keep: float, precision: Precision) -> bool:
        result = measure(Candidate(keep, precision))
        results.append(result)
        return not result.reason and result.drop(results[0]) <= max_drop

    def good(keep: float) -> bool:
        # A float model that is not good enough is no better on the int8 grid.
        if not tried(keep, "fp32"):
            return False
        if not tried(keep, "int8"):
            tried(keep, "int8 QAT")
        return True

    good(1.0)
    if results[0].reason:
        return results
    high, low = 1.0, None
    for keep in FRACTIONS:
        if keep < least:
            break
        if not good(keep):
            low = keep
            break
        high = keep
    while low is not None and high / low > CLOSE:
        middle = round((high * low) ** 0.5, 3)
        high, low = (middle, low) if good(middle) else (high, middle)
    return results
