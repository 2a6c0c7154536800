"""A target that does wrong in every way there is: what the watching process must notice."""

import os
import random
import time
import warnings
from pathlib import Path

from rcnn_jax.errors import DataError
from tests.fuzz.case import Case, Target


def _mutant(rng: random.Random) -> Case:
    return Case(".faulty", rng.choice(DEEDS[:-1]).encode())


def _check(case: Case, folder: Path) -> None:
    match case.data.decode():
        case "refused":
            raise DataError("a.faulty: is refused; remove it")
        case "traceback":
            raise ValueError("a mistake of the program")
        case "message":
            raise DataError("a.faulty: ValueError, this is a bug")
        case "memory":
            b"\1" * (3 << 29)
        case "endless memory":
            bytearray(1 << 40)
        case "hang":
            while True:
                pass
        case "wait":
            time.sleep(3600)
        case "warning":
            warnings.warn("a warning", stacklevel=1)
        case "crash":
            os.abort()


DEEDS = (
    "read",
    "refused",
    "traceback",
    "message",
    "memory",
    "endless memory",
    "hang",
    "crash",
    "wait",
)
FAULTY = Target(
    "faulty", (".faulty",), lambda: {"read": Case(".faulty", b"read")}, _mutant, _check, 8
)
