"""A checkpoint and a config of detectron2, run by mayaku (Apache-2.0, pure PyTorch) and imported by us.

    make test-peers

mayaku samples RoIs two by two, so the config says POOLER_SAMPLING_RATIO 2; the adaptive count is
compared with a slow reading (tests/ops/test_roi_align.py) and with torchvision's kernel below.
"""

import importlib.util
import json
import pickle
from typing import Any

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
from tests.peers.torchvision_side import channels_last, per_image, y_first  # noqa: E402

torch = import_torch()
import_torchvision()

CANVAS, PROPOSALS, DETECTIONS = (192, 256), 60, 60
WHOLE = 1e-3
ZOO = {
    "MODEL": {"PIXEL_MEAN": [103.53, 116.28, 123.675], "PIXEL_STD": [1.0, 1.0, 1.0]},
    "RESNETS": {"STRIDE_IN_1X1": True},
    "INPUT": {"FORMAT": "BGR"},
}
TORCHVISION = {
    "MODEL": {"PIXEL_MEAN": [123.675, 116.28, 103.53], "PIXEL_STD": [58.395, 57.12, 57.375]},
    "RESNETS": {"STRIDE_IN_1X1": False},
    "INPUT": {"FORMAT": "RGB"},
}


def config(backbone: dict[str, Any]) -> dict[str, Any]:
    return {
        "MODEL": {
            "META_ARCHITECTURE": "GeneralizedRCNN",
            "BACKBONE": {"NAME": "build_resnet_fpn_backbone"},
            "MASK_ON": True,
            **backbone["MODEL"],
            "RESNETS": {"DEPTH": 50, "NORM": "FrozenBN", **backbone["RESNETS"]},
            "FPN": {"IN_FEATURES": ["res2", "res3", "res4", "res5"]},
            "ANCHOR_GENERATOR": {
                "SIZES": [[32], [64], [128], [256], [512]],
                "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
                "OFFSET": 0.0,
            },
            "RPN": {
                "IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
                "POST_NMS_TOPK_TEST": PROPOSALS,
            },
            "ROI_HEADS": {"IN_FEATURES": ["p2", "p3", "p4", "p5"], "NUM_CLASSES": case.NUM_CLASSES},
            "ROI_BOX_HEAD": {"POOLER_SAMPLING_RATIO": 2},
            "ROI_MASK_HEAD": {"POOLER_SAMPLING_RATIO": 2},
        },
        "INPUT": backbone["INPUT"],
        "TEST": {"DETECTIONS_PER_IMAGE": DETECTIONS},
    }


@pytest.fixture(scope="module", params=[ZOO, TORCHVISION], ids=["zoo", "torchvision backbone"])
def files(request, tmp_path_factory):
    """(model_final.pkl, config.yaml), random weights with random statistics."""
    folder = tmp_path_factory.mktemp("d2")
    arrays = weights(case.NUM_CLASSES)
    if request.param is TORCHVISION:
        arrays["backbone.bottom_up.stem.conv1.weight"] *= 57.0
    model, text = folder / "model_final.pkl", folder / "config.yaml"
    model.write_bytes(pickle.dumps({"model": arrays, "__author__": "nobody"}, 2))
    text.write_text(json.dumps(config(request.param)))  # JSON is YAML
    return model, text


@pytest.fixture(scope="module")
def theirs(files, tmp_path_factory):
    """Every stage of a prediction by mayaku, in our names and layouts."""
    from mayaku.cli._factory import build_detector
    from mayaku.d2 import convert_d2

    output = tmp_path_factory.mktemp("mayaku") / "model.pth"
    model = build_detector(convert_d2(files[0], d2_config=files[1], output=output)).eval()
    model.load_state_dict(torch.load(output, weights_only=False)["model"])
    seen: dict[str, Any] = {}

    def watch(name: str, module: Any) -> None:
        module.register_forward_hook(lambda _, given, result: seen.__setitem__(name, result))

    heads = model.roi_heads
    watch("features", model.backbone)
    watch("rpn_head", model.rpn.head)
    watch("rpn", model.rpn)
    watch("crops", heads.box_pooler)
    watch("boxes", heads.box_predictor)
    watch("masks", heads.mask_head)
    batch = images(2, *CANVAS)
    with torch.no_grad():
        instances = model([{"image": torch.from_numpy(one).permute(2, 0, 1)} for one in batch])
    instances = [one["instances"] for one in instances]
    stages = {f"features/{name[1:]}": channels_last(x) for name, x in seen["features"].items()}
    for level, (logits, deltas) in enumerate(zip(*seen["rpn_head"], strict=True), start=2):
        stages[f"objectness/{level}"] = channels_last(logits)
        cells = channels_last(deltas)
        stages[f"deltas/{level}"] = y_first(cells.reshape(*cells.shape[:3], -1, 4))
    proposals = [one.proposal_boxes.tensor.numpy() for one in seen["rpn"][0]]
    assert {len(one) for one in proposals} == {PROPOSALS}
    stages["proposals"] = np.stack([y_first(one) for one in proposals])
    stages["box_crops"] = per_image(channels_last(seen["crops"]), 2)
    logits, deltas = (part.numpy() for part in seen["boxes"])
    stages["logits"] = per_image(logits, 2)
    stages["box_deltas"] = per_image(y_first(deltas.reshape(len(deltas), -1, 4)), 2)
    stages["boxes"] = [y_first(one.pred_boxes.tensor.numpy()) for one in instances]
    stages["scores"] = [one.scores.numpy() for one in instances]
    stages["classes"] = [one.pred_classes.numpy() for one in instances]
    stages["masks"] = [one.pred_masks[:, 0].numpy() for one in instances]
    stages["mask_logits"] = channels_last(seen["masks"])
    return stages


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
