"""Does a published model reach here what its publisher says it reaches?

    python -m tools.coco_parity coco/mask_rcnn_resnet50_fpn_v2

fetches the weights and COCO val2017 (1 GB of images and annotations) into the cache, evaluates all
5000 images and compares box and mask AP with the published ones. On a GPU that takes minutes, on a CPU a
day; `--images 200` gives an impression. Exit code 1 where a figure is further away than `--within`.
"""

import argparse
import sys
import zipfile
from pathlib import Path
from typing import Any

import rcnn_jax
from rcnn_jax.checkpoints.cache import Digest, cache_folder
from rcnn_jax.checkpoints.download import fetch
from rcnn_jax.checkpoints.published import find
from rcnn_jax.cli.session import Session
from rcnn_jax.errors import DataError, RcnnError, UsageError
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.bundle import OpenBundle
from rcnn_jax.runtime.open import open_model

BASE = "http://images.cocodataset.org"
FILES = {
    "zips/val2017.zip": Digest("md5", "442b8da7639aecaf257c1dceb8ba8c80"),
    "annotations/annotations_trainval2017.zip": Digest("md5", "f4bbac642086de4f52a3fdda2de5fa2c"),
}
ANNOTATIONS = "annotations/instances_val2017.json"
WITHIN = 0.2
"""Points of AP: images are scaled by OpenCV here and padded with black."""


def main(argv: list[str] | None = None) -> int:
    """Runs the comparison; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", help="published detector, see `rcnn-jax weights list coco/`")
    parser.add_argument("--images", type=int, default=5000, help="images that are evaluated")
    parser.add_argument("--within", type=float, default=WITHIN, help="largest difference in points")
    parser.add_argument("--base", default=BASE, help="where COCO lies")
    parser.add_argument(
        "--unchecked", action="store_true", help="take another data set of this layout"
    )
    parser.add_argument("--short_side", type=int, help="scale images otherwise than published")
    parser.add_argument("--long_side", type=int, help="with --short_side")
    args = parser.parse_args(argv)
    try:
        with Session("coco_parity", status_folder=None) as session:
            return compare(args, session)
    except RcnnError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code


def compare(args: argparse.Namespace, reporter: Reporter) -> int:
    """Fetches, evaluates and compares."""
    row = find(args.name)
    # Before a gigabyte of images is fetched for it.
    if not row.is_detector:
        raise UsageError(
            f"{row.name}: is a classifier, which has no AP on COCO; give a name of coco/"
        )
    if args.images < 1:
        raise UsageError(f"--images {args.images}: expected at least 1")
    if args.long_side and not args.short_side:
        raise UsageError("--long_side: is for --short_side, which is missing")
    data = coco_val(args.base, reporter, checked=not args.unchecked)
    model = open_model(Path(row.name), None, reporter=reporter)
    assert isinstance(model, OpenBundle)
    config: Any = model.stored_config()
    config.data_config.coco_val_image_dir = str(data / "val2017")
    config.data_config.val_json_file = str(data / ANNOTATIONS)
    config.data_config.eval_samples = args.images
    if args.short_side:
        config.data_config.short_side = args.short_side
        config.data_config.long_side = args.long_side or 0
    report = cache_folder() / "coco_parity"
    metrics = rcnn_jax.api.evaluate(row.name, config, workdir=report, reporter=reporter)
    worst = 0.0
    for title, key, published in (("box", "AP", row.box_ap), ("mask", "mask_AP", row.mask_ap)):
        if published:
            measured = 100.0 * metrics[key]
            worst = max(worst, abs(measured - published))
            reporter.console.print(
                f"{row.name}: {title} AP {measured:.2f}, published {published:.1f}, "
                f"{measured - published:+.2f}"
            )
    good = worst <= args.within
    outcome = "agrees" if good else "DIFFERS"
    reporter.console.print(f"{row.name}: {outcome} (within {args.within:g} points expected)")
    return 0 if good else 1


def coco_val(base: str, reporter: Reporter, *, checked: bool) -> Path:
    """Returns the folder with `val2017/` and the annotations, unpacked once.

    Raises:
      CheckpointError: the archives cannot be fetched.
      DataError: one cannot be unpacked, or holds other files than COCO's.
    """
    archives = [
        fetch(f"{base}/{name}", digest if checked else None, what=name, reporter=reporter)
        for name, digest in FILES.items()
    ]
    folder = archives[0].parent.parent / "unpacked"
    for archive in archives:
        done = folder / f"{archive.name}.done"
        if not done.is_file():
            try:
                with zipfile.ZipFile(archive) as members:
                    members.extractall(folder)
            except (zipfile.BadZipFile, OSError) as error:
                raise DataError(f"{archive}: cannot be unpacked: {error}") from error
            done.touch()
    for part in ("val2017", ANNOTATIONS):
        if not (folder / part).exists():
            raise DataError(
                f"{folder}: holds no {part}; the archives of {base} have another layout"
            )
    return folder


if __name__ == "__main__":
    sys.exit(main())
