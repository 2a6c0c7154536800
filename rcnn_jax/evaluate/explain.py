"""Explanation of an implausible average precision, with the model at hand.

First the hypotheses on boxes (`evaluate.hypotheses`), which cost nothing; then, where none of them
restores AP and it is next to zero, the model runs again over a few images: with the channels in the other
order, with other preprocessing, without a threshold, with the spec inside its own file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.data.sources.subset import Subset
from rcnn_jax.errors import RcnnError
from rcnn_jax.evaluate import hypotheses
from rcnn_jax.evaluate.hypotheses import Diagnosis, Trial
from rcnn_jax.evaluate.loop import Track, rows_of
from rcnn_jax.evaluate.scored import Evaluation
from rcnn_jax.evaluate.voc import ImageResult, VocReport
from rcnn_jax.runtime.backend import OpenModel, Predictor
from rcnn_jax.runtime.bundle import OpenBundle
from rcnn_jax.settings.network import PixelSettings
from rcnn_jax.structures import Array
from rcnn_jax.tasks.experiment import Experiment

NEXT_TO_ZERO = 0.1
"""AP50 below which the model is run again: some seconds an attempt."""
RERUN_IMAGES = 16

KNOWN_PIXELS = {
    "bgr, mean of ImageNet, not divided (Caffe)": PixelSettings(
        channel_order="bgr", mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0)
    ),
    "rgb, mean and deviation of ImageNet (PyTorch)": PixelSettings(
        channel_order="rgb", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)
    ),
    "rgb from -1 to 1 (TensorFlow)": PixelSettings(
        channel_order="rgb", mean=(127.5,) * 3, std=(127.5,) * 3
    ),
    "rgb from 0 to 1": PixelSettings(channel_order="rgb", mean=(0.0,) * 3, std=(255.0,) * 3),
    "bgr from 0 to 1": PixelSettings(channel_order="bgr", mean=(0.0,) * 3, std=(255.0,) * 3),
    "rgb from 0 to 255": PixelSettings(channel_order="rgb", mean=(0.0,) * 3, std=(1.0,) * 3),
    "bgr from 0 to 255": PixelSettings(channel_order="bgr", mean=(0.0,) * 3, std=(1.0,) * 3),
}
"""Preprocessing that published weights were trained with."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One way to run the model again.

    Attributes:
      cause: what would be wrong.
      advice: what to do about it.
      experiment: geometry and batches.
      predictor: images on the canvas to detections.
    """

    cause: str
    advice: str
    experiment: Experiment
    predictor: Predictor


def explain(
    experiment: Experiment,
    model: OpenModel,
    source: Source,
    evaluation: Evaluation,
    track: Track,
) -> Diagnosis | None:
    """Returns why average precision is implausible; None where it is not.

    Args:
      experiment: that was evaluated.
      model: the file, opened.
      source: the images.
      evaluation: their metrics and detections.
      track: shows progress.
    """
    images = with_whole_labels(evaluation, source)
    diagnosis = hypotheses.diagnose(
        images, evaluation.sizes, evaluation.class_names, experiment.geometry
    )
    if diagnosis is None or diagnosis.best is not None or not diagnosis.ap50 < NEXT_TO_ZERO:
        return diagnosis
    chosen = hypotheses.chosen(images)
    chosen = chosen[:: -(-len(chosen) // RERUN_IMAGES)]
    few = [images[number] for number in chosen]
    part = Subset(source, [evaluation.records[number] for number in chosen])
    before = hypotheses.mean_ap50(few, len(evaluation.class_names))
    trials = []
    attempts = list(_attempts(experiment, model, few))
    for attempt in track(attempts, len(attempts), "look for the reason"):
        ap50 = _ap50(attempt, part, few, len(evaluation.class_names))
        trials.append(Trial(cause=attempt.cause, advice=attempt.advice, ap50=ap50))
        if hypotheses.restores(ap50, before):
            return replace(
                diagnosis, ap50=before, images=len(few), trials=(trials[-1], *diagnosis.trials)
            )
    return replace(diagnosis, trials=(*diagnosis.trials, *trials))


def with_whole_labels(evaluation: Evaluation, source: Source) -> list[ImageResult]:
    """Returns the images with boxes of the ground truth as the labels have them.

    Those of the evaluation went to the canvas and back and were clipped there: a width that was read as a
    right edge is no longer in them. COCO's come from the annotation file and are whole.
    """
    if not isinstance(evaluation.report, VocReport):
        return list(evaluation.images)
    whole = []
    for image, record in zip(evaluation.images, evaluation.records, strict=True):
        labels = source.annotation(record)
        same = len(labels.boxes) == len(image.gt_boxes)
        whole.append(replace(image, gt_boxes=labels.boxes) if same else image)
    return whole


def _attempts(
    experiment: Experiment, model: OpenModel, images: Sequence[ImageResult]
) -> Iterator[Attempt]:
    test, pixels = experiment.evaluation, experiment.task.pixels
    run = model.predictor(experiment, test)

    def attempt(cause: str, advice: str, predictor: Predictor) -> Attempt:
        return Attempt(cause=cause, advice=advice, experiment=experiment, predictor=predictor)

    detections, objects = (
        sum(len(boxes) for boxes in every)
        for every in ([image.boxes for image in images], [image.gt_boxes for image in images])
    )
    # A threshold hides detections: where there are many, it is not what is missing.
    if test.detections.score_threshold > 0 and detections < objects / 2:
        lower = replace(test, detections=replace(test.detections, score_threshold=0.0))
        yield attempt(
            f"the threshold of {test.detections.score_threshold:g} is above the scores of the model",
            "Lower the threshold of the evaluation; a model that trained for long has higher scores",
            model.predictor(experiment, lower),
        )
    if pixels.channels == 3:
        yield attempt(
            f"red and blue are swapped: the model was trained on "
            f"{pixels.channel_order[::-1]}, the spec says {pixels.channel_order}",
            "Set the channel order that the model was trained with (input_image_config."
            "image_channel_order), and the mean in that order",
            lambda images: run(np.asarray(images)[..., ::-1]),
        )
    if isinstance(model, OpenBundle):
        # Its pixels are those of the spec, or it would have been refused; canvas and counts may differ.
        yield from _own_spec(experiment, model)
        return
    for name, known in KNOWN_PIXELS.items() if pixels.channels == 3 else ():
        yield attempt(
            f"pixels are normalised otherwise than in training, which was: {name}",
            "Set channel order, mean and scale of the pixels as the weights were trained with",
            lambda images, known=known: run(as_if(images, pixels, known)),
        )


def _own_spec(experiment: Experiment, model: OpenBundle) -> Iterator[Attempt]:
    try:
        own = model.stored_experiment()
    except RcnnError:  # written by another release; it was compared as far as it goes
        return
    names = {"geometry": "canvas", "evaluation": "thresholds and counts", "depends": "network"}
    different = [
        word for name, word in names.items() if getattr(own, name) != getattr(experiment, name)
    ]
    if different:
        yield Attempt(
            cause="the spec is not the one that the model was trained with: it differs in "
            + " and ".join(different),
            advice="Evaluate with the spec that the model was trained with; training leaves it as "
            "spec.txt beside the models",
            experiment=replace(experiment, geometry=own.geometry),
            predictor=model.predictor(own, own.evaluation),
        )


def as_if(images: Array, pixels: PixelSettings, wanted: PixelSettings) -> np.ndarray:
    """Returns images that `pixels` normalise to what `wanted` would have made of them.

    Args:
      images: u8[b h w 3] in the order of `pixels`.
      pixels: of the spec.
      wanted: the other normalisation.

    Returns:
      f32[b h w 3].
    """
    values = np.asarray(images, np.float32)
    if wanted.channel_order != pixels.channel_order:
        values = values[..., ::-1]
    normal = (values - np.asarray(wanted.mean)) / np.asarray(wanted.std)
    return (normal * np.asarray(pixels.std) + np.asarray(pixels.mean)).astype(np.float32)


def _ap50(attempt: Attempt, source: Subset, truth: Sequence[ImageResult], classes: int) -> float:
    experiment = attempt.experiment
    rows = rows_of(experiment, attempt.predictor, source, batch=experiment.eval_batch)
    again = [
        replace(
            truth[int(batch.image_id[row])],
            boxes=np.asarray(detections.boxes),
            scores=np.asarray(detections.scores),
            classes=np.asarray(detections.classes),
        )
        for batch, row, detections, _ in rows
    ]
    return hypotheses.mean_ap50(again, classes)
