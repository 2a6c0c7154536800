"""One benchmark of a suite, and how long it is measured."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.measure import Effort
from benchmarks.options import Options
from benchmarks.results import Benchmark


@dataclass(frozen=True)
class Case:
    """A benchmark that has not been run.

    Attributes:
      name: as the benchmark will be called.
      run: measures it.
    """

    name: str
    run: Callable[[], Benchmark]


def effort(options: Options) -> Effort:
    """Returns how long the benchmarks of a size are measured."""
    # Two rounds without a target: the tiny size proves that a benchmark runs, its numbers mean
    # nothing.
    if options.size == "tiny":
        return Effort(seconds=0.0, min_rounds=2, sample_seconds=0.0)
    return Effort(seconds=options.seconds)
