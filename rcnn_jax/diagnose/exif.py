"""EXIF: whether labels were drawn on pictures as they are stored, or as they are shown.

Cameras store the picture of their sensor and a note how it is to be turned. Browsers, and so most tools
for labelling, show it turned; this program reads it as it is stored. A picture may say on which of the
two its labels were drawn: they state its size, or reach beyond the other one's. One tool draws all labels
of a set, so where some pictures say so and none contradicts, the same holds for those that are square or
upside down.

Source: Exif 2.32, tag 274 (Orientation).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from rcnn_jax.diagnose.records import Record, read_file
from rcnn_jax.diagnose.scan import Scan
from rcnn_jax.image_file import encode_image

_BEYOND = 2.0  # pixels; converters round


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Returns a picture as it is shown.

    Args:
      image: u8[h w c], as it is stored.
      orientation: 1 to 8, as EXIF counts.
    """
    # 2, 4, 5 and 7 are mirrored too: first mirrored, then turned.
    if orientation in (2, 4, 5, 7):
        image = cv2.flip(image, 1)
    turns = {
        3: cv2.ROTATE_180,
        4: cv2.ROTATE_180,
        5: cv2.ROTATE_90_COUNTERCLOCKWISE,
        6: cv2.ROTATE_90_CLOCKWISE,
        7: cv2.ROTATE_90_CLOCKWISE,
        8: cv2.ROTATE_90_COUNTERCLOCKWISE,
    }
    return cv2.rotate(image, turns[orientation]) if orientation in turns else image


def shown_size(scan: Scan) -> tuple[int, int]:
    """Returns (height, width) of a picture as it is shown."""
    height, width = scan.size
    return (width, height) if scan.orientation >= 5 else (height, width)


def drawn_as_shown(records: Sequence[Record], scans: Sequence[Scan]) -> frozenset[int]:
    """Returns the pictures to be turned before their labels fit: indices of records.

    Args:
      records: the images with their labels.
      scans: of the images, in the same order.
    """
    rotated = [
        index for index, scan in enumerate(scans) if not scan.fault and scan.orientation != 1
    ]
    evidence = {index: _fits(records[index], scans[index]) for index in rotated}
    shown = {index for index, word in evidence.items() if word == "shown"}
    if not shown:
        return frozenset()
    if "stored" in evidence.values():  # tools were mixed: each picture speaks for itself alone
        return frozenset(shown)
    return frozenset(rotated)


def _fits(record: Record, scan: Scan) -> str:
    """Returns `shown` or `stored`, the picture that labels were drawn on; empty where it may be both."""
    stored, shown = scan.size, shown_size(scan)
    if stored == shown:
        return ""
    if record.stated is not None:
        return {stored: "stored", shown: "shown"}.get(record.stated, "")
    bottom = max((obj.box[2] for obj in record.objects), default=0.0)
    right = max((obj.box[3] for obj in record.objects), default=0.0)
    inside = [
        bottom <= size[0] + _BEYOND and right <= size[1] + _BEYOND for size in (stored, shown)
    ]
    # Inside both, or in neither: nothing follows.
    return "" if inside[0] == inside[1] else ("stored" if inside[0] else "shown")


def turning_copy(orientations: Mapping[Path, int]) -> Callable[[Path, Path], None]:
    """Returns a function that copies one image, turned as it is shown where it should be.

    Args:
      orientations: image -> EXIF orientation, of those to be turned.
    """

    def copy(source: Path, target: Path) -> None:
        if source not in orientations:
            # Byte for byte: encoding a JPEG anew would change every picture a little.
            target.write_bytes(source.read_bytes())
            return
        picture = upright(read_file(source).image, orientations[source])
        # Encoded anew, so that no EXIF tag is left which would turn it once more.
        target.write_bytes(encode_image(picture, source.suffix, name=source))

    return copy
