"""Inference as a function: from an experiment, a model file and images to pictures and label files."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from rcnn_jax.data.formats.image_folder import find_images
from rcnn_jax.data.sources.categories import ABSENT
from rcnn_jax.errors import UsageError
from rcnn_jax.inference.frames import Frame, UnreadableVideoError
from rcnn_jax.inference.names import Video, output_names
from rcnn_jax.inference.outputs import CocoLabels, KittiLabels, Pictures, Writer
from rcnn_jax.inference.predict import run_inference
from rcnn_jax.inference.video import Seen, detect_frames, run_video
from rcnn_jax.inference.video_output import Film, Lines
from rcnn_jax.reporter import SILENT, Reporter
from rcnn_jax.runtime.backend import OpenModel
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.text_file import read_text


def inference(
    experiment: Experiment,
    model: OpenModel,
    images: Path,
    *,
    image_output: Path | None = None,
    label_output: Path | None = None,
    threshold: float | None = None,
    class_map: Path | None = None,
    include_mask: bool = False,
    agnostic_nms: float | None = None,
    devices: int = 1,
    reporter: Reporter = SILENT,
) -> int:
    """Runs a model over images.

    Args:
      experiment: from `runtime.open.experiment_of`, which has compared it with the model.
      model: the file, opened.
      images: a folder of images of any size, one image, or a pattern such as `in/*.png`.
      image_output: folder of annotated images, or None.
      label_output: folder of label files, or None: KITTI lines of a Faster R-CNN, COCO JSON of a
        Mask R-CNN.
      threshold: least score that is shown; None takes the one of the spec.
      class_map: file of class names, one a line, background excluded; those of the model when None.
      include_mask: draw masks too.
      agnostic_nms: see `predict.run_inference`.
      devices: local devices to use.
      reporter: console.

    Returns:
      The number of files that could not be used; each was named in a warning.

    Raises:
      RcnnError: the model, the class names or the folder cannot be used.
    """
    # Before the predictor is made, which compiles: an empty folder is told at once.
    files = find_images(images, what="image folder (images_dir, -i)")
    outputs = output_names(files.paths)
    predictor = model.predictor(experiment, experiment.inference, devices)
    names = experiment.task.class_names
    if class_map is not None:
        names = read_class_names(class_map, experiment)
    # Labels before pictures: what programs read is complete even where a picture cannot be written.
    writers: list[Writer] = []
    ids = experiment.category_ids
    if label_output is not None:
        writers.append(
            KittiLabels(label_output, outputs, names)
            if ids is None
            else CocoLabels(label_output, outputs, ids)
        )
    if image_output is not None:
        writers.append(
            Pictures(image_output, outputs, names, captions=experiment.captions, masks=include_mask)
        )
    return run_inference(
        experiment,
        predictor,
        files,
        writers,
        threshold=experiment.visualize_threshold if threshold is None else threshold,
        reporter=reporter,
        agnostic_nms=agnostic_nms,
        devices=devices,
    )


def inference_on_videos(
    experiment: Experiment,
    model: OpenModel,
    videos: Sequence[Video],
    *,
    threshold: float | None = None,
    class_map: Path | None = None,
    include_mask: bool = False,
    track: bool = False,
    reporter: Reporter = SILENT,
) -> int:
    """Runs a model over videos, cameras or streams, one after the other.

    Args:
      experiment: as of `inference`.
      model: the file, opened.
      videos: at least one.
      threshold: least score that is shown; None takes the one of the spec.
      class_map: file of class names; those of the model when None.
      include_mask: draw masks too.
      track: give objects ids.
      reporter: console.

    Returns:
      The number of videos that could not be read to their end; each was named in a warning. What was
      seen of them is written.

    Raises:
      RcnnError: the model or the class names cannot be used, an extra is missing, a result cannot be
        written, or the only video cannot be read.
    """
    names = experiment.task.class_names
    if class_map is not None:
        names = read_class_names(class_map, experiment)
    # Once for all videos: a predictor is compiled.
    predictor = model.predictor(experiment, experiment.inference)
    lowest = experiment.visualize_threshold if threshold is None else threshold
    failed = 0
    for video in videos:
        live = video.source.live

        def detect(frames: Iterable[Frame], live: bool = live) -> Iterator[Seen]:
            return detect_frames(
                frames,
                experiment.geometry,
                experiment.task.pixels.channel_order,
                predictor,
                # A live frame must not wait until others fill its batch.
                batch=1 if live else experiment.inference_batch,
                threshold=lowest,
            )

        try:
            # Whatever ends the video: what was seen until then is in both files.
            with ExitStack() as stack:
                writers: list[Callable[[Seen], None]] = []
                if video.lines is not None:
                    ids = experiment.category_ids
                    rows = stack.enter_context(Lines(video.lines, names, ids, live=live))
                    writers.append(rows.write)
                if video.film is not None:
                    film = Film(
                        video.film,
                        names,
                        captions=experiment.captions,
                        masks=include_mask,
                        live=live,
                    )
                    writers.append(stack.enter_context(film).write)
                run_video(video.source, detect, writers, reporter, track=track)
        except UnreadableVideoError as error:
            # One broken film must not keep a folder of them from being worked on.
            if len(videos) == 1:
                raise
            reporter.warn(str(error))
            failed += 1
            continue
        for what, path in (("annotated film", video.film), ("JSON lines", video.lines)):
            if path is not None:
                reporter.console.print(f"{what}: {path}", markup=False)
    return failed


def read_class_names(path: Path, experiment: Experiment) -> tuple[str, ...]:
    """Returns the names of a class-map file: line i names class i; blank lines at the end are none.

    Where classes are raw category ids with gaps, the file may leave the gaps out.

    Raises:
      UsageError: the file is missing, or names more or fewer classes than the model has.
    """
    text = read_text(path, "file of class names", UsageError)
    lines = [line.strip() for line in text.rstrip().splitlines()]
    known = experiment.task.class_names
    if len(lines) == len(known):
        return tuple(lines)
    # COCO's ids have gaps, and lists of its names have none.
    used = [index for index, item in enumerate(experiment.category_ids or ()) if item != ABSENT]
    if len(lines) == len(used):
        given = dict(zip(used, lines, strict=True))
        return tuple(given.get(index, name) for index, name in enumerate(known))
    # DeepStream's label file begins so, and is the one that people have at hand.
    hint = " (a first line for the background does not belong there)" * (lines[:1] == ["BG"])
    raise UsageError(
        f"{path}: names {len(lines)} classes, the model has {len(used) or len(known)}: "
        f"{', '.join(known)}{hint}"
    )
