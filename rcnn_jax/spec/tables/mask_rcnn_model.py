"""The field table of Mask R-CNN's network and its sampling: `maskrcnn_config`.

Source: docs/reference/specs.md, "Mask R-CNN: network".
"""

import dataclasses

from rcnn_jax.spec.schema import (
    AT_LEAST_ONE,
    BELOW_ONE,
    NON_NEGATIVE,
    OPEN_UNIT,
    POSITIVE,
    UNIT,
    Choice,
    Interval,
    LiteralShape,
    Message,
    boolean,
    count,
    literal,
    mapping,
    real,
    reals,
    string,
)
from rcnn_jax.spec.tables.shared_training import SAMPLE_LOSSES, TEST_TIME_VIEWS

MASKRCNN_CONFIG = Message(
    "MaskRCNNConfig",
    "The network and its sampling.",
    (
        real("rpn_box_loss_weight", 1, 1.0, "Weight of the RPN's box loss.", allowed=NON_NEGATIVE),
        real(
            "fast_rcnn_box_loss_weight",
            2,
            1.0,
            "Weight of the head's box loss.",
            allowed=NON_NEGATIVE,
        ),
        real("mrcnn_weight_loss_mask", 3, 1.0, "Weight of the mask loss.", allowed=NON_NEGATIVE),
        boolean(
            "freeze_bn",
            4,
            False,
            "Batch norm keeps its moving statistics; gamma and beta are still trained.",
        ),
        literal(
            "bbox_reg_weights",
            5,
            LiteralShape("(", "float", length=4),
            (10.0, 10.0, 5.0, 5.0),
            "Multiplies the head's box targets: dy, dx, dh, dw.",
            allowed=POSITIVE,
        ),
        literal(
            "aspect_ratios",
            6,
            LiteralShape("[", "float", inner=2),
            ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4)),
            "(width factor, height factor) of each anchor.",
            allowed=POSITIVE,
            required=True,
        ),
        count("gt_mask_size", 7, 112, "Side of stored ground-truth masks.", allowed=AT_LEAST_ONE),
        real(
            "rpn_positive_overlap", 8, 0.7, "From this IoU on an anchor is positive.", allowed=UNIT
        ),
        real("rpn_negative_overlap", 9, 0.3, "Below this IoU an anchor is negative.", allowed=UNIT),
        count(
            "rpn_batch_size_per_im",
            10,
            256,
            "Anchors per image that train the RPN.",
            allowed=AT_LEAST_ONE,
        ),
        real("rpn_fg_fraction", 11, 0.5, "Largest fraction of positive anchors.", allowed=UNIT),
        real("rpn_min_size", 12, 0.0, "Smallest side of a proposal.", allowed=NON_NEGATIVE),
        count(
            "batch_size_per_im",
            13,
            512,
            "Rois per image that train the heads.",
            allowed=AT_LEAST_ONE,
        ),
        real("fg_fraction", 14, 0.25, "Largest fraction of foreground rois.", allowed=UNIT),
        real("fg_thresh", 15, 0.5, "IoU of a foreground roi.", allowed=UNIT),
        real("bg_thresh_hi", 16, 0.5, "Below this IoU a roi is background.", allowed=UNIT),
        real("bg_thresh_lo", 17, 0.0, "Smallest IoU of a background roi.", allowed=UNIT),
        count("fast_rcnn_mlp_head_dim", 18, 1024, "Width of fc6 and fc7.", allowed=AT_LEAST_ONE),
        boolean("include_mask", 19, True, "The network has a mask head."),
        # A multiple of 4 (`mask_rules`): crops of boxes are a quarter of it, of masks a half.
        count("mrcnn_resolution", 20, 28, "Side of predicted masks.", allowed=AT_LEAST_ONE),
        count(
            "train_rpn_pre_nms_topn",
            21,
            2000,
            "Training: candidates per level before NMS.",
            allowed=AT_LEAST_ONE,
        ),
        count("train_rpn_post_nms_topn", 22, 1000, "Training: proposals.", allowed=AT_LEAST_ONE),
        real(
            "train_rpn_nms_threshold", 23, 0.7, "Training: IoU of the RPN's NMS.", allowed=OPEN_UNIT
        ),
        count("test_detections_per_image", 24, 100, "Most detections.", allowed=AT_LEAST_ONE),
        real("test_nms", 25, 0.5, "IoU of the final NMS.", allowed=OPEN_UNIT),
        count(
            "test_rpn_pre_nms_topn",
            26,
            1000,
            "Test: candidates per level before NMS.",
            allowed=AT_LEAST_ONE,
        ),
        count("test_rpn_post_nms_topn", 27, 1000, "Test: proposals.", allowed=AT_LEAST_ONE),
        real(
            "test_rpn_nms_thresh",
            28,
            0.7,
            "Test: IoU of the RPN's NMS.",
            allowed=OPEN_UNIT,
            # The manual's table and its sample disagree about the name.
            aliases=("test_rpn_nms_threshold",),
        ),
        # Level 5 is the last one of the backbone: the finest level cannot be above it, the coarsest not
        # below.
        count("min_level", 29, 2, "Finest level of the pyramid.", allowed=Interval(2, 5)),
        count("max_level", 30, 6, "Coarsest level of the pyramid.", allowed=Interval(5, 10)),
        count("num_scales", 31, 1, "Anchor sizes per octave.", allowed=AT_LEAST_ONE),
        count("anchor_scale", 32, 8, "Anchor side in strides.", allowed=AT_LEAST_ONE),
        string("arch", 33, "resnet", "Backbone family.", allowed=Choice(("resnet",))),
        count("nlayers", 34, 50, "Depth of the backbone.", allowed=Choice((10, 18, 34, 50, 101))),
        literal(
            "freeze_blocks",
            35,
            LiteralShape("[", "int"),
            (),
            "Backbone blocks whose parameters are not trained.",
            allowed=Interval(0, 3),
        ),
        mapping(
            "channel_plan",
            1000,
            "uint32",
            {},
            "Layer name -> output channels where they differ from the published width.",
            allowed=AT_LEAST_ONE,
        ),
        string(
            # Weights of torchvision run without a complaint under other padding, strides and
            # anchors, and find little; no file says which it was trained with.
            "convention",
            1001,
            "tao",
            "Conventions of pretrained weights: padding, strides, anchors, pixel scaling.",
            allowed=Choice(("tao", "torchvision", "detectron2")),
        ),
        count(
            "rpn_conv_depth",
            1100,
            1,
            "3x3 convolutions of the region proposal network before its predictors.",
            allowed=Interval(1, 4),
        ),
        string(
            "box_head",
            1101,
            "2fc",
            "Layers of the box head: two dense ones, or four 3x3 convolutions and a dense one.",
            allowed=Choice(("2fc", "4conv1fc")),
        ),
        string(
            "fpn_norm",
            1102,
            "none",
            "Normalisation of the pyramid; bn: batch norm, group: group norm, instead of biases.",
            allowed=Choice(("none", "bn", "group")),
        ),
        string(
            "head_norm",
            1103,
            "none",
            "Normalisation behind the 3x3 convolutions of box and mask head; bn: batch norm, group: "
            "group norm, instead of biases.",
            allowed=Choice(("none", "bn", "group")),
        ),
        string(
            "pixel_order",
            1104,
            "convention",
            "Channel order of the network input.",
            allowed=Choice(("convention", "rgb", "bgr")),
        ),
        literal(
            "pixel_mean",
            1105,
            LiteralShape("[", "float"),
            (),
            "Subtracted per channel, in pixel_order, on the 0..255 scale; empty for the convention's.",
            allowed=NON_NEGATIVE,
        ),
        literal(
            "pixel_std",
            1106,
            LiteralShape("[", "float"),
            (),
            "Divisor per channel, in pixel_order; empty for the convention's.",
            allowed=POSITIVE,
        ),
        string(
            "bottleneck_stride",
            1107,
            "convention",
            "Convolution of a bottleneck block that has its stride.",
            allowed=Choice(("convention", "1x1", "3x3")),
        ),
        count(
            "roi_sampling_ratio",
            1108,
            None,
            "Samples per side of a cell of RoIAlign; 0 for as many as a cell has pixels of the feature "
            "map. Absent: the convention's.",
            allowed=Interval(0, 8),
        ),
        real(
            "test_score_threshold",
            1109,
            0.0,
            "Detections with a score not above this are dropped.",
            allowed=BELOW_ONE,
        ),
        dataclasses.replace(TEST_TIME_VIEWS, name="test_tta"),
        *SAMPLE_LOSSES,
        reals(
            "cascade_ious",
            1248,
            (),
            "IoU of the foreground of each box head of a cascade, rising; empty for one head, which has "
            "fg_thresh.",
            allowed=OPEN_UNIT,
        ),
        real(
            "canonical_box_size",
            1249,
            224.0,
            "Side in pixels from which a box is pooled from level 4; of twice the side from level 5, and "
            "so on. That of the FPN paper is for images of about 800 pixels.",
            allowed=POSITIVE,
        ),
    ),
)
