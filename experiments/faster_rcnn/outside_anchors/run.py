"""Compares the values of `outside_anchors` on large and small objects, on a small and a larger canvas.

    python experiments/faster_rcnn/outside_anchors/run.py OUTPUT_FOLDER

Makes the sets, trains three small Faster R-CNNs on each with the same seed and prints a table. Runs are
resumed, so a stopped comparison goes on with the same command.
"""

import json
import sys
from pathlib import Path

from rcnn_jax.cli.main import main
from rcnn_jax.data.synthetic import CELLS, Contents, write_kitti

LARGE = Contents(most=1, radii=(0.3, 0.45))
SETS = {  # name -> objects, side of image and canvas, epochs
    "one large object, 320 x 320": (LARGE, 320, 8),
    "small objects, 320 x 320": (CELLS, 320, 8),
    "small objects, 640 x 640": (CELLS, 640, 5),
}
VALUES = ("ignore", "auto", "train")
TRAIN, VALIDATION = 160, 60
SPEC = Path(__file__).with_name("spec.txt")


def compare(output: Path) -> None:
    """Trains all runs and prints AP50 and AP of each after its last step."""
    print("| set | outside_anchors | mAP@0.5 | mAP |\n|---|---|---:|---:|")
    for name, (contents, side, epochs) in SETS.items():
        folder = output / name.replace(",", "").replace(" ", "_")
        for part, seed, count in (("train", 0, TRAIN), ("val", 1, VALIDATION)):
            if not (folder / part).exists():
                size = {"height": side, "width": side}
                write_kitti(folder / part, seed=seed, count=count, contents=contents, **size)
        for value in VALUES:
            text = SPEC.read_text().replace("FOLDER", str(folder)).replace("VALUE", value)
            spec = folder / f"{value}.txt"
            spec.write_text(text.replace("EPOCHS", str(epochs)).replace("SIDE", str(side)))
            run = folder / value
            code = main(["faster_rcnn", "train", "-e", str(spec), "-d", str(run), "--gpus", "1"])
            if code:
                sys.exit(code)
            lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            last = [line for line in lines if line["kind"] == "evaluate"][-1]
            print(f"| {name} | {value} | {last['mAP@0.50']:.3f} | {last['mAP']:.3f} |")


if __name__ == "__main__":
    compare(Path(sys.argv[1]))
