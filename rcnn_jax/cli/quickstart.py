"""`make quickstart`: the whole tool on a data set it makes itself, with every command shown.

Run from the root of a clone: the specs in configs/ name paths below out/quickstart.
"""

import shlex
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console

from rcnn_jax.cli.main import guarded, main
from rcnn_jax.data.synthetic import write_kitti
from rcnn_jax.errors import UsageError

OUTPUT = Path("out/quickstart")
IMAGES = 320
SPEC = "configs/faster_rcnn/quickstart.txt"
CONVERT_SPEC = "configs/dataset_convert/quickstart.txt"

COMMANDS = (
    (
        "TFRecords from the KITTI labels",
        f"faster_rcnn dataset_convert -d {CONVERT_SPEC} -o {OUTPUT}/records/cells",
    ),
    ("A small Faster R-CNN, from random weights", f"faster_rcnn train -e {SPEC} -d {OUTPUT}/run"),
    (
        "How good is it on images it has not seen?",
        f"faster_rcnn evaluate -e {SPEC} -m {OUTPUT}/run/best.tlt -r {OUTPUT}/run",
    ),
    (
        "Pictures and label files of new images",
        f"faster_rcnn inference -e {SPEC} -m {OUTPUT}/run/best.tlt",
    ),
)


def quickstart() -> int:
    """Makes data, converts, trains, evaluates and draws; returns the exit code of what failed or 0."""
    if not Path(SPEC).is_file():
        raise UsageError(f"{SPEC} is not here: run the quickstart from the root of a clone")
    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    if OUTPUT.exists():
        shutil.rmtree(OUTPUT)
    console.rule(f"{IMAGES} images of cells, made up", align="left")
    write_kitti(OUTPUT / "data", seed=0, count=IMAGES, height=240, width=320)
    write_kitti(OUTPUT / "new", seed=1, count=12, height=240, width=320)
    console.print(f"{OUTPUT}/data", markup=False)
    for title, command in COMMANDS:
        console.rule(title, align="left")
        console.print(f"$ rcnn-jax {command}\n", markup=False)
        code = main(shlex.split(command))
        if code:
            return code
    minutes = (time.monotonic() - started) / 60
    console.rule(f"done in {minutes:.1f} minutes", align="left")
    for what, where in (
        ("annotated images", OUTPUT / "inference" / "images"),
        ("KITTI label files", OUTPUT / "inference" / "labels"),
        ("model", OUTPUT / "run" / "best.tlt"),
        ("metrics, curves", OUTPUT / "run" / "eval"),
        ("TensorBoard", OUTPUT / "run" / "tensorboard"),
    ):
        console.print(f"{what + ':':<20}{where}", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(quickstart))
