"""`evaluate`: scores a model on the validation images of the spec."""

from argparse import Namespace
from typing import TYPE_CHECKING

from rcnn_jax.cli.backends import asked_views, choose_model, named_model, open_chosen, with_own_spec
from rcnn_jax.cli.flags import choose_devices, flag_views, folder_beside
from rcnn_jax.cli.outputs import CommandPaths, common
from rcnn_jax.cli.session import Session, memory_advice, read_spec
from rcnn_jax.errors import UsageError
from rcnn_jax.hosts.team import team
from rcnn_jax.kinds import Kind
from rcnn_jax.optional import require

if TYPE_CHECKING:
    from rcnn_jax.evaluate.command import PageOptions


def run(args: Namespace, kind: Kind) -> int:
    """Evaluates as the command line says; returns the exit code.

    Raises:
      RcnnError: the flags, the spec, the data or the model are at fault.
    """
    devices = choose_devices(args, "evaluate")
    if args.report is not None:
        # Before the model runs: an hour later is too late to hear of a missing package.
        require("hotcoco", extra="report", purpose="--report")
    if not 0 < args.precision <= 1:
        raise UsageError(f"--precision {args.precision:g}: expected a fraction above 0, at most 1")
    flag_views(args.tta)
    title = f"{kind} evaluate"
    with Session(
        title, status_folder=args.workdir, log_file=args.log_file, chief=team().is_chief
    ) as session:
        model = None
        if args.spec is None and args.config is None:
            model, config, key = with_own_spec(args, kind, "evaluate", session)
        else:
            config, key = read_spec(session, args, kind, "evaluate")
            file = choose_model(args.model, config, kind, "evaluate", args.header, args.runtime)
        # Imported only here: JAX takes seconds, and an error in the spec or a missing model is
        # known before.
        from rcnn_jax.evaluate.command import evaluate
        from rcnn_jax.evaluate.results import kpi
        from rcnn_jax.runtime.open import experiment_of

        # Opening is inside too: weights alone may exceed a small device.
        with memory_advice(kind):
            model = model or open_chosen(file, key, session)
            experiment = experiment_of(model, config, kind, own_classes=False, reporter=session)
            experiment = asked_views(args.tta, experiment, model)
            report = evaluate(
                experiment,
                model,
                workdir=args.workdir,
                devices=devices,
                page=_page(args),
                reporter=session,
            )
        session.status("RUNNING", "Evaluation metrics generated.", kpi=kpi(report))
    return 0


def _page(args: Namespace) -> "PageOptions | None":
    if args.report is None:
        return None
    from rcnn_jax.evaluate.command import PageOptions

    spec = "given as a config" if args.config is not None else str(args.spec or "of the model")
    return PageOptions(output=args.report, precision=args.precision, spec=spec)


def paths(args: Namespace, kind: Kind) -> CommandPaths:
    """Lists the paths of the inputs and outputs of an evaluation."""
    known, config = common(args, kind, "evaluate")
    known.read("--header", args.header)
    if args.report is not None:
        known.write("--report", args.report)
        known.write("the matches beside --report,", args.report.with_suffix(".json"))
    if config is None:
        return known
    model = named_model(args.model, config, kind, "evaluate")
    if model is None:  # `run` says so
        return known
    known.read(model.field, model.path)
    folder = (args.workdir or folder_beside(model.path)) / "eval"
    known.write("the reports in", folder, "workdir")
    for name in sorted({model.path.name, model.path.stem}):
        known.write("the report", folder / f"{name}.json")
    return known
