"""The field table of Mask R-CNN: message `Experiment`, data and training.

Lists and tuples are Python literals inside strings, as in the original. Absent fields take the
typical value of the document, where the original would read 0; of the booleans three (see `notes`).

Source: docs/reference/specs.md, "Mask R-CNN: top level" and "Mask R-CNN: data".
"""

from rcnn_jax.spec.schema import (
    AT_LEAST_ONE,
    BELOW_ONE,
    NON_NEGATIVE,
    POSITIVE,
    POSITIVE_UNIT,
    READY_BATCHES,
    THREADS,
    UNIT,
    Choice,
    Field,
    Interval,
    LiteralShape,
    Message,
    block,
    boolean,
    count,
    literal,
    real,
    string,
)
from rcnn_jax.spec.tables.mask_rcnn_model import MASKRCNN_CONFIG
from rcnn_jax.spec.tables.shared_data import COMPOSITES, REPEATS, TILES
from rcnn_jax.spec.tables.shared_training import (
    ADAMW,
    BACKBONE_RATES,
    EARLY_STOPPING,
    IMITATION,
    RECIPE,
)
from rcnn_jax.spec.tables.trackers import CLEARML, MLFLOW, WANDB


def _switch_of_old(name: str, number: int, default: bool, doc: str, reason: str) -> Field:
    """A switch of the first releases, which later ones no longer read."""
    return boolean(name, number, default, doc, no_effect=reason, silent=True)


DATA_CONFIG = Message(
    "DataConfig",
    "Images and annotations.",
    (
        literal(
            "image_size",
            1,
            LiteralShape("(", "int", length=2),
            (832, 1344),
            "(height, width) of the padded input, multiples of 2^max_level.",
        ),
        # True though absent, unlike the original (docs/reference/specs.md, "Mask R-CNN: lists in
        # strings"): the manual recommends it, and training reports it once.
        boolean("augment_input_data", 2, True, "Random left-right flips of training images."),
        count(
            "num_classes",
            3,
            None,
            "Categories + 1, or more than the largest category id.",
            allowed=Interval(low=2),
            required=True,
        ),
        boolean("skip_crowd_during_training", 4, True, "Crowd objects take no part in training."),
        boolean(
            "use_category",
            5,
            True,
            "Objects keep their categories.",
            no_effect="objects always keep their categories",
        ),
        string("training_file_pattern", 6, None, "Pattern of training TFRecords.", reads="glob"),
        string(
            "validation_file_pattern", 7, None, "Pattern of validation TFRecords.", reads="glob"
        ),
        string("val_json_file", 8, None, "COCO annotations of the validation.", reads="file"),
        count("eval_samples", 9, 500, "Images per evaluation.", allowed=AT_LEAST_ONE),
        count("prefetch_buffer_size", 10, 4, "Batches held ready.", allowed=READY_BATCHES),
        count(
            "shuffle_buffer_size",
            11,
            4096,
            "Size of the shuffle buffer.",
            no_effect="every epoch is shuffled as a whole",
        ),
        count("n_workers", 12, 16, "Threads that read images.", allowed=THREADS),
        count(
            "max_num_instances",
            13,
            200,
            "Most objects of one image; surplus ones are dropped with a warning.",
            allowed=AT_LEAST_ONE,
        ),
        string(
            "coco_train_image_dir", 1000, None, "Training images read directly.", reads="folder"
        ),
        string("coco_train_json", 1001, None, "COCO annotations of the training.", reads="file"),
        string(
            "coco_val_image_dir", 1002, None, "Validation images of val_json_file.", reads="folder"
        ),
        string(
            "tfds_name",
            1003,
            None,
            "Prepared data set of TensorFlow Datasets, for example coco/2017 or lvis.",
        ),
        string("tfds_data_dir", 1004, None, "Folder of TensorFlow Datasets.", reads="folder"),
        real("scale_jitter_min", 1005, 1.0, "Smallest random magnification.", allowed=POSITIVE),
        real("scale_jitter_max", 1006, 1.0, "Largest random magnification.", allowed=POSITIVE),
        real("brightness_stddev", 1007, 0.0, "Deviation of the brightness.", allowed=NON_NEGATIVE),
        real(
            "saturation_shift_max", 1008, 0.0, "Largest change of saturation.", allowed=NON_NEGATIVE
        ),
        real("contrast_scale_max", 1009, 0.0, "Largest change of contrast.", allowed=NON_NEGATIVE),
        real(
            "hue_rotation_max", 1010, 0.0, "Largest hue rotation in degrees.", allowed=NON_NEGATIVE
        ),
        real("vflip_probability", 1011, 0.0, "Probability of an upside-down flip.", allowed=UNIT),
        boolean(
            "allow_small", 1012, False, "Sides below 128 pixels are accepted.", only_checked=True
        ),
        string("tfds_train_split", 1013, "train", "Split of tfds_name to train on."),
        string("tfds_val_split", 1014, "validation", "Split of tfds_name to validate on."),
        real(
            "multi_scale_min",
            1015,
            1.0,
            "Smallest random size of the whole image, as a fraction of the one that fills the canvas.",
            allowed=POSITIVE_UNIT,
        ),
        count(
            "short_side",
            1100,
            0,
            "Images are scaled until their short side has so many pixels, on canvases of their own; 0: "
            "until they fill image_size. Exported graphs always have image_size.",
        ),
        count(
            "long_side",
            1101,
            0,
            "With short_side: the long side has at most so many pixels; 0 for no limit.",
        ),
        REPEATS,
        *TILES,
        *COMPOSITES,
    ),
)

EXPERIMENT = Message(
    "Experiment",
    "A Mask R-CNN experiment.",
    (
        block("maskrcnn_config", 1, MASKRCNN_CONFIG, "The network."),
        block("data_config", 2, DATA_CONFIG, "Images and annotations."),
        string(
            "skip_checkpoint_variables",
            3,
            None,
            "Regular expression; matching layers are not loaded from the pretrained file.",
        ),
        _switch_of_old(
            "include_groundtruth_in_features",
            4,
            False,
            "Ground truth in the inputs of the evaluation.",
            "evaluation reads it from val_json_file",
        ),
        count("train_batch_size", 5, 4, "Images per device and step; 0 for the most that fit."),
        count(
            # The original overwrote it, so it is read and stays silent.
            "save_checkpoints_steps",
            6,
            None,
            "Steps between checkpoints.",
            no_effect="num_steps_per_eval sets the period, as in the original",
            silent=True,
        ),
        count(
            "num_steps_per_eval",
            7,
            10000,
            "Steps between checkpoints with an evaluation.",
            allowed=AT_LEAST_ONE,
        ),
        real("momentum", 8, 0.9, "Momentum of SGD.", allowed=BELOW_ONE),
        _switch_of_old(
            "use_batched_nms", 9, True, "One NMS for all images.", "there is one NMS function"
        ),
        real("l2_weight_decay", 10, 1e-4, "Weight of the L2 penalty.", allowed=NON_NEGATIVE),
        real("warmup_learning_rate", 11, 1e-4, "Rate of the first step.", allowed=NON_NEGATIVE),
        real("init_learning_rate", 12, 0.02, "Rate after the warm-up.", allowed=POSITIVE),
        real(
            "global_gradient_clip_ratio",
            13,
            None,
            "Gradient limit.",
            no_effect="as in the original; see clip_norm",
        ),
        count("total_steps", 14, None, "Length of the run in steps.", allowed=NON_NEGATIVE),
        boolean("visualize_images_summary", 15, False, "Evaluation images in TensorBoard."),
        boolean(
            "finetune_bn",
            16,
            False,
            "Batch norm is trained.",
            no_effect="maskrcnn_config.freeze_bn decides",
        ),
        _switch_of_old(
            "use_custom_box_proposals_op",
            17,
            False,
            "Kind of proposal operation.",
            "there is one proposal function",
        ),
        _switch_of_old("use_xla", 18, False, "Compilation by XLA.", "everything is compiled"),
        string("checkpoint", 19, None, "Pretrained model.", reads="file"),
        count("eval_batch_size", 20, 8, "Images per evaluation step.", allowed=AT_LEAST_ONE),
        count("warmup_steps", 21, 0, "Steps of the linear rise."),
        literal(
            "learning_rate_steps",
            22,
            LiteralShape("[", "int"),
            (60000, 80000, 100000),
            "Steps at which the rate falls.",
            allowed=NON_NEGATIVE,
        ),
        literal(
            "learning_rate_decay_levels",
            23,
            LiteralShape("[", "float"),
            (0.1, 0.02, 0.002),
            "Factors of init_learning_rate from each of those steps on.",
            allowed=NON_NEGATIVE,
        ),
        count("seed", 24, 123, "Seed of all randomness."),
        count(
            "report_frequency",
            25,
            None,
            "Steps between evaluation reports.",
            no_effect="a progress bar shows the evaluation",
            silent=True,
        ),
        boolean("use_amp", 26, False, "Convolutions compute in amp_dtype."),
        string(
            "pruned_model_path",
            27,
            None,
            "Pruned model to retrain; the network takes its widths.",
            reads="file",
        ),
        real("l1_weight_decay", 28, 0.0, "Weight of the L1 penalty.", allowed=NON_NEGATIVE),
        count("num_epochs", 29, None, "Length of the run in epochs; wins over total_steps."),
        count(
            "num_examples_per_epoch",
            30,
            None,
            "Images of an epoch; counted from the data where it is absent.",
            allowed=AT_LEAST_ONE,
        ),
        count("logging_frequency", 31, 10, "Steps between log lines.", allowed=Interval(1, 1000)),
        block("wandb_config", 32, WANDB, "Weights & Biases."),
        block("clearml_config", 33, CLEARML, "ClearML.", optional=True),
        block("mlflow_config", 1008, MLFLOW, "MLflow.", optional=True),
        string(
            "enc_key",
            1000,
            None,
            "Key of encrypted models; -k and RCNN_JAX_KEY win.",
            secret=True,
        ),
        *RECIPE,
        block("early_stopping", 1202, EARLY_STOPPING, "Early stopping.", optional=True),
        block(
            "adamw",
            1203,
            ADAMW,
            "Adam with decoupled weight decay instead of SGD; momentum, l1_weight_decay and "
            "l2_weight_decay have no effect with it.",
            optional=True,
        ),
        *BACKBONE_RATES,
        boolean("sync_bn", 1001, True, "Batch statistics are taken over all devices."),
        string(
            "lr_scaling",
            1002,
            "none",
            "`devices` multiplies the learning rate by the number of devices.",
            allowed=Choice(("devices", "none")),
        ),
        real("ema_decay", 1003, 0.0, "Weight averaging; 0 for none.", allowed=BELOW_ONE),
        count("keep_checkpoints", 1004, 2, "Resume points kept.", allowed=AT_LEAST_ONE),
        boolean("enable_qat", 1030, False, "Quantisation-aware training."),
        real(
            "qat_start",
            1031,
            0.0,
            "With enable_qat: the fraction of the run (below 1) or the epochs that train in float before "
            "ranges are calibrated.",
            allowed=NON_NEGATIVE,
        ),
        string(
            "qat_calibration",
            1032,
            "percentile",
            "With enable_qat: how the range of a tensor is chosen.",
            allowed=Choice(("max", "percentile", "entropy")),
        ),
        *IMITATION,
        real(
            "min_pretrained_coverage",
            1005,
            0.5,
            "Smallest fraction of backbone weights that a pretrained file must fill.",
            allowed=UNIT,
        ),
        real(
            # Not 0 as in the original: the published sample's rate of 0.02 without warm-up is one
            # for eight devices; on one, with two images, the loss stops being finite within ten
            # steps.
            "clip_norm",
            1006,
            10.0,
            "Largest global norm of the gradient; 0 for none, as in the original.",
            allowed=NON_NEGATIVE,
        ),
        string(
            "learning_rate_schedule",
            1007,
            "piecewise",
            "`cosine` replaces the falls by half a cosine down to 0.",
            allowed=Choice(("piecewise", "cosine")),
        ),
        count(
            "accumulate_steps",
            1040,
            1,
            "Parts of a step: each device takes train_batch_size images so many times before the "
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
            "What use_amp computes in; float16, with dynamic loss scaling, is for GPUs without bfloat16.",
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
