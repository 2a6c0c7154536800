"""The flags of every command: the union of what the generations of TAO and TLT accepted.

One function per command; a long name that changed between generations is one flag with several
spellings. Groups that several commands share are in `flag_groups`. This file imports nothing heavy.
"""

import argparse
from pathlib import Path

from rcnn_jax.cli import flag_groups
from rcnn_jax.kinds import Kind
from rcnn_jax.tasks.families import family

OWN_SPEC = " (default: the one inside the .tlt of -m)"


def add_train(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """Adds the flags of `train`; both detectors accept all spellings of the working folder."""
    flag_groups.spec(parser)
    flag_groups.key(parser)
    # TLT's Mask R-CNN said -d, TAO 5 says -r; both detectors take both, so that scripts need not
    # know.
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
        "--minutes",
        type=float,
        metavar="M",
        help="end after so many minutes, start and validations included: the first steps are timed, and "
        "the schedule of the spec is stretched or shortened to fit (default: the spec's length)",
    )
    parser.add_argument(
        "--slim",
        action="store_true",
        help="write model files without the optimizer state; they cannot be resumed from",
    )
    flag_groups.launch(parser, training=True)
    parser.epilog = (
        "The spec names the weights to start from; .hdf5, .h5 and .keras files need the extra "
        "rcnn-jax[keras-weights]."
    )


def add_evaluate(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """Adds the flags of `evaluate`."""
    flag_groups.spec(parser, required=False, more_help=OWN_SPEC)
    flag_groups.key(parser)
    flag_groups.model(parser, kind, "evaluate")
    flag_groups.header(parser)
    flag_groups.runtime(parser)
    flag_groups.results(parser)
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE.html",
        help="a page that explains the result: intervals, errors by kind, curves, worst images, labels "
        "that may be wrong; FILE.json beside it is what `rcnn-jax compare` reads",
    )
    parser.add_argument(
        "--precision",
        type=float,
        default=0.9,
        metavar="P",
        help="precision that the page chooses thresholds by class for (default: 0.9)",
    )
    flag_groups.views(parser)
    # tao deploy named images and batch on the command line; here the spec names them.
    flag_groups.unused_path(parser, "-i", "--image_dir", dest="unused_image_dir")
    flag_groups.unused_path(parser, "-b", "--batch_size", dest="unused_batch_size")
    if family(kind).names_files:
        flag_groups.unused_path(parser, "-l", "--label_dir", dest="unused_label_dir")
    flag_groups.launch(parser)


def add_inference(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """Adds the flags of `inference`; those that the spec of a detector cannot replace are required."""
    flag_groups.spec(parser, "--config_path", required=False, more_help=OWN_SPEC)
    flag_groups.key(parser)
    flag_groups.model(parser, kind, "inference")
    flag_groups.header(parser)
    flag_groups.runtime(parser)
    flag_groups.results(parser)
    flag_groups.unused_path(parser, "-b", "--batch_size", dest="unused_batch_size")
    images = family(kind).file_fields.get("images")
    parser.add_argument(
        "-i",
        "--image_dir",
        "--in_image_path",
        dest="image_dir",
        type=Path,
        metavar="IMAGES",
        required=images is None,
        help="folder of png, jpg and jpeg images, one image, a quoted pattern; a video, camera:0, "
        "or the address of a stream" + (f" (default: {images})" if images else ""),
    )
    if family(kind).names_files:
        # The command reads the same names for both detectors; these are set by the spec of a Faster
        # R-CNN.
        parser.set_defaults(
            image_output=None,
            label_output=None,
            class_map=None,
            threshold=None,
            include_mask=False,
        )
    else:
        flag_groups.mask_outputs(parser)
    parser.add_argument(
        "--agnostic_nms",
        type=float,
        metavar="IOU",
        help="of overlapping boxes of different classes keep the best (default: suppress per class)",
    )
    flag_groups.views(parser)
    parser.add_argument(
        "--track", action="store_true", help="in videos: give every object an id over its frames"
    )
    flag_groups.launch(parser)


def add_export(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """Adds the flags of `export`, the same for both detectors."""
    del kind
    flag_groups.spec(parser, required=False, more_help=OWN_SPEC)
    flag_groups.key(parser)
    flag_groups.results(parser)
    parser.add_argument(
        "-m",
        "--model",
        "--model_path",
        dest="model",
        type=Path,
        metavar="FILE",
        required=True,
        help="model file, or a name of `weights list`",
    )
    parser.add_argument(
        "-o",
        "--output_file",
        dest="output",
        type=Path,
        metavar="FILE",
        help="file to write: .onnx, or .etlt for an encrypted one (default: with a key ./MODEL.etlt, "
        "without one MODEL.onnx next to the model)",
    )
    parser.add_argument(
        "--contract",
        choices=("tao", "plain"),
        default="tao",
        help="outputs for the DeepStream parsers of TAO (default), or plain arrays",
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
        help="write fp16 or int8 although the loss is beyond its threshold",
    )
    parser.add_argument(
        "--portable",
        action="store_true",
        help="RoiAlign and NonMaxSuppression in standard operators, for runtimes that lack them",
    )
    parser.add_argument(
        "--portable-forms",
        "--portable_forms",
        dest="portable_forms",
        metavar="FORMS",
        help="of --portable, instead of those chosen by size: loop or select, gather or grid",
    )
    parser.add_argument(
        "--triton",
        type=Path,
        metavar="DIR",
        help="also write the model, its labels and its config into a model repository of Triton",
    )
    parser.add_argument(
        "--web",
        type=Path,
        metavar="DIR",
        help="also write a web page that runs the model in a browser (portable, one image, plain)",
    )
    parser.add_argument("--gen_ds_config", action="store_true", help="also write DeepStream files")
    parser.add_argument(
        "--ds_parser_lib",
        metavar="FILE",
        help="library of the DeepStream parsers (default: the one of DeepStream itself)",
    )
    # Read and hidden: TAO 5 has both, and an exporter of one opset and one route has no use for
    # them.
    parser.add_argument("--target_opset", type=int, metavar="N", help=argparse.SUPPRESS)
    parser.add_argument("--onnx_route", help=argparse.SUPPRESS)
    flag_groups.verbose(parser)
    flag_groups.calibration(parser)
    flag_groups.engine(
        parser, most=16, workspace="bytes of GPU memory that kernels may use (1073741824)"
    )
    flag_groups.launch(parser)


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
    flag_groups.spec(parser, required=False, more_help="; the model must fit it")
    flag_groups.key(parser)
    flag_groups.results(parser)
    parser.add_argument(
        "--data_type",
        choices=("fp32", "fp16", "int8"),
        help="precision (default: that of the model; an fp32 model can be made fp16 or int8)",
    )
    flag_groups.verbose(parser)
    flag_groups.calibration(
        parser,
        images="calibrate on images of this folder, where no cache exists",
        json="largest values as JSON, as export writes them: read instead of calibrating",
        ptq="accepted without effect: an fp32 graph is always calibrated after training",
        ptq_dest="unused_force_ptq",
    )
    flag_groups.engine(
        parser,
        most=1,
        workspace="GB of GPU memory that kernels may use (2)",
        engine="engine to write (default: MODEL.engine in the results folder)",
    )
    parser.add_argument(
        "--rtx",
        metavar="GENERATIONS",
        help="build with TensorRT for RTX, which needs no GPU, for sm75, sm80, sm86, sm89, sm120, "
        "sm121, one or several with commas; needs the extra rcnn-jax[rtx]",
    )
    flag_groups.launch(parser)


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
            # The original's flag is a switch that is on by default, so it never did anything.
            default=True,
            help="accepted: the records always hold the masks",
        )
    parser.add_argument("-v", "--verbose", action="store_true", help="also list the files written")
    parser.set_defaults(key=None)  # records are never encrypted
    flag_groups.results(parser)
    flag_groups.launch(parser)
