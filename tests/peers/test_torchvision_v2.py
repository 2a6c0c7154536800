"""torchvision's `maskrcnn_resnet50_fpn_v2` and our import of it, the same random weights in both.

    make test-peers

Statistics of batch norm are random too: with fresh ones a pyramid without them would pass. Every stage
is fed with what torchvision had there; then the whole is compared.
"""

import importlib.util

import numpy as np
import pytest

from tests.models import torchvision_case as case
from tests.models.imported_case import imported_stages
from tests.reference.torchvision_weights import images, shapes, state_dict

pytestmark = pytest.mark.peers

if importlib.util.find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed; `make test-peers` does", allow_module_level=True)

from tests.peers import torchvision_side as side  # noqa: E402

PROPOSALS = DETECTIONS = 60
CANVAS = (192, 256)
WHOLE = 1e-3  # of probabilities, at boxes that differ by hundredths of pixels


@pytest.fixture(scope="module")
def weights():
    return state_dict(case.NUM_CLASSES, version=2)


@pytest.fixture(scope="module")
def model(weights):
    return side.build(weights, CANVAS, PROPOSALS, DETECTIONS, "maskrcnn_resnet50_fpn_v2")


@pytest.fixture(scope="module")
def theirs(model):
    return side.stages(model, images(2, *CANVAS))


@pytest.fixture(scope="module")
def ours(weights, tmp_path_factory):
    return imported_stages(weights, tmp_path_factory.mktemp("v2"), PROPOSALS, DETECTIONS)[1]


def test_the_seeded_weights_are_a_whole_state_dict(model):
    theirs = {
        name: tuple(leaf.shape)
        for name, leaf in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert shapes(case.NUM_CLASSES, version=2) == theirs


def test_every_stage_is_that_of_torchvision(ours, theirs):
    size = np.float32(CANVAS)
    stages = [
        (ours.features(images(2, *CANVAS)), "features/"),
        (ours.rpn(theirs), "objectness/"),
        (ours.rpn(theirs), "deltas/"),
        (ours.box_head(theirs, theirs["proposals"]), ("box_crops", "logits", "box_deltas")),
        (ours.mask_head(theirs, theirs["boxes"]), ("mask_crops", "mask_logits")),
    ]
    for outputs, names in stages:
        for name in (name for name in theirs if name.startswith(names)):
            assert case.relative_error(outputs[name], theirs[name]) < case.DENSE, name
    outputs = ours.proposals(theirs, np.stack([size, size]))
    np.testing.assert_allclose(outputs["proposals"], theirs["proposals"], atol=case.PIXELS)
    outputs = ours.detections(theirs, size)
    np.testing.assert_allclose(outputs["boxes"], theirs["boxes"], atol=case.PIXELS)


def test_the_whole_prediction_is_that_of_torchvision(ours, theirs):
    outputs = {name: np.asarray(a) for name, a in ours.predict(images(2, *CANVAS)).items()}
    pairs = case.matching(outputs, theirs)
    assert pairs["count"] >= 0.98 * theirs["scores"].size
    assert pairs["boxes"] < case.PIXELS and pairs["scores"] < WHOLE and pairs["masks"] < WHOLE
