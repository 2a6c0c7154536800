"""Records what torchvision and an oracle of detectron2 give, for a default test run that has no torch.

.venv-peers/bin/python -m tests.golden.record_torchvision

Weights and images come from seeds (tests/reference/torchvision_weights.py, detectron2_weights.py), so the
files hold results only: lists of boxes as they are, of everything large some values at fixed positions.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.models.torchvision_case import (
    DETECTIONS,
    GOLDEN,
    GOLDEN_DETECTRON2,
    GOLDEN_V2,
    NUM_CLASSES,
    PROPOSALS,
    SIDE,
    sampled,
)
from tests.peers import mayaku_side
from tests.peers.torchvision_side import build, per_image, stages
from tests.reference.detectron2_weights import weights
from tests.reference.torchvision_weights import images, state_dict

LARGE = ("features/", "objectness/", "deltas/", "box_crops", "mask_crops", "mask_logits", "masks")
CLEAR = 1e-5  # scores this far apart keep their order whoever rounds


def main() -> None:
    """Writes the files.

    Raises:
      ValueError: two proposals or detections are too close in score for a stable order.
    """
    canvas = (SIDE, SIDE)
    for path, version, builder in (
        (GOLDEN, 1, "maskrcnn_resnet50_fpn"),
        (GOLDEN_V2, 2, "maskrcnn_resnet50_fpn_v2"),
    ):
        arrays = state_dict(NUM_CLASSES, version=version)
        model = build(arrays, canvas, PROPOSALS, DETECTIONS, builder)
        _write(path, stages(model, images(2, *canvas)))
    _write(GOLDEN_DETECTRON2, _detectron2())


def _detectron2() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = mayaku_side.config(mayaku_side.ZOO, NUM_CLASSES, PROPOSALS, DETECTIONS)
        files = mayaku_side.write(folder, weights(NUM_CLASSES), content)
        result = mayaku_side.stages(*files, folder, images(2, SIDE, SIDE))
    # Every image is full, so its lists are one array; the heads ran on all of them at once.
    for key in ("boxes", "scores", "classes", "masks"):
        result[key] = np.stack(result[key])
    return {**result, "mask_logits": per_image(result["mask_logits"], 2)}


def _write(path: Path, outputs: dict[str, Any]) -> None:
    for name in ("proposal_scores", "scores"):
        gap = float(-np.diff(outputs[name], axis=1).max()) if name in outputs else CLEAR
        if gap < CLEAR:
            raise ValueError(f"{name} differ by {gap:.1e} only: choose another seed of the images")
    arrays: dict[str, Any] = {
        name: sampled(array) if name.startswith(LARGE) else array for name, array in outputs.items()
    }
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {len(arrays)} arrays, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
