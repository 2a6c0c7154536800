"""Size of an image file, from its header alone.

Sizes are those of the stored pixels: the EXIF orientation is ignored here as it is when images are
decoded, so that boxes, sizes and pixels agree.
"""

from pathlib import Path

from rcnn_jax.data.formats.image_decoder import check_header, open_image
from rcnn_jax.data.formats.image_header import header_of, read_header


def read_image_size(path: Path) -> tuple[int, int]:
    """Returns (height, width) in pixels.

    Raises:
      DataError: the file is missing, is not an image, or has more pixels than are read.
    """
    with open_image(path, str(path)) as stream:
        start = stream.read(64)
        header = check_header(read_header(stream), start, str(path))
    return header.height, header.width


def encoded_image_size(data: bytes, where: str) -> tuple[int, int]:
    """Returns (height, width) of an encoded image in memory; `where` names it in the message.

    Raises:
      DataError: `data` is not an image, or has more pixels than are read.
    """
    header = check_header(header_of(data), data[:64], where)
    return header.height, header.width


def image_format(data: bytes) -> str:
    """The format of an encoded image as TFRecords name it: `jpeg`, `png` or `` for others."""
    header = header_of(data)
    return header.format if header and header.format in ("jpeg", "png") else ""
