"""Log lines and tables of a training run, as text: pure functions, no clock and no file."""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta

from rich.table import Table

from rcnn_jax.tasks.families import LogFormat

Parameter = tuple[str, tuple[int, ...], bool]
"""(name such as `conv1/kernel`, shape, whether it is trained)."""

# One pattern for the layers of all backbones: what `freeze_blocks` can name is counted together.
_BLOCK = re.compile(
    r"block_?\d+|inception_\d[a-e]|b\d+(?=_conv)|conv_[dp]w_\d+|conv\d(?=_block|_conv|_bn)"
    r"|expanded_conv"
)


def step_line(
    log_format: LogFormat,
    step: int,
    epoch: int,
    epochs: int,
    metrics: Mapping[str, float],
    tail: str = "",
) -> str:
    """Returns the line of one step.

    Args:
      log_format: names of the loss terms.
      step: steps taken so far.
      epoch: 1-based.
      epochs: of the whole run.
      metrics: `loss`, `learning_rate` and the loss terms.
      tail: put at the end.

    Example:
      >>> from rcnn_jax.tasks.families import MASK_RCNN
      >>> step_line(MASK_RCNN.log, 20, 1, 8, {"loss": 0.5, "mask": 0.25, "learning_rate": 0.02})
      'Global step 20 (epoch 1/8): total loss: 0.50000 (mask loss: 0.25000) learning rate: 0.02000'
    """
    # A loss term that a new head adds appears by its own name, without a change here.
    terms = _terms({**log_format.terms, **_unnamed(log_format, metrics)}, metrics)
    return (
        f"Global step {step} (epoch {epoch}/{epochs}): total loss: {metrics['loss']:.5f}{terms} "
        f"learning rate: {metrics['learning_rate']:.5f}{tail}"
    )


def epoch_line(
    log_format: LogFormat, epoch: int, epochs: int, metrics: Mapping[str, float], seconds: float
) -> str:
    """Returns the line at the end of an epoch, with the time that the remaining ones will take.

    Example:
      >>> from rcnn_jax.tasks.families import MASK_RCNN
      >>> epoch_line(MASK_RCNN.log, 3, 12, {"loss": 0.5, "learning_rate": 0.02}, 60.0)
      'Epoch 3/12: loss: 0.50000 learning rate: 0.02000 Time taken: 0:01:00 ETA: 0:09:00'
    """
    terms = _terms(log_format.epoch_terms, metrics)
    return (
        f"Epoch {epoch}/{epochs}: loss: {metrics['loss']:.5f}{terms} "
        f"learning rate: {metrics['learning_rate']:.5f} "
        f"Time taken: {duration(seconds)} ETA: {duration(seconds * (epochs - epoch))}"
    )


def duration(seconds: float) -> str:
    """Returns h:mm:ss, with days in front where there are any.

    Example:
      >>> duration(3725.4)
      '1:02:05'
    """
    return str(timedelta(seconds=round(seconds)))


def trainable_variables(parameters: Iterable[Parameter]) -> list[str]:
    """Returns the Mask R-CNN table of trained variables, one row each, in the order given.

    Users match `skip_checkpoint_variables` against these names (docs/reference/mask_rcnn.md,
    "Table of trained variables").

    Example:
      >>> print(trainable_variables([("conv1/kernel", (7, 7, 3, 64), True)])[1])
      [MaskRCNN] INFO    : [#0001] conv1/kernel:0                                               => (7, 7, 3, 64)
    """  # noqa: E501  (the row is as wide as the original's)
    prefix = "[MaskRCNN] INFO    : "
    rows = [f"{prefix}================ TRAINABLE VARIABLES =================="]
    trained = (entry for entry in parameters if entry[2])
    for number, (name, shape, _) in enumerate(trained, start=1):
        rows.append(f"{prefix}[#{number:04d}] {name + ':0':<60} => {tuple(shape)}")
    return rows


def parameter_counts(parameters: Iterable[Parameter]) -> dict[str, tuple[int, int]]:
    """Returns {block: (trained, frozen)} numbers of values, in the order blocks first appear.

    A block is what `freeze_blocks` can name, or one layer with its batch norm.

    Example:
      >>> parameter_counts([("block_1a/kernel", (2, 3), True), ("bn_conv1/beta", (4,), False)])
      {'block_1': (6, 0), 'conv1': (0, 4)}
    """
    counts: dict[str, tuple[int, int]] = {}
    for name, shape, trained in parameters:
        block = block_of(name)
        size = math.prod(shape)
        before = counts.get(block, (0, 0))
        counts[block] = (before[0] + size * trained, before[1] + size * (not trained))
    return counts


def block_of(name: str) -> str:
    """Returns the block a parameter is counted with.

    Example:
      >>> [block_of(n) for n in ("block_1a_conv_1/kernel", "block2b_bn/gamma", "bn_conv1/beta")]
      ['block_1', 'block2', 'conv1']
      >>> [block_of(n) for n in ("conv2_block1_0_bn/beta", "inception_4e_1x1/kernel")]
      ['conv2', 'inception_4e']
    """
    layer = name.split("/")[0]
    match = _BLOCK.match(layer)
    return match.group() if match else layer.removeprefix("bn_").removesuffix("_bn")


def parameter_table(parameters: Iterable[Parameter]) -> Table:
    """Returns a table of trained, frozen and all values per block, with a last row of sums."""
    counts = parameter_counts(parameters)
    table = Table(title="Parameters", show_footer=True, title_justify="left")
    trained = sum(row[0] for row in counts.values())
    frozen = sum(row[1] for row in counts.values())
    table.add_column("block", "total")
    for title, total in (
        ("trainable", trained),
        ("frozen", frozen),
        ("total", trained + frozen),
    ):
        table.add_column(title, f"{total:,}", justify="right")
    for block, (own_trained, own_frozen) in counts.items():
        table.add_row(
            block, *(f"{n:,}" for n in (own_trained, own_frozen, own_trained + own_frozen))
        )
    return table


def _unnamed(log_format: LogFormat, metrics: Mapping[str, float]) -> dict[str, str]:
    known = {"loss", "learning_rate", *log_format.terms}
    return {name: f"{name} loss" for name in metrics if name not in known}


def _terms(names: Mapping[str, str], metrics: Mapping[str, float]) -> str:
    parts = [f"{label}: {metrics[name]:.5f}" for name, label in names.items() if name in metrics]
    return f" ({' '.join(parts)})" if parts else ""
