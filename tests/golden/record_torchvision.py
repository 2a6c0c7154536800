"""Records what torchvision's Mask R-CNN says, for a default test run that has no torch.

.venv-peers/bin/python -m tests.golden.record_torchvision

Weights and images come from seeds (tests/reference/torchvision_weights.py), so the file holds results
only: lists of boxes as they are, of everything large some values at fixed places.
"""

from typing import Any

import numpy as np

from tests.models.torchvision_case import (
    DETECTIONS,
    GOLDEN,
    NUM_CLASSES,
    PROPOSALS,
    SIDE,
    sampled,
)
from tests.peers.torchvision_side import build, stages
from tests.reference.torchvision_weights import images, state_dict

LARGE = ("features/", "objectness/", "deltas/", "box_crops", "mask_crops", "mask_logits", "masks")
CLEAR = 1e-5  # scores this far apart keep their order whoever rounds


def main() -> None:
    """Writes the file.

    Raises:
      ValueError: two proposals or detections are too close in score for a stable order.
    """
    model = build(state_dict(NUM_CLASSES), (SIDE, SIDE), PROPOSALS, DETECTIONS)
    outputs = stages(model, images(2, SIDE, SIDE))
    for name in ("proposal_scores", "scores"):
        gap = float(-np.diff(outputs[name], axis=1).max())
        if gap < CLEAR:
            raise ValueError(f"{name} differ by {gap:.1e} only: choose another seed of the images")
    arrays: dict[str, Any] = {
        name: sampled(array) if name.startswith(LARGE) else array for name, array in outputs.items()
    }
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **arrays)
    print(f"{GOLDEN.name}: {len(arrays)} arrays, {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
