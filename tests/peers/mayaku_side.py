"""A checkpoint of detectron2, run by mayaku (Apache-2.0, pure PyTorch); stages in our names and orders.

mayaku samples RoIs two by two, so the config says POOLER_SAMPLING_RATIO 2.
"""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.torchvision_peer import import_torch, import_torchvision
from tests.peers.torchvision_side import channels_last, per_image, y_first

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


def config(
    backbone: dict[str, Any], classes: int, proposals: int, detections: int
) -> dict[str, Any]:
    """Returns the config of a Mask R-CNN R-50-FPN on one of the two backbones above."""
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
                "POST_NMS_TOPK_TEST": proposals,
            },
            "ROI_HEADS": {"IN_FEATURES": ["p2", "p3", "p4", "p5"], "NUM_CLASSES": classes},
            "ROI_BOX_HEAD": {"POOLER_SAMPLING_RATIO": 2},
            "ROI_MASK_HEAD": {"POOLER_SAMPLING_RATIO": 2},
        },
        "INPUT": backbone["INPUT"],
        "TEST": {"DETECTIONS_PER_IMAGE": detections},
    }


def write(
    folder: Path, arrays: dict[str, np.ndarray], content: dict[str, Any]
) -> tuple[Path, Path]:
    """Writes a model as the zoo has it, and its config; returns both files."""
    model, text = folder / "model_final.pkl", folder / "config.yaml"
    model.write_bytes(pickle.dumps({"model": arrays, "__author__": "nobody"}, 2))
    text.write_text(json.dumps(content))  # JSON is YAML
    return model, text


def stages(model: Path, config: Path, folder: Path, batch: np.ndarray) -> dict[str, Any]:
    """Returns every stage of a prediction by mayaku.

    Args:
      model: `.pkl` of detectron2.
      config: its config.
      folder: for the model that mayaku makes of both.
      batch: u8[b h w 3] in RGB.
    """
    from mayaku.cli._factory import build_detector
    from mayaku.d2 import convert_d2

    torch = import_torch()
    import_torchvision()
    output = folder / "model.pth"
    detector = build_detector(convert_d2(model, d2_config=config, output=output)).eval()
    detector.load_state_dict(torch.load(output, weights_only=False)["model"])
    seen: dict[str, Any] = {}

    def watch(name: str, module: Any) -> None:
        module.register_forward_hook(lambda _, given, result: seen.__setitem__(name, result))

    heads = detector.roi_heads
    watch("features", detector.backbone)
    watch("rpn_head", detector.rpn.head)
    watch("rpn", detector.rpn)
    watch("crops", heads.box_pooler)
    watch("boxes", heads.box_predictor)
    watch("masks", heads.mask_head)
    with torch.no_grad():
        outputs = detector([{"image": torch.from_numpy(one).permute(2, 0, 1)} for one in batch])
    instances = [one["instances"] for one in outputs]
    result: dict[str, Any] = {
        f"features/{name[1:]}": channels_last(x) for name, x in seen["features"].items()
    }
    for level, (logits, deltas) in enumerate(zip(*seen["rpn_head"], strict=True), start=2):
        result[f"objectness/{level}"] = channels_last(logits)
        cells = channels_last(deltas)
        result[f"deltas/{level}"] = y_first(cells.reshape(*cells.shape[:3], -1, 4))
    proposals = [one.proposal_boxes.tensor.numpy() for one in seen["rpn"][0]]
    count = len(batch)
    result["proposals"] = np.stack([y_first(one) for one in proposals])
    result["box_crops"] = per_image(channels_last(seen["crops"]), count)
    logits, deltas = (part.numpy() for part in seen["boxes"])
    result["logits"] = per_image(logits, count)
    result["box_deltas"] = per_image(y_first(deltas.reshape(len(deltas), -1, 4)), count)
    result["boxes"] = [y_first(one.pred_boxes.tensor.numpy()) for one in instances]
    result["scores"] = [one.scores.numpy() for one in instances]
    result["classes"] = [one.pred_classes.numpy() for one in instances]
    result["masks"] = [one.pred_masks[:, 0].numpy() for one in instances]
    result["mask_logits"] = channels_last(seen["masks"])
    return result
