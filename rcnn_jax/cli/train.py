"""`train`: from a spec file to model files in a working folder."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rcnn_jax.cli.flags import Kind, choose_devices
from rcnn_jax.cli.session import Session, memory_advice, read_spec
from rcnn_jax.errors import UsageError


def run(args: Namespace, kind: Kind) -> int:
    """Trains as the command line says; returns the exit code.

    Raises:
      RcnnError: the flags, the spec, the data or the run are at fault.
    """
    devices = choose_devices(args, "train")
    with Session(f"{kind} train", status_folder=args.workdir, log_file=args.log_file) as session:
        config, key = read_spec(session, args, kind, "train")
        workdir = args.workdir or workdir_of(config, kind)
        session.keep_status_in(workdir)
        from rcnn_jax.inference.draw import draw_detections
        from rcnn_jax.train.loop import train

        with memory_advice(kind):
            train(
                config,
                kind,
                workdir,
                key=key,
                fresh=args.fresh,
                use_amp=args.use_amp,
                devices=devices,
                session=session,
                draw=draw_detections,
            )
        if args.slim:
            slim_models(workdir, key)
    return 0


def slim_models(workdir: Path, key: str | None) -> None:
    """Takes the optimizer state out of the model files of a run; its checkpoints keep theirs.

    A file that holds none already is left as it is.
    """
    from rcnn_jax.checkpoints.bundle import read_bundle, slim, write_bundle

    for path in sorted(workdir.glob("*.tlt")):
        bundle = read_bundle(path, key)
        slimmed = slim(bundle)
        if slimmed.arrays.keys() != bundle.arrays.keys():
            write_bundle(path, slimmed, key)


def workdir_of(config: ConfigDict, kind: Kind) -> Path:
    """Returns the folder of training_config.output_model.

    Raises:
      UsageError: the spec names no output model.
    """
    fields: Any = config
    output = fields.training_config.output_model if kind == "faster_rcnn" else None
    if not output:
        field = " (or training_config.output_model in the spec)" if kind == "faster_rcnn" else ""
        raise UsageError(f"{kind} train: no folder for the results: give -d DIR or -r DIR{field}")
    return Path(output).parent
