"""Images per second of the training loader, from JPEG files to batches of uint8 canvases.

One call takes many batches from a fresh iterator, so that nothing is ready beforehand. `per core`
divides by processor time, which a busy machine distorts less than wall time; the batches that the
loader prefetches and nobody takes count as its cost.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.case import Case, effort
from benchmarks.measure import OURS, PeerUnavailableError, Side, compare
from benchmarks.options import Options
from benchmarks.results import Aim, Benchmark
from rcnn_jax.data.loader.pipeline import training_batches
from rcnn_jax.data.sources.annotations import ClassMap
from rcnn_jax.data.sources.boxes import KittiFolder
from rcnn_jax.data.synthetic import CLASS_NAMES, write_kitti
from rcnn_jax.settings.data import (
    AugmentSettings,
    GeometrySettings,
    GroundTruthSettings,
    LoaderSettings,
)

PEER = "tf.data"
# One core brings such files to 832x1344 at 400 to 530 a second: room for a busy machine.
IMAGES_PER_SECOND_AND_CORE = 300.0
AUGMENT = AugmentSettings(
    hflip_probability=0.5,
    zoom_min=0.8,
    zoom_max=1.25,
    translate_max_x=16.0,
    translate_max_y=16.0,
    rotate_max_degrees=5.0,
    brightness_stddev=0.05,
    hue_rotation_max=10.0,
    saturation_shift_max=0.2,
    contrast_scale_max=0.2,
)

COMPOSED = replace(AUGMENT, mosaic_probability=0.5, copy_paste_probability=0.5)


@dataclass(frozen=True, kw_only=True)
class Size:
    """Files, canvas, and how many images a call makes."""

    file: tuple[int, int]
    canvas: tuple[int, int]
    files: int
    images: int
    batch: int


def cases(options: Options) -> list[Case]:
    """Returns canvases with and without augmentation, on one thread and on all cores."""
    if options.size == "tiny":
        sizes = [Size(file=(48, 64), canvas=(48, 64), files=4, images=4, batch=2)]
        threads = [1]
    else:
        file = (480, 640)
        sizes = [
            Size(file=file, canvas=canvas, files=32, images=128, batch=2)
            for canvas in (file, (832, 1344))
        ]
        threads = sorted({1, len(os.sched_getaffinity(0))})
        # Two pairs instead of four: the cost per image does not depend on both at once.
        if options.size != "full":  # the small canvas on one thread, the large one on all
            pairs = list(zip(sizes, (threads[0], threads[-1]), strict=True))
            return _cases(pairs, options)
    return _cases([(size, count) for size in sizes for count in threads], options)


def _cases(pairs: list[tuple[Size, int]], options: Options) -> list[Case]:
    """Returns every pair of size and threads: plain, augmented, and made from several images."""
    rows = []
    for size, count in pairs:
        for kind, augment in (("plain", None), ("augmented", AUGMENT), ("composed", COMPOSED)):
            name = f"{_text(size.file)} to {_text(size.canvas)}, {kind}, {count} thread(s)"
            rows.append(_case(name, size, augment, count, options))
    return rows


def _case(
    name: str, size: Size, augment: AugmentSettings | None, threads: int, options: Options
) -> Case:
    return Case(name, lambda: _measure(name, size, augment, threads, options))


def _measure(
    name: str, size: Size, augment: AugmentSettings | None, threads: int, options: Options
) -> Benchmark:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        height, width = size.file
        write_kitti(
            root, seed=0, count=size.files, height=height, width=width, image_extension=".jpg"
        )
        paths = sorted((root / "images").iterdir())
        makers: dict[str, Callable[[], Side]] = {OURS: lambda: _ours(root, size, augment, threads)}
        # tf.image has no equal of the augmentations: a pipeline of other operations would be no
        # peer.
        if options.peers and augment is None:
            makers[PEER] = lambda: _peer(paths, size, threads)
        sides, notes = compare(makers, effort(options))
        bytes_per_file = sum(path.stat().st_size for path in paths) // len(paths)
    aims = ()
    # An image made from several costs the placing and drawing of several; no rate is promised.
    if size.file == size.canvas == (480, 640) and threads == 1 and augment is not COMPOSED:
        aims = (
            Aim(
                what=f"{name}: images per second and core",
                value=size.images / sides[0].cpu_median,
                relation="at least",
                limit=IMAGES_PER_SECOND_AND_CORE,
                unit="img/s",
            ),
        )
    return Benchmark(
        name=name,
        parameters={
            "file": _text(size.file),
            "canvas": _text(size.canvas),
            "jpeg_bytes": bytes_per_file,
            "augmented": augment is not None,
            "composed": augment is COMPOSED,
            "batch": size.batch,
            "threads": threads,
        },
        sides=sides,
        images=size.images,
        aims=aims,
        notes=notes,
    )


def _ours(root: Path, size: Size, augment: AugmentSettings | None, threads: int) -> Side:
    source = KittiFolder(
        root / "images", root / "labels", ClassMap({name: name for name in CLASS_NAMES})
    )
    geometry = GeometrySettings(mode="keep_aspect", height=size.canvas[0], width=size.canvas[1])
    truth = GroundTruthSettings(max_objects=100)
    loader = LoaderSettings(global_batch=size.batch, seed=0, threads=threads, prefetch=2)

    def run() -> None:
        batches = training_batches(source, geometry, augment, truth, "rgb", loader)
        # Many batches per call, so that what was prefetched before the clock started hardly counts.
        for _ in range(size.images // size.batch):
            next(batches)
        # Threads of an iterator that is only dropped would go on into the next call.
        close = getattr(batches, "close", None)
        if close is not None:
            close()

    return Side(run=run)


def _peer(paths: list[Path], size: Size, threads: int) -> Side:
    """The same without annotations: tf.image resizes in float and rounds back to uint8."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise PeerUnavailableError("TensorFlow is not installed") from error
    # TensorFlow would take the memory of the GPU on which JAX is measured.
    tf.config.set_visible_devices([], "GPU")
    height, width = size.canvas
    same = size.canvas == size.file

    def load(path: Any) -> Any:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        if same:
            return tf.ensure_shape(image, (height, width, 3))
        resized = tf.image.resize(image, (height, width), preserve_aspect_ratio=True)
        image = tf.cast(tf.round(resized), tf.uint8)
        return tf.image.pad_to_bounding_box(image, 0, 0, height, width)

    names = [str(path) for path in paths]
    dataset = tf.data.Dataset.from_tensor_slices(names).repeat()
    # In order, as ours: a run must be repeatable.
    dataset = dataset.map(load, num_parallel_calls=threads, deterministic=True)
    dataset = dataset.batch(size.batch, drop_remainder=True).prefetch(2)
    dataset = dataset.take(size.images // size.batch)
    settings = tf.data.Options()
    # As many threads as ours: by default tf.data takes all cores.
    settings.threading.private_threadpool_size = threads
    dataset = dataset.with_options(settings)

    def run() -> None:
        for batch in dataset.as_numpy_iterator():
            del batch

    return Side(run=run)


def _text(size: tuple[int, int]) -> str:
    """Returns width x height, as one says it of images."""
    return f"{size[1]}x{size[0]}"
