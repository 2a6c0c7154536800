"""torchvision's Mask R-CNN, its stages in our names, layouts and orders.

Of torch there is nothing here but what `benchmarks.torchvision_peer` imports.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.torchvision_peer import import_torch, import_torchvision


def build(
    state_dict: dict[str, np.ndarray],
    canvas: tuple[int, int],
    proposals: int,
    detections: int,
    builder: str = "maskrcnn_resnet50_fpn",
) -> Any:
    """Returns a Mask R-CNN in evaluation mode.

    Args:
      state_dict: every parameter and statistic of it.
      canvas: (height, width) of the images; such images are not resized.
      proposals: kept at test time.
      detections: kept.
      builder: function of `torchvision.models.detection`.
    """
    torch = import_torch()
    model = getattr(import_torchvision().models.detection, builder)(
        weights=None,
        weights_backbone=None,
        num_classes=len(state_dict["roi_heads.box_predictor.cls_score.bias"]),
        min_size=min(canvas),
        max_size=max(canvas),
        rpn_post_nms_top_n_test=proposals,
        box_detections_per_img=detections,
    )
    tensors = {name: torch.from_numpy(array) for name, array in state_dict.items()}
    missing = model.load_state_dict(tensors, strict=False)
    assert not missing.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys)
    return model.eval()


def tensor_of(images: np.ndarray) -> list[Any]:
    """u8[b h w 3] -> what torchvision takes, [3 h w] in [0, 1] each."""
    torch = import_torch()
    return [torch.from_numpy(image).permute(2, 0, 1).float() / 255.0 for image in images]


def stages(model: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    """Returns every stage of one prediction.

    Args:
      model: of `build`.
      images: u8[b h w 3] of the canvas of the model.
    """
    torch = import_torch()
    seen: dict[str, Any] = {}

    def record(name: str, module: Any) -> Any:
        return module.register_forward_hook(lambda _, given, result: seen.__setitem__(name, result))

    heads = model.roi_heads
    hooks = [
        record("backbone", model.backbone),
        record("rpn_head", model.rpn.head),
        record("rpn", model.rpn),
        record("box_roi_pool", heads.box_roi_pool),
        record("box_predictor", heads.box_predictor),
        record("mask_roi_pool", heads.mask_roi_pool),
        record("mask_predictor", heads.mask_predictor),
        # The masks of these dicts are replaced by pasted ones later on.
        heads.register_forward_hook(
            lambda _, given, result: seen.__setitem__(
                "detections", [dict(one) for one in result[0]]
            )
        ),
    ]
    # The objectness of proposals is computed and not returned.
    scores: list[Any] = []
    filter_proposals = model.rpn.filter_proposals

    def filtered(*operands: Any) -> Any:
        boxes, best_scores = filter_proposals(*operands)
        scores.extend(best_scores)
        return boxes, best_scores

    model.rpn.filter_proposals = filtered
    try:
        with torch.no_grad():
            model(tensor_of(images))
    finally:
        model.rpn.filter_proposals = filter_proposals
        for hook in hooks:
            hook.remove()

    batch = len(images)
    result: dict[str, np.ndarray] = {}
    for level, x in enumerate(seen["backbone"].values(), start=2):
        result[f"features/{level}"] = channels_last(x)
    objectness, deltas = seen["rpn_head"]
    for level, (logits, boxes) in enumerate(zip(objectness, deltas, strict=True), start=2):
        result[f"objectness/{level}"] = channels_last(logits)
        cells = channels_last(boxes)
        result[f"deltas/{level}"] = y_first(cells.reshape(*cells.shape[:3], -1, 4))
    proposals, _ = seen["rpn"]
    result["proposals"] = np.stack([y_first(boxes.numpy()) for boxes in proposals])
    result["proposal_scores"] = np.stack([of_images.numpy() for of_images in scores])
    result["box_crops"] = per_image(channels_last(seen["box_roi_pool"]), batch)
    logits, deltas = seen["box_predictor"]
    result["logits"] = per_image(background_last(logits.numpy()), batch)
    deltas = y_first(deltas.numpy().reshape(len(deltas), -1, 4))[:, 1:]
    result["box_deltas"] = per_image(deltas, batch)
    detections = seen["detections"]
    result["boxes"] = np.stack([y_first(one["boxes"].numpy()) for one in detections])
    result["scores"] = np.stack([one["scores"].numpy() for one in detections])
    result["classes"] = np.stack([one["labels"].numpy() - 1 for one in detections])
    result["masks"] = np.stack([one["masks"][:, 0].numpy() for one in detections])
    result["mask_crops"] = per_image(channels_last(seen["mask_roi_pool"]), batch)
    logits = channels_last(seen["mask_predictor"])[..., 1:]
    result["mask_logits"] = per_image(logits, batch)
    return result


def proposals(
    model: Any, stage: dict[str, np.ndarray], sizes: list[tuple[int, int]]
) -> list[np.ndarray]:
    """Returns the proposals f32[p 4] of every image if the images had these (height, width).

    Args:
      model: of `build`.
      stage: objectness/l and deltas/l of `stages`.
      sizes: of the part of the canvas that is not padding.
    """
    torch = import_torch()
    levels = sorted(int(name.split("/")[1]) for name in stage if name.startswith("features/"))
    batch = len(sizes)
    canvas = tuple(4 * side for side in stage["features/2"].shape[1:3])
    features = [torch.from_numpy(stage[f"features/{i}"]).permute(0, 3, 1, 2) for i in levels]
    anchors = model.rpn.anchor_generator(_image_list(features[0], canvas, sizes), features)
    logits = [stage[f"objectness/{i}"].reshape(batch, -1) for i in levels]
    deltas = [y_first(stage[f"deltas/{i}"]).reshape(batch, -1, 4) for i in levels]
    boxes = model.rpn.box_coder.decode(
        torch.from_numpy(np.concatenate(deltas, axis=1)).reshape(-1, 4), anchors
    )
    kept, _ = model.rpn.filter_proposals(
        boxes.reshape(batch, -1, 4),
        torch.from_numpy(np.concatenate(logits, axis=1)),
        sizes,
        [part.shape[1] for part in logits],
    )
    return [y_first(part.numpy()) for part in kept]


def _image_list(like: Any, canvas: tuple[int, ...], sizes: list[tuple[int, int]]) -> Any:
    """An `ImageList` of black images."""
    empty = like.new_zeros((len(sizes), 3, *canvas))
    return import_torchvision().models.detection.image_list.ImageList(empty, sizes)


def save_state_dict(
    state_dict: dict[str, np.ndarray], path: Path, *, frozen: bool
) -> dict[str, Any]:
    """Writes the state dict of a model as torch does, and returns it.

    Args:
      state_dict: fills the model.
      path: `.pth` or `.safetensors`.
      frozen: batch norm has no parameters, as in the published checkpoints.
    """
    torch, torchvision = import_torch(), import_torchvision()
    classes = len(state_dict["roi_heads.box_predictor.cls_score.bias"])
    detection = torchvision.models.detection
    norm = torchvision.ops.misc.FrozenBatchNorm2d if frozen else torch.nn.BatchNorm2d
    backbone = detection.backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=norm
    )
    model = detection.MaskRCNN(backbone, num_classes=classes)
    tensors = {name: torch.from_numpy(array) for name, array in state_dict.items()}
    model.load_state_dict(tensors, strict=False)
    written = model.state_dict()
    if path.suffix == ".safetensors":
        importlib.import_module("safetensors.torch").save_file(written, path)
    else:
        torch.save(written, path)
    return written


def channels_last(tensor: Any) -> np.ndarray:
    """[b c h w] -> [b h w c]."""
    return tensor.detach().permute(0, 2, 3, 1).contiguous().numpy()


def y_first(array: np.ndarray) -> np.ndarray:
    """(x1, y1, x2, y2) or (dx, dy, dw, dh) -> (y1, x1, y2, x2) or (dy, dx, dh, dw), [... 4]."""
    return np.ascontiguousarray(array[..., [1, 0, 3, 2]])


def background_last(logits: np.ndarray) -> np.ndarray:
    """[r n+1], background first -> last."""
    return np.roll(logits, -1, axis=-1)


def per_image(rows: np.ndarray, batch: int) -> np.ndarray:
    """[b*r ...] -> [b r ...]; every image has as many."""
    return rows.reshape(batch, -1, *rows.shape[1:])
