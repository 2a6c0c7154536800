"""Imported checkpoints give what their library gave: torchvision's v2, and detectron2 through mayaku.

The goldens were recorded by `tests/golden/record_torchvision.py`. The libraries themselves are compared
with in tests/peers/test_torchvision_v2.py and test_detectron2_mayaku.py, whole predictions included.
"""

import pickle

import numpy as np
import pytest

from rcnn_jax.checkpoints.imported import ImportOptions, import_checkpoint
from tests.checkpoints import fake_checkpoints as fake
from tests.models import torchvision_case as case
from tests.models.imported_case import stages_of
from tests.reference.detectron2_weights import weights
from tests.reference.torchvision_weights import images, state_dict

pytestmark = pytest.mark.slow

SIZE = np.full(2, case.SIDE, np.float32)
LISTS = ("logits", "box_deltas")


def torchvision_v2(folder):
    arrays = state_dict(case.NUM_CLASSES, version=2)
    return import_checkpoint(fake.write_torch(folder / "v2.pth", arrays))


def detectron2(folder):
    model, config = folder / "model_final.pkl", folder / "config.yaml"
    model.write_bytes(pickle.dumps({"model": weights(case.NUM_CLASSES)}, 2))
    # As the oracle samples.
    entry = "POOLER_SAMPLING_RATIO: 2"
    config.write_text(f"MODEL: {{ROI_BOX_HEAD: {{{entry}}}, ROI_MASK_HEAD: {{{entry}}}}}")
    return import_checkpoint(model, ImportOptions(config=config))


@pytest.mark.parametrize(
    ("golden", "imported"),
    [(case.GOLDEN_V2, torchvision_v2), (case.GOLDEN_DETECTRON2, detectron2)],
    ids=["torchvision v2", "detectron2"],
)
def test_every_stage_of_an_imported_checkpoint_is_that_of_its_library(golden, imported, tmp_path):
    with np.load(golden) as file:
        theirs = dict(file)
    task, stages = stages_of(imported(tmp_path), case.PROPOSALS, case.DETECTIONS)
    batch = images(2, case.SIDE, case.SIDE)
    if task.pixels.channel_order == "bgr":
        batch = batch[..., ::-1]
    features = stages.features(batch)
    rpn = stages.rpn(features)
    boxes = stages.box_head(features, theirs["proposals"])
    masks = stages.mask_head(features, theirs["boxes"])
    outputs = {**features, **rpn, **boxes, **masks}
    compared = [name for name in outputs if name in theirs]
    assert len(compared) == len(features) + len(rpn) + 3 + ("mask_crops" in theirs) + 1
    for name in compared:
        array = np.asarray(outputs[name])
        array = array if name in LISTS else case.sampled(array)
        assert case.relative_error(array, theirs[name]) < case.DENSE, name
    proposals = stages.proposals(rpn, np.stack([SIZE, SIZE]))["proposals"]
    np.testing.assert_allclose(proposals, theirs["proposals"], rtol=0, atol=case.PIXELS)
    detections = stages.detections({**boxes, "proposals": theirs["proposals"]}, SIZE)
    assert (np.asarray(detections["classes"]) == theirs["classes"]).all()
    np.testing.assert_allclose(detections["boxes"], theirs["boxes"], rtol=0, atol=case.PIXELS)
    np.testing.assert_allclose(detections["scores"], theirs["scores"], rtol=0, atol=case.SCORES)
