"""Retraining in the fields of a Faster R-CNN spec. No jax here."""

from rcnn_jax.spec.build import copy_config
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.tasks.named_files import Config
from rcnn_jax.tasks.retraining import Retraining, shortened


def retrain(config: Config, retraining: Retraining) -> Config:
    """Returns the config of a run that takes up a finished model; `config` stays as it is."""
    config = copy_config(config, TABLES["faster_rcnn"])
    training, recipe = config.training_config, retraining.recipe
    training.retrain_pruned_model = str(retraining.model)
    training.pretrained_weights = training.resume_from_model = None
    training.enable_qat = retraining.qat
    training.qat_start = 0.0
    training.teacher = None if retraining.teacher is None else str(retraining.teacher)
    training.num_epochs = shortened(training.num_epochs, recipe.length)
    training.regularizer.type = "NO_REG"
    if training.optimizer.adamw.enabled:
        training.optimizer.adamw.weight_decay = 0.0  # a penalty by another name
    training.heads_only_steps = 0  # all layers come from one training
    # Warm-up and falls are fractions of the run already.
    rate = training.learning_rate
    for schedule in (rate.soft_start, rate.cosine, rate.step):
        schedule.base_lr *= recipe.rate
    for schedule in (rate.soft_start, rate.cosine):
        schedule.start_lr *= recipe.rate
    rate.cosine.end_lr *= recipe.rate
    evaluation = config.evaluation_config
    period = evaluation.validation_period_during_training
    evaluation.validation_period_during_training = min(period, training.num_epochs)
    return config
