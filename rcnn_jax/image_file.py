"""Pictures as the bytes of an image file; the one place that encodes them.

In memory, then written by the caller: `cv2.imwrite` would leave half a file when it is killed, and tells
an error by False.
"""

import cv2
import numpy as np

from rcnn_jax.errors import DataError


def encode_image(
    picture: np.ndarray, suffix: str, *, quality: int = 95, name: object = ""
) -> bytes:
    """Returns a picture as a file of the kind that a suffix names.

    Args:
      picture: u8[h w 3] in RGB, or u8[h w].
      suffix: `.png`, `.jpg` or another that OpenCV writes, in any case.
      quality: of a JPEG, 0 to 100.
      name: of the file, for the message.

    Raises:
      DataError: the suffix is of no image, or the picture has no pixels.
    """
    # OpenCV's order is BGR.
    pixels = np.ascontiguousarray(picture[..., ::-1] if picture.ndim == 3 else picture, np.uint8)
    suffix = suffix.lower()
    # To the others it is a stranger, of which OpenCV prints a warning past our console.
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix in (".jpg", ".jpeg") else []
    try:
        done, data = cv2.imencode(suffix or ".", pixels, options)
    except cv2.error:
        done, data = False, np.empty(0, np.uint8)
    if not done:
        raise DataError(f"{name}: no image is written as '{suffix}'; expected .jpg or .png")
    return data.tobytes()
