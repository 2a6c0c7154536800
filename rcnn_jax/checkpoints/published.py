"""Published weights by name: what others have trained, where it lies, and what it reached.

    coco/...      whole detectors, run and fine-tuned as they are
    imagenet/...  classifiers, of which a backbone is taken

A name stands wherever a file of weights does. Only files whose every layer is read are listed: of
torchvision's others, GoogLeNet has 3x3 kernels where the network has 5x5, and SqueezeNet is no backbone
here. Addresses, digests and figures are those of the publishers: torchvision's weight classes and the
model zoo of detectron2.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rcnn_jax.checkpoints.cache import Digest, cached_path, named_digest
from rcnn_jax.checkpoints.download import fetch
from rcnn_jax.errors import CheckpointError
from rcnn_jax.reporter import SILENT, Reporter
from rcnn_jax.spec.inputs import is_published_name

_TORCHVISION = "https://download.pytorch.org/models"
_DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2"
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published file.

    Attributes:
      name: `coco/...` or `imagenet/...`.
      url: address; its name ends in a part of its digest.
      source: whose layout it has.
      licence: of the weights, as SPDX.
      size: bytes, 0 where the publisher does not say.
      classes: outputs without background; for COCO 80 categories.
      box_ap: COCO val2017 AP of boxes in percent, 0.0 for a classifier.
      mask_ap: COCO val2017 AP of masks in percent, 0.0 where there are none.
      bn_eps: epsilon that the publisher runs batch norm with.
    """

    name: str
    url: str
    source: Literal["torchvision", "detectron2"]
    licence: str
    size: int
    classes: int
    box_ap: float = 0.0
    mask_ap: float = 0.0
    bn_eps: float = 1e-5

    @property
    def digest(self) -> Digest:
        """Expected hash of the file."""
        # A row whose name has no digest is an error of this table, not of a user.
        digest = named_digest(self.url)
        assert digest is not None, self.url
        return digest

    @property
    def is_detector(self) -> bool:
        """Whether it is a whole detector."""
        # Not by the first part of the name: that a detector has an AP to compare with is what
        # counts.
        return self.box_ap > 0.0

    @property
    def path(self) -> Path:
        """Path of the file in the cache."""
        return cached_path(self.url)


def _torchvision(
    name: str, file: str, mib: float, box: float, mask: float = 0.0, eps: float = 1e-5
) -> Published:
    return Published(
        name=name,
        url=f"{_TORCHVISION}/{file}.pth",
        source="torchvision",
        licence="BSD-3-Clause",
        size=round(mib * _MIB),
        # 80 categories; the predictors of these files have 91 rows, 10 of them for ids that COCO
        # never gave out.
        classes=80 if box else 1000,
        box_ap=box,
        mask_ap=mask,
        bn_eps=eps,
    )


def _detectron2(name: str, file: str, box: float, mask: float = 0.0) -> Published:
    folder = "COCO-InstanceSegmentation" if mask else "COCO-Detection"
    return Published(
        name=f"coco/{name}",
        url=f"{_DETECTRON2}/{folder}/{name}/{file}.pkl",
        source="detectron2",
        licence="Apache-2.0",
        # The zoo gives no sizes; the progress bar takes the length from the server's answer.
        size=0,
        classes=80,
        box_ap=box,
        mask_ap=mask,
    )


_ROWS = (
    # The two older ones were trained with frozen statistics and are run with epsilon 0
    # (`overwrite_eps` in torchvision).
    _torchvision(
        "coco/faster_rcnn_resnet50_fpn",
        "fasterrcnn_resnet50_fpn_coco-258fb6c6",
        159.743,
        37.0,
        eps=0.0,
    ),
    _torchvision(
        "coco/faster_rcnn_resnet50_fpn_v2",
        "fasterrcnn_resnet50_fpn_v2_coco-dd69338a",
        167.104,
        46.7,
    ),
    _torchvision(
        "coco/mask_rcnn_resnet50_fpn",
        "maskrcnn_resnet50_fpn_coco-bf2d0c1e",
        169.84,
        37.9,
        34.6,
        eps=0.0,
    ),
    _torchvision(
        "coco/mask_rcnn_resnet50_fpn_v2",
        "maskrcnn_resnet50_fpn_v2_coco-73cbd019",
        177.219,
        47.4,
        41.8,
    ),
    _detectron2("faster_rcnn_R_50_FPN_3x", "137849458/model_final_280758", 40.2),
    _detectron2("faster_rcnn_R_101_FPN_3x", "137851257/model_final_f6e8b1", 42.0),
    _detectron2("mask_rcnn_R_50_FPN_3x", "137849600/model_final_f10217", 41.0, 37.2),
    _detectron2("mask_rcnn_R_101_FPN_3x", "138205316/model_final_a3ec72", 42.9, 38.6),
    *(
        _torchvision(f"imagenet/{name}", file, mib, 0.0)
        for name, file, mib in (
            # No AP, so the last 0.0 makes a classifier of each. `_v2` is the same network, trained
            # longer by torchvision's newer recipe.
            ("resnet18", "resnet18-f37072fd", 44.661),
            ("resnet34", "resnet34-b627a593", 83.275),
            ("resnet50", "resnet50-0676ba61", 97.781),
            ("resnet50_v2", "resnet50-11ad3fa6", 97.79),
            ("resnet101", "resnet101-63fe2227", 170.511),
            ("resnet101_v2", "resnet101-cd907fc2", 170.53),
            ("mobilenet_v2", "mobilenet_v2-b0353104", 13.555),
            ("mobilenet_v2_v2", "mobilenet_v2-7ebf99e0", 13.598),
            ("vgg16", "vgg16-397923af", 527.796),
            ("vgg16_bn", "vgg16_bn-6c64b313", 527.866),
            ("vgg19", "vgg19-dcbb9e9d", 548.051),
            ("vgg19_bn", "vgg19_bn-c79401a0", 548.143),
            ("efficientnet_b0", "efficientnet_b0_rwightman-7f5810bc", 20.451),
            ("efficientnet_b1", "efficientnet_b1_rwightman-bac287d4", 30.134),
            ("efficientnet_b1_v2", "efficientnet_b1-c27df63c", 30.136),
        )
    ),
)

PUBLISHED: dict[str, Published] = {row.name: row for row in _ROWS}
"""Every published file by its name, in the order of lists."""


def find(name: str) -> Published:
    """Returns the row of a name.

    Raises:
      CheckpointError: there is none of this name; the message names the nearest.
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    # 0.5 instead of difflib's 0.6: names share long beginnings, and what people leave out is the
    # end.
    near = difflib.get_close_matches(name, PUBLISHED, 3, 0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "see `rcnn-jax weights list`"
    raise CheckpointError(f"{name}: no published weights have this name, and no file; {hint}")


def named_weights(path: Path | str) -> Published | None:
    """Returns the row that a path stands for; None where it is the path of a file.

    A file wins over a name that is spelled like its path.

    Raises:
      CheckpointError: it is spelled like a name, and there is none of this name.
    """
    name = Path(path).as_posix()
    # Nobody loses a file by a row that is added to the table later.
    return find(name) if is_published_name(name) and not Path(path).exists() else None


def fetch_published(row: Published, *, offline: bool = False, reporter: Reporter = SILENT) -> Path:
    """Returns the file of a row, from the cache or from the network; see `download.fetch`."""
    return fetch(
        row.url, row.digest, what=row.name, size=row.size, offline=offline, reporter=reporter
    )


def local_file(path: Path | str, *, reporter: Reporter = SILENT) -> Path:
    """Returns the file that a path or a name stands for; a name is fetched where it must be.

    Raises:
      CheckpointError: there is no such name, or its file cannot be fetched.
    """
    row = named_weights(path)
    return Path(path) if row is None else fetch_published(row, reporter=reporter)
