"""One row of the table: what runs the model, in which precision, and what was measured of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Literal, get_args

RowRuntime = Literal["jax", "onnxruntime", "openvino", "tensorrt", "trt-rtx", "webgpu"]
ROW_RUNTIMES: tuple[RowRuntime, ...] = get_args(RowRuntime)
RowPrecision = Literal["fp32", "bf16", "fp16", "int8"]
ROW_PRECISIONS: tuple[RowPrecision, ...] = get_args(RowPrecision)
Form = Literal["ordinary", "portable"]
FORMS: tuple[Form, ...] = get_args(Form)
BASELINE = ("jax", "fp32", "")


@dataclass(frozen=True)
class Entry:
    """What a row measures.

    Attributes:
      runtime: what runs the model.
      precision: of the dense part.
      form: of the graph; "" where there is no graph.
    """

    runtime: RowRuntime
    precision: RowPrecision
    form: Form | Literal[""] = ""

    @property
    def graph_precision(self) -> Literal["fp32", "fp16", "int8"]:
        """Of the file: bfloat16 is no matter of the graph, a runtime computes an fp32 one in it."""
        return "fp32" if self.precision == "bf16" else self.precision

    def __str__(self) -> str:
        form = f", {self.form} graph" if self.form else ""
        return f"{self.runtime} {self.precision}{form}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table.

    Attributes:
      entry: what it measures; one without precision stands for a runtime that this machine lacks.
      metrics: {name: value in [0, 1]} on the images; none where it did not run.
      seconds: of one image, from its pixels to its detections; NaN where it did not run.
      size: bytes of the file.
      device: what it ran on.
      computed: number formats of the dense part, as the runtime was asked for and answered.
      reason: why it did not run, in one line; empty where it did.
    """

    entry: Entry
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = math.nan
    size: int = 0
    device: str = ""
    computed: str = ""
    reason: str = ""


def entries(
    runtimes: Sequence[RowRuntime], precisions: Sequence[RowPrecision], forms: Sequence[Form]
) -> list[Entry]:
    """Returns the rows of a table in order; JAX has no graph and so one row a precision."""
    rows: list[Entry] = []
    for runtime, precision in product(runtimes, precisions):
        if runtime == "jax":
            rows.append(Entry(runtime, precision))
        else:
            rows += [Entry(runtime, precision, form) for form in forms]
    return rows


def impossible(entry: Entry) -> str:
    """Returns why a runtime has no such precision on any machine; "" where it may have."""
    if entry.runtime == "jax" and entry.precision in ("fp16", "int8"):
        return "JAX runs the model as it was trained; fp16 and int8 are made by the export"
    if entry.precision == "bf16" and entry.runtime not in ("jax", "openvino"):
        return "no bfloat16: only JAX and OpenVINO compute an fp32 model in it"
    return ""


def merged(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows with those of one runtime that did not run for one and the same reason as one."""
    kept: list[Row] = []
    for row in rows:
        last = kept[-1] if kept else None
        same = last is not None and last.reason and last.reason == row.reason
        if last is not None and same and last.entry.runtime == row.entry.runtime:
            kept[-1] = replace(last, entry=_common(last.entry, row.entry))
        else:
            kept.append(row)
    return kept


def _common(one: Entry, other: Entry) -> Entry:
    precisions = list(dict.fromkeys([*one.precision.split(", "), other.precision]))
    form = one.form if one.form == other.form else ""
    return Entry(one.runtime, ", ".join(precisions), form)  # type: ignore[arg-type]
