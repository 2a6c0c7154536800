"""torchvision's `fasterrcnn_resnet50_fpn`, old and new, and our import: whole predictions of both.

    make test-peers

Their stages are those of the networks with masks, which `test_torchvision_mask_rcnn` and
`test_torchvision_v2` compare one by one; here it is shown that a file without masks is read as well.
"""

import importlib.util

import numpy as np
import pytest

from tests.models import torchvision_case as case
from tests.models.imported_case import imported_stages
from tests.reference.torchvision_weights import images, state_dict

pytestmark = pytest.mark.peers

if importlib.util.find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed; `make test-peers` does", allow_module_level=True)

from benchmarks.torchvision_peer import import_torch  # noqa: E402
from tests.peers import torchvision_side as side  # noqa: E402

PROPOSALS = DETECTIONS = 60
CANVAS = (192, 256)


def predictions(model, pictures):
    """Detections as ours have them, with masks of zeros."""
    with import_torch().no_grad():
        results = model(side.tensor_of(pictures))
    return {
        "boxes": [each["boxes"].numpy()[:, [1, 0, 3, 2]] for each in results],
        "classes": [each["labels"].numpy() - 1 for each in results],
        "scores": [each["scores"].numpy() for each in results],
        "masks": [np.zeros((len(each["boxes"]), 1, 1)) for each in results],
    }


@pytest.mark.parametrize("version", [1, 2])
def test_the_whole_prediction_without_masks_is_that_of_torchvision(version, tmp_path):
    weights = {
        name: leaf
        for name, leaf in state_dict(case.NUM_CLASSES, version=version).items()
        if "mask" not in name
    }
    builder = f"fasterrcnn_resnet50_fpn{'_v2' if version == 2 else ''}"
    model = side.build(weights, CANVAS, PROPOSALS, DETECTIONS, builder)
    task, ours = imported_stages(weights, tmp_path, PROPOSALS, DETECTIONS)
    assert not task.model.include_mask
    pictures = images(2, *CANVAS)
    theirs = predictions(model, pictures)
    outputs = {name: np.asarray(leaf) for name, leaf in ours.predict(pictures).items()}
    outputs["masks"] = np.zeros((*outputs["scores"].shape, 1, 1))
    pairs = case.matching(outputs, theirs)
    total = sum(len(each) for each in theirs["scores"])
    assert total > 40 and pairs["count"] >= 0.98 * total
    assert pairs["boxes"] < case.PIXELS and pairs["scores"] < 1e-3
