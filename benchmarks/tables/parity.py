"""Prints how far exported graphs are from JAX: every backbone and Mask R-CNN, as Markdown.

python -m benchmarks.tables.parity --images data/demo            the whole table, on photographs
python -m benchmarks.tables.parity --networks resnet:18 vgg16    some rows, on made-up scenes
python -m benchmarks.tables.parity --networks mask --factor 0.125 --canvas 128x192    a quick look

Each row is a whole detector, from uint8 image to detections, with random weights that behave like
trained ones (`benchmarks.plausible_weights`): scores and boxes are spread, and a black canvas is
mostly empty. It is shown three images: a photograph, its mirror image and the black canvas. Where all
places for detections are taken, the row says so.

One graph of free batch size runs the three images at once and each alone (batches of 3 and of 1);
JAX runs the three at once. Partners are matched as in the check of every export. ResNet-18 and Mask
R-CNN ResNet-50 are shown on all canvases and with all class counts, the others on one of each, the
heavy ones on the smallest canvas, with 64 proposals and 16 detections. It takes about twenty minutes
of two cores.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np

from benchmarks.plausible_weights import settled
from rcnn_jax.data.sources.categories import Categories
from rcnn_jax.data.synthetic import generate
from rcnn_jax.export.contracts import make_header, outputs_of
from rcnn_jax.export.lowering.dense import NCHW
from rcnn_jax.export.lowering.jaxpr_onnx import trace
from rcnn_jax.export.verification.parity import FP32, Parity, compare_detections
from rcnn_jax.models import narrowed
from rcnn_jax.runtime.onnx_runtime import open_session, predictor
from rcnn_jax.spec import load_spec
from rcnn_jax.structures import Detections
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.families import family
from rcnn_jax.tasks.task import Variables

ROOT = Path(__file__).parents[2]
FASTER = ROOT / "configs" / "faster_rcnn" / "kitti_resnet18.txt"
MASK = ROOT / "benchmarks" / "specs" / "mask_resnet50.txt"
# Few, so that heavy networks run in minutes; what may differ is found among the best ones.
PROPOSALS, DETECTIONS, SCORE = 64, 16, 0.05
WIDE, MIDDLE, LARGE = (384, 1248), (544, 960), (832, 1344)
HEAD = (
    "| network | canvas | classes | detections per image | box (px) | score | mask | agree |\n"
    "|---|---|---:|---|---:|---:|---:|---|"
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One detector of the table.

    Attributes:
      network: key of `BACKBONES`, or `mask resnet:50` for a Mask R-CNN.
      canvas: (height, width).
      classes: how many, background excluded.
    """

    network: str
    canvas: tuple[int, int]
    classes: int


def _square(network: str, *classes: int) -> tuple[Row, ...]:
    """Every canvas once, with these class counts."""
    pairs = zip((WIDE, MIDDLE, LARGE), classes, strict=True)
    return tuple(Row(network=network, canvas=canvas, classes=n) for canvas, n in pairs)


ROWS = (
    *_square("resnet:18", 3, 90, 1),
    Row(network="resnet:10", canvas=LARGE, classes=3),
    Row(network="resnet:34", canvas=MIDDLE, classes=1),
    Row(network="resnet:50", canvas=WIDE, classes=90),
    Row(network="resnet:101", canvas=WIDE, classes=1),
    Row(network="resnet101", canvas=MIDDLE, classes=3),
    Row(network="vgg:16", canvas=WIDE, classes=3),
    Row(network="vgg:19", canvas=WIDE, classes=90),
    Row(network="vgg16", canvas=MIDDLE, classes=1),
    Row(network="googlenet", canvas=LARGE, classes=90),
    Row(network="mobilenet_v1", canvas=LARGE, classes=1),
    Row(network="mobilenet_v2", canvas=LARGE, classes=3),
    Row(network="darknet:19", canvas=MIDDLE, classes=90),
    Row(network="darknet:53", canvas=WIDE, classes=1),
    Row(network="efficientnet:b0", canvas=LARGE, classes=90),
    Row(network="efficientnet:b1", canvas=MIDDLE, classes=3),
    Row(network="efficientnet:b2", canvas=WIDE, classes=1),
    Row(network="efficientnet:b3", canvas=MIDDLE, classes=90),
    Row(network="efficientnet:b4", canvas=WIDE, classes=3),
    Row(network="efficientnet:b5", canvas=WIDE, classes=1),
    Row(network="efficientnet:b6", canvas=WIDE, classes=1),
    Row(network="efficientnet:b7", canvas=WIDE, classes=3),
    *_square("mask resnet:50", 90, 1, 3),
    Row(network="mask resnet:18", canvas=WIDE, classes=90),
    Row(network="mask resnet:101", canvas=MIDDLE, classes=1),
)


def detector(row: Row, factor: float = 1.0) -> Experiment:
    """Returns the experiment of a row; `factor` multiplies all widths."""
    masks = row.network.startswith("mask ")
    experiment = _mask_rcnn(row) if masks else faster_rcnn(row.network, row.canvas, row.classes)
    test: Any = experiment.inference
    task: Any = experiment.task
    model = task.model.clone(bn_axis_name=None)
    return dataclasses.replace(
        experiment,
        task=dataclasses.replace(task, model=narrowed(model, factor) if factor != 1.0 else model),
        inference=dataclasses.replace(
            test,
            proposals=dataclasses.replace(test.proposals, post_nms=PROPOSALS),
            detections=dataclasses.replace(
                test.detections, max_detections=DETECTIONS, score_threshold=SCORE
            ),
        ),
    )


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"class{index:02d}" for index in range(count))


def faster_rcnn(arch: str, canvas: tuple[int, int], classes: int) -> Experiment:
    """Returns the experiment of configs/faster_rcnn/kitti_resnet18.txt with another backbone.

    Args:
      arch: key of `BACKBONES`, built as published.
      canvas: (height, width).
      classes: how many, background excluded.
    """
    config: Any = load_spec(FASTER).config
    config.model_config.arch = arch
    config.model_config.freeze_blocks = ()
    config.model_config.all_projections = False  # as published
    experiment = build_experiment(config, "faster_rcnn")
    task: Any = experiment.task
    model = task.model.clone(num_classes=classes)
    height, width = canvas
    return dataclasses.replace(
        experiment,
        task=dataclasses.replace(task, model=model, class_names=_names(classes)),
        geometry=dataclasses.replace(experiment.geometry, height=height, width=width),
    )


def _mask_rcnn(row: Row) -> Experiment:
    config: Any = load_spec(MASK).config
    network = config.maskrcnn_config
    network.nlayers = int(row.network.partition(":")[2])
    # sides must be multiples of the stride of the coarsest level
    network.max_level = 6 if all(side % 64 == 0 for side in row.canvas) else 5
    config.data_config.image_size = row.canvas
    config.data_config.num_classes = row.classes + 1
    categories = Categories(tuple(range(1, row.classes + 1)), _names(row.classes))
    return build_experiment(config, "mask_rcnn", categories=categories)


def pictures(folder: Path | None, canvas: tuple[int, int], order: str, index: int) -> np.ndarray:
    """Returns u8[3 h w 3]: an image of the folder, or a made-up scene, its mirror image, and black."""
    height, width = canvas
    if folder is None:
        image = list(generate(5, index + 1, height, width))[index].image
    else:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        pixels: Any = cv2.imread(str(paths[index % len(paths)]))
        image = cv2.resize(pixels, (width, height))[:, :, ::-1]
    # A mirror image finds wrong padding, which is not symmetric; a black one finds free slots.
    images = np.stack([image, image[:, ::-1], np.zeros_like(image)])
    return np.ascontiguousarray(images[..., ::-1] if order == "bgr" else images)


def compare(experiment: Experiment, images: np.ndarray) -> tuple[Sequence[int], Parity]:
    """Returns the detections JAX has in each image, and the largest difference of the graph."""
    task, test = experiment.task, experiment.inference
    predict = jax.jit(lambda v, x: task.predict(v, x, test)[0])

    def scores(variables: Variables) -> np.ndarray:
        detections = predict(variables, images)
        return np.where(detections.valid, detections.scores, 0.0)

    variables, counts = settled(experiment, images, scores)
    wanted = jax.tree.map(np.asarray, predict(variables, images))
    # A free batch: one graph has to be right for three images and for one.
    header = make_header(experiment, "tao", None)
    shape = (None, *header.canvas, images.shape[-1])
    graph = trace(
        outputs_of(experiment, variables, header.contract),
        family(experiment.kind).input_name,
        shape,
        NCHW,
    )
    model = graph.to_model("detector", header.to_metadata())
    run = predictor(open_session(model.SerializeToString(), "the exported graph"), header)
    results = [compare_detections(wanted, run(images)[0])]
    for index in range(len(images)):
        own = slice(index, index + 1)
        results.append(compare_detections(_images(wanted, own), run(images[own])[0]))
    return counts, _worst(results)


def _images(detections: Detections, part: slice) -> Detections:
    return jax.tree.map(lambda array: array[part], detections)


def _worst(results: Sequence[Parity]) -> Parity:
    return Parity(
        images=sum(one.images for one in results),
        detections=sum(one.detections for one in results),
        unmatched=sum(one.unmatched for one in results),
        box=max(one.box for one in results),
        score=max(one.score for one in results),
        mask=max(one.mask for one in results),
    )


def line(row: Row, counts: Sequence[int], parity: Parity, masks: bool) -> str:
    """Returns the row as Markdown."""
    slots = [f"{count} (all places)" if count == DETECTIONS else str(count) for count in counts]
    agree = "yes" if parity.within(FP32) else "NO"
    if parity.unmatched:
        agree += f", {parity.unmatched} of {parity.detections} without a partner"
    name = f"Mask R-CNN {row.network[5:]}" if masks else row.network
    return (
        f"| `{name}` | {row.canvas[0]}x{row.canvas[1]} | {row.classes} | {', '.join(slots)} "
        f"| {parity.box:.1e} | {parity.score:.1e} | {f'{parity.mask:.1e}' if masks else '-'} "
        f"| {agree} |"
    )


def _canvas(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


def main(arguments: list[str] | None = None) -> int:
    """Prints the table row by row; returns 1 where a graph does not agree."""
    parser = argparse.ArgumentParser(description="Prints how far exported graphs are from JAX.")
    parser.add_argument("--images", type=Path, help="folder of photographs; made-up scenes without")
    parser.add_argument("--networks", nargs="*", default=[""], help="beginnings of their names")
    parser.add_argument("--canvas", type=_canvas, help="HEIGHTxWIDTH instead of the rows' own")
    parser.add_argument("--factor", type=float, default=1.0, help="of all widths")
    options = parser.parse_args(arguments)
    print(HEAD, flush=True)
    bad, begin = 0, time.perf_counter()
    for index, row in enumerate(ROWS):
        if not row.network.startswith(tuple(options.networks)):
            continue
        row = dataclasses.replace(row, canvas=options.canvas or row.canvas)
        experiment = detector(row, options.factor)
        order = experiment.task.pixels.channel_order
        counts, parity = compare(experiment, pictures(options.images, row.canvas, order, index))
        print(line(row, counts, parity, experiment.kind == "mask_rcnn"), flush=True)
        bad += not parity.within(FP32)
        jax.clear_caches()  # the compiled programs of a row are of no use to the next
    minutes = (time.perf_counter() - begin) / 60
    print(f"\n{minutes:.1f} minutes", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
