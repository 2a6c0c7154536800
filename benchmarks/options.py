"""What a run of the benchmarks was asked to do."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

Size = Literal["tiny", "quick", "full"]
SIZES: tuple[Size, ...] = get_args(Size)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Attributes of a run that every suite reads.

    Attributes:
      size: `tiny` proves that the code runs, `quick` is the default, `full` adds larger batches.
      seconds: about how long the rounds of one benchmark may take, warm-up not counted.
      peers: measure the peers that are installed.
      bf16: convolutions of train and predict in bfloat16, the peer under autocast.
      spec: a Faster R-CNN spec to train and predict with instead of those of the size, or "".
      batch: images per step where `spec` is given.
    """

    size: Size = "quick"
    seconds: float = 5.0
    peers: bool = True
    bf16: bool = False
    spec: str = ""
    batch: int = 1

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON object; `Options(**object)` is its inverse."""
        return dataclasses.asdict(self)
