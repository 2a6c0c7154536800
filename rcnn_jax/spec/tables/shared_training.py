"""Fields of ours that the training tables of both detectors have, with one number and one text each."""

from rcnn_jax.spec.schema import NON_NEGATIVE, POSITIVE_UNIT, count, real, string

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
