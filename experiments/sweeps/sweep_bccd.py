"""Blood cells in a small budget: what a sweep of two cores' hour makes of the hand-written values.

The budget of a trial is in steps (412, four epochs of 103), so results do not depend on the machine; the
README beside this file has command and result.
"""

from rcnn_jax.sweep import Choice, Float

SPEC = "spec.txt"
TRAINING = "training_config"
SPACE = {
    f"{TRAINING}.learning_rate.cosine.base_lr": Float(0.004, 0.06, log=True),
    f"{TRAINING}.learning_rate.cosine.soft_start": Choice(0.05, 0.15, 0.3),
    f"{TRAINING}.ema_decay": Choice(0.97, 0.99, 0.995),
    f"{TRAINING}.regularizer.weight": Float(1e-6, 1e-3, log=True),
    f"{TRAINING}.rpn_max_overlap": Choice(0.5, 0.6, 0.7),
    "model_config.bn_momentum": Choice(0.9, 0.95, 0.98),
    "model_config.roi_mini_batch": Choice(24, 48, 96),
}
OBJECTIVE = {"mAP": "max"}
