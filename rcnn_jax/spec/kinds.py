"""The three kinds of spec and the table of each."""

from rcnn_jax.kinds import SpecKind
from rcnn_jax.spec.schema import Message
from rcnn_jax.spec.tables import dataset_convert, faster_rcnn, mask_rcnn

TABLES: dict[SpecKind, Message] = {
    "faster_rcnn": faster_rcnn.EXPERIMENT,
    "mask_rcnn": mask_rcnn.EXPERIMENT,
    "dataset_convert": dataset_convert.DATASET_EXPORT_CONFIG,
}


def kind_of(names: set[str]) -> SpecKind | None:
    """Returns the kind whose table has most of these top-level names; None for a tie."""
    known: dict[SpecKind, int] = {
        kind: sum(table.find(name) is not None for name in names) for kind, table in TABLES.items()
    }
    best = max(known.values())
    winners: list[SpecKind] = [kind for kind, number in known.items() if number == best]
    # A tie is no answer: guessing would report every field of the other kind as unknown.
    return winners[0] if best > 0 and len(winners) == 1 else None
