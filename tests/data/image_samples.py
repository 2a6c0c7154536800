"""Small images of every kind that users have, encoded by Pillow and OpenCV."""

import io
from typing import Any

import cv2
import numpy as np
from PIL import Image

SIZE = (9, 14)
"""(height, width) of all samples."""


def picture() -> np.ndarray:
    """Returns u8[h w 3]: smooth, so that lossy formats stay near it."""
    coarse = np.random.default_rng(3).integers(0, 256, (3, 4, 3), np.uint8)
    return cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)


def by_pillow(image: Any, kind: str, **options: Any) -> bytes:
    """Returns an image of Pillow, encoded."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def orientation_tag(orientation: int) -> bytes:
    """Returns an EXIF block that says so."""
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif.tobytes()


def samples() -> dict[str, bytes]:
    """Returns encoded images by name; all decode."""
    rgb = Image.fromarray(picture())
    pages = {"save_all": True, "append_images": [rgb.rotate(180)]}
    clear = rgb.convert("RGBA")
    clear.putalpha(100)
    deep = picture()[..., 0].astype(np.uint16) * 257
    return {
        "png": by_pillow(rgb, "PNG"),
        "png_grey": by_pillow(rgb.convert("L"), "PNG"),
        "png_palette": by_pillow(rgb.convert("P"), "PNG"),
        "png_1bit": by_pillow(rgb.convert("1"), "PNG"),
        "png_alpha": by_pillow(clear, "PNG"),
        "png_grey_alpha": by_pillow(clear.convert("LA"), "PNG"),
        "png_transparent_palette": by_pillow(rgb.convert("P"), "PNG", transparency=0),
        "png_16bit": cv2.imencode(".png", deep)[1].tobytes(),
        "png_animated": by_pillow(rgb, "PNG", **pages),
        "png_turned": by_pillow(rgb, "PNG", exif=orientation_tag(6)),
        "jpeg": by_pillow(rgb, "JPEG"),
        "jpeg_grey": by_pillow(rgb.convert("L"), "JPEG"),
        "jpeg_cmyk": by_pillow(rgb.convert("CMYK"), "JPEG"),
        "jpeg_progressive": by_pillow(rgb, "JPEG", progressive=True),
        "jpeg_turned": by_pillow(rgb, "JPEG", exif=orientation_tag(8)),
        "bmp": by_pillow(rgb, "BMP"),
        "bmp_palette": by_pillow(rgb.convert("P"), "BMP"),
        "bmp_1bit": by_pillow(rgb.convert("1"), "BMP"),
        "gif": by_pillow(rgb, "GIF"),
        "webp": by_pillow(rgb, "WEBP"),
        "webp_lossless": by_pillow(rgb, "WEBP", lossless=True),
        "webp_alpha": by_pillow(clear, "WEBP", lossless=True),
        "webp_animated": by_pillow(rgb, "WEBP", **pages),
        "webp_turned": by_pillow(rgb, "WEBP", exif=orientation_tag(3)),
        "tiff": by_pillow(rgb, "TIFF"),
        "tiff_packed": by_pillow(rgb, "TIFF", compression="tiff_lzw"),
        "tiff_1bit": by_pillow(rgb.convert("1"), "TIFF", compression="group4"),
        "tiff_alpha": by_pillow(clear, "TIFF"),
        "tiff_cmyk": by_pillow(rgb.convert("CMYK"), "TIFF"),
        "tiff_pages": by_pillow(rgb, "TIFF", **pages),
        "tiff_16bit": cv2.imencode(".tiff", deep)[1].tobytes(),
    }
