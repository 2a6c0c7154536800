"""Batch assembly: a planned batch becomes arrays of fixed shape.

PlannedBatch --decode--> pixels --fit, augment--> u8 canvas
--annotation--> boxes on the canvas --pad--> GroundTruth
"""

from dataclasses import dataclass

import numpy as np

from rcnn_jax.batches import Batch, GroundTruth
from rcnn_jax.data.loader import augment, images, mask_crops, plan
from rcnn_jax.data.sources.boxes import Annotation, Source
from rcnn_jax.errors import DataError
from rcnn_jax.settings.data import AugmentSettings, GeometrySettings, GroundTruthSettings

MIN_BOX_SIDE = 1.0
"""Canvas pixels; without augmentation settings, boxes with a shorter side are dropped (TAO)."""


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """Settings shared by all batches of a loader.

    Attributes:
      geometry: from file to canvas.
      gt: how ground truth is padded; None leaves it out and reads no annotation.
      channel_order: `rgb`, `bgr` or `l`.
      augment: random changes, or None for evaluation.
      seed: of the augmentation.
      process_index: which slice of every global batch is made here.
      process_count: into how many slices a global batch is cut.
    """

    geometry: GeometrySettings
    gt: GroundTruthSettings | None
    channel_order: str
    augment: AugmentSettings | None = None
    seed: int = 0
    process_index: int = 0
    process_count: int = 1


def check_object_counts(source: Source, gt: GroundTruthSettings | None) -> None:
    """Checks the number of objects of every image before the run starts.

    Does nothing when surplus objects are truncated.

    Raises:
      DataError: an image has more than `gt.max_objects` objects.
    """
    if gt is not None and gt.on_overflow == "error":
        # Here rather than when its batch comes: that may be an hour into a run.
        for record in range(len(source)):
            _check_count(source, record, source.annotation(record), gt)


def make_batch(source: Source, planned: plan.PlannedBatch, settings: BatchSettings) -> Batch:
    """Assembles this process's slice of a planned batch.

    The result depends on the plan and the seed only: neither on threads nor on how many processes
    share the batch.

    Args:
      source: the images and their annotation.
      planned: which of them.
      settings: what to do with them.

    Returns:
      Batch of NumPy arrays; `scale` is that of the image before augmentation.

    Raises:
      DataError: an image is missing or damaged, has too many objects, or lacks a mask.
      ValueError: the global batch cannot be divided among the processes.
    """
    local = local_batch(len(planned.records), settings.process_count)
    part = slice(settings.process_index * local, (settings.process_index + 1) * local)
    records, epochs, valid = planned.records[part], planned.epochs[part], planned.valid[part]
    channels = 1 if settings.channel_order == "l" else 3
    # One array that images are drawn into: the batch is never copied. Zeros are the padding.
    pixels = np.zeros((local, *planned.canvas, channels), np.uint8)
    image_size = np.tile(np.array(planned.canvas, np.float32), (local, 1))
    scale = np.ones((local, 2), np.float32)
    source_size = image_size.copy()
    gt = None if settings.gt is None else _empty_ground_truth(local, settings.gt)
    slots = np.flatnonzero(valid).tolist()
    # All images before any ground truth: one error then names every damaged file of the batch.
    decoded = _decode_all(source, [int(records[slot]) for slot in slots], settings.channel_order)
    for slot, image in zip(slots, decoded, strict=True):
        record, epoch = int(records[slot]), int(epochs[slot])
        placed = _fit(image, planned.canvas, source, record, settings.geometry)
        # Before augmentation: `scale` maps detections back, and detections are made on images
        # that are not augmented.
        scale[slot], source_size[slot] = placed.scale, image.shape[:2]
        placed, min_side = _draw(image, placed, pixels[slot], record, epoch, settings)
        image_size[slot] = placed.image_size
        if gt is not None and settings.gt is not None:
            _fill(gt, slot, source, record, placed, min_side, settings.gt)
    return Batch(
        images=pixels,
        image_size=image_size,
        scale=scale,
        source_size=source_size,
        image_id=records.astype(np.int32),
        image_valid=valid.copy(),
        # Position in the global batch: the step folds it into dropout and sampling keys, so results
        # do not depend on the number of devices or processes.
        example_index=np.arange(part.start, part.stop, dtype=np.int32),
        gt=gt,
    )


def _decode_all(source: Source, records: list[int], channel_order: str) -> list[np.ndarray]:
    """Decodes the images of a batch; the problems of all of them make one error."""
    decoded, problems = [], []
    for record in records:
        try:
            decoded.append(source.image(record, channel_order))
        except DataError as error:
            problems.append(str(error))
    problems = list(dict.fromkeys(problems))  # a batch larger than the data set repeats images
    if problems:
        raise DataError("\n".join(problems))
    return decoded


def local_batch(global_batch: int, process_count: int) -> int:
    """Returns the images per process.

    Raises:
      ValueError: they are not a whole number.
    """
    if global_batch % process_count:
        raise ValueError(
            f"a global batch of {global_batch} images cannot be divided among {process_count} "
            "processes"
        )
    return global_batch // process_count


def _empty_ground_truth(count: int, settings: GroundTruthSettings) -> GroundTruth:
    m, s = settings.max_objects, settings.mask_size
    return GroundTruth(
        boxes=np.zeros((count, m, 4), np.float32),
        classes=np.zeros((count, m), np.int32),
        valid=np.zeros((count, m), bool),
        crowd=np.zeros((count, m), bool),
        masks=np.zeros((count, m, s, s), np.uint8) if s else None,
    )


def _fit(
    image: np.ndarray,
    canvas: tuple[int, int],
    source: Source,
    record: int,
    geometry: GeometrySettings,
) -> images.Fit:
    """Fits the image to the canvas that the plan chose from its stated size."""
    h, w = image.shape[:2]
    # All images of a batch share a canvas, chosen by the sizes in the records. A file that has
    # changed since may not fit there.
    placed = images.fit((h, w), geometry, (canvas,))
    if placed.canvas != canvas:
        raise DataError(
            f"{source.name(record)}: the image is {h}x{w} pixels (height x width), which is not "
            "the size its source states: convert the dataset again"
        )
    return placed


def _fill(
    gt: GroundTruth,
    slot: int,
    source: Source,
    record: int,
    placed: images.Fit,
    min_side: float,
    settings: GroundTruthSettings,
) -> None:
    """Writes the objects of one image into its row of the padded ground truth."""
    annotation = source.annotation(record)
    _check_count(source, record, annotation, settings)
    kept, boxes = visible_objects(annotation, placed, min_side, settings)
    kept, boxes = (
        kept[: settings.max_objects],
        boxes[: settings.max_objects],
    )  # counted by data.census
    n = len(kept)
    # The rest stays 0 and invalid: padding needs finite values, and no value means anything.
    gt.boxes[slot, :n] = boxes
    gt.classes[slot, :n] = annotation.classes[kept]
    gt.crowd[slot, :n] = annotation.crowd[kept]
    gt.valid[slot, :n] = True
    if gt.masks is not None:
        gt.masks[slot, :n] = _crop_masks(
            annotation, kept, boxes, placed.matrix, settings.mask_size, source.name(record)
        )


def _draw(
    image: np.ndarray,
    placed: images.Fit,
    out: np.ndarray,
    record: int,
    epoch: int,
    settings: BatchSettings,
) -> tuple[images.Fit, float]:
    """Draws the augmented image on `out`; returns its fit and the shortest side of a valid box."""
    if settings.augment is None:
        images.apply_image(image, placed, out)
        return placed, MIN_BOX_SIDE
    rng = plan.generator(settings.seed, plan.AUGMENT, epoch, record)
    drawn = augment.draw(rng, settings.augment, placed.image_size)
    if drawn.matrix is not None:
        placed = images.move(placed, drawn.matrix, drawn.size)
    images.apply_image(image, placed, out)
    # Colours last, and only where the image is: padding stays 0, as at test time.
    if drawn.colors is not None:
        h, w = placed.image_size
        augment.apply_colors(out[:h, :w], drawn.colors, settings.channel_order)
    return placed, settings.augment.min_box_side


def _crop_masks(
    annotation: Annotation,
    kept: np.ndarray,
    boxes: np.ndarray,
    matrix: np.ndarray,
    size: int,
    name: str,
) -> np.ndarray:
    """Crops the masks of the kept objects to their boxes: u8[n s s]."""
    crops = np.zeros((len(kept), size, size), np.uint8)
    for crop, item, box in zip(crops, kept.tolist(), boxes, strict=True):
        mask = annotation.masks[item] if annotation.masks is not None else None
        if mask is None:
            raise DataError(
                f"{name}: object {item + 1} has no mask: convert the dataset with masks, or train "
                "without them (include_mask: False)"
            )
        crop[...] = mask_crops.crop_mask(mask, matrix, box, size)
    return crops


def visible_objects(
    annotation: Annotation, placed: images.Fit, min_side: float, settings: GroundTruthSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Selects the objects with an area on the canvas; returns indices and clipped boxes f32[n 4].

    Args:
      annotation: the objects of an image.
      placed: how the image lies on its canvas.
      min_side: shortest side of a box in canvas pixels.
      settings: whether crowds are kept; the number of objects is not limited here.
    """
    # Clipped twice: on the canvas, since augmentation moves boxes out of it, and before that in the
    # source. Augmentation can also move a box beyond a crop back in, and its pixels are not drawn.
    shown = images.clip_boxes(annotation.boxes, placed.window)
    boxes = images.apply_boxes(shown, placed.matrix)
    boxes = images.clip_boxes(boxes, (0, 0, *placed.image_size))
    sides = boxes[:, 2:] - boxes[:, :2]
    # a box cut to nothing has a side of 0, which no minimum may let through
    keep = (sides >= min_side).all(axis=1) & (sides > 0).all(axis=1)
    keep &= (shown[:, 2:] > shown[:, :2]).all(axis=1)
    if settings.skip_crowd:
        keep &= ~annotation.crowd
    kept = np.flatnonzero(keep)
    return kept, boxes[kept]


def _check_count(
    source: Source, record: int, annotation: Annotation, settings: GroundTruthSettings
) -> None:
    """Compares the count before augmentation, so that an error does not depend on chance."""
    crowd = annotation.crowd.sum() if settings.skip_crowd else 0
    count = len(annotation.classes) - int(crowd)
    if settings.on_overflow == "error" and count > settings.max_objects:
        raise DataError(
            f"{source.name(record)}: {count} objects, more than the {settings.max_objects} that "
            f"max_objects_num_per_image allows: set it to {count} or more"
        )
