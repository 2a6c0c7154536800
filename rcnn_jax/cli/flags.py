"""What the flags of a command line mean once they are parsed."""

import argparse
import os
from pathlib import Path
from typing import Literal

from rcnn_jax.errors import UsageError

Kind = Literal["faster_rcnn", "mask_rcnn"]
KEY_VARIABLE = "RCNN_JAX_KEY"
WITHOUT_EFFECT = {
    "mpirun_arg": "processes are started by the launcher of the cluster, not by mpirun",
    "multi_node": "processes are started by the launcher of the cluster, not by mpirun",
    "launch_cuda_blocking": "kernels are launched by XLA",
    "unused_image_dir": "the spec names the images",
    "unused_label_dir": "the spec names the labels",
    "unused_batch_size": "the spec names the batch size",
    "onnx_route": "there is one exporter",
}
"""Flags that are accepted because the original did, {destination: reason they do nothing here}."""


def key_from(args: argparse.Namespace, spec_key: str | None = None) -> str | None:
    """Returns the key: -k, else the environment variable RCNN_JAX_KEY, else the spec's enc_key."""
    return args.key or os.environ.get(KEY_VARIABLE) or spec_key or None


def existing_file(path: Path, flag: str) -> Path:
    """Returns the path, or raises UsageError naming the flag when it is no file."""
    if path.is_file():
        return path
    found = "a folder" if path.is_dir() else "nothing"
    raise UsageError(f"{flag} {path}: expected a file, found {found} there")


def choose_devices(args: argparse.Namespace, task: str) -> int:
    """Returns the number of devices, and makes the chosen GPUs the only visible ones.

    Must run before jax starts its backends: CUDA reads CUDA_VISIBLE_DEVICES once.

    Raises:
      UsageError: no GPU, more than one GPU for a task that uses one, flags that disagree.
    """
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
    if gpus > 1 and task != "train":
        raise UsageError(f"{task} runs on one GPU, found --gpus {gpus}; only train uses more")
    if getattr(args, "use_amp", False) and task != "train":
        raise UsageError(f"--use_amp is a choice of train, {task} has none")
    if index:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, index))
    return gpus


def flag_notes(args: argparse.Namespace) -> list[str]:
    """Returns one line for every given flag that is accepted without effect."""
    notes = [
        f"{'--' + name.removeprefix('unused_')} has no effect here: {reason}"
        for name, reason in WITHOUT_EFFECT.items()
        if getattr(args, name, None)
    ]
    if args.num_processes not in (-1, None, args.gpus or 1):
        notes.append(
            f"--num_processes {args.num_processes} has no effect here: one process drives all "
            "GPUs of a machine, each with its share of the batch"
        )
    return notes
