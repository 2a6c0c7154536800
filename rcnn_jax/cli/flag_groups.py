"""Groups of flags that several commands share: one function per group, all spellings in it.

A spelling added here reaches every command that TAO gave the flag to. As `arguments`, this file
imports nothing heavy: help is built from it.
"""

import argparse
from pathlib import Path

from rcnn_jax.cli.flags import KEY_VARIABLE
from rcnn_jax.kinds import Kind, TaskName
from rcnn_jax.tasks.families import family

RUNTIMES = ("auto", "onnxruntime", "openvino", "tensorrt", "trt-rtx", "webgpu")
"""Those of `runtime.runtimes`, which imports what runs graphs; a test compares them."""


def spec(
    parser: argparse.ArgumentParser, *more: str, required: bool = True, more_help: str = ""
) -> None:
    """Adds the experiment spec.

    Args:
      parser: parser of a command.
      *more: spellings that this command alone accepts, for example `--config_path`.
      required: the command cannot run without it.
      more_help: end of the help text.
    """
    parser.add_argument(
        "-e",
        # TLT's name; TAO 5 shortened it, and without abbreviations both are listed.
        "--experiment_spec_file",
        "--experiment_spec",
        *more,
        dest="spec",
        type=Path,
        metavar="FILE",
        required=required,
        help=f"experiment spec file{more_help}",
    )


def key(parser: argparse.ArgumentParser) -> None:
    """Adds the key of encrypted models."""
    parser.add_argument(
        "-k",
        "--enc_key",
        "--key",
        dest="key",
        metavar="KEY",
        help=f"key of encrypted model files (default: ${KEY_VARIABLE}, then enc_key of the spec)",
    )


def model(parser: argparse.ArgumentParser, kind: Kind, task: TaskName) -> None:
    """Adds the model; required unless the spec of this detector names it for the task."""
    # Asked of the family, so help never calls a flag required that a field of the spec replaces.
    field = family(kind).file_fields.get(task)
    parser.add_argument(
        "-m",
        "--model",
        "--model_path",
        dest="model",
        type=Path,
        metavar="FILE",
        required=field is None,
        help="model file, or a name of `weights list`" + (f" (default: {field})" if field else ""),
    )


def runtime(parser: argparse.ArgumentParser) -> None:
    """Adds what runs an exported model."""
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default="auto",
        help="what runs an exported model: openvino (the extra rcnn-jax[openvino]) where it is "
        "installed, else onnxruntime (default: auto); on GPUs trt-rtx and webgpu, with the extra of "
        "their name",
    )


def header(parser: argparse.ArgumentParser) -> None:
    """Adds the file that holds the header of an ONNX model."""
    parser.add_argument(
        "--header",
        type=Path,
        metavar="FILE",
        help="exported model (or JSON) with the header that another tool removed from the .onnx of -m",
    )


def results(parser: argparse.ArgumentParser) -> None:
    """Adds the results folder, in all spellings but the two that only `train` had."""
    parser.add_argument(
        "-r",
        "--results_dir",
        "--workdir",
        dest="workdir",
        type=Path,
        metavar="DIR",
        help="folder for status.json and results",
    )


def views(parser: argparse.ArgumentParser) -> None:
    """Adds the flag of test-time augmentation."""
    parser.add_argument(
        "--tta",
        metavar="VIEWS",
        help="test-time augmentation: `flip`, scales of the canvas, or both, as in flip,0.8,1.25; `none` "
        "switches that of the spec off; only for .tlt files",
    )


def mask_outputs(parser: argparse.ArgumentParser) -> None:
    """Adds the output folders and the drawing flags that only Mask R-CNN's `inference` had."""
    parser.add_argument(
        "-o",
        "--out_image_path",
        dest="image_output",
        type=Path,
        metavar="DIR",
        help="annotated images (default: images_annotated in the results folder)",
    )
    parser.add_argument(
        "-l",
        "--out_label_path",
        dest="label_output",
        type=Path,
        metavar="DIR",
        help="folder of detections as COCO JSON, one file per image (default: labels in the results "
        "folder); an existing text file is read as the class names of -c",
    )
    parser.add_argument(
        "-c",
        "--class_map",
        "--class_label",
        dest="class_map",
        type=Path,
        metavar="FILE",
        help="class names, one per line, without background",
    )
    parser.add_argument(
        "-t", "--threshold", type=float, default=0.6, help="smallest score that is drawn (0.6)"
    )
    parser.add_argument("--include_mask", action="store_true", help="draw masks too")


def launch(parser: argparse.ArgumentParser, *, training: bool = False) -> None:
    """Adds the flags every task has; what only training knows is not shown elsewhere."""

    # Accepted everywhere, because the original's launcher added them to every task.
    def shown(text: str) -> str:
        return text if training else argparse.SUPPRESS

    parser.add_argument(
        "--use_amp",
        action="store_true",
        help=shown("compute in bfloat16, keep weights in float32"),
    )
    parser.add_argument("--gpus", type=int, metavar="N", help="number of GPUs (default: 1)")
    parser.add_argument(
        "--gpu_index", type=int, nargs="+", metavar="I", help="which GPUs (default: the first)"
    )
    parser.add_argument(
        "--num_processes",
        # TLT's spelling, from mpirun; its launcher passed it to every task.
        "-np",
        type=int,
        default=-1,
        metavar="N",
        help="with --coordinator: how many processes; alone without effect: one drives all GPUs",
    )
    if training:
        parser.add_argument(
            # pmap is kept because people ask for it; the results are the same.
            "--data_parallel",
            choices=("shard_map", "pmap"),
            default="shard_map",
            help="how a step is mapped over GPUs; the results are the same (default: shard_map)",
        )
        parser.add_argument(
            "--scale_lr",
            choices=("linear", "none"),
            help="multiply the learning rate by the effective batch over the batch of one GPU, or not "
            "(default: as the spec says)",
        )
    hosts(parser)
    parser.add_argument(
        "--log_file", type=Path, metavar="FILE", help="also append all output to this file"
    )
    # Read and hidden: launch scripts pass them, and nothing here starts processes.
    parser.add_argument("--mpirun-arg", dest="mpirun_arg", help=argparse.SUPPRESS)
    parser.add_argument(
        "--multi-node", dest="multi_node", action="store_true", help=argparse.SUPPRESS
    )
    parser.add_argument("--launch_cuda_blocking", action="store_true", help=argparse.SUPPRESS)


def hosts(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a job of several processes."""
    group = parser.add_argument_group(
        "several processes", "Slurm steps and Open MPI jobs are recognised; see docs/cluster.md"
    )
    group.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="where process 0 listens; `none` to work alone although a launcher started several",
    )
    group.add_argument("--process_id", type=int, metavar="I", help="which process this is, from 0")
    for name, text in (
        ("init_timeout", "wait so long for all processes at the start (1800)"),
        ("heartbeat_timeout", "end when a process gives no sign of life for so long (100)"),
        ("stall_timeout", "end when no step is done for so long (20 median steps, at least 600)"),
    ):
        group.add_argument(f"--{name}", type=float, metavar="SECONDS", help=text)


def calibration(
    parser: argparse.ArgumentParser,
    *,
    images: str = "calibrate on images of this folder (default: on the training images)",
    json: str = "also write the largest values as JSON",
    ptq: str = "calibrate on images a model that was trained with enable_qat, too",
    ptq_dest: str = "force_ptq",
) -> None:
    """Adds the flags of int8; `cli.flags.CALIBRATION_DEFAULTS` has what is taken without them."""
    # No defaults: None says that a flag was not given, which `flags.vain_flags` reports.
    group = parser.add_argument_group("calibration of int8")
    group.add_argument(
        "--cal_image_dir",
        type=Path,
        metavar="DIR",
        help=images,
    )
    group.add_argument(
        "--cal_data_file",
        type=Path,
        metavar="FILE",
        help="preprocessed batches: read if the file exists, else written; .npz, or HDF5 with the "
        "extra rcnn-jax[calibration]",
    )
    group.add_argument(
        "--cal_cache_file",
        type=Path,
        metavar="FILE",
        help="scales in TensorRT's format: used if the file exists, else written (./cal.bin)",
    )
    group.add_argument("--cal_json_file", type=Path, metavar="FILE", help=json)
    group.add_argument(
        "--cal_method",
        choices=("max", "percentile", "entropy"),
        help="how the range of a tensor is chosen (percentile)",
    )
    group.add_argument("--batches", type=int, metavar="N", help="batches to calibrate on (10)")
    group.add_argument("--batch_size", type=int, metavar="N", help="images of each of them (8)")
    group.add_argument("--force_ptq", dest=ptq_dest, action="store_true", help=ptq)


def engine(
    parser: argparse.ArgumentParser,
    *,
    most: int,
    workspace: str,
    engine: str = "also build an engine",
) -> None:
    """Adds the flags of an engine; `cli.flags.ENGINE_DEFAULTS` has what is taken without them."""
    group = parser.add_argument_group("engine of TensorRT", "needs the extra rcnn-jax[tensorrt]")
    group.add_argument("--engine_file", type=Path, metavar="FILE", help=engine)
    # export counts the workspace in bytes, gen_trt_engine in gigabytes, as both did in TAO.
    for name, text in (
        ("min_batch_size", "smallest batch, where the model leaves it free (1)"),
        ("opt_batch_size", "batch the engine is best at (1)"),
        ("max_batch_size", f"largest batch ({most})"),
        ("max_workspace_size", workspace),
    ):
        group.add_argument(f"--{name}", type=int, metavar="N", help=text)
    group.add_argument(
        "-s",
        "--strict_type_constraints",
        action="store_true",
        help="around int8 layers compute in fp32, not in fp16",
    )
    group.add_argument(
        "--timing_cache",
        type=Path,
        metavar="FILE",
        help="TensorRT timing cache: read if it exists, written after the build",
    )


def verbose(parser: argparse.ArgumentParser) -> None:
    """Adds -v, which changes nothing."""
    parser.add_argument(
        "-v",
        "--verbose",
        dest="unused_verbose",
        action="store_true",
        help="accepted without effect: all messages are always shown",
    )


def unused_path(parser: argparse.ArgumentParser, *names: str, dest: str) -> None:
    """Adds a flag that old command lines carry; hidden, and reported as without effect."""
    parser.add_argument(*names, dest=dest, help=argparse.SUPPRESS)
