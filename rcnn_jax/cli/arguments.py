"""The flags of every command: the union of what the generations of TAO and TLT accepted.

One function per command; a long name that changed between generations is one flag with several
spellings. Abbreviations are not accepted, so a new flag never changes what an old command line
means. This file imports nothing heavy.
"""

import argparse
from pathlib import Path
from typing import NoReturn

from rcnn_jax.cli.flags import KEY_VARIABLE, Kind
from rcnn_jax.errors import UsageError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose mistakes are UsageErrors and whose flags are exact."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raises UsageError instead of leaving the process."""
        raise UsageError(f"{self.prog}: {message}\n{self.prog} --help shows what it accepts")


def add_train(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """Adds the flags of `train`; both detectors accept all spellings of the working folder."""
    _spec(parser)
    _key(parser)
    names = ("-d", "--model_dir", "-r", "--results_dir", "--workdir")
    fallback = "the folder of training_config.output_model" if kind == "faster_rcnn" else "required"
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
    _launch(parser, amp_help="compute in bfloat16, keep weights in float32")


def add_evaluate(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """Adds the flags of `evaluate`."""
    _spec(parser)
    _key(parser)
    _model(parser, kind, fallback="evaluation_config.model")
    _results(parser)
    _unused_path(parser, "-i", "--image_dir", dest="unused_image_dir")
    if kind == "faster_rcnn":
        _unused_path(parser, "-l", "--label_dir", dest="unused_label_dir")
        _unused_path(parser, "-b", "--batch_size", dest="unused_batch_size")
    _launch(parser)


def add_inference(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """Adds the flags of `inference`: Faster R-CNN reads the spec, Mask R-CNN the command line."""
    _spec(parser, "--config_path")
    _key(parser)
    _model(parser, kind, fallback="inference_config.model")
    _results(parser)
    spec_names = kind == "faster_rcnn"
    parser.add_argument(
        "-i",
        "--image_dir",
        "--in_image_path",
        dest="image_dir",
        type=Path,
        metavar="DIR",
        required=not spec_names,
        help="png, jpg and jpeg images"
        + (" (default: inference_config.images_dir)" if spec_names else ""),
    )
    if spec_names:
        _unused_path(parser, "-b", "--batch_size", dest="unused_batch_size")
        parser.set_defaults(
            image_output=None,
            label_output=None,
            class_map=None,
            threshold=None,
            include_mask=False,
        )
    else:
        _add_mask_outputs(parser)
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
        help="file to write: .onnx, or .etlt for a sealed one (default: the model's name .onnx)",
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
    parser.add_argument("--gen_ds_config", action="store_true", help="also write DeepStream files")
    parser.add_argument(
        "--ds_parser_lib",
        metavar="FILE",
        help="library of the DeepStream parsers (default: the one of DeepStream itself)",
    )
    parser.add_argument("--engine_file", type=Path, metavar="FILE", help="also build an engine")
    parser.add_argument(
        "--timing_cache",
        type=Path,
        metavar="FILE",
        help="kernel times an engine build reads, keeps",
    )
    parser.add_argument("--target_opset", type=int, metavar="N", help=argparse.SUPPRESS)
    parser.add_argument("--onnx_route", help=argparse.SUPPRESS)
    parser.add_argument("-v", "--verbose", action="store_true", help=argparse.SUPPRESS)
    _calibration(parser)
    _engine(parser)
    _launch(parser)


def add_dataset_convert(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """Adds the flags of `dataset_convert`: a spec for Faster R-CNN, a COCO file for Mask R-CNN."""
    if kind == "faster_rcnn":
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
            "-i", "--image_dir", type=Path, metavar="DIR", required=True, help="images"
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
            "--include_masks", action="store_true", default=True, help=argparse.SUPPRESS
        )
    parser.add_argument("-v", "--verbose", action="store_true", help="also list the files written")
    parser.set_defaults(key=None)  # records are never sealed
    _results(parser)
    _launch(parser)


def _spec(parser: argparse.ArgumentParser, *more: str) -> None:
    parser.add_argument(
        "-e",
        "--experiment_spec_file",
        "--experiment_spec",
        *more,
        dest="spec",
        type=Path,
        metavar="FILE",
        required=True,
        help="experiment spec file",
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


def _model(parser: argparse.ArgumentParser, kind: Kind, *, fallback: str) -> None:
    spec_names = kind == "faster_rcnn"
    parser.add_argument(
        "-m",
        "--model",
        "--model_path",
        dest="model",
        type=Path,
        metavar="FILE",
        required=not spec_names,
        help="model file" + (f" (default: {fallback})" if spec_names else ""),
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
        help="detections as COCO JSON, one file per image (default: labels in the results folder)",
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


def _launch(parser: argparse.ArgumentParser, *, amp_help: str = argparse.SUPPRESS) -> None:
    """Adds the flags every task has; those without effect are accepted but not shown."""
    parser.add_argument("--use_amp", action="store_true", help=amp_help)
    parser.add_argument("--gpus", type=int, metavar="N", help="number of GPUs (default: 1)")
    parser.add_argument(
        "--gpu_index", type=int, nargs="+", metavar="I", help="which GPUs (default: the first)"
    )
    parser.add_argument("--num_processes", "-np", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument(
        "--log_file", type=Path, metavar="FILE", help="also append all output to this file"
    )
    parser.add_argument("--mpirun-arg", dest="mpirun_arg", help=argparse.SUPPRESS)
    parser.add_argument(
        "--multi-node", dest="multi_node", action="store_true", help=argparse.SUPPRESS
    )
    parser.add_argument("--launch_cuda_blocking", action="store_true", help=argparse.SUPPRESS)


def _calibration(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of int8 calibration, with the defaults of the seeds."""
    group = parser.add_argument_group("calibration of int8")
    group.add_argument(
        "--cal_image_dir",
        type=Path,
        metavar="DIR",
        help="calibrate on images of this folder (default: on the training images)",
    )
    group.add_argument(
        "--cal_data_file",
        type=Path,
        metavar="FILE",
        help="preprocessed batches: read if the file exists, else written; HDF5, or .npz",
    )
    group.add_argument(
        "--cal_cache_file",
        type=Path,
        metavar="FILE",
        default=Path("./cal.bin"),
        help="scales in TensorRT's format: used if the file exists, else written (./cal.bin)",
    )
    group.add_argument(
        "--cal_json_file", type=Path, metavar="FILE", help="also write the largest values as JSON"
    )
    group.add_argument(
        "--cal_method",
        choices=("max", "percentile", "entropy"),
        default="percentile",
        help="how the range of a tensor is chosen (percentile)",
    )
    group.add_argument(
        "--batches", type=int, metavar="N", default=10, help="batches to calibrate on (10)"
    )
    group.add_argument(
        "--batch_size", type=int, metavar="N", default=8, help="images of each of them (8)"
    )
    parser.add_argument("--force_ptq", action="store_true", help=argparse.SUPPRESS)


def _engine(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the engine that `export` may build, with the defaults of the seeds."""
    for name, default in (
        ("max_batch_size", 16),
        ("min_batch_size", 1),
        ("opt_batch_size", 1),
        ("max_workspace_size", 1 << 30),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=argparse.SUPPRESS)
    parser.add_argument(
        "-s",
        "--strict_type_constraints",
        action="store_true",
        help=argparse.SUPPRESS,
    )


def _unused_path(parser: argparse.ArgumentParser, *names: str, dest: str) -> None:
    parser.add_argument(*names, dest=dest, help=argparse.SUPPRESS)
