"""Fields of ours that the tables of both detectors have, with one number and one text each."""

from rcnn_jax.spec.recipes import NAMES
from rcnn_jax.spec.schema import (
    AT_LEAST_ONE,
    BELOW_ONE,
    NON_NEGATIVE,
    POSITIVE_UNIT,
    Choice,
    Message,
    boolean,
    count,
    real,
    string,
)

RECIPE = (
    string(
        "recipe",
        1200,
        None,
        "Name that stands for several fields: each is set unless the spec gives it, and training lists "
        "them.",
        allowed=Choice(NAMES),
    ),
    string(
        "recipe_fields",
        1201,
        (),
        "With recipe: the fields it has set. Written by the program; a spec that has it is not expanded "
        "again.",
        repeated=True,
    ),
)
"""One name instead of many fields, see `spec.recipes`."""

EARLY_STOPPING = Message(
    "EarlyStopping",
    "Ends the run when the loss no longer falls, or average precision no longer rises.",
    (
        string(
            "monitor",
            1,
            "loss",
            "The monitored value: the training loss of every epoch, or `map`, the main metric of every "
            "validation (*extension*).",
            allowed=Choice(("loss", "map")),
        ),
        real("min_delta", 2, 0.0, "Smallest gain that counts.", allowed=NON_NEGATIVE),
        count(
            "patience",
            3,
            None,
            "Epochs, or with `map` validations, without a gain; 0 never ends a run.",
            required=True,
        ),
    ),
)

# All numbers are extensions, those inside too: runs of releases before it have none of these fields.
ADAMW = Message(
    "AdamwOptimizerConfig",
    "Adam with decoupled weight decay of kernels; norms and biases do not decay.",
    (
        real("beta_1", 1000, 0.9, "Momentum of the mean.", allowed=BELOW_ONE),
        real("beta_2", 1001, 0.999, "Momentum of the square.", allowed=BELOW_ONE),
        real("epsilon", 1002, 1e-8, "Added to the denominator.", allowed=NON_NEGATIVE),
        real(
            "weight_decay",
            1003,
            0.05,
            "Part of a weight that a step takes away, times the learning rate.",
            allowed=NON_NEGATIVE,
        ),
    ),
)

BACKBONE_RATES = (
    real(
        "backbone_lr_factor",
        1100,
        1.0,
        "The learning rate of the backbone is multiplied by this.",
        allowed=NON_NEGATIVE,
    ),
    real(
        "layer_decay",
        1101,
        1.0,
        "The rate of a block of the backbone is multiplied by this once for every block from the "
        "heads to it.",
        allowed=POSITIVE_UNIT,
    ),
    count(
        "heads_only_steps",
        1102,
        0,
        "First steps in which the backbone keeps its values.",
    ),
)
"""Learning rates of the backbone against those of the heads."""

TEST_TIME_VIEWS = string(
    "tta",
    1204,
    None,
    "Test-time augmentation of evaluate and inference: `flip`, scales of the canvas, or both, as in "
    "`flip,0.8,1.25`; exported graphs do not have it.",
)

IMITATION = (
    string(
        "teacher",
        1110,
        None,
        "Finished model that training imitates, for example the one before pruning.",
        reads="file",
    ),
    real(
        "teacher_weight",
        1111,
        1.0,
        "With teacher: weight of each of the losses imitate_features and imitate_classes.",
        allowed=NON_NEGATIVE,
    ),
)
"""Training that imitates a finished model."""

_BOX_LOSSES = Choice(("smooth_l1", "iou", "giou", "diou", "ciou"))

SAMPLE_LOSSES = (
    string(
        "box_loss",
        1240,
        "smooth_l1",
        "Loss of the head's boxes: distance of deltas, or overlap of decoded boxes.",
        allowed=_BOX_LOSSES,
    ),
    string(
        "rpn_box_loss",
        1241,
        "smooth_l1",
        "The same for the boxes of the region proposal network.",
        allowed=_BOX_LOSSES,
    ),
    boolean(
        "dynamic_rcnn",
        1242,
        False,
        "The IoU of foreground rois rises with that of the proposals, and the error at which the head's "
        "box loss turns linear falls with theirs.",
    ),
    count(
        "dynamic_overlap_rank",
        1243,
        75,
        "With dynamic_rcnn: the proposal of an image, from the best on, whose IoU counts.",
        allowed=AT_LEAST_ONE,
    ),
    count(
        "dynamic_error_rank",
        1244,
        10,
        "With dynamic_rcnn: the foreground roi of an image, from the best on, whose error counts.",
        allowed=AT_LEAST_ONE,
    ),
    count(
        "dynamic_interval",
        1245,
        100,
        "With dynamic_rcnn: steps between two changes.",
        allowed=AT_LEAST_ONE,
    ),
    boolean(
        "prime_samples",
        1246,
        False,
        "The class loss of foreground rois is weighted by their rank: the best box of each object first.",
    ),
    real(
        "carl_weight",
        1247,
        0.0,
        "Weight of the loss carl: box losses weighted by the score of the true class; 0 for none.",
        allowed=NON_NEGATIVE,
    ),
)
"""Losses of boxes and weights of samples."""
