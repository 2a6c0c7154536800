"""The field table of Faster R-CNN: message `Experiment` without its data sections.

Defaults are the documented ones, or the value of the documented sample where a run cannot do
without; optional mechanisms default to off. Source: reference faster_rcnn_spec section 1.
"""

from rcnn_jax.spec.dataset_config import AUGMENTATION_CONFIG, DATASET_CONFIG
from rcnn_jax.spec.schema import (
    AT_LEAST_ONE,
    NON_NEGATIVE,
    OPEN_UNIT,
    POSITIVE,
    POSITIVE_UNIT,
    SHARE,
    UNIT,
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
from rcnn_jax.spec.trackers import VISUALIZER

ARCHITECTURES = (
    *(f"resnet:{depth}" for depth in (10, 18, 34, 50, 101)),
    *("vgg:16", "vgg:19", "vgg16", "googlenet", "mobilenet_v1", "mobilenet_v2"),
    *("darknet:19", "darknet:53", "resnet101"),
    *(f"efficientnet:b{index}" for index in range(8)),
)

SCHEDULE_RATE = "the learning_rate schedule sets the rate of every step"

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
    "What images look like when they enter the network.",
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
        boolean("allow_small", 1000, False, "Sides below 128 pixels are accepted."),
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
        count("rpn_stride", 5, 16, "Stride of the feature map.", allowed=Choice((16,))),
        boolean(
            "freeze_bn",
            6,
            True,
            "Batch norm keeps its moving statistics; gamma and beta are still trained.",
        ),
        string(
            "rpn_cls_activation_type",
            7,
            None,
            "Activation of the objectness.",
            no_effect="objectness is always a sigmoid",
        ),
        Field(
            name="freeze_blocks",
            number=9,
            kind="whole",
            repeated=True,
            default=(),
            doc="Backbone blocks whose parameters are not trained.",
        ),
        boolean("use_bias", 10, False, "Convolutions of the backbone have a bias."),
        block("roi_pooling_config", 11, ROI_POOLING_CONFIG, "Crops of features."),
        boolean("rfcn_mode", 12, False, "R-FCN head.", no_effect="the original never reads it"),
        boolean(
            "tf_proposal_layer",
            13,
            False,
            "Kind of proposal layer.",
            no_effect="there is one proposal function",
        ),
        boolean(
            "all_projections",
            14,
            True,
            "ResNet, MobileNet v2: every shortcut is a 1 x 1 convolution.",
        ),
        boolean("use_pooling", 15, False, "ResNet, VGG: pooling layers instead of strides."),
        real("dropout_rate", 17, 0.0, "Dropout of VGG and EfficientNet heads.", allowed=SHARE),
        real("drop_connect_rate", 18, 0.0, "EfficientNet's stochastic depth.", allowed=SHARE),
        block("activation", 19, ACTIVATION, "EfficientNet's activation.", optional=True),
        mapping(
            "channel_plan",
            1000,
            "uint32",
            {},
            "Layer name -> output channels where they differ from the published width.",
            allowed=AT_LEAST_ONE,
        ),
    ),
)

REGULARIZER = Message(
    "RegularizerConfig",
    "Weight penalty.",
    (
        enum("type", 1, ("NO_REG", "L1", "L2"), "Kind of penalty."),
        real("weight", 2, 1e-4, "Weight of the penalty.", allowed=SHARE),
    ),
)

ADAM = Message(
    "AdamOptimizerConfig",
    "Adam.",
    (
        real("lr", 1, 1e-5, "Learning rate.", allowed=NON_NEGATIVE, no_effect=SCHEDULE_RATE),
        real("beta_1", 2, 0.9, "Momentum of the mean.", allowed=SHARE),
        real("beta_2", 3, 0.999, "Momentum of the square.", allowed=SHARE),
        real(
            "epsilon",
            4,
            1e-7,
            "Added to the denominator.",
            allowed=NON_NEGATIVE,
            no_effect="always 1e-7, as in the original",
        ),
        real("decay", 5, 0.0, "The rate is divided by 1 + decay * step.", allowed=NON_NEGATIVE),
        boolean("amsgrad", 6, False, "AMSGrad variant."),
    ),
)

SGD = Message(
    "SgdOptimizerConfig",
    "Stochastic gradient descent.",
    (
        real("lr", 1, 0.02, "Learning rate.", allowed=NON_NEGATIVE, no_effect=SCHEDULE_RATE),
        real("momentum", 2, 0.9, "Momentum.", allowed=SHARE),
        real("decay", 3, 0.0, "The rate is divided by 1 + decay * step.", allowed=NON_NEGATIVE),
        boolean("nesterov", 4, False, "Nesterov momentum."),
    ),
)

RMSPROP = Message(
    "RmspropOptimizerConfig",
    "RMSprop with rho 0.9 and epsilon 1e-7.",
    (real("lr", 1, 1e-5, "Learning rate.", allowed=NON_NEGATIVE, no_effect=SCHEDULE_RATE),),
)

OPTIMIZER = Message(
    "OptimizerConfig",
    "Exactly one optimizer.",
    (
        block("adam", 1, ADAM, "Adam.", optional=True, oneof="optim"),
        block("sgd", 2, SGD, "SGD.", optional=True, oneof="optim"),
        block("rmsprop", 3, RMSPROP, "RMSprop.", optional=True, oneof="optim"),
    ),
)

SOFT_START = Message(
    "SoftStartLearningRate",
    "Linear rise, then a division at every annealing point.",
    (
        real("base_lr", 1, 0.02, "Highest rate.", allowed=POSITIVE),
        real("start_lr", 2, 0.002, "Rate of the first step.", allowed=NON_NEGATIVE),
        real("soft_start", 3, 0.1, "Share of the run that the rise takes.", allowed=UNIT),
        reals("annealing_points", 4, (0.8, 0.9), "Shares of the run.", allowed=UNIT),
        real("annealing_divider", 5, 10.0, "Divisor at every point.", allowed=POSITIVE),
    ),
)

STEP = Message(
    "StepLearningRate",
    "A factor after every span of the run.",
    (
        real("base_lr", 1, 1e-5, "First rate.", allowed=POSITIVE),
        real("gamma", 2, 1.0, "Factor after every span.", allowed=UNIT),
        real(
            "step_size",
            3,
            30.0,
            "Length of a span in percent of the run.",
            allowed=Interval(0, 100, open_low=True),
        ),
    ),
)

COSINE = Message(
    "CosineLearningRate",
    "Linear rise, then half a cosine.",
    (
        real("base_lr", 1, 0.02, "Highest rate.", allowed=POSITIVE),
        real("start_lr", 2, 0.002, "Rate of the first step.", allowed=NON_NEGATIVE),
        real("soft_start", 3, 0.1, "Share of the run that the rise takes.", allowed=SHARE),
        real("end_lr", 4, 0.0, "Rate at the end of the run.", allowed=NON_NEGATIVE),
    ),
)

LEARNING_RATE = Message(
    "LearningRateConfig",
    "Exactly one schedule.",
    (
        block("soft_start", 1, SOFT_START, "Warm-up and steps.", optional=True, oneof="lr_config"),
        block("step", 2, STEP, "Regular steps.", optional=True, oneof="lr_config"),
        block("cosine", 1000, COSINE, "Warm-up and cosine.", optional=True, oneof="lr_config"),
    ),
)

EARLY_STOPPING = Message(
    "EarlyStopping",
    "Ends the run when the loss no longer falls.",
    (
        string("monitor", 1, "loss", "The watched value.", allowed=Choice(("loss",))),
        real("min_delta", 2, 0.0, "Smallest fall that counts.", allowed=NON_NEGATIVE),
        count("patience", 3, None, "Epochs without a fall.", allowed=AT_LEAST_ONE, required=True),
    ),
)

TRAINING_CONFIG = Message(
    "TrainingConfig",
    "How the network is trained.",
    (
        string("retrain_pruned_model", 3, None, "Pruned model to start from.", reads="file"),
        real(
            "rpn_min_overlap",
            4,
            0.3,
            "Below this IoU an anchor is negative.",
            allowed=POSITIVE_UNIT,
        ),
        real(
            "rpn_max_overlap",
            5,
            0.7,
            "From this IoU on an anchor is positive.",
            allowed=POSITIVE_UNIT,
        ),
        real("classifier_min_overlap", 6, 0.0, "Smallest IoU of a background roi.", allowed=UNIT),
        real(
            "classifier_max_overlap", 7, 0.5, "From this IoU on a roi is foreground.", allowed=UNIT
        ),
        real("std_scaling", 8, 1.0, "Multiplies the RPN's regression targets.", allowed=POSITIVE),
        mapping(
            "classifier_regr_std",
            9,
            "double",
            {"x": 10.0, "y": 10.0, "w": 5.0, "h": 5.0},
            "Multiplies the head's regression targets: keys x, y, w, h.",
            allowed=POSITIVE,
        ),
        string("pretrained_weights", 10, None, "Weights loaded by layer name.", reads="file"),
        count("num_epochs", 11, 12, "Length of the run.", allowed=AT_LEAST_ONE),
        string("output_model", 13, None, "Name of the models: X.tlt gives X.epochN.tlt."),
        count("rpn_nms_max_boxes", 16, 2000, "Proposals after NMS.", allowed=AT_LEAST_ONE),
        real("rpn_nms_overlap_threshold", 17, 0.7, "IoU of the RPN's NMS.", allowed=OPEN_UNIT),
        block("regularizer", 20, REGULARIZER, "Weight penalty."),
        count("rpn_pre_nms_top_N", 35, 12000, "Candidates before NMS.", allowed=AT_LEAST_ONE),
        count(
            "rpn_mini_batch", 36, 256, "Anchors per image that train the RPN.", allowed=AT_LEAST_ONE
        ),
        boolean("gt_as_roi", 38, False, "Ground-truth boxes join the proposals."),
        real("lambda_rpn_regr", 39, 1.0, "Weight of the RPN's box loss.", allowed=POSITIVE),
        real("lambda_rpn_class", 40, 1.0, "Weight of the RPN's class loss.", allowed=POSITIVE),
        real("lambda_cls_regr", 41, 1.0, "Weight of the head's box loss.", allowed=POSITIVE),
        real("lambda_cls_class", 42, 1.0, "Weight of the head's class loss.", allowed=POSITIVE),
        block("optimizer", 43, OPTIMIZER, "Optimizer."),
        block("learning_rate", 45, LEARNING_RATE, "Schedule."),
        count("batch_size_per_gpu", 46, 8, "Images per device and step.", allowed=AT_LEAST_ONE),
        string("resume_from_model", 47, None, "Training bundle to continue from.", reads="file"),
        boolean("enable_augmentation", 48, True, "Random changes of training images."),
        count("checkpoint_interval", 49, 1, "Epochs between checkpoints.", allowed=AT_LEAST_ONE),
        boolean("enable_qat", 50, False, "Quantisation-aware training."),
        reals(
            "model_parallelism",
            51,
            (),
            "Shares of the layers per device.",
            allowed=POSITIVE,
            no_effect="every device holds the whole network",
        ),
        block("early_stopping", 52, EARLY_STOPPING, "Early stopping.", optional=True),
        block("visualizer", 53, VISUALIZER, "TensorBoard and trackers."),
        boolean("bf16", 1000, False, "Convolutions compute in bfloat16, as the flag --use_amp."),
        boolean("sync_bn", 1001, True, "Batch statistics are taken over all devices."),
        string(
            "lr_scaling",
            1002,
            "devices",
            "`devices` multiplies the learning rate by the number of devices.",
            allowed=Choice(("devices", "none")),
        ),
        real("ema_decay", 1003, 0.0, "Weight averaging; 0 for none.", allowed=SHARE),
        count("keep_checkpoints", 1004, 2, "Resume points kept.", allowed=AT_LEAST_ONE),
        real(
            "min_pretrained_coverage",
            1005,
            0.5,
            "Smallest share of backbone weights that a pretrained file must fill.",
            allowed=UNIT,
        ),
        real("clip_norm", 1006, 0.0, "Global gradient norm; 0 for no limit.", allowed=NON_NEGATIVE),
        count("n_workers", 1007, 2, "Threads that read images.", allowed=AT_LEAST_ONE),
        count("prefetch_buffer_size", 1008, 4, "Batches held ready.", allowed=AT_LEAST_ONE),
    ),
)

ETLT_MODEL = Message(
    "EtltModel",
    "An exported model to build an engine from.",
    (
        string("model", 1, None, "The .etlt file."),
        string("calibration_cache", 2, None, "The int8 calibration cache."),
    ),
)

TRT_BACKEND = Message(
    "TrtBackend",
    "Runs on TensorRT instead of the bundle.",
    (
        string("trt_engine", 1, None, "The engine.", oneof="trt_model"),
        block(
            "etlt_model",
            2,
            ETLT_MODEL,
            "Build the engine from this.",
            optional=True,
            oneof="trt_model",
            no_effect="engines are built by `rcnn-jax converter`",
        ),
        string(
            "calibration_cache",
            3,
            None,
            "The int8 calibration cache.",
            no_effect="the engine already holds its scales",
        ),
    ),
)


def _test_fields(numbers: tuple[int, ...]) -> tuple[Field, ...]:
    """Rows shared by inference and evaluation, whose numbers differ."""
    pre, post, rpn_nms, score, boxes, nms = numbers
    return (
        count("rpn_pre_nms_top_N", pre, 6000, "Candidates before NMS.", allowed=AT_LEAST_ONE),
        count("rpn_nms_max_boxes", post, 300, "Proposals after NMS.", allowed=AT_LEAST_ONE),
        real("rpn_nms_overlap_threshold", rpn_nms, 0.7, "IoU of the RPN's NMS.", allowed=OPEN_UNIT),
        real("object_confidence_thres", score, 1e-4, "Smallest score.", allowed=OPEN_UNIT),
        count("classifier_nms_max_boxes", boxes, 100, "Most detections.", allowed=AT_LEAST_ONE),
        real(
            "classifier_nms_overlap_threshold", nms, 0.3, "IoU of the final NMS.", allowed=OPEN_UNIT
        ),
    )


INFERENCE_CONFIG = Message(
    "InferenceConfig",
    "How images are predicted; the thresholds also go into exported graphs.",
    (
        string("images_dir", 1, None, "Folder of images."),
        string("model", 2, None, "Model to run."),
        real(
            "bbox_visualize_threshold", 5, 0.6, "Smallest score that is drawn.", allowed=OPEN_UNIT
        ),
        *_test_fields((10, 7, 8, 16, 9, 6)),
        string("detection_image_output_dir", 11, None, "Folder for annotated images."),
        boolean("bbox_caption_on", 12, False, "Class and score are written into the image."),
        string("labels_dump_dir", 13, None, "Folder for KITTI label files."),
        block("trt_inference", 14, TRT_BACKEND, "TensorRT backend.", optional=True),
        count("batch_size", 15, 1, "Images per step.", allowed=AT_LEAST_ONE),
        count(
            "nms_score_bits",
            17,
            None,
            "Bits of the scores in the TensorRT NMS plugin.",
            no_effect="exported graphs hold no plugin; scores keep all their bits",
        ),
    ),
)

IOU_RANGE = Message(
    "IouThresholdRange",
    "IoU thresholds from start up to, but without, end.",
    (
        real("start", 1, 0.5, "First threshold.", allowed=OPEN_UNIT),
        real("end", 2, 1.0, "Excluded end.", allowed=POSITIVE_UNIT),
        real("step", 3, 0.05, "Distance.", allowed=OPEN_UNIT),
    ),
)

EVALUATION_CONFIG = Message(
    "EvaluationConfig",
    "How the network is judged.",
    (
        string("model", 3, None, "Model to judge."),
        *_test_fields((12, 6, 7, 11, 8, 9)),
        boolean(
            "use_voc07_11point_metric",
            13,
            False,
            "Average precision of VOC 2007 at 11 recalls instead of the area under the curve.",
            aliases=("use_voc_11_point_metric",),
        ),
        count(
            "validation_period_during_training",
            15,
            1,
            "Epochs between validations.",
            allowed=AT_LEAST_ONE,
        ),
        count("batch_size", 16, 1, "Images per step.", allowed=AT_LEAST_ONE),
        block("trt_evaluation", 17, TRT_BACKEND, "TensorRT backend.", optional=True),
        block(
            "gt_matching_iou_threshold_range",
            18,
            IOU_RANGE,
            "Several thresholds, averaged.",
            optional=True,
            oneof="iou_threshold_config",
        ),
        real(
            "gt_matching_iou_threshold",
            19,
            0.5,
            "IoU from which a detection hits.",
            allowed=OPEN_UNIT,
            oneof="iou_threshold_config",
        ),
        boolean("visualize_pr_curve", 20, False, "Draws the precision-recall curve."),
    ),
)

EXPERIMENT = Message(
    "Experiment",
    "A Faster R-CNN experiment.",
    (
        count("random_seed", 1, 42, "Seed of all randomness."),
        boolean("verbose", 2, True, "More log lines."),
        block("model_config", 3, MODEL_CONFIG, "The network."),
        block("training_config", 4, TRAINING_CONFIG, "Training."),
        block("dataset_config", 5, DATASET_CONFIG, "Images and labels."),
        string("enc_key", 6, None, "Key of sealed models; -k and RCNN_JAX_KEY win.", secret=True),
        block("augmentation_config", 7, AUGMENTATION_CONFIG, "Geometry and random changes."),
        block("inference_config", 8, INFERENCE_CONFIG, "Prediction."),
        block("evaluation_config", 9, EVALUATION_CONFIG, "Evaluation."),
    ),
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
    "efficientnet": range(8),
}
"""Blocks that may be frozen, by the family of the backbone (the part before the colon)."""
