"""Conventions of torchvision's Faster and Mask R-CNN: the defaults of its model builders.

Source: docs/from_torchvision.md, "What is taken for granted".
"""

from rcnn_jax.checkpoints.layout import Layout
from rcnn_jax.checkpoints.taken_for_granted import (
    THREE_RATIOS,
    Granted,
    coco_categories,
    ratio_factors,
)


def torchvision_settings(layout: Layout, bn_eps: float | None = None) -> Granted:
    """Returns the settings of a model of torchvision.

    Args:
      layout: of its layers.
      bn_eps: epsilon of its batch norm, where the caller knows it.
    """
    # The v1 builders freeze the backbone's norm and have none elsewhere; v2 trained with norm
    # everywhere. Norm in the heads tells them apart, as no name in the file does.
    frozen = not (layout.fpn_norm or layout.head_norm)
    notes = [
        "taken from torchvision's defaults, because no shape shows it: anchors of 32 to 512 pixels and "
        "ratios 0.5, 1 and 2, images of 800 to 1333 pixels, scores above 0.05",
    ]
    # torchvision overwrites epsilon by 0 where its builder loads its own COCO v1 file, which the
    # name shows. A model that was tuned from there has 0 too and a file that does not say so: only
    # --bn_eps can.
    if bn_eps is None:
        bn_eps = 1e-5
        if frozen:
            notes.append(
                "batch norm has epsilon 1e-5, as in a model that was trained from torchvision's builder; "
                "torchvision itself runs its own COCO v1 files with 0 (--bn_eps 0)"
            )
    return Granted(
        source="torchvision",
        network={
            "convention": '"torchvision"',
            "freeze_bn": "true" if frozen else "false",
            "aspect_ratios": ratio_factors(THREE_RATIOS),
            # Sides in strides: 32 at stride 4, and so on to 512 at 64.
            "anchor_scale": "8",
            # Here y, x, h, w and there x, y, w, h: pairs of equal numbers, so the order does not
            # show.
            "bbox_reg_weights": '"(10.0, 10.0, 5.0, 5.0)"',
            # In pixels, `RegionProposalNetwork.min_size`: drops what has no area. TAO's field is 0
            # by default.
            "rpn_min_size": "0.001",
            "test_rpn_pre_nms_topn": "1000",
            "test_rpn_post_nms_topn": "1000",
            "test_rpn_nms_thresh": "0.7",
            "test_nms": "0.5",
            "test_score_threshold": "0.05",
            "test_detections_per_image": "100",
        },
        short_side=800,
        long_side=1333,
        bn_eps=bn_eps,
        notes=tuple(notes),
        # Of 90 alone. A model of 80 classes is somebody's own, in whose list COCO's names would be
        # a guess.
        categories=coco_categories(layout.classes) if layout.classes == 90 else None,
    )
