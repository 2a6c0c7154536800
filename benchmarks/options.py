"""Options of a run."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

Size = Literal["tiny", "quick", "full", "real", "gpu"]
SIZES: tuple[Size, ...] = get_args(Size)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Attributes of a run that every suite reads.

    Attributes:
      size: `tiny` proves that the code runs, `quick` is for a CPU, `full` adds larger batches,
        `real` is one image of 832x1344, `gpu` is what the aims of a GPU are about.
      seconds: about how long the rounds of one benchmark may take, warm-up not counted.
      peers: measure the peers that are installed.
      bf16: convolutions of train and predict in bfloat16, the peer under autocast.
      frozen: batch norm is frozen, as the specs of the original have it.
      compiled_peers: measure torch.compile too.
      spec: a spec to train and predict with instead of those of the size, or "".
      batch: images per step where `spec` is given.
      trace: folder for the traces of the suite `profile`, or "".
    """

    size: Size = "quick"
    seconds: float = 5.0
    peers: bool = True
    bf16: bool = False
    frozen: bool = False
    compiled_peers: bool = False
    spec: str = ""
    batch: int = 1
    trace: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON object; `Options(**object)` is its inverse."""
        return dataclasses.asdict(self)
