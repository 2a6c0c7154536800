"""One candidate: how much is pruned, in which precision, and what was measured of it.

    candidates/keep-0.25-int8/result.json  model.onnx  log.txt      pruned/keep-0.25/  models/keep-0.25/

The folder alone says what is done: a search that was stopped goes on from it.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rcnn_jax.checkpoints.atomic import write_file

Precision = Literal["fp32", "int8", "int8 QAT"]
RESULT = "result.json"


@dataclass(frozen=True)
class Candidate:
    """Candidate of a search: fraction of channels kept, and precision.

    Attributes:
      keep: fraction of the parameters that pruning leaves; 1 for the model as it is.
      precision: `int8` is calibrated after training, `int8 QAT` is trained for.
    """

    keep: float
    precision: Precision

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"keep-{self.keep:g}-{self.precision.lower().replace(' ', '-')}"

    def __str__(self) -> str:
        pruned = "not pruned" if self.keep == 1 else f"{self.keep:.0%} of the parameters"
        return f"{pruned}, {self.precision}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """Measurements of a candidate.

    Attributes:
      candidate: it.
      metric: on the validation images, in [0, 1]; NaN where it failed.
      latency: of one image, as a part of that of the float model beside it.
      parameters: of the model.
      size: bytes of the exported file.
      reason: why it failed, in one line; empty where it did not.
    """

    candidate: Candidate
    metric: float = math.nan
    latency: float = math.nan
    parameters: int = 0
    size: int = 0
    reason: str = ""

    def drop(self, baseline: "Result") -> float:
        """Returns how many points (hundredths) it lies below the baseline."""
        return 100 * (baseline.metric - self.metric)


def write_result(folder: Path, result: Result) -> None:
    """Writes a result, whole or not at all."""
    write_file(folder / RESULT, [json.dumps(asdict(result), indent=2).encode()])


def read_result(folder: Path) -> Result | None:
    """Returns the result in the folder of a candidate, None where it has none yet."""
    path = folder / RESULT
    if not path.exists():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    return Result(**{**content, "candidate": Candidate(**content["candidate"])})


def front(results: Sequence[Result]) -> list[Result]:
    """Returns the results that no other one beats in both metric and latency, fastest first (Pareto)."""
    kept: list[Result] = []
    done = [result for result in results if not result.reason]
    for result in sorted(done, key=lambda each: (each.latency, -each.metric)):
        if not kept or result.metric > kept[-1].metric:
            kept.append(result)
    return kept


def best(results: Sequence[Result], baseline: Result, max_drop: float) -> Result | None:
    """Returns the fastest result that loses no more than so many points."""
    good = [each for each in results if not each.reason and each.drop(baseline) <= max_drop]
    return min(good, key=lambda each: each.latency, default=None)
