"""`make quickstart`: every command on a generated data set, each shown as it would be typed.

Faster R-CNN on boxes in the KITTI form, Mask R-CNN on the same cells in the COCO form, and in the
end both as ONNX files that ONNX Runtime runs on the same new images.

Run from the root of a clone: the specs in configs/ name paths below out/quickstart.
"""

import shlex
import shutil
import time
from pathlib import Path

from rich.console import Console

from rcnn_jax.cli.huge_pages import take_huge_pages
from rcnn_jax.cli.main import guarded, main
from rcnn_jax.cli.session import Screen
from rcnn_jax.data.synthetic import write_coco, write_kitti
from rcnn_jax.errors import UsageError
from rcnn_jax.interrupt import leave

OUTPUT = Path("out/quickstart")
MASKS = OUTPUT / "masks"
# As few as a detector of round cells needs to be seen working, within minutes on a CPU.
TRAIN_IMAGES, VAL_IMAGES, NEW_IMAGES = 256, 64, 12
# Multiples of 16, the stride of the Faster R-CNN's map.
HEIGHT, WIDTH = 240, 320

FASTER = "configs/faster_rcnn/quickstart.txt"
MASK = "configs/mask_rcnn/quickstart.txt"
CONVERT_SPEC = "configs/dataset_convert/quickstart.txt"

COMMANDS = (
    (
        "TFRecords from the KITTI labels",
        f"faster_rcnn dataset_convert -d {CONVERT_SPEC} -o {OUTPUT}/records/cells",
    ),
    (
        "A small Faster R-CNN, from random weights",
        f"faster_rcnn train -e {FASTER} -d {OUTPUT}/run",
    ),
    (
        "How good is it on images it has not seen?",
        f"faster_rcnn evaluate -e {FASTER} -m {OUTPUT}/run/best.tlt -r {OUTPUT}/run",
    ),
    (
        "Pictures and label files of new images",
        f"faster_rcnn inference -e {FASTER} -m {OUTPUT}/run/best.tlt --agnostic_nms 0.4",
    ),
    *(
        (
            f"TFRecords with masks from the COCO annotations, {part}",
            f"mask_rcnn dataset_convert -i {MASKS}/data/images "
            f"-a {MASKS}/data/instances_{part}.json -o {MASKS}/records -t {part} -s 2",
        )
        for part in ("train", "val")
    ),
    (
        "A small Mask R-CNN, from random weights",
        f"mask_rcnn train -e {MASK} -d {MASKS}/run",
    ),
    (
        "How good are its boxes and its masks?",
        f"mask_rcnn evaluate -e {MASK} -m {MASKS}/run/best.tlt -r {MASKS}/run",
    ),
    (
        "Pictures with masks, COCO results of new images",
        f"mask_rcnn inference -e {MASK} -m {MASKS}/run/best.tlt -i {OUTPUT}/new/images "
        f"-o {MASKS}/inference/images -l {MASKS}/inference/labels -t 0.5 --include_mask "
        "--agnostic_nms 0.4",
    ),
    (
        "Faster R-CNN as an ONNX file, checked against JAX",
        f"faster_rcnn export -e {FASTER} -m {OUTPUT}/run/best.tlt -o {OUTPUT}/export/faster.onnx",
    ),
    (
        "The same new images in ONNX Runtime",
        f"faster_rcnn inference -e {FASTER} -m {OUTPUT}/export/faster.onnx "
        f"-r {OUTPUT}/export/faster --agnostic_nms 0.4",
    ),
    (
        "Mask R-CNN as an ONNX file, checked against JAX",
        f"mask_rcnn export -e {MASK} -m {MASKS}/run/best.tlt -o {OUTPUT}/export/mask.onnx",
    ),
    (
        "The same new images in ONNX Runtime, with masks",
        f"mask_rcnn inference -e {MASK} -m {OUTPUT}/export/mask.onnx -i {OUTPUT}/new/images "
        f"-r {OUTPUT}/export/mask -t 0.5 --include_mask --agnostic_nms 0.4",
    ),
)

RESULTS = (
    ("boxes in pictures", OUTPUT / "inference" / "images"),
    ("KITTI label files", OUTPUT / "inference" / "labels"),
    ("masks in pictures", MASKS / "inference" / "images"),
    ("COCO results", MASKS / "inference" / "labels.json"),
    ("models", OUTPUT / "run" / "best.tlt"),
    ("", MASKS / "run" / "best.tlt"),
    ("ONNX files", OUTPUT / "export" / "faster.onnx"),
    ("", OUTPUT / "export" / "mask.onnx"),
    ("metrics, curves", OUTPUT / "run" / "eval"),
    ("TensorBoard", OUTPUT),
)


def quickstart() -> int:
    """Makes data and runs all commands on it; returns the exit code of what failed, or 0."""
    # The specs name paths from the root of a clone.
    if not Path(FASTER).is_file():
        raise UsageError(f"{FASTER} is not here: run the quickstart from the root of a clone")
    console = Screen(highlight=False, soft_wrap=True)
    started = time.monotonic()
    # Anew every time: training would resume what an earlier quickstart left, and show nothing.
    if OUTPUT.exists():
        shutil.rmtree(OUTPUT)
    write_data(console)
    for title, command in COMMANDS:
        console.rule(title, align="left")
        console.print(f"$ rcnn-jax {command}\n", markup=False)
        # Through the entry point and not through functions: what is printed above is what runs.
        code = main(shlex.split(command))
        # The first failure ends it: every later command reads what an earlier one wrote.
        if code:
            return code
    minutes = (time.monotonic() - started) / 60
    console.rule(f"done in {minutes:.1f} minutes", align="left")
    for what, where in RESULTS:
        console.print(f"{what + ':' if what else '':<20}{where}", markup=False)
    return 0


def write_data(console: Console) -> None:
    """Writes the same made-up cells as KITTI labels and as COCO annotations, and a few new images."""
    count = TRAIN_IMAGES + VAL_IMAGES
    console.rule(f"{count} images of cells, made up, and {NEW_IMAGES} new ones", align="left")
    write_kitti(OUTPUT / "data", seed=0, count=count, height=HEIGHT, width=WIDTH)
    write_coco(
        MASKS / "data",
        seed=0,
        train_count=TRAIN_IMAGES,
        val_count=VAL_IMAGES,
        height=HEIGHT,
        width=WIDTH,
    )
    # Another seed, so that inference sees images that neither training nor validation had.
    write_kitti(OUTPUT / "new", seed=1, count=NEW_IMAGES, height=HEIGHT, width=WIDTH)
    for what, where in (
        ("KITTI labels", OUTPUT / "data"),
        ("COCO annotations", MASKS / "data"),
        ("new images", OUTPUT / "new" / "images"),
    ):
        console.print(f"{what + ':':<20}{where}", markup=False)


if __name__ == "__main__":
    take_huge_pages()
    leave(guarded(quickstart))
