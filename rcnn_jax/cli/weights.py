"""`weights`: lists and fetches published weights, and makes models of other libraries' checkpoints."""

import argparse
import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from rcnn_jax.cli.flags import KEY_VARIABLE, existing_file, key_from
from rcnn_jax.cli.outputs import CommandPaths
from rcnn_jax.cli.session import Session
from rcnn_jax.errors import UsageError

if TYPE_CHECKING:
    from rcnn_jax.checkpoints.cache import Digest


MOST_SAMPLES = 8
"""Samples per side of a cell that a spec may have."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-commands of `weights` and their flags."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser(
        "list", help="names, sources, licences, sizes, figures, what is cached"
    )
    listed.add_argument("pattern", nargs="?", default="", metavar="PART", help="part of a name")
    fetched = actions.add_parser("fetch", help="fetch weights into the cache and print their path")
    fetched.add_argument(
        "names", nargs="+", metavar="NAME|URL", help="a name of `list`, or an address"
    )
    fetched.add_argument(
        # A beginning is enough, since publishers print the first 8 digits only.
        "--sha256",
        metavar="HEX",
        help="what the file of an address must hash to (its beginning)",
    )
    fetched.add_argument("--offline", action="store_true", help="look into the cache only")
    imported = actions.add_parser(
        "import", help="make a model of a checkpoint of torchvision or detectron2"
    )
    imported.add_argument(
        "file", type=Path, metavar="FILE", help=".pth, .pt, .safetensors, .pkl, or a name of `list`"
    )
    imported.add_argument(
        "-o", "--output_file", dest="output", type=Path, metavar="MODEL.tlt", required=True,
        help="model file to write",
    )  # fmt: skip
    imported.add_argument(
        "-e", "--experiment_spec", dest="spec", type=Path, metavar="SPEC",
        help="spec of the model (default: made from the checkpoint)",
    )  # fmt: skip
    imported.add_argument(
        "--config", type=Path, metavar="CONFIG.yaml", help="the config that detectron2 trained with"
    )
    imported.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="names of the classes, one a line, no background",
    )
    imported.add_argument(
        "--bn_eps", type=float, metavar="EPS",
        help="epsilon that the checkpoint's batch norm was run with (default: 1e-5; torchvision's "
        "COCO v1 models: 0)",
    )  # fmt: skip
    imported.add_argument(
        "--roi_sampling_ratio", type=int, metavar="N",
        help="samples per side of a cell of RoIAlign, 1 to 8, instead of those of the checkpoint: a "
        "model of detectron2 gets a portable graph with 2",
    )  # fmt: skip
    imported.add_argument(
        "-k", "--key", metavar="KEY", help=f"encrypts the model (default: ${KEY_VARIABLE})"
    )
    imported.add_argument(
        "--spec_output", type=Path, metavar="SPEC.txt", help="also write the spec of the model, to start "
        "another run from",
    )  # fmt: skip
    imported.add_argument("--offline", action="store_true", help="look into the cache only")


def paths(args: Namespace) -> CommandPaths:
    """Lists the paths of the command's inputs and outputs; files of the cache are neither."""
    known = CommandPaths()
    if args.action == "import":
        known.read("FILE", args.file)
        known.read("-e", args.spec)
        known.read("--config", args.config)
        known.read("--classes", args.classes)
        known.write("-o", args.output)
        known.write("--spec_output", args.spec_output)
    return known


def run(args: Namespace) -> int:
    """Runs a sub-command; returns the exit code.

    Raises:
      RcnnError: a name, an address, the network or a file is at fault.
    """
    with Session(f"weights {args.action}", status_folder=None) as session:
        {"list": _list, "fetch": _fetch, "import": _import}[args.action](args, session)
    return 0


def _list(args: Namespace, session: Session) -> None:
    from rcnn_jax.checkpoints.cache import cache_folder
    from rcnn_jax.checkpoints.published import PUBLISHED

    # A part of the name, not a pattern: shells would expand a * before it came here.
    rows = [row for row in PUBLISHED.values() if args.pattern in row.name]
    if not rows:
        raise UsageError(f"no published weights have '{args.pattern}' in their name")
    width = max(len(row.name) for row in rows)
    # Plain lines: a table of Rich shortens names to fit a terminal of 80 columns.
    session.console.print(
        f"{'name':<{width}}  {'source':<11}  {'licence':<12}   MiB  classes  box AP  mask AP  cached"
    )
    for row in rows:
        size = f"{row.size / (1 << 20):.0f}" if row.size else "-"
        # A dash for what has none: 0.0 would be read as a figure.
        box, mask = (f"{ap:.1f}" if ap else "-" for ap in (row.box_ap, row.mask_ap))
        session.console.print(
            f"{row.name:<{width}}  {row.source:<11}  {row.licence:<12}  {size:>4}  {row.classes:>7}  "
            f"{box:>6}  {mask:>7}  {'yes' if row.path.is_file() else 'no'}"
        )
    session.console.print(f"AP: COCO val2017, as published. The cache is {cache_folder()}")
    # `faster_rcnn` is the detector without a pyramid, and its commands would refuse these.
    session.console.print("coco/... are run by the commands of mask_rcnn, those without masks too")


def _fetch(args: Namespace, session: Session) -> None:
    from rcnn_jax.checkpoints.cache import named_digest
    from rcnn_jax.checkpoints.download import fetch
    from rcnn_jax.checkpoints.published import fetch_published, find

    if args.sha256 is not None and len(args.names) > 1:
        raise UsageError("--sha256 is of one file, found several addresses")
    for name in args.names:
        begin = time.monotonic()
        # Names of the table hold slashes but no scheme.
        if "://" not in name:
            if args.sha256 is not None:
                # The table's digest is the publisher's; another one by hand could only let a wrong
                # file through.
                raise UsageError(f"--sha256 is for addresses; the digest of {name} is known")
            row = find(name)
            path, digest = fetch_published(row, offline=args.offline, reporter=session), row.digest
        else:
            digest = named_digest(name) if args.sha256 is None else _sha256(args.sha256)
            path = fetch(name, digest, offline=args.offline, reporter=session)
        if digest is None:
            session.warn(
                # With the digest, so that the next fetch of the same address can name it.
                f"{path}: nobody has said what it must hash to; its SHA-256 is {_digest(path)}"
            )
        seconds = time.monotonic() - begin
        checked = f", {digest.algorithm} {digest.prefix}... checked" if digest else ""
        size = path.stat().st_size / (1 << 20)
        session.console.print(f"{path}  ({size:.1f} MiB{checked}, {seconds:.1f} s)")


def _sha256(text: str) -> "Digest":
    from rcnn_jax.checkpoints.cache import Digest

    prefix = text.lower()
    if not 8 <= len(prefix) <= 64 or set(prefix) - set("0123456789abcdef"):
        raise UsageError(f"--sha256 {text}: expected 8 to 64 hex digits")
    return Digest("sha256", prefix)


def _digest(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _import(args: Namespace, session: Session) -> None:
    from rcnn_jax.checkpoints.atomic import write_file
    from rcnn_jax.checkpoints.bundle import write_bundle
    from rcnn_jax.checkpoints.imported import ImportOptions, import_checkpoint
    from rcnn_jax.checkpoints.published import fetch_published, named_weights

    if args.output.suffix != ".tlt":
        raise UsageError(f"-o {args.output}: expected a name ending in .tlt")
    if args.bn_eps is not None and not 0.0 <= args.bn_eps < 1.0:
        raise UsageError(f"--bn_eps {args.bn_eps:g}: expected a number in [0, 1)")
    samples = args.roi_sampling_ratio
    if samples is not None and not 1 <= samples <= MOST_SAMPLES:
        raise UsageError(
            f"--roi_sampling_ratio {samples}: expected a whole number from 1 to {MOST_SAMPLES}"
        )
    row = named_weights(args.file)
    if row is None:
        path = existing_file(args.file, "FILE")
    else:
        path = fetch_published(row, offline=args.offline, reporter=session)
    # Before the import, which reads hundreds of megabytes before it would come to these.
    for flag, given in (("-e", args.spec), ("--config", args.config), ("--classes", args.classes)):
        if given is not None:
            existing_file(given, flag)
    options = ImportOptions(
        spec=args.spec,
        config=args.config,
        classes=args.classes,
        bn_eps=args.bn_eps,
        roi_sampling_ratio=samples,
        published=row,
    )
    bundle = import_checkpoint(path, options, reporter=session)
    key = key_from(args)
    write_bundle(args.output, bundle, key)
    session.console.print(f"wrote {args.output}" + (", encrypted" if key else ""))
    if args.spec_output is not None:
        # The text inside the bundle, so the two cannot differ.
        write_file(args.spec_output, [bundle.header["spec"].encode()])
        session.console.print(f"wrote {args.spec_output}")
