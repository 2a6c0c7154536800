"""`inference`: runs a model on images; writes annotated images and labels."""

import os
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from rcnn_jax.cli.backends import (
    asked_views,
    choose_model,
    named_model,
    open_chosen,
    with_own_spec,
)
from rcnn_jax.cli.flags import choose_devices, existing_file, flag_views, what_lies
from rcnn_jax.cli.outputs import CommandPaths, beside, common, matching, same
from rcnn_jax.cli.session import Session, memory_advice, read_spec
from rcnn_jax.errors import DataError, UsageError
from rcnn_jax.hosts.team import team
from rcnn_jax.kinds import Kind
from rcnn_jax.tasks.families import family
from rcnn_jax.tasks.named_files import NamedFiles

if TYPE_CHECKING:
    from rcnn_jax.runtime.backend import OpenModel

if TYPE_CHECKING:
    from rcnn_jax.inference.names import Video

IMAGES_FOLDER = "images_annotated"
LABELS_FOLDER = "labels"
OWN_FOLDER = Path("inference")
"""Where results go when neither a flag nor a spec says so."""
SAMPLE = 20
"""Label files that are read to distinguish detections from ground truth."""


@dataclass(frozen=True)
class Folders:
    """Folders of images and results, each with the flag or field that names it.

    Attributes:
      images: a folder, an image, or a pattern.
      pictures: folder of annotated images, or None.
      labels: folder of label files, or None.
    """

    images: tuple[str, Path]
    pictures: tuple[str, Path] | None
    labels: tuple[str, Path] | None


def run(args: Namespace, kind: Kind) -> int:
    """Runs a model over images as the command line says; returns the exit code.

    Raises:
      RcnnError: the flags, the spec, the images or the model are at fault.
    """
    devices = choose_devices(args, "inference")
    if args.threshold is not None and not 0.0 <= args.threshold <= 1.0:
        raise UsageError(f"-t {args.threshold:g}: expected a score in [0, 1]")
    if args.agnostic_nms is not None and not 0.0 <= args.agnostic_nms <= 1.0:
        raise UsageError(f"--agnostic_nms {args.agnostic_nms:g}: expected an overlap in [0, 1]")
    flag_views(args.tta)
    title = f"{kind} inference"
    with Session(
        title, status_folder=args.workdir, log_file=args.log_file, chief=team().is_chief
    ) as session:
        model = None
        if args.spec is None and args.config is None:
            model, config, key = with_own_spec(args, kind, "inference", session)
            if not (args.workdir or args.image_output or args.label_output):
                session.note(f"results go to {OWN_FOLDER}/, since no flag names a folder")
        else:
            config, key = read_spec(session, args, kind, "inference")
        # Said aloud: the same flag is a folder of results otherwise, and a typing error would be
        # silent.
        if _names_classes(args.label_output):
            session.note(f"-l {args.label_output} is a text file: its lines are the class names")
        start(config, kind, args, key=key, session=session, devices=devices, model=model)
    return 0


def paths(args: Namespace, kind: Kind) -> CommandPaths:
    """Lists the paths of the inputs and outputs of inference."""
    known, config = common(args, kind, "inference")
    names = class_map(args)
    known.read("-c", names and existing_file(names, "-c"))
    known.read("--header", args.header)
    # A spec that cannot be read: what is wrong with it is said when it is opened for the run.
    if config is None and args.spec is not None:
        return known
    model = named_model(args.model, config, kind, "inference")
    if model is not None:
        known.read(model.field, model.path)
    named = folders(args, config, kind)
    name, images = named.images
    videos = videos_of(named)
    for video in videos:
        if not video.source.live:
            known.read(name, Path(video.source.address))
        known.write("the annotated film", video.film)
        known.write("the JSON lines", video.lines)
    if videos:
        return known
    for folder in _image_folders(images):
        known.read(name, folder, "folder")
    if named.pictures is not None:
        known.write(*named.pictures, "folder")
    if named.labels is not None:
        name, labels = named.labels
        known.write(name, labels, "folder")
        if family(kind).labels == "coco":
            known.write(f"the results of {name}", beside(labels, ".json"))
    return known


def start(
    config: ConfigDict,
    kind: Kind,
    args: Namespace,
    *,
    key: str | None,
    session: Session,
    devices: int = 1,
    model: "OpenModel | None" = None,
) -> None:
    """Runs the model of the flags or of the spec.

    Args:
      config: experiment spec; that of a Faster R-CNN names images, outputs and model.
      kind: which detector.
      args: model, image_dir, image_output, label_output, threshold, class_map, include_mask,
        agnostic_nms, workdir; None where the spec or a default decides.
      key: key of the model file.
      session: console and status file.
      devices: local devices to use.
      model: where the config is the one inside it; its paths are those of the machine that trained it
        and name nothing here.

    Raises:
      DataError: some images could not be used; the others were worked on.
    """
    paths = folders(args, config if model is None else None, kind)
    # Before the model is opened, which takes most of a second where it is encrypted.
    if paths.labels is not None:
        _spare_ground_truth(*paths.labels, kind)
    if model is None:
        file = choose_model(args.model, config, kind, "inference", args.header, args.runtime)
    from rcnn_jax.inference import command
    from rcnn_jax.runtime.open import experiment_of

    videos = videos_of(paths)
    with memory_advice(kind):
        model = model or open_chosen(file, key, session)
        experiment = experiment_of(model, config, kind, own_classes=True, reporter=session)
        experiment = asked_views(args.tta, experiment, model)
        if videos:
            failed = command.inference_on_videos(
                experiment,
                model,
                videos,
                threshold=args.threshold,
                class_map=class_map(args),
                include_mask=args.include_mask,
                track=args.track,
                reporter=session,
            )
            if failed:
                raise DataError(
                    f"{failed} of {len(videos)} videos could not be read to their end (named above); "
                    "the others are done"
                )
            return
        failed = command.inference(
            experiment,
            model,
            paths.images[1],
            image_output=paths.pictures and paths.pictures[1],
            label_output=paths.labels and paths.labels[1],
            threshold=args.threshold,
            devices=devices,
            reporter=session,
            agnostic_nms=args.agnostic_nms,
            class_map=class_map(args),
            include_mask=args.include_mask,
        )
    # At the end, so that one broken file does not keep a folder of images from being worked on.
    if failed:
        raise DataError(f"{failed} images could not be used (named above); the others are done")


def folders(args: Namespace, config: ConfigDict | None, kind: Kind) -> Folders:
    """Returns where images come from and results go; a flag wins over the spec.

    Without a spec and without a flag results go to OWN_FOLDER.

    Raises:
      UsageError: neither names images, or a folder for results.
    """
    fields = family(kind).file_fields
    named = NamedFiles() if config is None else family(kind).named_files(config)
    # Each with its flag or field: a message about a place says where it was named.
    images, pictures, labels = (
        path and (path.field, path.path) for path in (named.images, named.pictures, named.labels)
    )
    if args.image_dir:
        images = ("-i", args.image_dir)
    if images is None:
        hint = f" or {fields['images']} in the spec" if "images" in fields else ""
        raise UsageError(f"no images: give -i DIR{hint}")
    results = args.workdir
    if config is None and not (results or args.image_output or args.label_output):
        results = OWN_FOLDER
    if results:
        flag = "-r" if args.workdir else "the default of -r"
        pictures = (f"{IMAGES_FOLDER} of {flag},", results / IMAGES_FOLDER)
        labels = (f"{LABELS_FOLDER} of {flag},", results / LABELS_FOLDER)
    # After -r: a flag for one place wins over the one for all.
    if args.image_output:
        pictures = ("-o", args.image_output)
    if args.label_output and not _names_classes(args.label_output):
        labels = ("-l", args.label_output)
    # The results of all images get the folder's name with .json: `.` and `..` have none.
    if labels is not None and labels[1].name in ("", ".."):
        labels = (labels[0], Path(os.path.realpath(labels[1])))
    if pictures is None and labels is None:
        raise UsageError(
            "no folder for results: give "
            + (
                f"-r DIR or {fields['pictures']} in the spec"
                if "pictures" in fields
                else "-o DIR, -l DIR or -r DIR"
            )
        )
    return Folders(images, pictures, labels)


def videos_of(paths: Folders) -> list["Video"]:
    """Returns the videos that -i names, with their results; none where it names images.

    Raises:
      DataError: a pattern of videos matches nothing.
      UsageError: -o names the film that is read, or one film for several videos.
    """
    from rcnn_jax.inference.names import with_results
    from rcnn_jax.inference.stream import find_videos

    name, folder = paths.pictures or ("", None)
    sources = find_videos(str(paths.images[1]))
    videos = with_results(sources, folder, paths.labels and paths.labels[1])
    if len(sources) > 1 and folder is not None and videos[0].film == folder:
        raise UsageError(
            f"{name} {folder}: names one film, and -i names {len(sources)} videos; name a folder"
        )
    for video in videos:
        if video.film and not video.source.live and same(video.film, Path(video.source.address)):
            raise UsageError(f"{name} {video.film}: is the video that is read; name another folder")
    return videos


def _image_folders(images: Path) -> set[Path]:
    """Returns the folders of a folder of images, of one image, or of those a pattern finds."""
    if what_lies(images) == "folder":
        return {images}
    return {path.parent for path in matching(images)} or {images.parent}


def class_map(args: Namespace) -> Path | None:
    """Returns the file of class names: that of -c, or of -l where it names a text file.

    The usage line of the original's manual calls -l the label file and its notebooks give the list
    of classes there; its argument list calls it the folder of predicted labels.

    Raises:
      UsageError: both flags name a file of class names, and not the same one.
    """
    if not _names_classes(args.label_output):
        return args.class_map
    if args.class_map is not None and not same(args.class_map, args.label_output):
        raise UsageError(
            f"-l {args.label_output} and -c {args.class_map} both name a file of class names: give "
            "-l a folder for the label files, or leave it out"
        )
    return args.label_output


def _names_classes(path: Path | None) -> bool:
    """Returns whether -l names an existing text file; a file of JSON is results, not names."""
    if path is None or what_lies(path) != "file":
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    return b"\0" not in head and not head.lstrip().startswith((b"[", b"{"))


def _spare_ground_truth(name: str, folder: Path, kind: Kind) -> None:
    """Refuses a folder whose annotations label files would replace, and that the spec does not name.

    Detections have a score: KITTI lines a 16th column, COCO results are a list. Annotations in
    KITTI's form have 15 columns, those of one image in other tools' JSON are an object.

    Raises:
      UsageError: the folder, or the file of all results, holds annotations.
    """
    kitti = family(kind).labels == "kitti"
    suffix = ".txt" if kitti else ".json"
    # A few tell: detections and annotations are not mixed in one folder, and it may hold a million
    # files.
    inside = (path for path in sorted(folder.glob(f"*{suffix}"))[:SAMPLE] if path.is_file())
    whole = beside(folder, ".json")
    for path in [*inside, *([] if kitti or not whole.is_file() else [whole])]:
        line = path.read_bytes()[:4096].lstrip().partition(b"\n")[0]
        if line.startswith(b"{") or (kitti and len(line.split()) == 15):
            raise UsageError(
                f"{name} {folder}: {path} holds annotations without scores, and label files of the "
                "same name would replace it: name another folder"
            )
