"""Retraining in the fields of a Mask R-CNN spec. No jax here."""

from rcnn_jax.spec.build import copy_config
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.tasks.named_files import Config
from rcnn_jax.tasks.retraining import Retraining, shortened


def retrain(config: Config, retraining: Retraining) -> Config:
    """Returns the config of a run that takes up a finished model; `config` stays as it is."""
    config = copy_config(config, TABLES["mask_rcnn"])
    recipe = retraining.recipe
    config.pruned_model_path = str(retraining.model)
    config.checkpoint = None
    config.enable_qat = retraining.qat
    config.qat_start = 0.0
    config.teacher = None if retraining.teacher is None else str(retraining.teacher)
    for name in ("num_epochs", "total_steps"):
        if config[name]:
            config[name] = shortened(config[name], recipe.length)
    # Steps of the first training: they would leave the shorter run without a fall.
    config.warmup_steps = round(config.warmup_steps * recipe.length)
    config.learning_rate_steps = tuple(
        shortened(step, recipe.length) for step in config.learning_rate_steps
    )
    if config.total_steps and not config.num_epochs:
        config.num_steps_per_eval = min(config.num_steps_per_eval, config.total_steps)
    config.init_learning_rate *= recipe.rate
    config.warmup_learning_rate *= recipe.rate
    config.l1_weight_decay = config.l2_weight_decay = 0.0
    if config.adamw.enabled:
        config.adamw.weight_decay = 0.0  # a penalty by another name
    config.heads_only_steps = 0  # all layers come from one training
    return config
