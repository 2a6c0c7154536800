"""Weights to start from: which backbone a file is of, and how its pixels were normalised."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rcnn_jax.checkpoints.bundle import read_header
from rcnn_jax.checkpoints.pretrained import load_weights
from rcnn_jax.checkpoints.published import PUBLISHED, Published, find, named_weights
from rcnn_jax.checkpoints.server import unreachable
from rcnn_jax.errors import UsageError
from rcnn_jax.spec.load import parse_spec
from rcnn_jax.spec.tables.faster_rcnn_model import ARCHITECTURES
from rcnn_jax.tasks.draft import Inherited, Pixels
from rcnn_jax.tasks.families import family

IMAGENET = Pixels(mean=(123.675, 116.28, 103.53), divisor=57.375)
"""Means of torchvision's models, and the mean of their three deviations."""

CAFFE = Pixels(mean=(123.68, 116.779, 103.939), divisor=1.0, order="bgr")
"""Of models of TAO and of Keras in its mode `caffe`."""

SYMMETRIC = Pixels(mean=(127.5, 127.5, 127.5), divisor=127.5)
"""Of MobileNet and EfficientNet in Keras and TensorFlow."""

CONVENTIONS = ("torchvision",)
"""Publishers whose models load into a spec of one convention."""

_NEWER = {"rpn_conv_depth": "2", "box_head": '"4conv1fc"', "fpn_norm": '"bn"', "head_norm": '"bn"'}
"""Fields of the network that torchvision calls `_v2`."""

# Of two files of one network the first one: torchvision's own detectors begin with it
# (`IMAGENET1K_V1`), though the longer trained one classifies better.
_CLASSIFIERS = {
    **{f"resnet:{depth}": f"imagenet/resnet{depth}" for depth in (18, 34, 50, 101)},
    "mobilenet_v2": "imagenet/mobilenet_v2",
    "vgg16": "imagenet/vgg16",
    "vgg:16": "imagenet/vgg16_bn",
    "vgg:19": "imagenet/vgg19_bn",
    "efficientnet:b0": "imagenet/efficientnet_b0",
    "efficientnet:b1": "imagenet/efficientnet_b1",
}
"""{backbone: its published classifier}."""

_HOW = "a start from trained ones is worth much on small sets (--weights FILE|NAME)"
_SYMMETRIC = ("mobilenet", "efficientnet")
_DEFAULT = "resnet:18"


@dataclass(frozen=True)
class Start:
    """Initial weights of a run.

    Attributes:
      path: file of weights; empty for random weights.
      arch: backbone.
      pixels: normalisation that the weights were trained with; None for that of the data.
      convention: what the weights take for granted, by its name in specs of Mask R-CNN.
      sentence: what was decided.
      network: further fields of the network of a Mask R-CNN that the weights need.
      widths: of its layers, see `Inherited`; None where the weights are of a backbone alone, or random.
    """

    path: str
    arch: str
    pixels: Pixels | None
    sentence: str
    convention: str = "tao"
    network: Mapping[str, str] = field(default_factory=dict)
    widths: Mapping[str, int] | None = None


def start_of(weights: str, arch: str) -> Start:
    """Returns the start of a run.

    Args:
      weights: a file, a name of published weights, or `none`.
      arch: backbone; empty where the name of the file tells.

    Raises:
      UsageError: there is no such file or backbone, or the name does not tell the backbone.
      CheckpointError: it is spelled like a name, and there is none of this name; or a model that cannot
        be read.
    """
    if arch and arch not in ARCHITECTURES:
        raise UsageError(f"--arch {arch}: expected one of {', '.join(ARCHITECTURES)}")
    if weights in ("", "none"):
        return Start(
            "",
            arch or _DEFAULT,
            None,
            f"from random weights; {_HOW}",
        )
    path = Path(weights)
    row = named_weights(path)
    if row is None and not path.is_file():
        raise UsageError(
            f"--weights {weights}: there is no such file; give a file of weights (.npz, .pth, "
            ".safetensors, .hdf5, .tlt), a name of `rcnn-jax weights list`, or none for random weights"
        )
    if row is not None and row.source not in CONVENTIONS:
        raise UsageError(
            f"--weights {weights}: a model of {row.source} is imported first: `rcnn-jax weights import "
            f"{weights} -o MODEL.tlt`, whose file init takes"
        )
    if path.suffix.lower() == ".tlt":
        model = _inherited(path)
        pixels = IMAGENET if model.convention == "torchvision" else CAFFE
        arch = arch or model.arch
        sentence = f"from {path} ({arch})"
        return Start(
            str(path), arch, pixels, sentence, model.convention, model.network, model.widths
        )
    backbone = arch or _arch_of(path.name)
    if not backbone:
        raise UsageError(
            f"--weights {path}: the name does not tell which backbone it is of: give it with --arch, "
            f"one of {', '.join(ARCHITECTURES)}"
        )
    # Of the formats that are read, these are written by torch alone.
    of_torch = row is not None or path.suffix.lower() in (".pth", ".pt", ".safetensors")
    if not of_torch and backbone.startswith(_SYMMETRIC):
        pixels = SYMMETRIC
    else:
        pixels = IMAGENET if of_torch or path.suffix.lower() == ".npz" else CAFFE
    convention = "torchvision" if of_torch else "tao"
    network = _NEWER if row is not None and _is_newer(row) else {}
    # A torch file that no table knows may be a whole detector; its widths are the published ones.
    whole = row.is_detector if row is not None else of_torch
    widths = {} if whole else None
    sentence = f"from {path} ({backbone})"
    return Start(str(path), backbone, pixels, sentence, convention, network, widths)


def published_start(arch: str, *, detectors: bool, masks: bool) -> Start:
    """Returns a start from the best published weights of a backbone, else from random weights.

    Nothing is fetched: a file counts that lies in the cache, or whose server answers.

    Args:
      arch: backbone.
      detectors: the detector takes whole published detectors, which have a pyramid.
      masks: outlines are learnt.
    """
    row = _best(arch, detectors=detectors, masks=masks)
    if row is None:
        why = f"no published ones are of {arch} (`rcnn-jax weights list`)"
        return dataclasses.replace(start_of("none", arch), sentence=f"from random weights: {why}")
    # Not its digest: that of half a GiB takes seconds, and training compares it before it reads.
    cached = row.path.is_file()
    reason = "" if cached else unreachable(row.url)
    if reason:
        why = (
            f"{row.name} cannot be fetched: {reason}. {_HOW[0].upper()}{_HOW[1:]}: `rcnn-jax weights "
            f"fetch {row.name}` where there is a network"
        )
        return dataclasses.replace(start_of("none", arch), sentence=f"from random weights: {why}")
    start = start_of(row.name, arch)
    origin = "in the cache" if cached else "training fetches them"
    return dataclasses.replace(start, sentence=f"{start.sentence}, published weights, {origin}")


def _best(arch: str, *, detectors: bool, masks: bool) -> Published | None:
    """Returns the best row of the published weights for a network: a detector before a classifier."""
    whole = [
        row
        for row in PUBLISHED.values()
        if row.is_detector and row.source in CONVENTIONS and bool(row.mask_ap) == masks
    ]
    fitting = [row for row in whole if detectors and _arch_of(row.name) == arch]
    if fitting:
        return max(fitting, key=lambda row: row.mask_ap if masks else row.box_ap)
    name = _CLASSIFIERS.get(arch)
    return find(name) if name else None


def _is_newer(row: Published) -> bool:
    # A classifier of this ending was trained longer, and is the same network.
    return row.is_detector and row.name.endswith("_v2")


def _inherited(path: Path) -> Inherited:
    """Network fields that a run inherits from a .tlt model, by the spec inside its file.

    Raises:
      CheckpointError: it cannot be read, or is encrypted.
      SpecError: this release cannot read the spec inside.
    """
    kind, header = read_header(path)
    config = parse_spec(header["spec"], f"{path}: its spec", kind, "inference").config
    return family(kind).draft().inherited(config)


def is_folded(path: Path) -> bool:
    """Says whether weights come without statistics of batch norm: folded into the convolutions.

    Raises:
      CheckpointError: the file cannot be read.
    """
    norms = [
        layer for layer in load_weights(path).values() if {"gamma", "moving_mean"} <= layer.keys()
    ]
    return bool(norms) and all(
        not layer["moving_mean"].any() and (layer["gamma"] == 1).all() for layer in norms
    )


def _arch_of(name: str) -> str:
    """Returns the backbone that a file name tells, the longest spelling that is in it."""
    plain = _plain(name)
    named = [arch for arch in ARCHITECTURES if _plain(arch) in plain]
    return max(named, key=lambda arch: (len(_plain(arch)), ":" in arch), default="")


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
