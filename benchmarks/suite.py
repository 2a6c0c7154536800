"""What a suite is: benchmarks that can be run one by one."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.measure import Effort
from benchmarks.options import Options
from benchmarks.results import Benchmark

NAMES = ("train", "predict", "export", "ops", "data", "eval", "growth", "compile")
ON_REQUEST = ("profile",)
"""Suites that run only when they are asked for."""
ON_GPU = ("train", "predict", "profile", "ops", "data")
"""Suites of size `gpu`: what the GPU computes, and the loader that has to feed it."""


@dataclass(frozen=True)
class Case:
    """A benchmark that has not been run.

    Attributes:
      name: as the benchmark will be called.
      run: measures it.
    """

    name: str
    run: Callable[[], Benchmark]


def load_suite(name: str, options: Options) -> list[Case]:
    """Returns the cases of a suite; only now its packages are imported.

    Raises:
      ImportError: a package that the suite needs is not installed.
    """
    match name:
        case "train":
            from benchmarks.train import cases
        case "predict":
            from benchmarks.predict import cases
        case "export":
            from benchmarks.export import cases
        case "ops":
            from benchmarks.ops import cases
        case "data":
            from benchmarks.data import cases
        case "eval":
            from benchmarks.eval import cases
        case "growth":
            from benchmarks.growth import cases
        case "compile":
            from benchmarks.compile import cases
        case "profile":
            from benchmarks.profile import cases
        case _:
            raise ValueError(f"suite is {name!r}, expected one of {', '.join(NAMES)}")
    return cases(options)


def effort(options: Options) -> Effort:
    """Returns how long the benchmarks of a size are measured."""
    if options.size == "tiny":
        return Effort(seconds=0.0, min_rounds=2, sample_seconds=0.0)
    return Effort(seconds=options.seconds)
