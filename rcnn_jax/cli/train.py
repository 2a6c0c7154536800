"""`train`: from a spec file to model files in a working folder."""

import os
import shlex
import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.cli.flags import choose_devices, what_lies
from rcnn_jax.cli.outputs import CommandPath, CommandPaths, common
from rcnn_jax.cli.session import Session, memory_advice, read_spec
from rcnn_jax.errors import UsageError
from rcnn_jax.hosts.team import team
from rcnn_jax.kinds import Kind
from rcnn_jax.processes import age_of_process
from rcnn_jax.tasks.families import family

RUN_FILES = ("config.json", "data.json", "metrics.jsonl", "metrics.html", "trackers.json")
"""Files that every run writes into its folder; their names serve for annotations too."""

MOST_MINUTES = 1e6


def run(args: Namespace, kind: Kind) -> int:
    """Trains as the command line says; returns the exit code.

    Raises:
      RcnnError: the flags, the spec, the data or the run are at fault.
    """
    devices = choose_devices(args, "train")
    deadline = _deadline(args.minutes)
    with Session(
        f"{kind} train",
        status_folder=args.workdir,
        log_file=args.log_file,
        alone=True,
        chief=team().is_chief,
    ) as session:
        config, key = read_spec(session, args, kind, "train", _recorded(args, kind))
        workdir = args.workdir or workdir_of(config, kind)
        # The folder may come from the spec, so the lock and the first status line wait until the
        # spec is read.
        session.keep_status_in(workdir)
        from rcnn_jax.export.precision.aware import QUANTISER
        from rcnn_jax.inference.draw import draw_detections
        from rcnn_jax.tasks.build import build_experiment
        from rcnn_jax.train.command import train
        from rcnn_jax.train.run import TrainOptions

        options = TrainOptions(
            key=key,
            fresh=args.fresh,
            accept_data_changes=args.accept_data_changes,
            use_amp=args.use_amp,
            devices=devices,
            body=args.data_parallel,
            scale_lr=args.scale_lr,
            # Passed in: training and inference are on one floor and do not import each other.
            quantiser=QUANTISER,
            draw=draw_detections,
            lock=session.lock,
            minutes=args.minutes,
            deadline=deadline,
        )
        with memory_advice(kind):
            result = train(build_experiment(config, kind), workdir, options, session)
        # After the run: one that is interrupted leaves models that training can go on from.
        if args.slim and team().is_chief:
            slim_models(result.models, key)
        if result.finished and team().is_chief:
            for line in next_commands(result.best, kind, encrypted=key is not None):
                session.console.print(line, markup=False)
    return 0


def next_commands(best: Path, kind: Kind, *, encrypted: bool) -> list[str]:
    """Returns how to look at a finished run: its curves, its errors, its detections, its export.

    Args:
      best: model of the run, whose folder has the spec of the run and its page of curves.
      kind: which detector.
      encrypted: the model needs its key, which is not shown.
    """
    from rcnn_jax.train.run_folder import METRICS_PAGE, SPEC_FILE

    folder, key = best.parent, " -k KEY" if encrypted else ""
    spec = shlex.quote(str(folder / SPEC_FILE))
    model = f"-m {shlex.quote(str(best))}{key}"
    report, graph = (shlex.quote(str(folder / name)) for name in ("report.html", "model.onnx"))
    pictures = shlex.quote(str(folder / "detections"))
    return [
        f"\nCurves: {folder / METRICS_PAGE}. Look at the model, run it, take it elsewhere:",
        f"  rcnn-jax {kind} evaluate -e {spec} {model} --report {report}",
        f"  rcnn-jax {kind} inference -e {spec} {model} -i IMAGES -r {pictures}",
        f"  rcnn-jax {kind} export -e {spec} {model} -o {graph}",
    ]


def _recorded(args: Namespace, kind: Kind) -> Callable[[ConfigDict], str | None]:
    """Returns a function from a config to the spec of the run that it would go on with."""

    def text(config: ConfigDict) -> str | None:
        from rcnn_jax.train.run_folder import recorded_spec

        if args.fresh:
            return None
        return recorded_spec(args.workdir or workdir_of(config, kind), kind, config)

    return text


def _deadline(minutes: float | None) -> float | None:
    """Returns `time.monotonic()` at the wanted end, counted from the start of the process.

    Raises:
      UsageError: the time is none.
    """
    if minutes is None:
        return None
    if not 0 < minutes < MOST_MINUTES:
        raise UsageError(
            f"--minutes {minutes:g}: expected more than 0 and less than {MOST_MINUTES:g}"
        )
    return time.monotonic() + minutes * 60 - age_of_process()


def paths(args: Namespace, kind: Kind) -> CommandPaths:
    """Lists the paths of the inputs and outputs of training.

    Among the weights to start from, those whose names the run itself will use are at risk; a spec
    that lies where the run writes its own is, unless it is that one.
    """
    known, config = common(args, kind, "train", workdir_flag="-d/-r")
    if config is None:
        return known
    workdir = args.workdir or workdir_of(config, kind)
    if args.workdir is None:
        known.write(family(kind).file_fields["train"], workdir, "workdir")
        known.write("the status file", workdir / "status.json", "log")
    known.writes += [CommandPath("a file of this run,", workdir / name) for name in RUN_FILES]
    known.writes += [
        CommandPath("a model of this run,", source.path)
        for source in known.reads
        if source.name in family(kind).start_fields
        and _is_of_run(source.path, workdir, config, kind)
    ]
    if args.spec is not None and args.config is None:
        written = workdir / "spec.txt"
        # To train again with the spec that a run wrote, from where it lies, is how runs are
        # resumed.
        if what_lies(written) == "file" and not _is_rendered(args.spec, config, kind):
            known.write("the run's own spec,", written)
    return known


def _is_of_run(path: Path, workdir: Path, config: ConfigDict, kind: Kind) -> bool:
    """Returns whether a run in this folder would write a model of this name."""
    from rcnn_jax.checkpoints.names import BEST, parse

    if os.path.realpath(path.parent) != os.path.realpath(workdir):
        return False
    progress = parse(path)
    return path.name == BEST or (
        progress is not None and progress.stem == family(kind).model_name(config)
    )


def _is_rendered(spec: Path, config: ConfigDict, kind: Kind) -> bool:
    """Returns whether a spec is the text that a run wrote of it."""
    from rcnn_jax.spec.render import redact, render

    return spec.read_bytes() == render(redact(config), kind).encode()


def slim_models(models: Iterable[Path], key: str | None) -> None:
    """Takes the optimizer state out of the model files of a run; its checkpoints keep theirs.

    A file that holds none already is left as it is.
    """
    from rcnn_jax.checkpoints.bundle import read_bundle, slim, write_bundle

    for path in models:
        bundle = read_bundle(path, key)
        slimmed = slim(bundle)
        # A file that is written anew gets a new time stamp and digest, without need if nothing was
        # removed.
        if slimmed.arrays.keys() != bundle.arrays.keys():
            write_bundle(path, slimmed, key)


def workdir_of(config: ConfigDict, kind: Kind) -> Path:
    """Returns the folder of the models that a spec names.

    Raises:
      UsageError: the spec names none.
    """
    row = family(kind)
    output = row.named_files(config).output_model
    if output is None:
        field = row.file_fields.get("train")
        hint = f" (or {field} in the spec)" if field else ""
        raise UsageError(f"{kind} train: no folder for the results: give -d DIR or -r DIR{hint}")
    return output.path.parent
