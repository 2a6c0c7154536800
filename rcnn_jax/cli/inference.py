"""`inference`: draws and dumps what a model finds in a folder of images."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rcnn_jax.cli.backends import choose_model
from rcnn_jax.cli.flags import Kind, choose_devices
from rcnn_jax.cli.session import Session, memory_advice, read_spec
from rcnn_jax.errors import DataError, UsageError

IMAGES_FOLDER = "images_annotated"
LABELS_FOLDER = "labels"


def run(args: Namespace, kind: Kind) -> int:
    """Runs a model over images as the command line says; returns the exit code.

    Raises:
      RcnnError: the flags, the spec, the images or the model are at fault.
    """
    choose_devices(args, "inference")
    if args.threshold is not None and not 0.0 <= args.threshold <= 1.0:
        raise UsageError(f"-t {args.threshold:g}: expected a score in [0, 1]")
    title = f"{kind} inference"
    with Session(title, status_folder=args.workdir, log_file=args.log_file) as session:
        config, key = read_spec(session, args, kind)
        start(config, kind, args, key=key, session=session)
    return 0


def start(
    config: ConfigDict, kind: Kind, args: Namespace, *, key: str | None, session: Session
) -> None:
    """Runs the model of the flags or of the spec.

    Args:
      config: experiment spec; Faster R-CNN names images, outputs and model in inference_config.
      kind: which detector.
      args: model, image_dir, image_output, label_output, threshold, class_map, include_mask,
        workdir; None where the spec or a default decides.
      key: key of the model file.
      session: console and status file.

    Raises:
      DataError: some images could not be used; the others were worked on.
    """
    from rcnn_jax.inference.command import inference

    named: Any = config.get("inference_config") or {}
    images = args.image_dir or _path(named.get("images_dir"))
    if images is None:
        raise UsageError("no images: give -i DIR or inference_config.images_dir in the spec")
    image_output, label_output = args.image_output, args.label_output
    if args.workdir:  # a flag wins over the spec
        image_output = image_output or args.workdir / IMAGES_FOLDER
        label_output = label_output or args.workdir / LABELS_FOLDER
    image_output = image_output or _path(named.get("detection_image_output_dir"))
    label_output = label_output or _path(named.get("labels_dump_dir"))
    if image_output is None and label_output is None:
        raise UsageError(
            "no place for results: give "
            + ("-r DIR" if named else "-o DIR, -l DIR or -r DIR")
            + (" or inference_config.detection_image_output_dir in the spec" if named else "")
        )
    model, backend = choose_model(args.model, config, "inference_config", "trt_inference")
    with memory_advice(kind):
        failed = inference(
            config,
            kind,
            model=model,
            images=images,
            image_output=image_output,
            label_output=label_output,
            threshold=args.threshold,
            key=key,
            session=session,
            backend=backend,
            **({} if kind == "faster_rcnn" else _of_masks(args)),
        )
    if failed:
        raise DataError(f"{failed} images could not be used (named above); the others are done")


def _of_masks(args: Namespace) -> dict[str, Any]:
    """Returns the choices that only a model with masks has."""
    return {"class_map": args.class_map, "include_mask": args.include_mask}


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
