"""The field table of Faster R-CNN's network: `model_config`.

Source: docs/reference/specs.md, "Faster R-CNN: network".
"""

from rcnn_jax.spec.schema import (
    AT_LEAST_ONE,
    BELOW_ONE,
    POSITIVE,
    Choice,
    Field,
    Interval,
    Message,
    block,
    boolean,
    count,
    enum,
    mapping,
    real,
    reals,
    string,
)

# resnet101 and vgg16 without a colon are networks of their own in the original, not spellings.
ARCHITECTURES = (
    *(f"resnet:{depth}" for depth in (10, 18, 34, 50, 101)),
    *("vgg:16", "vgg:19", "vgg16", "googlenet", "mobilenet_v1", "mobilenet_v2"),
    *("darknet:19", "darknet:53", "resnet101"),
    *(f"efficientnet:b{index}" for index in range(8)),
)

FREEZABLE_BLOCKS: dict[str, range] = {
    "resnet": range(4),
    "resnet101": range(4),
    "vgg": range(1, 6),
    "vgg16": range(1, 6),
    "googlenet": range(8),
    "mobilenet_v1": range(12),
    "mobilenet_v2": range(14),
    "darknet": range(6),
    "efficientnet": range(9),
}
"""Blocks that may be frozen, by the family of the backbone (the part before the colon)."""

SIZE_MIN = Message(
    "SizeMin",
    "Input of any shape whose shorter side has this length.",
    (count("min", 1, None, "Length of the shorter side in pixels.", required=True),),
)

SIZE_HEIGHT_WIDTH = Message(
    "SizeHeightWidth",
    "Input of one fixed shape.",
    (
        count("height", 1, None, "Height in pixels.", required=True),
        count("width", 2, None, "Width in pixels.", required=True),
    ),
)

INPUT_IMAGE_CONFIG = Message(
    "InputImageConfig",
    "Images as they enter the network.",
    (
        block(
            "size_min",
            1,
            SIZE_MIN,
            "Dynamic shape: the aspect ratio is kept.",
            optional=True,
            oneof="image_size_config",
        ),
        block(
            "size_height_width",
            2,
            SIZE_HEIGHT_WIDTH,
            "Static shape.",
            optional=True,
            oneof="image_size_config",
        ),
        mapping(
            "image_channel_mean",
            3,
            "double",
            {"b": 103.939, "g": 116.779, "r": 123.68},
            "Mean of each channel, subtracted from pixels in 0..255: keys r, g, b, or l for grey.",
            allowed=Interval(0, 255, open_low=True, open_high=True),
        ),
        real("image_scaling_factor", 4, 1.0, "Divisor after the subtraction.", allowed=POSITIVE),
        string(
            "image_channel_order",
            5,
            "bgr",
            "Order of the channels the network sees.",
            allowed=Choice(("bgr", "rgb", "l")),
        ),
        enum("image_type", 6, ("RGB", "GRAY_SCALE"), "Three colour channels or a grey one."),
        count(
            "max_objects_num_per_image",
            7,
            100,
            "Most objects of one image; an image with more stops the run.",
            allowed=AT_LEAST_ONE,
        ),
        boolean(
            "allow_small", 1000, False, "Sides below 128 pixels are accepted.", only_checked=True
        ),
    ),
)

ANCHOR_BOX_CONFIG = Message(
    "AnchorBoxConfig",
    "Reference boxes of every cell of the feature map.",
    (
        reals(
            "scale",
            1,
            (64.0, 128.0, 256.0),
            "Square roots of the areas, in network pixels.",
            allowed=POSITIVE,
            required=True,
        ),
        reals("ratio", 2, (1.0, 0.5, 2.0), "Width / height.", allowed=POSITIVE, required=True),
    ),
)

ROI_POOLING_CONFIG = Message(
    "RoiPoolingConfig",
    "The crop of features below a region.",
    (
        count("pool_size", 1, 7, "Side of the crop in cells.", allowed=AT_LEAST_ONE),
        boolean(
            "pool_size_2x", 2, False, "Crop twice as large; the tail halves it with a stride of 2."
        ),
    ),
)

ACTIVATION = Message(
    "Activation",
    "Activation function of EfficientNet.",
    (
        string(
            "activation_type",
            1,
            "swish",
            "Name of the function; relu suits int8 better.",
            allowed=Choice(("swish", "relu", "")),
        ),
        mapping(
            "activation_parameters",
            2,
            "double",
            {},
            "Parameters of the function.",
            no_effect="neither function has parameters",
            silent=True,
        ),
    ),
)

MODEL_CONFIG = Message(
    "ModelConfig",
    "The network.",
    (
        block("input_image_config", 1, INPUT_IMAGE_CONFIG, "Input images."),
        string("arch", 2, "resnet:18", "Backbone.", allowed=Choice(ARCHITECTURES)),
        block("anchor_box_config", 3, ANCHOR_BOX_CONFIG, "Anchors."),
        count(
            "roi_mini_batch", 4, 256, "Rois per image that train the head.", allowed=AT_LEAST_ONE
        ),
        count(
            "rpn_stride",
            5,
            16,
            "Stride of the feature map.",
            allowed=Choice((16,)),
            only_checked=True,
        ),
        boolean(
            "freeze_bn",
            6,
            False,
            "Batch norm keeps its moving statistics; gamma and beta are still trained.",
        ),
        string(
            "rpn_cls_activation_type",
            7,
            None,
            "Activation of the objectness.",
            no_effect="objectness is always a sigmoid",
            silent=True,
        ),
        Field(
            # `whole`: the original declares it as float, so specs hold 0.0 and 1.0 as well.
            name="freeze_blocks",
            number=9,
            kind="whole",
            repeated=True,
            default=(),
            doc="Backbone blocks whose parameters are not trained.",
        ),
        boolean("use_bias", 10, False, "Convolutions of the backbone have a bias."),
        block("roi_pooling_config", 11, ROI_POOLING_CONFIG, "Crops of features."),
        boolean(
            "rfcn_mode",
            12,
            False,
            "R-FCN head.",
            no_effect="the original never reads it",
            silent=True,
        ),
        boolean(
            "tf_proposal_layer",
            13,
            False,
            "Kind of proposal layer.",
            no_effect="there is one proposal function",
            silent=True,
        ),
        boolean(
            "all_projections",
            14,
            False,
            "ResNet, MobileNet v2: every shortcut is a 1 x 1 convolution.",
        ),
        boolean("use_pooling", 15, False, "ResNet, VGG: pooling layers instead of strides."),
        real("dropout_rate", 17, 0.0, "Dropout of VGG and EfficientNet heads.", allowed=BELOW_ONE),
        real("drop_connect_rate", 18, 0.0, "EfficientNet's stochastic depth.", allowed=BELOW_ONE),
        block("activation", 19, ACTIVATION, "EfficientNet's activation.", optional=True),
        mapping(
            "channel_plan",
            1000,
            "uint32",
            {},
            "Layer name -> output channels where they differ from the published width.",
            allowed=AT_LEAST_ONE,
        ),
        real(
            # 0 stands for the published value, because an absent number is 0 to the original.
            "bn_momentum",
            1001,
            0.0,
            "Fraction of batch norm's moving statistics kept in a step; 0 for what the network "
            "publishes (0.99, MobileNet v2 0.999: too slow for runs of a few thousand steps).",
            allowed=BELOW_ONE,
        ),
        count(
            "rpn_conv_depth",
            1100,
            1,
            "3x3 convolutions of the region proposal network before its predictors.",
            allowed=Interval(1, 4),
        ),
    ),
)
