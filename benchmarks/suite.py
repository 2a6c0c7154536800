"""The suites by name. It stands above them: a suite imports `case`, never this file."""

from benchmarks.case import Case
from benchmarks.options import Options

NAMES = ("train", "predict", "export", "ops", "data", "eval", "growth", "compile")
ON_REQUEST = ("profile",)
"""Suites that run only when they are asked for."""
ON_GPU = ("train", "predict", "profile", "ops", "data")
"""Suites of size `gpu`: what the GPU computes, and the loader that has to feed it."""


def load_suite(name: str, options: Options) -> list[Case]:
    """Returns the cases of a suite; only now its packages are imported.

    Raises:
      ImportError: a package that the suite needs is not installed.
    """
    # Imported by name, so that a suite whose packages are missing does not take the others with it.
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
