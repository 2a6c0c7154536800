"""With torchvision's weights and conventions every stage says what torchvision said.

The goldens were recorded by `tests/golden/record_torchvision.py`. Torchvision itself is compared with
in tests/peers/test_torchvision_mask_rcnn.py, on more images and in training.
"""

import numpy as np
import pytest

from tests.models import torchvision_case as case
from tests.reference.torchvision_weights import images, state_dict

SIZE = np.full(2, case.SIDE, np.float32)


@pytest.fixture(scope="module")
def golden():
    with np.load(case.GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def stages():
    task, test = case.task_and_test()
    weights = state_dict(case.NUM_CLASSES)
    return case.Stages(task, test, case.variables_from(task, weights))


@pytest.fixture(scope="module")
def features(stages):
    return stages.features(images(2, case.SIDE, case.SIDE))


@pytest.fixture(scope="module")
def rpn(stages, features):
    return stages.rpn(features)


def test_features_and_rpn_outputs_are_those_of_torchvision(golden, features, rpn):
    outputs = {**features, **rpn}
    assert sorted(outputs) == [name for name in sorted(golden) if "/" in name]
    for name, array in outputs.items():
        error = case.relative_error(case.sampled(np.asarray(array)), golden[name])
        assert error < case.DENSE, name


def test_proposals_are_those_of_torchvision(golden, stages, rpn):
    outputs = stages.proposals(rpn, np.stack([SIZE, SIZE]))
    assert np.asarray(outputs["proposal_valid"]).all()
    np.testing.assert_allclose(outputs["proposals"], golden["proposals"], rtol=0, atol=case.PIXELS)
    np.testing.assert_allclose(
        outputs["proposal_scores"], golden["proposal_scores"], rtol=0, atol=case.SCORES
    )


def test_roi_features_class_logits_and_box_deltas_are_those_of_torchvision(
    golden, stages, features
):
    outputs = stages.box_head(features, golden["proposals"])
    crops = case.sampled(np.asarray(outputs["box_crops"]))
    assert case.relative_error(crops, golden["box_crops"]) < case.DENSE
    assert case.relative_error(outputs["logits"], golden["logits"]) < case.DENSE
    assert case.relative_error(outputs["box_deltas"], golden["box_deltas"]) < case.DENSE


def test_detections_are_those_of_torchvision(golden, stages):
    outputs = stages.detections(golden, SIZE)
    assert np.asarray(outputs["valid"]).all()
    assert (np.asarray(outputs["classes"]) == golden["classes"]).all()
    np.testing.assert_allclose(outputs["boxes"], golden["boxes"], rtol=0, atol=case.PIXELS)
    np.testing.assert_allclose(outputs["scores"], golden["scores"], rtol=0, atol=case.SCORES)


def test_masks_are_those_of_torchvision(golden, stages, features):
    outputs = stages.mask_head(features, golden["boxes"])
    for name in ("mask_crops", "mask_logits"):
        error = case.relative_error(case.sampled(np.asarray(outputs[name])), golden[name])
        assert error < case.DENSE, name
    own = np.take_along_axis(
        np.asarray(outputs["mask_logits"]), golden["classes"][:, :, None, None, None], axis=-1
    )
    masks = 1.0 / (1.0 + np.exp(-own[..., 0]))
    np.testing.assert_allclose(case.sampled(masks), golden["masks"], rtol=0, atol=case.SCORES)
