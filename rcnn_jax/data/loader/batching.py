"""Batch assembly: a planned batch becomes arrays of fixed shape.

PlannedBatch --decode--> pixels --fit, augment--> Layer (a mosaic: four) --draw, paste--> u8 canvas
--annotation--> Part: boxes on the canvas --pad--> GroundTruth
"""

from dataclasses import dataclass

import numpy as np

from rcnn_jax.batches import Batch, GroundTruth
from rcnn_jax.data.loader import copy_paste, images, layers, plan
from rcnn_jax.data.loader.layers import MIN_BOX_SIDE, Layer, Part
from rcnn_jax.data.loader.mosaic import mosaic
from rcnn_jax.data.sources.annotations import Annotation
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.errors import DataError
from rcnn_jax.settings.data import AugmentSettings, GeometrySettings, GroundTruthSettings


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
        image_size[slot], parts = _draw(
            image, placed, pixels[slot], source, record, epoch, settings
        )
        if gt is not None and settings.gt is not None:
            _fill(gt, slot, parts, settings.gt)
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


def _draw(
    image: np.ndarray,
    placed: images.Fit,
    out: np.ndarray,
    source: Source,
    record: int,
    epoch: int,
    settings: BatchSettings,
) -> tuple[tuple[int, int], list[Part]]:
    """Draws one image of the batch on `out`; returns the size of its valid part and its objects."""
    annotation = None
    if settings.gt is not None:
        annotation = source.annotation(record)
        _check_count(source, record, annotation, settings.gt)
    composed = _mosaic(image, placed, source, record, epoch, settings)
    if composed is None:
        layer = _alone(image, placed, record, epoch, settings)
        shown, parts = [layer], []
        if settings.gt is not None and annotation is not None:
            least = MIN_BOX_SIDE if settings.augment is None else settings.augment.min_box_side
            name = source.name(record)
            parts = [layers.objects_on(layer, annotation, name, least, settings.gt)]
        size = layer.placed.image_size
    else:
        (shown, parts), size = composed, placed.canvas
    for layer in shown:
        layers.draw(layer, out, settings.channel_order)
    valid = out[: size[0], : size[1]]
    return size, _with_pasted(valid, parts, source, record, epoch, settings)


def _alone(
    image: np.ndarray, placed: images.Fit, record: int, epoch: int, settings: BatchSettings
) -> Layer:
    """Returns the layer of an ordinary image."""
    rng = None
    if settings.augment is not None:
        rng = plan.generator(settings.seed, plan.AUGMENT, epoch, record)
    return layers.place(image, placed, settings.augment, rng)


def _mosaic(
    image: np.ndarray,
    placed: images.Fit,
    source: Source,
    record: int,
    epoch: int,
    settings: BatchSettings,
) -> tuple[list[Layer], list[Part]] | None:
    """Returns the layers of a mosaic and their objects; None where the image is to be shown alone."""
    if settings.augment is None or settings.gt is None or not settings.augment.mosaic_probability:
        return None
    # A stream of its own: what an ordinary image looks like does not depend on the composites.
    rng = plan.generator(settings.seed, plan.MOSAIC, epoch, record)
    if rng.uniform() >= settings.augment.mosaic_probability:
        return None
    return mosaic(
        source,
        record,
        image,
        placed.canvas,
        rng,
        geometry=settings.geometry,
        settings=settings.augment,
        gt=settings.gt,
        channel_order=settings.channel_order,
    )


def _with_pasted(
    canvas: np.ndarray,
    parts: list[Part],
    source: Source,
    record: int,
    epoch: int,
    settings: BatchSettings,
) -> list[Part]:
    """Pastes objects of another image where chance says so; returns all objects."""
    augment, gt = settings.augment, settings.gt
    if augment is None or gt is None or not augment.copy_paste_probability:
        return parts
    rng = plan.generator(settings.seed, plan.COPY_PASTE, epoch, record)
    if rng.uniform() >= augment.copy_paste_probability:
        return parts
    donor = copy_paste.draw_donor(source, rng)
    if donor is None:
        return parts
    return copy_paste.paste(
        canvas,
        parts,
        source,
        donor,
        rng,
        geometry=settings.geometry,
        settings=augment,
        gt=gt,
        channel_order=settings.channel_order,
    )


def _fill(gt: GroundTruth, slot: int, parts: list[Part], settings: GroundTruthSettings) -> None:
    """Writes the objects of one image into its row of the padded ground truth."""
    row = 0
    for part in parts:
        # Surplus objects of an ordinary image are counted by data.census; composites have none.
        part = part.kept(np.arange(min(len(part.items), settings.max_objects - row)))
        rows = slice(row, row + len(part.items))
        # The rest stays 0 and invalid: padding needs finite values, and no value means anything.
        gt.boxes[slot, rows] = part.boxes
        gt.classes[slot, rows] = part.annotation.classes[part.items]
        gt.crowd[slot, rows] = part.annotation.crowd[part.items]
        gt.valid[slot, rows] = True
        if gt.masks is not None:
            gt.masks[slot, rows] = _crop_masks(part, settings.mask_size)
        row = rows.stop


def _crop_masks(part: Part, size: int) -> np.ndarray:
    """Crops the masks of the objects to their boxes: u8[n s s]."""
    crops = np.zeros((len(part.items), size, size), np.uint8)
    for crop, item, box in zip(crops, part.items.tolist(), part.boxes, strict=True):
        mask = part.annotation.masks[item] if part.annotation.masks is not None else None
        if mask is None:
            raise DataError(
                f"{part.name}: object {item + 1} has no mask: convert the dataset with masks, or train "
                "without them (include_mask: False)"
            )
        crop[...] = copy_paste.visible_mask(mask, part, box, size)
    return crops


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
