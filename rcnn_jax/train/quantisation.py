"""Where fake quantisation begins in a run: calibrated ranges, the switch to the rounded network.

    float steps ---> `quantised_from` ---> calibrate ---> steps with rounded inputs and weights
                                          ranges frozen, batch norm frozen, best model forgotten

The state has the collection `quant` from step 0 on, empty until then, so that every checkpoint of a run
has one structure and says by itself on which side of the switch it lies.
"""

import dataclasses

from rcnn_jax.checkpoints.state import variables_of
from rcnn_jax.compress.qat import COLLECTION, collection, float_variables, quantised
from rcnn_jax.structures import TrainState
from rcnn_jax.train.run import Run
from rcnn_jax.train.run_state import RunState


def quantised_run(run: Run) -> Run:
    """Returns the run with the network that rounds, which validation runs and model files name too."""
    experiment = quantised(run.experiment, run.quant)
    validate = None if run.validate is None else run.validate.of(experiment)
    return dataclasses.replace(run, experiment=experiment, validate=validate)


def calibrate(run: Run, state: TrainState, progress: RunState) -> tuple[Run, TrainState, RunState]:
    """Returns run, state and progress of the first step with fake quantisation.

    Ranges are those of the weights that evaluation uses, averaged ones where the run keeps an average. A
    kill before the next checkpoint calibrates again, on the same images, and finds the same ranges.

    Args:
      run: of the float network.
      state: on the host, not calibrated.
      progress: of that state.
    """
    experiment, quantiser = run.experiment, run.options.quantiser
    assert experiment.qat is not None
    assert quantiser is not None
    start = experiment.start
    if not progress.step and not (start.resume_from or start.pruned or start.pretrained):
        run.reporter.warn(
            "enable_qat calibrates at the first step, but the weights are random: name a trained model "
            "in retrain_pruned_model (pruned_model_path), or let the run train in float first with "
            "qat_start"
        )
    variables = float_variables(variables_of(state))
    ranges = quantiser.ranges(experiment, variables, experiment.qat, run.reporter)
    collections = {**state.collections, COLLECTION: collection(run.quant, ranges)}
    # What was best in float is no model of this network, and its loss is no bar for early stopping.
    progress = dataclasses.replace(
        progress,
        best_metric=None,
        best_step=None,
        best_loss=None,
        epochs_without_gain=0,
        watched_metric=None,
        validations_without_gain=0,
    )
    run.reporter.note(
        f"quantisation-aware training from step {progress.step} on: {len(ranges)} inputs of "
        f"{len(run.quant.sites)} layers and sums are rounded to int8, their ranges and batch norm are "
        "frozen"
    )
    return quantised_run(run), state.replace(collections=collections), progress
