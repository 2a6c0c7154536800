"""Prints how far our Mask R-CNN is from torchvision's with the same weights, as a Markdown table.

.venv-peers/bin/python -m benchmarks.tables.torchvision_parity [FOLDER]

Stage by stage as in tests/peers/test_torchvision_mask_rcnn.py, whose tolerances it explains: seeded
images, and the photographs of a folder if one is given.
"""

import sys
from pathlib import Path

import jax
import numpy as np

from tests.models import torchvision_case as case
from tests.peers import torchvision_side as side
from tests.reference.torchvision_weights import images, state_dict

PROPOSALS = DETECTIONS = 100
STAGES = {
    "feature maps P2 to P6": ("features/",),
    "objectness and deltas of the RPN": ("objectness/", "deltas/"),
    "features of rois, 7 x 7": ("box_crops",),
    "class logits": ("logits",),
    "box deltas": ("box_deltas",),
    "features of detections, 14 x 14": ("mask_crops",),
    "mask logits": ("mask_logits",),
}
"""{row of the table: beginnings of the names in it}."""


def dense_errors(ours: case.Stages, theirs: dict, pictures: np.ndarray) -> dict[str, float]:
    """Returns the largest difference of every dense array, as a share of its largest value."""
    outputs = (
        # Every stage gets torchvision's input of that stage: differences do not add up along the
        # way.
        ours.features(pictures)
        | ours.rpn(theirs)
        | ours.box_head(theirs, theirs["proposals"])
        | ours.mask_head(theirs, theirs["boxes"])
    )
    return {name: case.relative_error(array, theirs[name]) for name, array in outputs.items()}


def table(sets: dict[str, np.ndarray]) -> str:
    """Returns the table for {name: u8[b h w 3]}."""
    weights = state_dict(case.NUM_CLASSES)
    task, test = case.task_and_test(PROPOSALS, DETECTIONS)
    ours = case.Stages(task, test, case.variables_from(task, weights))
    columns: dict[str, dict[str, str]] = {}
    for name, pictures in sets.items():
        theirs = side.stages(
            side.build(weights, pictures.shape[1:3], PROPOSALS, DETECTIONS), pictures
        )
        errors = dense_errors(ours, theirs, pictures)
        column = columns.setdefault(name, {})
        for row, names in STAGES.items():
            worst = max(error for key, error in errors.items() if key.startswith(names))
            column[row] = f"{worst:.0e}"
        size = np.asarray(pictures.shape[1:3], np.float32)
        proposals = ours.proposals(theirs, np.tile(size, (len(pictures), 1)))["proposals"]
        column["proposals"] = f"{np.abs(proposals - theirs['proposals']).max():.0e} px"
        whole = jax.device_get(ours.predict(pictures))
        pairs = case.matching(whole, theirs)
        count = theirs["scores"].size
        column["whole prediction: boxes"] = f"{pairs['boxes']:.0e} px"
        column["whole prediction: scores"] = f"{pairs['scores']:.0e}"
        column["whole prediction: masks"] = f"{pairs['masks']:.0e}"
        column["whole prediction: detections in both"] = f"{pairs['count']} of {count}"
    rows = next(iter(columns.values()))
    lines = [f"| Largest difference | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {row} | {' | '.join(c[row] for c in columns.values())} |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    sets = {"seeded images": images(2, 192, 256)}
    if len(sys.argv) > 1:
        sets["photographs"] = case.photographs(Path(sys.argv[1]))
    print(table(sets))


if __name__ == "__main__":
    main()
