"""A checkpoint and a config of detectron2, run by mayaku (Apache-2.0, pure PyTorch) and imported by us.

    make test-peers

The adaptive count of samples, which mayaku lacks, is compared with a slow reading
(tests/ops/test_roi_align.py) and with torchvision's kernel below.
"""

import importlib.util

import numpy as np
import pytest

from rcnn_jax.checkpoints.imported import ImportOptions, import_checkpoint
from rcnn_jax.ops.roi_align import roi_align
from tests.models import torchvision_case as case
from tests.models.imported_case import stages_of
from tests.reference.detectron2_weights import weights
from tests.reference.torchvision_weights import images

pytestmark = pytest.mark.peers

if any(importlib.util.find_spec(name) is None for name in ("torchvision", "mayaku")):
    pytest.skip("mayaku is not installed; `make test-peers` does", allow_module_level=True)

from benchmarks.torchvision_peer import import_torch, import_torchvision, own_kernels  # noqa: E402
from tests.peers import mayaku_side as side  # noqa: E402
from tests.peers.torchvision_side import channels_last, y_first  # noqa: E402

torch = import_torch()
import_torchvision()

CANVAS, PROPOSALS, DETECTIONS = (192, 256), 60, 60
WHOLE = 1e-3


@pytest.fixture(
    scope="module", params=[side.ZOO, side.TORCHVISION], ids=["zoo", "torchvision backbone"]
)
def files(request, tmp_path_factory):
    """(model_final.pkl, config.yaml), random weights with random statistics."""
    arrays = weights(case.NUM_CLASSES)
    if request.param is side.TORCHVISION:
        arrays["backbone.bottom_up.stem.conv1.weight"] *= 57.0
    config = side.config(request.param, case.NUM_CLASSES, PROPOSALS, DETECTIONS)
    return side.write(tmp_path_factory.mktemp("d2"), arrays, config)


@pytest.fixture(scope="module")
def theirs(files, tmp_path_factory):
    """Every stage of a prediction by mayaku, in our names and layouts."""
    result = side.stages(*files, tmp_path_factory.mktemp("mayaku"), images(2, *CANVAS))
    assert result["proposals"].shape[1] == PROPOSALS
    return result


@pytest.fixture(scope="module")
def ours(files):
    bundle = import_checkpoint(files[0], ImportOptions(config=files[1]))
    return stages_of(bundle, PROPOSALS, DETECTIONS)


def canvases(task):
    """The seeded images in the order of the network, as the loader decodes them."""
    batch = images(2, *CANVAS)
    return batch[..., ::-1] if task.pixels.channel_order == "bgr" else batch


def test_every_stage_is_that_of_detectron2(ours, theirs):
    task, ours = ours
    outputs = {
        **ours.features(canvases(task)),
        **ours.rpn(theirs),
        **ours.box_head(theirs, theirs["proposals"]),
    }
    for name, array in outputs.items():
        assert case.relative_error(array, theirs[name]) < case.DENSE, name
    size = np.float32(CANVAS)
    boxes = ours.proposals(theirs, np.stack([size, size]))["proposals"]
    np.testing.assert_allclose(boxes, theirs["proposals"], atol=case.PIXELS)
    count = min(len(one) for one in theirs["boxes"])
    masks = ours.mask_head(theirs, np.stack([one[:count] for one in theirs["boxes"]]))[
        "mask_logits"
    ]
    assert case.relative_error(masks[0], theirs["mask_logits"][:count]) < case.DENSE


def test_the_whole_prediction_is_that_of_detectron2(ours, theirs):
    task, ours = ours
    detections = {name: np.asarray(a) for name, a in ours.predict(canvases(task)).items()}
    pairs = case.matching(detections, theirs)
    total = sum(map(len, theirs["scores"]))
    assert total > 40 and pairs["count"] >= 0.98 * total
    assert pairs["boxes"] < case.PIXELS and pairs["scores"] < WHOLE and pairs["masks"] < WHOLE


def test_adaptive_samples_are_those_of_torchvision():
    rng = np.random.default_rng(0)
    feature = rng.normal(size=(1, 40, 60, 4)).astype(np.float32)
    first = rng.uniform(0, 100, (50, 2))
    boxes = np.concatenate([first, first + rng.uniform(1, 130, (50, 2))], axis=1)
    boxes = boxes.clip(0, [160, 240, 160, 240]).astype(np.float32)
    if own_kernels():
        read = import_torchvision().ops.roi_align
    else:
        from benchmarks.peer_kernels import roi_align as read
    theirs = read(
        torch.from_numpy(feature).permute(0, 3, 1, 2),
        [torch.from_numpy(y_first(boxes))],
        output_size=(7, 7),
        spatial_scale=0.25,
        sampling_ratio=0,
        aligned=True,
    )
    crops = roi_align({2: feature}, boxes[None], output_size=7, sampling_ratio=0)
    assert case.relative_error(crops[0], channels_last(theirs)) < 1e-5
