"""Outputs of graphs: the arrays of any contract as detections, and their check."""

import numpy as np

from rcnn_jax.errors import CheckpointError
from rcnn_jax.runtime.header import DETECTIONS, MASKS, Header
from rcnn_jax.structures import Detections

_NOT_FOUND = -1


def read_outputs(outputs: dict[str, np.ndarray], header: Header) -> Detections:
    """Returns the detections that the outputs of any contract describe."""
    read = {
        "plain": _read_plain,
        "nms_rows": _read_nms_rows,
        "detection_rows": _read_detection_rows,
    }
    return read[header.form](outputs, header.canvas)


def check_outputs(outputs: dict[str, np.ndarray], batch: int, header: Header, name: str) -> None:
    """Checks the outputs of a graph against its header.

    Shapes and classes index arrays further on, and a file may hold any graph.

    Raises:
      CheckpointError: they are not.
    """
    arrays = list(outputs.values())
    plain, by_place = header.form == "plain", header.form == "nms_rows"
    if not outputs.keys() >= set(header.output_names()) or (by_place and len(arrays) != 2):
        raise CheckpointError(
            f"{name}: its outputs are {', '.join(outputs)}, which are not those of a {header.kind} "
            f"of the contract '{header.contract}'; export the model again"
        )
    if plain:
        ranks = {"boxes": (3, "f"), "scores": (2, "f"), "classes": (2, "i"), "valid": (2, "b")}
        shapes = [(outputs[part], *form) for part, form in ranks.items()]
        count = outputs["scores"].shape[1:2]
        sound = outputs["boxes"].shape[1:] == (*count, 4)
        sound &= all(outputs[part].shape[1:] == count for part in ("classes", "valid"))
        masks = outputs.get("masks")
    elif by_place:
        shapes = [(arrays[0], 4, "f"), (arrays[1], 4, "i")]
        sound = arrays[0].shape[1::2] == (1, 7) and arrays[1].shape[1:] == (1, 1, 1)
        masks = None
    else:
        shapes = [(outputs[DETECTIONS], 3, "f")]
        count, sound = outputs[DETECTIONS].shape[1:2], outputs[DETECTIONS].shape[2:] == (6,)
        masks = outputs.get(MASKS)
    if masks is not None:
        rank = 4 if plain else 5
        shapes.append((masks, rank, "f"))
        sound &= masks.shape[1:2] == count
        sound &= rank == 4 or masks.shape[2:3] == (len(header.class_names) + 1,)
    sound &= all(
        array.ndim == rank and array.dtype.kind == kind and len(array) == batch
        for array, rank, kind in shapes
    )
    if not sound:
        described = ", ".join(f"{part} {a.dtype}{list(a.shape)}" for part, a in outputs.items())
        raise CheckpointError(
            f"{name}: its outputs are not those of a {header.kind} of the contract "
            f"'{header.contract}': {described}; export the model again"
        )
    count = len(header.class_names)
    known = f"{name}: gives classes that are none of the {count} of its header"
    if not plain:
        # As floats, before they are made integers: what a NaN or 1e30 becomes then is not defined.
        labels = outputs[DETECTIONS][..., 4] if not by_place else _counted_labels(*arrays)
        if not ((labels >= _NOT_FOUND) & (labels <= count)).all():  # NaN is neither
            raise CheckpointError(known)
    detections = read_outputs(outputs, header)
    valid = np.asarray(detections.valid)
    classes = np.asarray(detections.classes)[valid]
    if ((classes < 0) | (classes >= count)).any():
        raise CheckpointError(known)
    numbers = (np.asarray(detections.boxes)[valid], np.asarray(detections.scores)[valid])
    if not all(np.isfinite(part).all() for part in numbers):
        raise CheckpointError(f"{name}: gives boxes or scores that are not finite numbers")


def _counted_labels(rows: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Returns the labels of the rows that the count says are there.

    Not of the others: one runtime cuts its outputs to the detections, another pads them with what its
    memory held before.
    """
    return rows[:, 0, :, 1][np.arange(rows.shape[2])[None, :] < total.reshape(-1, 1)]


def _read_plain(outputs: dict[str, np.ndarray], _: tuple[int, int]) -> Detections:
    return Detections(
        boxes=outputs["boxes"],
        scores=outputs["scores"],
        classes=outputs["classes"],
        valid=outputs["valid"],
        masks=outputs.get("masks"),
    )


def _read_nms_rows(outputs: dict[str, np.ndarray], canvas: tuple[int, int]) -> Detections:
    # By position, as the parser does: the names may have been changed. Rows are (image, label, score, x1,
    # y1, x2, y2) in fractions of the canvas; docs/reference/deepstream.md, "Parser of Faster R-CNN".
    rows, total = list(outputs.values())
    rows = rows[:, 0]
    height, width = canvas
    valid = np.arange(rows.shape[1])[None, :] < total.reshape(-1, 1)
    boxes = rows[..., [4, 3, 6, 5]] * np.asarray([height, width, height, width], np.float32)
    # Where the count ends, a runtime may leave anything: NaN has no integer.
    classes = np.where(valid, np.maximum(rows[..., 1], 0), 0).astype(np.int32)
    return Detections(boxes=boxes, scores=rows[..., 2], classes=classes, valid=valid)


def _read_detection_rows(outputs: dict[str, np.ndarray], _: tuple[int, int]) -> Detections:
    rows = outputs[DETECTIONS]
    valid = rows[..., 4] != _NOT_FOUND
    classes = np.where(valid, rows[..., 4] - 1, 0).astype(np.int32)
    masks = None
    if MASKS in outputs:
        # Logits of all classes, as DeepStream takes them; the sigmoid only of the class that was
        # detected.
        own = (classes + 1)[:, :, None, None, None]
        logits = np.take_along_axis(outputs[MASKS], own, axis=2)[:, :, 0]
        masks = 1.0 / (1.0 + np.exp(-logits))
    return Detections(
        boxes=rows[..., :4], scores=rows[..., 5], classes=classes, valid=valid, masks=masks
    )
