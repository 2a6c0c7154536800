"""One training run: everything that is constant over its steps, opened and checked beforehand."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rcnn_jax.checkpoints import fingerprint
from rcnn_jax.checkpoints.store import CheckpointStore
from rcnn_jax.compress.qat import Quantiser
from rcnn_jax.data.count_table import counts_table, report_findings
from rcnn_jax.data.loader.batching import check_object_counts
from rcnn_jax.data.loader.census import Census, require_objects, take_census
from rcnn_jax.data.loader.pipeline import batches_per_epoch, training_canvases
from rcnn_jax.data.loader.repeats import describe, repeat_factors
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.data.sources.digest import DataDigest, digest_source
from rcnn_jax.data.sources.tiles import tiled
from rcnn_jax.errors import ExportError, SpecError, UsageError
from rcnn_jax.hosts.team import team
from rcnn_jax.models.quant import QuantPlan
from rcnn_jax.reporter import Reporter
from rcnn_jax.tasks.anchor_advice import anchor_advice, outside_advice
from rcnn_jax.tasks.build import with_amp
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.train import parallel
from rcnn_jax.train.calendar import Milestones
from rcnn_jax.train.choose_batch import with_chosen_batch
from rcnn_jax.train.lock import WorkdirLock
from rcnn_jax.train.run_folder import CHECKPOINTS, RunFolder, run_folder
from rcnn_jax.train.schedules import make_schedule
from rcnn_jax.train.start import widths_to_train
from rcnn_jax.train.teacher import Taught, open_teacher
from rcnn_jax.train.time_plan import MOST_STEPS, TimePlan
from rcnn_jax.train.validation import Drawer, Validation


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of a training run: the flags of the command.

    Attributes:
      key: encrypts model files and checkpoints, and opens encrypted ones; None leaves them open.
      fresh: delete what the run has left in the workdir and start anew.
      accept_data_changes: resume although training images or their objects have changed.
      use_amp: compute in mixed precision on top of what the spec says.
      devices: number of local devices; None for all.
      body: how a step is mapped over the devices; the results are the same.
      scale_lr: `linear` multiplies the learning rate by the effective batch over batch_size_per_gpu,
        `none` leaves it; None does what the spec says.
      quantiser: places and calibrates fake quantisation, see `export.precision.aware.QUANTISER`; a run
        with `enable_qat` needs it.
      draw: draws detections on validation images for TensorBoard, where the spec asks for them; see
        `inference.draw.draw_detections`. None leaves such pictures out.
      lock: of the workdir, where the caller holds it; None takes it as long as the run lasts.
      minutes: the run is planned to end after this time; None takes the length of the spec.
      deadline: `time.monotonic()` at which that is; None counts from the call of `train`.
    """

    key: str | None = None
    fresh: bool = False
    accept_data_changes: bool = False
    use_amp: bool = False
    devices: int | None = None
    body: parallel.Body = "shard_map"
    scale_lr: Literal["linear", "none"] | None = None
    quantiser: Quantiser | None = None
    draw: Drawer | None = None
    lock: WorkdirLock | None = None
    minutes: float | None = None
    deadline: float | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """The constant parts of one training run.

    Attributes:
      experiment: what is trained; the float network until ranges are calibrated.
      quant: the inputs that fake quantisation rounds; none without `enable_qat`.
      options: how.
      files: where the run lies.
      devices: of the run.
      source: training images.
      data: what they are, for the next resume.
      validate: scores weights on the validation images; None without such images.
      milestones: steps at which something is due.
      store: resumable checkpoints.
      reporter: console and status file.
      written: milestones as the spec states them, which the learning rate is a function of.
      taught: the model that this one imitates, or None.
    """

    experiment: Experiment
    quant: QuantPlan
    options: TrainOptions
    files: RunFolder
    devices: parallel.Devices
    source: Source
    data: DataDigest
    validate: Validation | None
    milestones: Milestones
    store: CheckpointStore
    reporter: Reporter
    written: Milestones
    taught: Taught | None = None

    @property
    def workdir(self) -> Path:
        """The folder of all that the run writes but its models."""
        return self.files.folder

    @property
    def global_batch(self) -> int:
        """Images per step over all devices and processes."""
        return _global_batch(self.experiment, self.devices)

    @property
    def schedule(self) -> Any:
        """Learning rate by step, in the scale of this run's devices."""
        return make_schedule(self.experiment.schedule, self.written.total_steps, self.rate_scale)

    @property
    def rate_scale(self) -> int:
        """What the learning rate of the spec is multiplied by."""
        chosen = self.options.scale_lr
        if chosen == "linear":
            return self.global_batch // self.experiment.batch_per_device
        # The two originals differ: the rate grows with the workers in
        # docs/reference/faster_rcnn.md, "Learning rate", and does not in
        # docs/reference/mask_rcnn.md, "Optimizer".
        scaled = chosen is None and self.experiment.run.lr_scaling == "devices"
        return self.devices.count if scaled else 1

    @property
    def layout(self) -> dict[str, Any]:
        """How a step is cut: the same elsewhere up to the order of sums, bit for bit only here."""
        return {
            "devices": self.devices.count,
            "processes": team().count,
            "data_parallel": self.devices.body,
        }

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Settings that a checkpoint must agree with before the run is resumed from it.

        Precision and global batch are choices of the command line that change every step.
        """
        experiment, options = self.experiment, self.options
        values = fingerprint.fingerprint(experiment.spec.fields, experiment.kind)
        # Another file of the same name may have other widths, which are in no field.
        plan = experiment.task.model.channels.to_json() if experiment.start.pruned else {}
        widths = {f"filters of {layer}": width for layer, width in plan.items()}
        given = {"scale_lr": options.scale_lr} if options.scale_lr else {}
        chosen = {"use_amp": options.use_amp, "global_batch": self.global_batch}
        return {**values, **widths, **chosen, **given}


def planned(run: Run, plan: TimePlan | None) -> Run:
    """Returns the run with the milestones of its time plan; the same run without one.

    Until the plan has a length nothing but epochs ends: validations come when they have a period.
    """
    if plan is None:
        return run
    written = dataclasses.replace(run.written, total_steps=plan.written_steps)
    milestones = dataclasses.replace(
        written,
        total_steps=plan.total_steps or max(plan.written_steps, 2 * MOST_STEPS),
        evaluate_every=plan.period if written.evaluate_every else 0,
        save_every=plan.period,
        since=plan.since,
    )
    return dataclasses.replace(run, milestones=milestones, written=written)


def open_run(
    experiment: Experiment, workdir: Path, options: TrainOptions, reporter: Reporter
) -> Run:
    """Opens and checks the data of an experiment; nothing is written but the store's folder.

    Args:
      experiment: what is trained.
      workdir: the folder that the user names for results.
      options: how.
      reporter: console and status file.

    Raises:
      RcnnError: anything the user can mend, see the tree in `errors`.
    """
    chosen = parallel.choose_devices(
        options.devices, options.body, experiment.run.sharding == "fsdp"
    )
    if options.use_amp:
        experiment = with_amp(experiment)
    # Before anything looks at the model: the table of parameters and the template of the state follow
    # the pruned widths.
    experiment = widths_to_train(experiment, options.key)
    taught = open_teacher(experiment, options.key, reporter)
    quant = _plan_quantisation(experiment, options.quantiser)
    # All data is opened and checked before anything is written: a run with a damaged label must not
    # delete, with --fresh, the run before it.
    images = experiment.train_source()
    source = tiled(images, experiment.tiling)
    check_object_counts(source, experiment.train_gt)
    for note in experiment.notes:
        reporter.note(note)
    census = take_census(
        source, "training", experiment.geometry, experiment.augment, experiment.train_gt
    )
    require_objects(census)
    validation = experiment.eval_source() if experiment.eval_source else None
    columns = [census.column]
    if validation is not None:
        columns.append(take_census(validation, "validation", experiment.geometry).column)
    reporter.console.print(counts_table(columns))
    for column in columns:
        report_findings(column.findings, reporter)
    _advise(experiment, source, census, reporter)
    factors = repeat_factors(source, experiment.repeat_threshold)
    if factors is not None:
        reporter.note(describe(factors))
    files = run_folder(workdir, experiment.kind, experiment.spec.fields)
    # Opened now, though used after the first epoch: annotations that lack an image of the
    # validation data end the run here and not after its first epoch.
    validate = (
        Validation(experiment, validation, files.folder, reporter, len(chosen.local))
        if validation
        else None
    )
    store = CheckpointStore(
        files.folder / CHECKPOINTS, keep=experiment.run.keep_checkpoints, key=options.key
    )
    stored = None if options.fresh or experiment.batch_per_device else store.latest_run_state()
    experiment, why = with_chosen_batch(experiment, source, chosen, stored, taught)
    if why:
        reporter.note(why)
    steps_per_epoch = batches_per_epoch(source, _global_batch(experiment, chosen), factors)
    milestones = Milestones.of(experiment.run, steps_per_epoch, experiment.qat)
    _check_quantised_steps(experiment, milestones)
    return Run(
        experiment=experiment,
        quant=quant,
        options=options,
        files=files,
        devices=chosen,
        source=source,
        data=digest_source(images, experiment.category_ids),
        validate=validate,
        milestones=milestones,
        written=milestones,
        store=store,
        reporter=reporter,
        taught=taught,
    )


def _global_batch(experiment: Experiment, devices: parallel.Devices) -> int:
    return experiment.batch_per_device * experiment.run.accumulate_steps * devices.count


def _plan_quantisation(experiment: Experiment, quantiser: Quantiser | None) -> QuantPlan:
    """Returns the inputs that a run rounds; none without quantisation-aware training.

    Raises:
      SpecError: the exported graph of the spec could not be quantised.
      UsageError: nothing was given that places fake quantisation.
    """
    if experiment.qat is None:
        return QuantPlan()
    if quantiser is None:
        raise UsageError(
            "enable_qat: training needs TrainOptions(quantiser=...), "
            "rcnn_jax.export.precision.aware.QUANTISER"
        )
    try:
        return quantiser.plan(experiment)
    except (ExportError, SpecError) as error:
        raise SpecError(f"enable_qat: {error}") from error


def _check_quantised_steps(experiment: Experiment, milestones: Milestones) -> None:
    """Stops where a run would calibrate ranges and end.

    Raises:
      SpecError: no step is left for training with fake quantisation.
    """
    if experiment.qat is not None and milestones.quantised_from >= milestones.total_steps:
        raise SpecError(
            f"qat_start: {experiment.qat.start:g} is the whole run, {milestones.total_steps} steps in "
            f"{milestones.num_epochs} epochs; leave some for fake quantisation, or set enable_qat: False"
        )


def _advise(experiment: Experiment, source: Source, census: Census, reporter: Reporter) -> None:
    """Reports how the anchors fit the objects and the largest canvas."""
    settings = experiment.task.settings
    canvas = training_canvases(source, experiment.geometry)[-1]
    for advice in (
        anchor_advice(experiment.spec.fields, experiment.kind, settings, census.sides),
        outside_advice(settings, canvas),
    ):
        if advice is not None:
            (reporter.warn if advice.act else reporter.note)(advice.text)
