"""Meaning of parsed flags: keys, files, devices, and flags without effect."""

import argparse
import difflib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from rcnn_jax.errors import UsageError
from rcnn_jax.hosts.team import team
from rcnn_jax.settings.views import ViewSettings, read_views
from rcnn_jax.spec.inputs import is_published_name

KEY_VARIABLE = "RCNN_JAX_KEY"
WITHOUT_EFFECT = {
    "mpirun_arg": "processes are started by the launcher of the cluster, not by mpirun",
    "launch_cuda_blocking": "kernels are launched by XLA",
    "unused_image_dir": "the spec names the images",
    "unused_label_dir": "the spec names the labels",
    "unused_experiment_spec": "the model holds its spec",
    "unused_batch_size": "the spec names the batch size",
    "unused_verbose": "everything is reported already",
    "onnx_route": "there is one exporter",
    "unused_force_ptq": "an fp32 graph is always calibrated after training",
}
"""Flags that are accepted because the original did, {destination: reason they do nothing here}."""

ON_SEVERAL = ("train", "evaluate", "inference")
"""Tasks that share their work among GPUs and processes."""
# Manuals and TAO 5 disagree: batch size 8 or 16, largest batch 16 or 1, workspace 1 or 2 GiB. The
# manuals are what users of this command read.
CALIBRATION_DEFAULTS: dict[str, Any] = {
    "cal_image_dir": None,
    "cal_data_file": None,
    "cal_json_file": None,
    "cal_cache_file": Path("cal.bin"),
    "cal_method": "percentile",
    "batches": 10,
    "batch_size": 8,
}
"""Defaults of int8, as in the manuals. The parser leaves None, so that a flag that was given without
need differs from one that was not given."""
ENGINE_DEFAULTS: dict[str, Any] = {
    "timing_cache": None,
    "min_batch_size": 1,
    "opt_batch_size": 1,
    "max_batch_size": 16,
    "max_workspace_size": 1 << 30,
    "strict_type_constraints": False,
}
"""Defaults of the engine that `export` builds."""

MODEL_SUFFIXES = frozenset((".tlt", ".hdf5", ".h5", ".onnx", ".etlt", ".engine", ".trt", ".plan"))
SHOWN_NEIGHBOURS = 5
LIKENESS = 0.6
"""Smallest similarity of a suggested file name; of models all in the folder are suggested."""


def key_from(args: argparse.Namespace, spec_key: str | None = None) -> str | None:
    """Returns the key: -k, else the environment variable RCNN_JAX_KEY, else the spec's enc_key."""
    # `or`, not a test for None: an empty key is none, as scripts with an unset variable expect.
    return args.key or os.environ.get(KEY_VARIABLE) or spec_key or None


def existing_file(path: Path, flag: str) -> Path:
    """Returns the path of a file.

    Args:
      path: the file.
      flag: the flag or field that names it.

    Raises:
      UsageError: it is no file; the message lists what lies there, nearest name first.
    """
    kind = what_lies(path)
    if kind == "file":
        return path
    entry = {"folder": "a folder", "other": "a device or pipe"}.get(kind, "nothing")
    raise UsageError(f"{flag} {path}: expected a file, found {entry} there{neighbours(path)}")


def existing_model(path: Path, flag: str) -> Path:
    """Returns the path of a model file, or a name of published weights as it is.

    Raises:
      UsageError: see `existing_file`.
    """
    return path if is_name(path) else existing_file(path, flag)


def is_name(path: Path) -> bool:
    """Says whether a model is named like published weights, `coco/...`, and is no file."""
    return is_published_name(path.as_posix()) and what_lies(path) == "nothing"


def folder_beside(model: Path) -> Path:
    """Returns the folder of a model file; that of a name is where the command runs."""
    return Path() if is_name(model) else model.parent


def existing_folder(path: Path, flag: str) -> Path:
    """Returns the path of a folder, or raises UsageError naming the flag when it is none."""
    kind = what_lies(path)
    if kind == "folder":
        return path
    entry = {"file": "a file", "other": "a device or pipe"}.get(kind, "nothing")
    raise UsageError(f"{flag} {path}: expected a folder, found {entry} there")


def what_lies(path: Path) -> Literal["file", "folder", "other", "nothing"]:
    """Returns the kind of a path; one that no file system can have is nothing."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # too long, in a loop of links, with a NUL, not to be entered
        return "nothing"
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def neighbours(path: Path) -> str:
    """Returns a hint at the files that a user may have meant, as the end of a message.

    A model stands for models of every format: `X.epoch_12.hdf5` of TAO 5 is `X.epoch12.tlt` here.
    """
    folder = path if what_lies(path) == "folder" else path.parent
    if what_lies(folder) != "folder":
        there = (parent for parent in folder.parents if what_lies(parent) == "folder")
        return f"; there is no folder {folder}, only {next(there, Path())}"
    model = path.suffix in MODEL_SUFFIXES
    try:
        names = [e.name for e in folder.iterdir() if not e.name.startswith(".") and e.is_file()]
    except OSError:
        return ""
    if model:
        alike = [name for name in names if Path(name).suffix in MODEL_SUFFIXES]
    else:
        alike = [name for name in names if _likeness(name, path.name) >= LIKENESS]
    if not alike:
        return ""
    # Nearest first, then by name: a folder's own order differs between machines.
    alike.sort(key=lambda name: (-_likeness(name, path.name), name))
    more = len(alike) - SHOWN_NEIGHBOURS
    listed = ", ".join(alike[:SHOWN_NEIGHBOURS]) + (f" and {more} more" if more > 0 else "")
    return f"; in {folder} {'lies' if len(alike) == 1 else 'lie'} {listed}"


def _likeness(name: str, wanted: str) -> float:
    """Returns how alike two file names are; separators and suffixes do not count."""
    one, other = (Path(text).stem.replace("_", "").replace("-", "") for text in (name, wanted))
    return difflib.SequenceMatcher(None, one, other).ratio()


def choose_devices(args: argparse.Namespace, task: str) -> int:
    """Returns the number of devices, and makes the chosen GPUs the only visible ones.

    Must run before jax starts its backends: CUDA reads CUDA_VISIBLE_DEVICES once.

    Raises:
      UsageError: no GPU, more than one GPU for a task that uses one, flags that disagree, several
        machines.
    """
    if args.multi_node and not team().is_many:
        raise UsageError(
            "--multi-node: this is the only process. Start one on every machine, by srun or mpirun, or "
            "each with --coordinator HOST:PORT --num_processes N --process_id I (docs/cluster.md)"
        )
    # Sorted and without repetitions, as the original set CUDA_VISIBLE_DEVICES.
    index = sorted(set(args.gpu_index or ()))
    gpus = len(index) or 1 if args.gpus is None else args.gpus
    if gpus < 1:
        raise UsageError(f"--gpus {gpus}: expected 1 or more")
    if any(i < 0 for i in index):
        raise UsageError(f"--gpu_index {index[0]}: expected 0 or more")
    if index and len(index) != gpus:
        raise UsageError(
            f"--gpus {gpus} and --gpu_index {' '.join(map(str, index))}: "
            f"{len(index)} different indices are given for {gpus} GPUs"
        )
    if gpus > 1 and task not in ON_SEVERAL:
        raise UsageError(
            f"{task} runs on one GPU, found --gpus {gpus}; {', '.join(ON_SEVERAL)} use more"
        )
    if getattr(args, "use_amp", False) and task != "train":
        raise UsageError(f"--use_amp is a choice of train, {task} has none")
    if index:
        # The variable and not a list of devices: invisible GPUs get no context and lose no memory
        # to us.
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, index))
    return gpus


def flag_views(text: str | None) -> ViewSettings | None:
    """Returns the views that --tta names, None for none.

    Raises:
      UsageError: it names none.
    """
    try:
        return read_views(text or "")
    except ValueError as error:
        raise UsageError(f"--tta {text}: {error}; `none` switches it off") from error


def flag_notes(args: argparse.Namespace) -> list[str]:
    """Returns one line for every given flag that is accepted without effect."""
    notes = [
        f"{'--' + name.removeprefix('unused_')} has no effect here: {reason}"
        for name, reason in WITHOUT_EFFECT.items()
        if getattr(args, name, None)
    ]
    # -1 is the original's default; a number that repeats --gpus asks for what happens anyway.
    if args.num_processes not in (-1, None, args.gpus or 1) and not team().is_many:
        notes.append(
            f"--num_processes {args.num_processes} has no effect here: one process drives all "
            "GPUs of a machine, each with its share of the batch"
        )
    return notes


def vain_flags(args: argparse.Namespace, flags: Iterable[str], without: str) -> list[str]:
    """Returns one line for every given flag of a group that the command does not use.

    Args:
      args: flags, None or False where they were not given.
      flags: destinations of the group.
      without: what is missing, for example `--data_type int8`.
    """
    given = [name for name in flags if getattr(args, name) not in (None, False)]
    return [f"--{name} has no effect without {without}" for name in given]


def with_defaults(args: argparse.Namespace, defaults: dict[str, Any]) -> argparse.Namespace:
    """Returns the flags with a value for each of the group; those of the user stay."""
    chosen = {
        name: default if getattr(args, name) is None else getattr(args, name)
        for name, default in defaults.items()
    }
    return argparse.Namespace(**{**vars(args), **chosen})
