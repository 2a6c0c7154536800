"""The flags of every command: the union of what the generations of TAO and TLT accepted.

One function per command; a long name that changed between generations is one flag with several
spellings. This file imports nothing heavy.
"""

import argparse
from pathlib import Path

from rcnn_jax.cli.flags import KEY_VARIABLE
from rcnn_jax.kinds import Kind, TaskName
from rcnn_jax.tasks.families import family


def add_train(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """Adds the flags of `train`; both detectors accept all spellings of the working folder."""
    _spec(parser)
    _key(parser)
    names = ("-d", "--model_dir", "-r", "--results_dir", "--workdir")
    field = family(kind).file_fields.get("train")
    fallback = f"the folder of {field}" if field else "required"
    parser.add_argument(
        *names,
        dest="workdir",
        type=Path,
        metavar="DIR",
        help=f"everything the run writes goes here (default: {fallback})",
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="start anew in a folder that holds a run, instead of resuming it",
    )
    parser.add_argument(
        "--accept-data-changes",
        action="store_true",
        help="resume although training images or labels have changed since",
    )
    parser.add_argument(
        "--slim",
        action="store_true",
        help="write model files without the optimizer state; they cannot be resumed from",
    )
    _launch(parser, training=True)
    parser.epilog = (
        "The spec names the weights to start from; .hdf5, .h5 and .keras files need the extra "
        "rcnn-jax[keras-weights]."
    )


def add_evaluate(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """Adds the flags of `evaluate`."""
    _spec(parser)
    _key(parser)
    _model(parser, kind, "evaluate")
    _header(parser)
    _results(parser)
    _unused_path(parser, "-i", "--image_dir", dest="unused_image_dir")
    _unused_path(parser, "-b", "--batch_size", dest="unused_batch_size")
    if family(kind).names_files:
        _unused_path(parser, "-l", "--label_dir", dest="unused_label_dir")
    _launch(parser)


def add_inference(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """Adds the flags of `inference`: what the spec of a detector cannot name, a flag must."""
    _spec(parser, "--config_path")
    _key(parser)
    _model(parser, kind, "inference")
    _header(parser)
    _results(parser)
    _unused_path(parser, "-b", "--batch_size", dest="unused_batch_size")
    images = family(kind).file_fields.get("images")
    parser.add_argument(
        "-i",
        "--image_dir",
        "--in_image_path",
        dest="image_dir",
        type=Path,
        metavar="IMAGES",
        required=images is None,
        help="folder of png, jpg and jpeg images, one image, or a quoted pattern"
        + (f" (default: {images})" if images else ""),
    )
    if family(kind).names_files:
        parser.set_defaults(
            image_output=None,
            label_output=None,
            class_map=None,
            threshold=None,
            include_mask=False,
        )
    else:
        _add_mask_outputs(parser)
    parser.add_argument(
        "--agnostic_nms",
        type=float,
        metavar="IOU",
        help="of overlapping boxes of different classes keep the best (default: suppress per class)",
    )
    _launch(parser)


def add_export(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """Adds the flags of `export`, the same for both detectors."""
    del kind
    _spec(parser)
    _key(parser)
    _results(parser)
    parser.add_argument(
        "-m",
        "--model",
        "--model_path",
        dest="model",
        type=Path,
        metavar="FILE",
        required=True,
        help="model file",
    )
    parser.add_argument(
        "-o",
        "--output_file",
        dest="output",
        type=Path,
        metavar="FILE",
        help="file to write: .onnx, or .etlt for a sealed one (default: with a key ./MODEL.etlt, "
        "without one MODEL.onnx beside the model)",
    )
    parser.add_argument(
        "--contract",
        choices=("tao", "plain"),
        default="tao",
        help="outputs as the DeepStream parsers of TAO read them (default), or plain arrays",
    )
    parser.add_argument(
        "--output_names",
        metavar="A,B",
        help="names of the outputs of a Faster R-CNN (default: NMS,NMS_1)",
    )
    parser.add_argument(
        "--static_batch_size",
        type=int,
        default=-1,
        metavar="N",
        help="fix the batch size (default: free)",
    )
    parser.add_argument(
        "--data_type", choices=("fp32", "fp16", "int8"), default="fp32", help="default: fp32"
    )
    parser.add_argument(
        "--eval-images",
        "--eval_images",
        dest="eval_images",
        type=int,
        default=0,
        metavar="N",
        help="also compare average precisions on N validation images",
    )
    parser.add_argument(
        "--accept-loss",
        "--accept_loss",
        dest="accept_loss",
        action="store_true",
        help="write fp16 or int8 although the check finds that too much is lost",
    )
    parser.add_argument("--gen_ds_config", action="store_true", help="also write DeepStream files")
    parser.add_argument(
        "--ds_parser_lib",
        metavar="FILE",
        help="library of the DeepStream parsers (default: the one of DeepStream itself)",
    )
    parser.add_argument("--target_opset", type=int, metavar="N", help=argparse.SUPPRESS)
    parser.add_argument("--onnx_route", help=argparse.SUPPRESS)
    _verbose(parser)
    _calibration(parser)
    _engine(parser, most=16, workspace="bytes of GPU memory that kernels may use (1073741824)")
    _launch(parser)


def add_gen_trt_engine(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """Adds the flags of `gen_trt_engine` of TAO 4 and 5, the same for both detectors."""
    del kind
    parser.add_argument(
        "-m",
        "--model_path",
        "--model",
        dest="model",
        type=Path,
        metavar="FILE",
        required=True,
        help=".onnx or .etlt that export wrote",
    )
    _spec(parser, required=False, more_help="; the model must fit it")
    _key(parser)
    _results(parser)
    parser.add_argument(
        "--data_type",
        choices=("fp32", "fp16", "int8"),
        help="precision (default: that of the model; an fp32 model can be made fp16 or int8)",
    )
    _verbose(parser)
    _calibration(
        parser,
        images="calibrate on images of this folder, where no cache exists",
        json="largest values as JSON, as export writes them: read instead of calibrating",
    )
    _engine(
        parser,
        most=1,
        workspace="GB of GPU memory that kernels may use (2)",
        engine="engine to write (default: MODEL.engine in the results folder)",
    )
    _launch(parser)


def add_dataset_convert(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """Adds the flags of `dataset_convert`: a spec that describes labels, or a COCO file."""
    if family(kind).records_from == "spec":
        parser.add_argument(
            "-d",
            "--dataset_spec",
            "--dataset_export_spec",
            dest="spec",
            type=Path,
            metavar="FILE",
            required=True,
            help="dataset spec: kitti_config or coco_config",
        )
        parser.add_argument(
            "-o",
            "--output_filename",
            dest="output",
            type=Path,
            metavar="PREFIX",
            required=True,
            help="path and first part of the name of the TFRecord files",
        )
        parser.add_argument(
            "-f",
            "--validation_fold",
            type=int,
            metavar="N",
            help="the fold that sample_modifier_config leaves alone",
        )
    else:
        parser.add_argument(
            "-i", "--image_dir", type=Path, metavar="DIR", required=True, help="folder of images"
        )
        parser.add_argument(
            "-a",
            "--annotations_file",
            type=Path,
            metavar="FILE",
            required=True,
            help="COCO instances JSON",
        )
        parser.add_argument(
            "-o",
            "--output_dir",
            dest="output",
            type=Path,
            metavar="DIR",
            required=True,
            help="folder of the TFRecord files",
        )
        parser.add_argument(
            "-t", "--tag", help="first part of the file names (default: stem of the JSON file)"
        )
        parser.add_argument("-s", "--num_shards", type=int, default=256, help="default: 256")
        parser.add_argument(
            "--include_masks",
            "--include_mask",
            dest="include_masks",
            action="store_true",
            default=True,
            help="accepted: the records always hold the masks",
        )
    parser.add_argument("-v", "--verbose", action="store_true", help="also list the files written")
    parser.set_defaults(key=None)  # records are never sealed
    _results(parser)
    _launch(parser)


def _spec(
    parser: argparse.ArgumentParser, *more: str, required: bool = True, more_help: str = ""
) -> None:
    parser.add_argument(
        "-e",
        "--experiment_spec_file",
        "--experiment_spec",
        *more,
        dest="spec",
        type=Path,
        metavar="FILE",
        required=required,
        help=f"experiment spec file{more_help}",
    )


def _key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-k",
        "--enc_key",
        "--key",
        dest="key",
        metavar="KEY",
        help=f"key of sealed model files (default: ${KEY_VARIABLE}, then enc_key of the spec)",
    )


def _model(parser: argparse.ArgumentParser, kind: Kind, task: TaskName) -> None:
    field = family(kind).file_fields.get(task)
    parser.add_argument(
        "-m",
        "--model",
        "--model_path",
        dest="model",
        type=Path,
        metavar="FILE",
        required=field is None,
        help="model file" + (f" (default: {field})" if field else ""),
    )


def _header(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--header",
        type=Path,
        metavar="FILE",
        help="exported model (or JSON) whose header the .onnx of -m has lost in another tool",
    )


def _results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-r",
        "--results_dir",
        "--workdir",
        dest="workdir",
        type=Path,
        metavar="DIR",
        help="folder for status.json and results",
    )


def _add_mask_outputs(parser: argparse.ArgumentParser) -> None:
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
        "folder); an existing text file is taken for the class names of -c",
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
        "-t", "--threshold", type=float, default=0.6, help="least score that is drawn (0.6)"
    )
    parser.add_argument("--include_mask", action="store_true", help="draw masks too")


def _launch(parser: argparse.ArgumentParser, *, training: bool = False) -> None:
    """Adds the flags every task has; what only training knows is not shown elsewhere."""

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
        "-np",
        type=int,
        default=-1,
        metavar="N",
        help="with --coordinator: how many processes; alone without effect: one drives all GPUs",
    )
    if training:
        parser.add_argument(
            "--data_parallel",
            choices=("shard_map", "pmap"),
            default="shard_map",
            help="how a step is mapped over GPUs; the results are the same (default: shard_map)",
        )
        parser.add_argument(
            "--scale_lr",
            choices=("linear", "none"),
            help="multiply the learning rate by the number of GPUs, or not (default: as the spec says)",
        )
    add_hosts(parser)
    parser.add_argument(
        "--log_file", type=Path, metavar="FILE", help="also append all output to this file"
    )
    parser.add_argument("--mpirun-arg", dest="mpirun_arg", help=argparse.SUPPRESS)
    parser.add_argument(
        "--multi-node", dest="multi_node", action="store_true", help=argparse.SUPPRESS
    )
    parser.add_argument("--launch_cuda_blocking", action="store_true", help=argparse.SUPPRESS)


def add_hosts(parser: argparse.ArgumentParser) -> None:
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


def _calibration(
    parser: argparse.ArgumentParser,
    *,
    images: str = "calibrate on images of this folder (default: on the training images)",
    json: str = "also write the largest values as JSON",
) -> None:
    """Adds the flags of int8; `cli.flags.CALIBRATION_DEFAULTS` has what is taken without them."""
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
    group.add_argument(
        "--force_ptq",
        action="store_true",
        help="accepted without effect: int8 is always calibrated after training",
    )


def _engine(
    parser: argparse.ArgumentParser,
    *,
    most: int,
    workspace: str,
    engine: str = "also build an engine",
) -> None:
    """Adds the flags of an engine; `cli.flags.ENGINE_DEFAULTS` has what is taken without them."""
    group = parser.add_argument_group("engine of TensorRT", "needs the extra rcnn-jax[tensorrt]")
    group.add_argument("--engine_file", type=Path, metavar="FILE", help=engine)
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
        help="measured kernel times: read when it exists, written after the build",
    )


def _verbose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-v",
        "--verbose",
        dest="unused_verbose",
        action="store_true",
        help="accepted without effect: everything is said already",
    )


def _unused_path(parser: argparse.ArgumentParser, *names: str, dest: str) -> None:
    parser.add_argument(*names, dest=dest, help=argparse.SUPPRESS)
