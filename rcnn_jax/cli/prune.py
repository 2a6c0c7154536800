"""`prune`: writes a smaller model, or shows what would become of it."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from rcnn_jax.cli.flags import choose_devices, existing_model, folder_beside, key_from
from rcnn_jax.cli.outputs import CommandPaths, beside, common
from rcnn_jax.cli.session import Session, memory_advice
from rcnn_jax.errors import UsageError
from rcnn_jax.kinds import Kind
from rcnn_jax.tasks.families import family

if TYPE_CHECKING:
    from rcnn_jax.compress.command import PruneOptions

MASK_NAME = "model.tlt"
"""Name that the original gives the file in the folder of -o."""
THRESHOLD = 0.1


def run(args: Namespace, kind: Kind) -> int:
    """Prunes as the command line says; returns the exit code.

    Raises:
      RcnnError: the flags or the model are at fault.
    """
    choose_devices(args, "prune")
    thresholds = _refuse(args)
    output = output_file(args, kind)
    if output is not None and not family(kind).names_files and output.exists():
        raise UsageError(f"-o {output}: exists already; name another folder, or remove it")
    title = f"{kind} prune"
    with Session(title, status_folder=args.workdir, log_file=args.log_file) as session:
        from rcnn_jax.checkpoints.origin import check_kind
        from rcnn_jax.cli.flags import flag_notes
        from rcnn_jax.compress.command import prune
        from rcnn_jax.runtime.open import open_weights

        for note in flag_notes(args):
            session.note(note)
        key = key_from(args)
        opened = open_weights(existing_model(args.model, "-m"), key, reporter=session)
        check_kind(opened.bundle.kind, kind, str(opened.path))
        experiment = opened.stored_experiment()
        options = _options(args, kind, output, key, thresholds)
        with memory_advice(kind):
            summary = prune(opened, experiment, options, session)
        last = summary.choices[-1]
        ratio = last.costs.parameters / summary.costs.parameters
        session.status("RUNNING", "Pruning finished.", kpi={"pruning_ratio": ratio})
    return 0


def paths(args: Namespace, kind: Kind) -> CommandPaths:
    """Lists the paths of the command's inputs and outputs."""
    args.spec = None  # a bundle holds its own
    known, _ = common(args, kind, None)
    known.read("-m", args.model)
    output = output_file(args, kind)
    known.write("-o", output)
    for ending in (".png", ".json"):
        known.write("the report of pruning", _report(args, output, ending))
    return known


def output_file(args: Namespace, kind: Kind) -> Path | None:
    """Returns the file to write, None for a dry run.

    A Faster R-CNN is given a file, to which `.tlt` is added where it has no suffix; a Mask R-CNN a
    folder, in which the file is called as in the original. A name that ends in `.tlt` is a file for both.
    """
    # Even where -o is given: a dry run that wrote a model would not be one.
    if args.dry_run:
        return None
    if args.output is None:
        raise UsageError("prune: required: -o, or --dry-run to see what would be pruned")
    # TAO 5 names .hdf5; what is written is a bundle by any name.
    if args.output.suffix in (".tlt", ".hdf5"):
        return args.output
    if family(kind).names_files:
        return beside(args.output, ".tlt")
    return args.output / MASK_NAME


def _report(args: Namespace, output: Path | None, ending: str) -> Path:
    """Returns a file beside the model that is written, else beside the one that is read."""
    model = output or args.model
    # Beside the model by default: the report says why each filter is gone and should travel with
    # it.
    folder = args.workdir or folder_beside(model)
    return folder / f"{model.stem}.pruning{ending}"


def _options(
    args: Namespace,
    kind: Kind,
    output: Path | None,
    key: str | None,
    thresholds: tuple[float, ...],
) -> "PruneOptions":
    from rcnn_jax.compress.command import PruneOptions
    from rcnn_jax.compress.criteria import PruneSettings

    return PruneOptions(
        output=output,
        key=key,
        thresholds=thresholds,
        keep_params=args.keep_params,
        keep_flops=args.keep_flops,
        settings=PruneSettings(
            normalizer=args.normalizer,
            criterion=args.criterion,
            granularity=args.granularity,
            min_filters=args.min_filters,
            rank=args.rank,
        ),
        excluded=tuple(args.excluded),
        picture=_report(args, output, ".png"),
        table=_report(args, output, ".json"),
        latency=args.latency,
    )


def _refuse(args: Namespace) -> tuple[float, ...]:
    """Stops at what cannot be, before anything is loaded; returns the thresholds."""
    ways = [
        flag
        for flag, value in (
            ("-pth", args.thresholds),
            ("--keep-params", args.keep_params),
            ("--keep-flops", args.keep_flops),
        )
        if value is not None
    ]
    # Each of them decides the threshold; of two, one would be ignored in silence.
    if len(ways) > 1:
        raise UsageError(f"{' and '.join(ways)}: give one of them")
    for flag, value in (("--keep-params", args.keep_params), ("--keep-flops", args.keep_flops)):
        if value is not None and not 0 < value < 1:
            raise UsageError(f"{flag} {value}: expected a fraction between 0 and 1")
    for flag, value in (("-pg", args.granularity), ("-nf", args.min_filters)):
        if value < 1:
            raise UsageError(f"{flag} {value}: expected 1 or more")
    # Here and not as argparse's default: only an absent -pth leaves room for --keep-params.
    text = str(THRESHOLD) if args.thresholds is None else args.thresholds
    try:
        thresholds = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"-pth {text}: expected a number, or several with commas") from error
    # This form refuses NaN too, of which every comparison is false.
    if not all(0 <= value < float("inf") for value in thresholds):
        raise UsageError(f"-pth {text}: expected 0 or more")
    if len(thresholds) > 1 and not args.dry_run:
        raise UsageError(f"-pth {text}: one model has one threshold; several go with --dry-run")
    return thresholds
