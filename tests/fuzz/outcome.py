"""What counts as a failure, for every target: decided here and nowhere else.

An input may be read or refused in a clear message. Everything else is a fault of ours: another
exception, a message that no terminal should print, more than a gigabyte of memory, and, told by the
process that watches, a hang or the end of the interpreter.
"""

import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rcnn_jax.errors import RcnnError
from rcnn_jax.printable import printable
from tests.fuzz.case import Case, Target

Kind = Literal["read", "refused", "traceback", "message", "memory", "hang", "crash"]
SECONDS = 5.0
"""Processor time that no input may take."""
MEMORY = 1 << 30
"""Bytes that no input may need."""
LONGEST_MESSAGE = 10_000
_WORDS_OF_MISTAKES = ("Traceback (most recent call last)", "this is a bug", " object at 0x")


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
      kind: `read`, `refused`, or how it failed.
      text: the message or the traceback.
    """

    kind: Kind
    text: str = ""

    @property
    def failed(self) -> bool:
        """Whether it is a fault of ours."""
        return self.kind not in ("read", "refused")


def outcome_of(target: Target, case: Case, folder: Path) -> Outcome:
    """Reads a case and says what became of it.

    Args:
      target: it belongs to.
      case: the input.
      folder: for files; what is left there is of no interest.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.check(case, folder)
    except RcnnError as error:
        problem = problem_of(str(error))
        return (
            Outcome("message", f"{problem}: {error}") if problem else Outcome("refused", str(error))
        )
    except MemoryError:
        return Outcome("memory", traceback.format_exc())
    except Exception:
        return Outcome("traceback", traceback.format_exc())
    return Outcome("read")


def problem_of(message: str) -> str:
    """Returns what is wrong with a message to the user; nothing for a good one."""
    if not message.strip():
        return "an empty message"
    if len(message) > LONGEST_MESSAGE:
        return f"a message of {len(message)} letters"
    if printable(message) != message:
        return "raw control characters in a message"
    for words in _WORDS_OF_MISTAKES:
        if words in message:
            return f"a message with {words!r}"
    return ""


def failures(target: Target, seed: int, count: int, folder: Path) -> list[str]:
    """Returns a report of every mutant that fails, without limits of time and memory.

    Args:
      target: what is tried.
      seed: equal seeds make equal mutants.
      count: how many.
      folder: for files.
    """
    reports = []
    for number in range(count):
        case = target.case(seed, number)
        outcome = outcome_of(target, case, folder)
        if outcome.failed:
            shown = f"{case.suffix} {case.data[:500]!r}"
            reports.append(f"{target.name} {seed} {number} {shown}: {outcome.kind}: {outcome.text}")
    return reports
