"""What a fuzz target is: seeds, a maker of mutants, and a reader that is tried with them."""

import functools
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rcnn_jax.errors import RcnnError

CORPUS = Path(__file__).parents[1] / "corpus"
"""`<target>/sound/`: small inputs that are read. `<target>/faults/`: inputs that once went wrong."""


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
      suffix: end of the file's name; says which reader it is for.
      data: content of the file.
    """

    suffix: str
    data: bytes = field(repr=False)


Mutant = Callable[[random.Random], Case]


@dataclass(frozen=True)
class Target:
    """One kind of input that may come from a stranger.

    Attributes:
      name: on the command line; also the folder of its corpus.
      suffixes: of its files, in the order in which the end of a file's name is compared.
      seeds: {name without suffix: case} of the inputs for `corpus/<name>/sound`, made anew.
      mutant: a case of a generator of random numbers: equal generators make equal cases.
      check: reads a case as the commands do, with a folder for files. It may return, or raise an
        `RcnnError`: a refusal. An AssertionError says that something was read wrongly.
      quick: cases of `make fuzz`.
    """

    name: str
    suffixes: tuple[str, ...]
    seeds: Callable[[], dict[str, Case]]
    mutant: Mutant
    check: Callable[[Case, Path], object]
    quick: int

    def case(self, seed: int, number: int) -> Case:
        """Returns a mutant; it depends on nothing but the seed and its number."""
        return self.mutant(random.Random(f"{self.name} {seed} {number}"))

    def read(self, path: Path) -> Case:
        """Returns the case that lies in a file.

        Raises:
          ValueError: its name has none of the target's suffixes.
        """
        for suffix in self.suffixes:
            if path.name.endswith(suffix):
                return Case(suffix, path.read_bytes())
        raise ValueError(f"{path}: a file of {self.name} ends in {', '.join(self.suffixes)}")


@functools.cache
def sound_cases(target: str, suffix: str) -> tuple[Case, ...]:
    """Returns the stored sound inputs of a target with a suffix, in the order of their names."""
    paths = sorted((CORPUS / target / "sound").glob(f"*{suffix}"))
    return tuple(Case(suffix, path.read_bytes()) for path in paths)


def write_case(case: Case, folder: Path, name: str = "mutant") -> Path:
    """Writes a case into a folder and returns its path."""
    path = folder / f"{name}{case.suffix}"
    path.write_bytes(case.data)
    return path


def written(write: Callable[[Path], object], suffix: str) -> Case:
    """Returns as a case what a function writes to a path."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"made{suffix}"
        write(path)
        return Case(suffix, path.read_bytes())


def read_all(*readers: Callable[[], Any], name: object = "") -> None:
    """Calls every reader of a file, whatever the ones before said.

    Args:
      readers: functions without arguments.
      name: of the file: messages begin with it.

    Raises:
      RcnnError: some refused; it holds the message of each.
      AssertionError: a message begins with something else.
    """
    refusals = []
    for read in readers:
        try:
            read()
        except RcnnError as error:
            assert str(error).startswith(str(name)), error
            refusals.append(str(error))
    if refusals:
        raise RcnnError("\n".join(dict.fromkeys(refusals)))
