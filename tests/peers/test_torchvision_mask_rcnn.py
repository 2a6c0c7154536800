"""torchvision's `maskrcnn_resnet50_fpn` and ours, the same weights in both, stage by stage.

    make test-peers

The weights are random and seeded, the images seeded or photographs. Every stage is fed with what
torchvision had there, so that an error shows where it arises; then the whole is compared. Ours runs
under configs/mask_rcnn/torchvision_resnet50.txt, whose `convention` says everything that differs from
TAO's Mask R-CNN. docs/torchvision.md lists it.
"""

import importlib.util

import jax
import numpy as np
import pytest

from rcnn_jax.checkpoints.pretrained import apply_weights, load_weights
from rcnn_jax.checkpoints.torch_names import from_torch
from tests.models import torchvision_case as case
from tests.reference.torchvision_weights import images, shapes, state_dict

pytestmark = pytest.mark.peers

if importlib.util.find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed; `make test-peers` does", allow_module_level=True)

from tests.peers import torchvision_side as side  # noqa: E402

PROPOSALS = DETECTIONS = 100
AGREEING = 0.98  # share of detections that both must have
WHOLE = 1e-3  # of probabilities, at boxes that differ by hundredths of pixels


@pytest.fixture(scope="module")
def weights():
    return state_dict(case.NUM_CLASSES)


@pytest.fixture(scope="module")
def ours(weights):
    task, test = case.task_and_test(PROPOSALS, DETECTIONS)
    return case.Stages(task, test, case.variables_from(task, weights))


@pytest.fixture(scope="module", params=["seeded", "photographs"])
def pictures(request):
    """u8[b h w 3], sides multiples of 64."""
    if request.param == "seeded":
        return images(2, 192, 256)
    return case.photographs(request.getfixturevalue("shared") / "data" / "demo")


@pytest.fixture(scope="module")
def model(weights, pictures):
    return side.build(weights, pictures.shape[1:3], PROPOSALS, DETECTIONS)


@pytest.fixture(scope="module")
def theirs(model, pictures):
    return side.stages(model, pictures)


@pytest.fixture(scope="module")
def size(pictures):
    return np.float32(pictures.shape[1:3])


def assert_dense(outputs, theirs, *names):
    for name in names:
        assert case.relative_error(outputs[name], theirs[name]) < case.DENSE, name


def test_the_seeded_weights_are_a_whole_state_dict(model):
    theirs = {
        name: tuple(leaf.shape)
        for name, leaf in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert shapes(case.NUM_CLASSES) == theirs


def test_feature_maps_agree(ours, theirs, pictures):
    assert_dense(ours.features(pictures), theirs, *(f"features/{level}" for level in range(2, 7)))


def test_rpn_outputs_agree(ours, theirs):
    names = [f"{what}/{level}" for what in ("objectness", "deltas") for level in range(2, 7)]
    assert_dense(ours.rpn(theirs), theirs, *names)


def test_proposals_agree(ours, theirs, size):
    outputs = ours.proposals(theirs, np.tile(size, (len(theirs["proposals"]), 1)))
    assert np.asarray(outputs["proposal_valid"]).all()
    np.testing.assert_allclose(outputs["proposals"], theirs["proposals"], rtol=0, atol=case.PIXELS)
    np.testing.assert_allclose(
        outputs["proposal_scores"], theirs["proposal_scores"], rtol=0, atol=case.SCORES
    )


def test_proposals_of_images_smaller_than_the_canvas_agree(ours, model, theirs, size):
    sizes = [(int(size[0]) - 40, int(size[1]) - 56 - i) for i in range(len(theirs["proposals"]))]
    expected = side.proposals(model, theirs, sizes)
    outputs = ours.proposals(theirs, np.float32(sizes))
    for image, boxes in enumerate(expected):
        valid = np.asarray(outputs["proposal_valid"])[image]
        assert valid.sum() == len(boxes)
        mine = np.asarray(outputs["proposals"])[image][valid]
        np.testing.assert_allclose(mine, boxes, rtol=0, atol=case.PIXELS)


def test_roi_features_class_logits_and_box_deltas_agree(ours, theirs):
    outputs = ours.box_head(theirs, theirs["proposals"])
    assert_dense(outputs, theirs, "box_crops", "logits", "box_deltas")


def test_detections_agree(ours, theirs, size):
    outputs = ours.detections(theirs, size)
    assert np.asarray(outputs["valid"]).all()
    assert (np.asarray(outputs["classes"]) == theirs["classes"]).all()
    np.testing.assert_allclose(outputs["boxes"], theirs["boxes"], rtol=0, atol=case.PIXELS)
    np.testing.assert_allclose(outputs["scores"], theirs["scores"], rtol=0, atol=case.SCORES)


def test_masks_agree(ours, theirs):
    assert_dense(ours.mask_head(theirs, theirs["boxes"]), theirs, "mask_crops", "mask_logits")


def test_what_the_task_predicts_is_what_torchvision_predicts(ours, theirs, pictures):
    worst = case.matching(jax.device_get(ours.predict(pictures)), theirs)
    assert worst["count"] >= AGREEING * theirs["scores"].size
    assert worst["boxes"] <= case.PIXELS
    assert worst["scores"] <= WHOLE
    assert worst["masks"] <= WHOLE


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("frozen", [False, True], ids=["trainable-bn", "frozen-bn"])
def test_files_that_torch_writes_fill_every_layer(tmp_path, weights, ours, suffix, frozen):
    path = tmp_path / f"maskrcnn_resnet50_fpn{suffix}"
    written = side.save_state_dict(weights, path, frozen=frozen)
    assert any(name.endswith("num_batches_tracked") for name in written) != frozen
    variables = ours.variables
    loaded = apply_weights(
        jax.tree.map(np.zeros_like, variables["params"]),
        jax.tree.map(np.zeros_like, variables["batch_stats"]),
        load_weights(path),
    )
    assert loaded.coverage == 1.0 and {row.status for row in loaded.rows} == {"Yes"}
    filled = {"params": loaded.params, "batch_stats": loaded.batch_stats}
    jax.tree.map(np.testing.assert_array_equal, filled, variables)


def test_the_seeded_weights_read_the_same_from_memory(weights, ours):
    kernel = from_torch(weights)["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, ours.variables["params"]["conv1"]["kernel"])
