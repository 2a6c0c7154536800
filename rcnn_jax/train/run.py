"""One training run: all that does not change from step to step, opened and checked before it begins."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rcnn_jax.checkpoints import fingerprint
from rcnn_jax.checkpoints.store import CheckpointStore
from rcnn_jax.data.count_table import counts_table, say
from rcnn_jax.data.loader.batching import check_object_counts
from rcnn_jax.data.loader.census import Census, require_objects, take_census
from rcnn_jax.data.loader.pipeline import batches_per_epoch, training_canvases
from rcnn_jax.data.sources.boxes import Source
from rcnn_jax.data.sources.digest import DataDigest, digest_source
from rcnn_jax.kinds import Kind
from rcnn_jax.reporter import Reporter
from rcnn_jax.tasks.anchor_advice import anchor_advice, outside_advice
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.experiment import Config, Experiment
from rcnn_jax.train import parallel
from rcnn_jax.train.lock import WorkdirLock
from rcnn_jax.train.run_folder import CHECKPOINTS, RunFolder, run_folder
from rcnn_jax.train.schedules import make_schedule
from rcnn_jax.train.start import widths_to_train
from rcnn_jax.train.timetable import Timetable
from rcnn_jax.train.validation import Drawer, Validation


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything of one training run that does not change from step to step.

    Attributes:
      config: the validated config.
      experiment: the same in the words of the field.
      files: where the run lies.
      key: seals bundles and checkpoints; None leaves them open.
      devices: local devices of the run.
      source: training images.
      data: what they are, for the next resume.
      validate: scores weights on the validation images; None without such images.
      timetable: when what is due.
      store: resumable checkpoints.
      session: console and status file.
      draw: draws detections for TensorBoard; None leaves such pictures out.
      use_amp: compute in bfloat16 on top of what the config says.
      lock: of the folder; None where nobody else can be at work there.
    """

    config: Config
    experiment: Experiment
    files: RunFolder
    key: str | None
    devices: list[parallel.Device]
    source: Source
    data: DataDigest
    validate: Validation | None
    timetable: Timetable
    store: CheckpointStore
    session: Reporter
    draw: Drawer | None
    use_amp: bool
    lock: WorkdirLock | None = None

    @property
    def workdir(self) -> Path:
        """The folder of all that the run writes but its models."""
        return self.files.folder

    @property
    def global_batch(self) -> int:
        """Images per step over all devices and processes."""
        return self.experiment.batch_per_device * parallel.count_of_all(self.devices)

    @property
    def schedule(self) -> Any:
        """Learning rate by step, in the scale of this run's devices."""
        scaled = self.experiment.run.lr_scaling == "devices"
        scale = parallel.count_of_all(self.devices) if scaled else 1
        return make_schedule(self.experiment.schedule, self.timetable.total_steps, scale)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What a checkpoint must agree with before this run goes on from it."""
        values = fingerprint.fingerprint(self.config, self.experiment.kind)
        return {**values, "use_amp": self.use_amp, "global_batch": self.global_batch}


def open_run(
    config: ConfigDict,
    kind: Kind,
    workdir: Path,
    key: str | None,
    session: Reporter,
    use_amp: bool,
    devices: int | None,
    draw: Drawer | None,
    lock: WorkdirLock | None = None,
) -> Run:
    """Builds the experiment of the config and opens its data; nothing is written but the store's folder.

    Args:
      config: validated config of the detector.
      kind: which detector.
      workdir: the folder that the user names for results.
      key: see `Run`.
      session: see `Run`.
      use_amp: see `Run`.
      devices: number of local devices; None for all.
      draw: see `Run`.
      lock: see `Run`.

    Raises:
      RcnnError: anything the user can mend, see the tree in `errors`.
    """
    chosen = parallel.choose_devices(devices)
    experiment = build_experiment(config, kind, bf16=use_amp)
    experiment = widths_to_train(experiment, key)
    # All data is opened and checked before anything is written.
    source = experiment.train_source()
    check_object_counts(source, experiment.train_gt)
    for note in experiment.notes:
        session.note(note)
    census = take_census(
        source, "training", experiment.geometry, experiment.augment, experiment.train_gt
    )
    require_objects(census)
    validation = experiment.eval_source() if experiment.eval_source else None
    columns = [census.column]
    if validation is not None:
        columns.append(take_census(validation, "validation", experiment.geometry).column)
    session.console.print(counts_table(columns))
    for column in columns:
        say(column.findings, session)
    _advise(experiment, config, source, census, session)
    files = run_folder(workdir, kind, config)
    validate = Validation(experiment, validation, files.folder, session) if validation else None
    global_batch = experiment.batch_per_device * parallel.count_of_all(chosen)
    steps_per_epoch = batches_per_epoch(source, global_batch)
    return Run(
        config=config,
        experiment=experiment,
        files=files,
        key=key,
        devices=chosen,
        source=source,
        data=digest_source(source, experiment.category_ids),
        validate=validate,
        timetable=Timetable.of(experiment.run, steps_per_epoch),
        store=CheckpointStore(
            files.folder / CHECKPOINTS, keep=experiment.run.keep_checkpoints, key=key
        ),
        session=session,
        draw=draw,
        use_amp=use_amp,
        lock=lock,
    )


def _advise(
    experiment: Experiment, config: Config, source: Source, census: Census, session: Reporter
) -> None:
    """Says how the anchors fit the objects and the largest canvas."""
    settings = experiment.task.settings
    canvas = training_canvases(source, experiment.geometry)[-1]
    for advice in (
        anchor_advice(config, experiment.kind, settings, census.sides),
        outside_advice(settings, canvas),
    ):
        if advice is not None:
            (session.warn if advice.act else session.note)(advice.text)
