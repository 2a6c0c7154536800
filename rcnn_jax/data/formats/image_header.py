"""Image headers: format, size and kind of pixels from the first bytes; nothing is unpacked.

Sizes are those of the stored pixels. A header may lie; `image_decoder` compares it with the pixels.

Sources: PNG (W3C, third edition), JPEG (ITU T.81, EXIF 2.3), TIFF 6.0, WebP container (RFC 9649),
GIF 89a, BITMAPINFOHEADER.
"""

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8"
# Start of frame: C0 to CF without C4 (Huffman tables), C8 (reserved), CC (arithmetic tables).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_MOST_CHUNKS = 100_000
"""Chunks, segments or tags that are walked over: a file of nothing else must end some time."""

_WIDTH, _HEIGHT, _BITS, _COLORS, _ORIENTATION, _SAMPLES, _EXTRA, _SAMPLE_FORMAT = (
    0x100,
    0x101,
    0x102,
    0x106,
    0x112,
    0x115,
    0x152,
    0x153,
)
_SEPARATED = 5  # PhotometricInterpretation of CMYK
_FLOAT = 3  # SampleFormat

# Magic bytes of other files that often bear the name of an image, and their names in messages.
_STRANGERS = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: run  git lfs pull"),
    (b"<!DOCTYPE", "a web page"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML file"),
    (b"<svg", "an SVG drawing"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"8BPS", "a Photoshop document"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"II+\x00", "a BigTIFF image"),
    (b"MM\x00+", "a BigTIFF image"),
)
_ISO_BRANDS = {b"avif": "an AVIF image", b"heic": "a HEIC image", b"mif1": "a HEIC image"}


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """The content of an image header.

    Attributes:
      format: `png`, `jpeg`, `bmp`, `gif`, `tiff` or `webp`.
      height: of the stored pixels.
      width: of the stored pixels.
      bits: per channel; of palette images, per index.
      channels: stored per pixel, the alpha channel included; 1 for palette images.
      alpha: pixels have an opacity of their own.
      cmyk: colours are those of a printer.
      floating: pixels are real numbers.
      frames: there are several pictures: an animation, or pages.
      orientation: 1 to 8 as EXIF counts; 1 is upright, also where the file does not say.
    """

    format: str
    height: int
    width: int
    bits: int = 8
    channels: int = 3
    alpha: bool = False
    cmyk: bool = False
    floating: bool = False
    frames: bool = False
    orientation: int = 1


def read_header(stream: BinaryIO) -> ImageHeader | None:
    """Returns the header of an image that begins at the start of a seekable stream, or None."""
    stream.seek(0)
    start = stream.read(32)
    try:
        if start.startswith(_PNG_MAGIC):
            header = _png(stream)
        elif start.startswith(_JPEG_MAGIC):
            header = _jpeg(stream)
        elif start[:4] in (b"II*\x00", b"MM\x00*"):
            header = _tiff(stream)
        elif start[:4] == b"RIFF" and start[8:12] == b"WEBP":
            header = _webp(stream)
        elif start[:6] in (b"GIF87a", b"GIF89a"):
            width, height = struct.unpack_from("<HH", start, 6)
            header = ImageHeader(format="gif", height=height, width=width)
        elif start[:2] == b"BM":
            header = _bmp(start)
        else:
            return None
    except struct.error:  # the file ends within its header
        return None
    return header if header and min(header.height, header.width) > 0 else None


def header_of(data: bytes) -> ImageHeader | None:
    """Returns the header of an encoded image in memory, or None; see `read_header`."""
    return read_header(io.BytesIO(data))


def ends_early(data: bytes, header: ImageHeader) -> bool:
    """Checks whether an encoded image is cut off; False for formats without an end marker."""
    match header.format:
        case "jpeg":  # an EXIF thumbnail has an end marker too, before the scan of the image
            scan = data.rfind(b"\xff\xda")
            return scan < 0 or data.find(b"\xff\xd9", scan) < 0
        case "png":
            return not _png_chunks_are_whole(data)
        case "webp":
            return len(data) < 8 + struct.unpack_from("<I", data, 4)[0]
        case _:
            return False


def _png_chunks_are_whole(data: bytes) -> bool:
    # Walked, not searched for: IEND may occur in compressed data, and a chunk may promise gigabytes
    # (30 bytes that promised 2 GB took 2 GB and seven seconds in the decoder).
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        if kind == b"IEND":
            return position <= len(data)
    return False


def foreign_format(start: bytes) -> str:
    """Names the format of bytes that are no readable image; empty for an unknown one."""
    # With leading blanks removed too: web pages begin with any number of them.
    for magic, name in _STRANGERS:
        if start.lstrip().startswith(magic) or start.startswith(magic):
            return name
    return _ISO_BRANDS.get(start[8:12], "") if start[4:8] == b"ftyp" else ""


def _png(stream: BinaryIO) -> ImageHeader | None:
    stream.seek(8)
    # IHDR must come first and has 13 bytes; decoders refuse anything else, so its place is fixed.
    length, kind, width, height, bits, colors = struct.unpack(">I4sIIBB", stream.read(18))
    if kind != b"IHDR" or length != 13:
        return None
    # Bit 2 of the colour type is an alpha channel; tRNS makes the other types transparent too.
    transparent, frames, orientation = bool(colors & 4), False, 1
    position = 8 + 12 + 13
    for _ in range(_MOST_CHUNKS):
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"IEND"):
            break
        if kind == b"acTL":
            frames = struct.unpack(">I", stream.read(4))[0] > 1
        elif kind == b"tRNS":
            transparent = True
        elif kind == b"eXIf":
            orientation = _exif_orientation(stream.read(min(length, 1 << 16)))
        position += 12 + length
    return ImageHeader(
        format="png",
        height=height,
        width=width,
        bits=bits,
        channels={0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colors, 4),
        alpha=transparent,
        frames=frames,
        orientation=orientation,
    )


def _jpeg(stream: BinaryIO) -> ImageHeader | None:
    """Walks the segments behind the start marker to the frame header."""
    stream.seek(2)
    orientation = 1
    for _ in range(_MOST_CHUNKS):
        byte = stream.read(1)
        if byte != b"\xff":
            return None
        while byte == b"\xff":  # markers may be padded with any number of FF
            byte = stream.read(1)
        if not byte:
            return None
        if byte[0] in _JPEG_WITHOUT_LENGTH:
            continue
        (length,) = struct.unpack(">H", stream.read(2))
        if length < 2:
            return None
        end = stream.tell() + length - 2
        if byte[0] in _JPEG_FRAMES:
            bits, height, width, channels = struct.unpack(">BHHB", stream.read(6))
            return ImageHeader(
                format="jpeg",
                height=height,
                width=width,
                bits=bits,
                channels=channels,
                cmyk=channels == 4,
                orientation=orientation,
            )
        if byte[0] == 0xE1:
            segment = stream.read(length - 2)
            if segment.startswith(b"Exif\x00\x00"):
                orientation = _exif_orientation(segment[6:])
        stream.seek(end)
    return None


def _bmp(start: bytes) -> ImageHeader:
    (header,) = struct.unpack_from("<I", start, 14)
    if header == 12:  # BITMAPCOREHEADER of OS/2, with sizes of 16 bits
        width, height, _, bits = struct.unpack_from("<HHHH", start, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", start, 18)
    return ImageHeader(
        # a negative height means rows from top to bottom
        format="bmp",
        height=abs(height),
        width=width,
        channels=1 if bits <= 8 else bits // 8,
    )


def _webp(stream: BinaryIO) -> ImageHeader | None:
    stream.seek(12)
    kind, _ = struct.unpack("<4sI", stream.read(8))
    if kind == b"VP8X":
        flags, low_w, high_w, low_h, high_h = struct.unpack("<B3xHBHB", stream.read(10))
        orientation = 1
        position = 30
        # EXIF comes behind the pixels here, so it is looked for only where the flags announce it.
        for _ in range(_MOST_CHUNKS if flags & 8 else 0):
            stream.seek(position)
            head = stream.read(8)
            if len(head) < 8:
                break
            chunk, length = struct.unpack("<4sI", head)
            if chunk == b"EXIF":
                orientation = _exif_orientation(
                    stream.read(min(length, 1 << 16)).removeprefix(b"Exif\x00\x00")
                )
                break
            position += 8 + length + length % 2  # RIFF pads chunks to even lengths
        return ImageHeader(
            format="webp",
            height=1 + low_h + (high_h << 16),
            width=1 + low_w + (high_w << 16),
            channels=4 if flags & 16 else 3,
            alpha=bool(flags & 16),
            frames=bool(flags & 2),
            orientation=orientation,
        )
    if kind == b"VP8L":
        signature, packed = struct.unpack("<BI", stream.read(5))
        if signature != 0x2F:
            return None
        alpha = bool(packed >> 28 & 1)
        return ImageHeader(
            format="webp",
            height=1 + (packed >> 14 & 0x3FFF),
            width=1 + (packed & 0x3FFF),
            channels=4 if alpha else 3,
            alpha=alpha,
        )
    if kind == b"VP8 ":
        code, width, height = struct.unpack("<3x3sHH", stream.read(10))
        if code != b"\x9d\x01\x2a":
            return None
        return ImageHeader(format="webp", height=height & 0x3FFF, width=width & 0x3FFF)
    return None


def _tiff(stream: BinaryIO) -> ImageHeader | None:
    tags, following = _first_directory(stream)
    if _WIDTH not in tags or _HEIGHT not in tags:
        return None
    channels = tags.get(_SAMPLES, 1)
    return ImageHeader(
        format="tiff",
        height=tags[_HEIGHT],
        width=tags[_WIDTH],
        bits=tags.get(_BITS, 1),
        channels=channels,
        alpha=tags.get(_EXTRA, 0) in (1, 2),
        cmyk=tags.get(_COLORS) == _SEPARATED,
        floating=tags.get(_SAMPLE_FORMAT) == _FLOAT,
        frames=bool(following),
        orientation=_checked(tags.get(_ORIENTATION, 1)),
    )


def tiff_as_stored(data: bytes) -> bytes:
    """Returns a TIFF file with orientation 1, so that decoders leave its pixels as they are.

    libtiff mirrors pixels on its own, whatever OpenCV is told, and what lies on its side is refused.

    Args:
      data: content of a file whose header was read.
    """
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from(f"{order}H", data, entry)[0] == _ORIENTATION:
            value = struct.pack(f"{order}HIHH", 3, 1, 1, 0)  # one number of 16 bits
            return data[: entry + 2] + value + data[entry + 12 :]
    return data


def _exif_orientation(block: bytes) -> int:
    """Returns the orientation of an EXIF block; 1 where it is absent or damaged."""
    try:
        tags, _ = _first_directory(io.BytesIO(block))
    except struct.error:
        return 1
    return _checked(tags.get(_ORIENTATION, 1))


def _checked(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1


def _first_directory(stream: BinaryIO) -> tuple[dict[int, int], int]:
    """Returns {tag: first value} of the integer tags of a TIFF, and the offset of the next page."""
    stream.seek(0)
    order = {b"II": "<", b"MM": ">"}.get(stream.read(2), "")
    if not order:
        return {}, 0
    stream.seek(4)
    (position,) = struct.unpack(f"{order}I", stream.read(4))
    stream.seek(position)
    (count,) = struct.unpack(f"{order}H", stream.read(2))
    entries = stream.read(12 * count)
    tags = {}
    for tag, kind, length, value in struct.iter_unpack(f"{order}HHI4s", entries):
        # BYTE, SHORT and LONG: no tag that is read here has another type.
        if kind not in (1, 3, 4):
            continue
        form, size = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4)}[kind]
        if length * size > 4:  # values that do not fit lie elsewhere; the first one is enough
            (elsewhere,) = struct.unpack(f"{order}I", value)
            stream.seek(elsewhere)
            value = stream.read(size)
        tags[tag] = struct.unpack_from(f"{order}{form}", value)[0]
    stream.seek(position + 2 + 12 * count)
    rest = stream.read(4)
    return tags, struct.unpack(f"{order}I", rest)[0] if len(rest) == 4 else 0
