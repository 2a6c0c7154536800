"""Evaluation loop: runs a predictor over a source and computes the metrics of its detections.

A predictor is a function `images u8[b h w c] -> (Detections, Proposals | None)`, so JAX bundles and
exported graphs are evaluated by the same code.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import jax
import numpy as np

from rcnn_jax.data.loader.images import boxes_to_source, origin
from rcnn_jax.data.loader.pipeline import evaluation_batches, evaluation_order
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.data.sources.masks import MaskSource
from rcnn_jax.data.sources.tiles import TiledSource, tiled
from rcnn_jax.errors import UsageError
from rcnn_jax.evaluate import scored
from rcnn_jax.evaluate.annotated import AnnotatedImages
from rcnn_jax.evaluate.coco import CocoReport, evaluate_coco, fastest_engine
from rcnn_jax.evaluate.ground_truth import coco_content
from rcnn_jax.evaluate.masks import image_results
from rcnn_jax.evaluate.results import Report
from rcnn_jax.evaluate.scored import Evaluation
from rcnn_jax.evaluate.share import all_coco_results, all_voc_results
from rcnn_jax.evaluate.tiles import merge_rows
from rcnn_jax.evaluate.voc import ImageResult, VocReport, evaluate_voc
from rcnn_jax.hosts.team import Team, team
from rcnn_jax.runtime.backend import Predictor
from rcnn_jax.settings.data import GroundTruthSettings
from rcnn_jax.settings.metrics import CocoMetrics, VocMetrics
from rcnn_jax.structures import Batch, Detections, Proposals
from rcnn_jax.tasks.experiment import Experiment

Track = Callable[[Iterable, int, str], Iterable]
"""(items, their number, label) -> the same items, shown as progress."""
Row = tuple[Batch, int, Detections, np.ndarray | None]
"""(batch, row in it, detections of the image, its proposals), both in source pixels."""


def detections_by_image(
    predictor: Predictor, batches: Iterable[Batch], offset: tuple[float, float]
) -> Iterator[Row]:
    """Yields (batch, row, detections of the image in source pixels, proposals in source pixels).

    `offset` is the part cut off by the crop of the geometry, see `data.images.origin`.
    """
    waiting: tuple[Batch, tuple[Detections, Proposals | None]] | None = None
    # JAX dispatches asynchronously: the next batch is started before the outputs of the last one are
    # read, which waits for them.
    for batch in batches:
        running = (batch, predictor(batch.images))
        if waiting is not None:
            yield from _unpack(*waiting, offset)
        waiting = running
    if waiting is not None:
        yield from _unpack(*waiting, offset)


def rows_of(
    experiment: Experiment,
    predictor: Predictor,
    source: Source,
    *,
    batch: int,
    gt: GroundTruthSettings | None = None,
    together: Team | None = None,
) -> Iterator[Row]:
    """Runs a predictor over a source; where images are cut into tiles, yields whole images all the same.

    Args:
      experiment: geometry, tiles, threads.
      predictor: images to detections on the canvas.
      source: whole images.
      batch: images of a batch over all processes.
      gt: how ground truth is padded; None leaves it out.
      together: processes that share the images; None for this one alone.

    Raises:
      DataError: an image is damaged.
      UsageError: several processes were to share tiles.
    """
    tiles = tiled(source, experiment.tiling)
    cut = isinstance(tiles, TiledSource)
    _check_shared(tiles, together)
    index, count = (together.index, together.count) if together is not None else (0, 1)
    batches = evaluation_batches(
        tiles,
        experiment.geometry,
        None if cut else gt,
        experiment.task.pixels.channel_order,
        batch=batch,
        threads=experiment.threads,
        prefetch=experiment.prefetch,
        process_index=index,
        process_count=count,
    )
    stepped = batches if together is None else _in_step(batches, together)
    rows = detections_by_image(predictor, stepped, origin(experiment.geometry))
    if not isinstance(tiles, TiledSource):
        return rows
    detections = experiment.evaluation.detections
    return merge_rows(
        rows,
        source,
        tiles.tiles,
        nms_threshold=detections.nms_threshold,
        limit=detections.max_detections,
        with_truth=gt is not None,
    )


def evaluate_detector(
    experiment: Experiment, predictor: Predictor, source: Source, track: Track, devices: int = 1
) -> Report:
    """Evaluates a predictor on a source with the metrics of the experiment.

    Several processes share the images, and every one returns the metrics of all.

    Args:
      experiment: geometry, batch size, metrics.
      predictor: images to detections on the canvas.
      source: images with annotations; known to the annotation file where the metrics are COCO's.
      track: shows progress.
      devices: of the predictor; each takes a batch of the experiment at a time.

    Raises:
      DataError: an image is damaged, or the images do not match the annotation file.
    """
    report, _ = _evaluate(experiment, predictor, source, track, devices)
    return report


def evaluate_images(
    experiment: Experiment, predictor: Predictor, source: Source, track: Track, devices: int = 1
) -> Evaluation:
    """Evaluates as `evaluate_detector` and keeps what every image has given.

    Args and Raises: as of `evaluate_detector`.
    """
    report, finish = _evaluate(experiment, predictor, source, track, devices, proposals=True)
    return finish(report)


def _evaluate(
    experiment: Experiment,
    predictor: Predictor,
    source: Source,
    track: Track,
    devices: int,
    *,
    proposals: bool = False,
) -> tuple[Report, Callable[[Report], Evaluation]]:
    """Returns the metrics, and a function that makes an evaluation of them.

    Proposals are a hundred kilobytes an image with the metrics of COCO, which need none: they are kept
    where they are asked for.
    """
    together = team()
    offset = origin(experiment.geometry)
    rows = rows_of(
        experiment,
        predictor,
        source,
        # As many images on a device as one alone takes: the same program gives the same last bits.
        batch=experiment.eval_batch * devices * together.count,
        gt=experiment.eval_gt,
        together=together,
    )
    seen = track(rows, -(-len(source) // together.count), "evaluate")
    match experiment.metrics:
        case CocoMetrics() as metrics:
            return _evaluate_coco(experiment, metrics, cast(MaskSource, source), seen, proposals)
        # PASCAL's matching needs all detections of a class in the order of their scores, over all
        # images: a list of boxes, a few kilobytes an image. COCO's loop drops the masks of an image
        # at once instead.
        case VocMetrics() as metrics:
            return _evaluate_voc(experiment, metrics, source, seen, offset)


def _in_step(batches: Iterable[Batch], together: Team) -> Iterator[Batch]:
    """Yields the batches; where several processes work, all stop before the same one."""
    for number, batch in enumerate(batches, start=1):
        together.tick_or_stop(f"batch {number} of the evaluation")
        yield batch
    together.rest("the metrics")


def _positions(experiment: Experiment, source: Source) -> dict[int, int]:
    order = evaluation_order(source, experiment.geometry)
    return {record: position for position, record in enumerate(order)}


def check_images(experiment: Experiment, source: Source, together: Team) -> None:
    """Checks before a run what would end it at its first validation.

    Args:
      experiment: metrics and tiles.
      source: whole images.
      together: processes that share the images.

    Raises:
      DataError: the annotation file lacks an image of the source.
      UsageError: several processes were to share tiles.
    """
    _check_shared(tiled(source, experiment.tiling), together)
    if isinstance(experiment.metrics, CocoMetrics):
        truth = _truth(experiment.metrics, experiment.category_ids, cast(MaskSource, source))
        truth.require_all_known(cast(MaskSource, source))


def _check_shared(tiles: Source, together: Team | None) -> None:
    if isinstance(tiles, TiledSource) and together is not None and together.is_many:
        raise UsageError(
            "tile_size: the tiles of an image are joined by one process; evaluate with one process, and "
            "leave validation data out of a training with several"
        )


def _voc_result(
    batch: Batch,
    row: int,
    detections: Detections,
    proposals: np.ndarray | None,
    offset: tuple[float, float],
) -> ImageResult:
    assert batch.gt is not None
    keep = np.asarray(batch.gt.valid[row])
    truth = boxes_to_source(
        np.asarray(batch.gt.boxes[row])[keep], batch.scale[row], batch.source_size[row], offset
    )
    return ImageResult(
        boxes=detections.boxes,
        scores=detections.scores,
        classes=detections.classes,
        gt_boxes=truth,
        gt_classes=np.asarray(batch.gt.classes[row])[keep],
        gt_crowd=np.asarray(batch.gt.crowd[row])[keep],
        proposals=proposals,
    )


def _evaluate_voc(
    experiment: Experiment,
    metrics: VocMetrics,
    source: Source,
    seen: Iterable[Row],
    offset: tuple[float, float],
) -> tuple[VocReport, Callable[[Report], Evaluation]]:
    own, records = [], []
    for batch, row, detections, proposals in seen:
        own.append(_voc_result(batch, row, detections, proposals, offset))
        records.append(int(batch.image_id[row]))
    together, names = team(), experiment.task.class_names
    if together.is_many:
        positions = _positions(experiment, source)
        own, records = all_voc_results(own, records, positions, together), list(positions)
    report = evaluate_voc(
        own, names, metrics.iou_thresholds, metrics.score_threshold, metrics.method
    )

    def finish(report: Report) -> Evaluation:
        return Evaluation(
            report=report,
            class_names=names,
            images=tuple(own),
            records=tuple(records),
            sizes=tuple(source.size(record) for record in records),
        )

    return report, finish


def _evaluate_coco(
    experiment: Experiment,
    metrics: CocoMetrics,
    source: MaskSource,
    seen: Iterable[Row],
    keep_proposals: bool,
) -> tuple[CocoReport, Callable[[Report], Evaluation]]:
    """Computes COCO metrics; masks are pasted on threads while the device works."""
    category_ids = experiment.category_ids
    assert category_ids is not None
    truth = _truth(metrics, category_ids, source)
    proposed: dict[int, np.ndarray | None] = {}
    with ThreadPoolExecutor(experiment.threads) as pool:
        pending = []
        for batch, row, detections, proposals in seen:
            record = int(batch.image_id[row])
            image_id = truth.image_id(source, record)
            proposed[record] = proposals if keep_proposals else None
            size = (int(batch.source_size[row][0]), int(batch.source_size[row][1]))
            # On other threads: at full size 100 masks of a 640 x 480 image take 59 ms of a core to paste
            # and encode. By windows it is less, and still time in which the device would wait.
            future = pool.submit(image_results, image_id, detections, category_ids, size)
            pending.append((record, image_id, future))
        own = [(record, image_id, future.result()) for record, image_id, future in pending]
    together = team()
    if together.is_many:
        positions = _positions(experiment, source)
        records = list(positions)
        image_ids, results = all_coco_results(own, positions, together)
        proposed = {}  # of the images of this process alone
    else:
        records = [record for record, _, _ in own]
        image_ids = [image_id for _, image_id, _ in own]
        results = [result for _, _, of_image in own for result in of_image]
    report = evaluate_coco(
        truth.content,
        results,
        ("bbox", "segm") if metrics.masks else ("bbox",),
        detections_per_image=metrics.max_detections,
        # Those that were evaluated: an annotation file of a whole data set may list more, and an
        # image without results counts as missed.
        image_ids=image_ids,
        engine=fastest_engine(),
    )

    def finish(report: Report) -> Evaluation:
        names, images, outlines = scored.of_coco(
            truth.content,
            results,
            image_ids,
            category_ids,
            experiment.task.class_names,
            [proposed.get(record) for record in records],
            masks=metrics.masks,
        )
        return Evaluation(
            report=report,
            class_names=names,
            images=images,
            records=tuple(records),
            sizes=tuple(source.size(record) for record in records),
            outlines=outlines,
        )

    return report, finish


@functools.lru_cache(maxsize=1)  # a run evaluates the same images many times
def _truth(
    metrics: CocoMetrics, category_ids: tuple[int, ...] | None, source: MaskSource
) -> AnnotatedImages:
    """Returns the annotation file, or without one the annotations of the source."""
    if metrics.annotations:
        return AnnotatedImages.read(Path(metrics.annotations), masks=metrics.masks)
    assert category_ids is not None
    content = coco_content(source, category_ids, masks=metrics.masks)
    return AnnotatedImages(content, source.name(0))


def _unpack(
    batch: Batch, outputs: tuple[Detections, Proposals | None], offset: tuple[float, float]
) -> Iterator[Row]:
    # Fetched whole: row by row every slice would be a program and a wait of its own.
    detections, proposals = jax.tree.map(np.asarray, outputs)
    # The last batch is filled up to the compiled size; its copies are no images.
    for row in np.flatnonzero(batch.image_valid):
        scale, size = batch.scale[row], batch.source_size[row]
        one = jax.tree.map(lambda leaf, i=row: leaf[i][detections.valid[i]], detections)
        yield (
            batch,
            int(row),
            one.replace(boxes=boxes_to_source(one.boxes, scale, size, offset)),
            None
            if proposals is None
            else boxes_to_source(proposals.boxes[row][proposals.valid[row]], scale, size, offset),
        )
