"""Results of a benchmark, as values that become JSON. Times are seconds, memory is bytes."""

import dataclasses
import statistics
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA = 1
"""Version of the JSON; it changes when a reader of the old form would go wrong."""


@dataclass(frozen=True, kw_only=True)
class SideResult:
    """One contestant of a benchmark.

    Attributes:
      name: `rcnn_jax` or the peer.
      seconds: per call, one value per round.
      cpu_seconds: processor time of all threads per call, one value per round.
      calls: calls per round; a round of a short function is many calls.
      compile_seconds: tracing, lowering and compiling, or None where nothing is compiled.
      temp_bytes: temporary buffers of the compiled program, as the compiler states.
      host_peak_bytes: largest resident set during set-up and warm-up, everything the process held
        before included; None where the system does not say.
      device_peak_bytes: largest allocation on an accelerator since the process began.
    """

    name: str
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    calls: int
    compile_seconds: float | None
    temp_bytes: int | None
    host_peak_bytes: int | None
    device_peak_bytes: int | None

    @property
    def median(self) -> float:
        """Median seconds per call."""
        return statistics.median(self.seconds)

    @property
    def cpu_median(self) -> float:
        """Median processor seconds per call."""
        return statistics.median(self.cpu_seconds)

    def to_json(self) -> dict[str, Any]:
        """Returns the attributes and what follows from them."""
        return {
            **dataclasses.asdict(self),
            "median": self.median,
            "min": min(self.seconds),
            "max": max(self.seconds),
            "cpu_median": self.cpu_median,
        }


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Seconds that were measured before, on a shared machine with two AVX-512 cores and no GPU.

    Attributes:
      low: seconds per call in the better run.
      high: in the worse one; equal to `low` where there was one run.
      source: where the number stands.
    """

    low: float
    high: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Aim:
    """A bound that the project has set itself.

    Attributes:
      what: the quantity, in words.
      value: as measured.
      relation: which side of the limit is good.
      limit: in the unit of the value.
      unit: for the reader.
    """

    what: str
    value: float
    relation: Literal["at most", "at least"]
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether the value is on the good side; the limit itself is good."""
        return self.value <= self.limit if self.relation == "at most" else self.value >= self.limit

    def to_json(self) -> dict[str, Any]:
        """Returns the attributes and `met`."""
        return {**dataclasses.asdict(self), "met": self.met}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Numbers that are no contest, for the reader of the report.

    Attributes:
      title: what they are about.
      head: of the columns.
      rows: as many cells each as there are columns, ready to be read.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One line of a table, or a table of its own.

    Attributes:
      name: unique within its suite.
      parameters: sizes and settings, plain values.
      sides: this project first, then the peers that were there; none where nothing was timed.
      images: images per call, or None where a call is not about images.
      reference: what was measured before, or None.
      aims: bounds and whether they are met.
      notes: what a reader should know, a sentence each; why a peer is missing.
      table: results besides times, or None.
    """

    name: str
    sides: tuple[SideResult, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    images: int | None = None
    reference: Reference | None = None
    aims: tuple[Aim, ...] = ()
    notes: tuple[str, ...] = ()
    table: Table | None = None

    @property
    def ratios(self) -> dict[str, float]:
        """Time of each peer over ours, median over rounds; above 1 we are faster."""
        if not self.sides:
            return {}
        ours, *peers = self.sides
        return {
            peer.name: statistics.median(
                # Round by round: whatever slowed a round slowed both. A ratio of two medians
                # compares rounds of different load.
                theirs / mine
                for theirs, mine in zip(peer.seconds, ours.seconds, strict=True)
            )
            for peer in peers
        }

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON object."""
        return {
            "name": self.name,
            "parameters": self.parameters,
            "sides": [side.to_json() for side in self.sides],
            "ratios": self.ratios,
            "images": self.images,
            "reference": None if self.reference is None else dataclasses.asdict(self.reference),
            "aims": [aim.to_json() for aim in self.aims],
            "notes": list(self.notes),
            "table": None if self.table is None else dataclasses.asdict(self.table),
        }
