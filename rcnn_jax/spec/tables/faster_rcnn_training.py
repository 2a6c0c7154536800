"""The field table of Faster R-CNN's training: `training_config`.

Source: docs/reference/specs.md, "Faster R-CNN: training" and "Faster R-CNN: optimizers and
schedules".
"""

from rcnn_jax.spec.schema import (
    AT_LEAST_ONE,
    BELOW_ONE,
    NON_NEGATIVE,
    OPEN_UNIT,
    POSITIVE,
    POSITIVE_UNIT,
    READY_BATCHES,
    THREADS,
    UNIT,
    Choice,
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
from rcnn_jax.spec.tables.shared_training import (
    ADAMW,
    BACKBONE_RATES,
    EARLY_STOPPING,
    IMITATION,
    SAMPLE_LOSSES,
)
from rcnn_jax.spec.tables.trackers import VISUALIZER

# Silent: every sample spec gives the optimizer a rate, and the original replaces it before each
# batch.
SCHEDULED = {
    "no_effect": "the learning_rate schedule sets the rate of every step",
    "silent": True,
}

REGULARIZER = Message(
    "RegularizerConfig",
    "Weight penalty.",
    (
        enum("type", 1, ("NO_REG", "L1", "L2"), "Kind of penalty."),
        real("weight", 2, 1e-4, "Weight of the penalty.", allowed=BELOW_ONE),
    ),
)

ADAM = Message(
    "AdamOptimizerConfig",
    "Adam.",
    (
        real("lr", 1, 1e-5, "Learning rate.", allowed=NON_NEGATIVE, **SCHEDULED),
        # The manual's values. The original takes an absent beta for 0, which is no Adam.
        real("beta_1", 2, 0.9, "Momentum of the mean.", allowed=BELOW_ONE),
        real("beta_2", 3, 0.999, "Momentum of the square.", allowed=BELOW_ONE),
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
        real("lr", 1, 0.02, "Learning rate.", allowed=NON_NEGATIVE, **SCHEDULED),
        real("momentum", 2, 0.9, "Momentum.", allowed=BELOW_ONE),
        real("decay", 3, 0.0, "The rate is divided by 1 + decay * step.", allowed=NON_NEGATIVE),
        boolean("nesterov", 4, False, "Nesterov momentum."),
    ),
)

RMSPROP = Message(
    "RmspropOptimizerConfig",
    "RMSprop with rho 0.9 and epsilon 1e-7.",
    (real("lr", 1, 1e-5, "Learning rate.", allowed=NON_NEGATIVE, **SCHEDULED),),
)

OPTIMIZER = Message(
    "OptimizerConfig",
    "Exactly one optimizer.",
    (
        block("adam", 1, ADAM, "Adam.", optional=True, oneof="optim"),
        block("sgd", 2, SGD, "SGD.", optional=True, oneof="optim"),
        block("rmsprop", 3, RMSPROP, "RMSprop.", optional=True, oneof="optim"),
        block(
            "adamw",
            1203,
            ADAMW,
            "Adam with decoupled weight decay; regularizer has no effect with it.",
            optional=True,
            oneof="optim",
        ),
    ),
)

SOFT_START = Message(
    "SoftStartLearningRate",
    "Linear rise, then a division at every annealing point.",
    (
        real("base_lr", 1, 0.02, "Highest rate.", allowed=POSITIVE),
        real("start_lr", 2, 0.002, "Rate of the first step.", allowed=NON_NEGATIVE),
        real("soft_start", 3, 0.1, "Fraction of the run for the rise.", allowed=UNIT),
        reals("annealing_points", 4, (0.8, 0.9), "Fractions of the run.", allowed=UNIT),
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
        real("soft_start", 3, 0.1, "Fraction of the run for the rise.", allowed=BELOW_ONE),
        real("end_lr", 4, 0.0, "Rate at the end of the run.", allowed=NON_NEGATIVE),
    ),
)

LEARNING_RATE = Message(
    "LearningRateConfig",
    "Exactly one schedule.",
    (
        block("soft_start", 1, SOFT_START, "Warm-up and steps.", optional=True, oneof="lr_config"),
        block("step", 2, STEP, "Regular steps.", optional=True, oneof="lr_config"),
        # An extension inside the original's oneof: it excludes the others as they exclude each
        # other.
        block("cosine", 1000, COSINE, "Warm-up and cosine.", optional=True, oneof="lr_config"),
    ),
)

TRAINING_CONFIG = Message(
    "TrainingConfig",
    "Training of the network.",
    (
        string(
            "retrain_pruned_model",
            3,
            None,
            "Pruned model to retrain; the network takes its widths.",
            reads="file",
        ),
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
        # TAO 5 has dropped it; there, and here, -r names the folder instead.
        string("output_model", 13, None, "Name of the models: X.tlt becomes X.epochN.tlt."),
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
        count("batch_size_per_gpu", 46, 8, "Images per device and step; 0 for the most that fit."),
        string("resume_from_model", 47, None, "Training bundle to continue from.", reads="file"),
        boolean("enable_augmentation", 48, False, "Random changes of training images."),
        count("checkpoint_interval", 49, 1, "Epochs between checkpoints.", allowed=AT_LEAST_ONE),
        boolean(
            "enable_qat",
            50,
            False,
            "Quantisation-aware training.",
        ),
        reals(
            "model_parallelism",
            51,
            (),
            "Fractions of the layers per device: divides weights and optimizer state, as sharding.",
            allowed=POSITIVE,
        ),
        block("early_stopping", 52, EARLY_STOPPING, "Early stopping.", optional=True),
        block("visualizer", 53, VISUALIZER, "TensorBoard and trackers."),
        boolean("bf16", 1000, False, "Convolutions compute in amp_dtype, as the flag --use_amp."),
        boolean("sync_bn", 1001, True, "Batch statistics are taken over all devices."),
        string(
            "lr_scaling",
            1002,
            "devices",
            "`devices` multiplies the learning rate by the number of devices.",
            allowed=Choice(("devices", "none")),
        ),
        real("ema_decay", 1003, 0.0, "Weight averaging; 0 for none.", allowed=BELOW_ONE),
        count("keep_checkpoints", 1004, 2, "Resume points kept.", allowed=AT_LEAST_ONE),
        real(
            "min_pretrained_coverage",
            1005,
            0.5,
            "Smallest fraction of backbone weights that a pretrained file must fill.",
            allowed=UNIT,
        ),
        real("clip_norm", 1006, 0.0, "Global gradient norm; 0 for no limit.", allowed=NON_NEGATIVE),
        string(
            "outside_anchors",
            1020,
            "train",
            "Anchors that leave the image: train trains all of them; auto only sizes that lie inside "
            "nowhere; ignore trains none and lets such sizes propose nothing.",
            allowed=Choice(("auto", "ignore", "train")),
        ),
        real(
            "qat_start",
            1030,
            0.0,
            "With enable_qat: the fraction of the run (below 1) or the epochs that train in float before "
            "ranges are calibrated.",
            allowed=NON_NEGATIVE,
        ),
        string(
            "qat_calibration",
            1031,
            "percentile",
            "With enable_qat: how the range of a tensor is chosen.",
            allowed=Choice(("max", "percentile", "entropy")),
        ),
        *BACKBONE_RATES,
        *IMITATION,
        *SAMPLE_LOSSES,
        count("n_workers", 1007, 2, "Threads that read images.", allowed=THREADS),
        count("prefetch_buffer_size", 1008, 4, "Batches held ready.", allowed=READY_BATCHES),
        count(
            "accumulate_steps",
            1040,
            1,
            "Parts of a step: each device takes batch_size_per_gpu images so many times before the "
            "weights change.",
            allowed=AT_LEAST_ONE,
        ),
        boolean(
            "remat",
            1041,
            False,
            "Keep fewer activations for the gradient and compute them again: less memory, more time.",
        ),
        string(
            "amp_dtype",
            1042,
            "bfloat16",
            "What bf16 computes in; float16, with dynamic loss scaling, is for GPUs without bfloat16.",
            allowed=Choice(("bfloat16", "float16")),
        ),
        string(
            "sharding",
            1043,
            "none",
            "`fsdp` divides weights and optimizer state among the devices of a run.",
            allowed=Choice(("none", "fsdp")),
        ),
    ),
)
