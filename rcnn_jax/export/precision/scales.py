"""Files of quantisation scales: TensorRT's calibration cache and the JSON of the original.

    TRT-100800-EntropyCalibration2          first line: TensorRT version, algorithm
    conv1_relu: 3c010a14                    tensor of the FP32 graph: bits of the float32 scale

    rcnn_jax_weights_9f86d081884c7d65: 3f800000    digest of the weights that the scales belong to

A scale is the largest represented value divided by 127. The JSON file holds that largest value instead:
 {"weights": digest, "tensor_scales": {tensor: largest}}. The digest stands in a name, because TensorRT
passes over tensors that it does not know, and over nothing else.
Source: docs/reference/tensorrt.md, "Calibration cache".
"""

import json
import math
import re
import struct

from rcnn_jax.errors import DataError
from rcnn_jax.export.verification.tensorrt_gate import TENSORRT_VERSION

LEVELS = 127
"""Steps of int8 on either side of zero; -128 occurs only at saturation."""
DIGEST = "rcnn_jax_weights_"
"""Begins the name of the cache's line that is no tensor."""
_DIGITS = 9
"""One more than a float32 has: enough to reject longer numbers without parsing them."""
_HEADER = re.compile(r"TRT-\d+-\w+|1")  # one writer of the original put just "1"


def write_cache(scales: dict[str, float], digest: str = "") -> str:
    """Returns the calibration cache of {tensor: scale}, with the digest of their weights if given."""
    lines = [f"TRT-{_version_number(TENSORRT_VERSION)}-EntropyCalibration2"]
    marked = {f"{DIGEST}{digest}": 1.0} if digest else {}
    for name, scale in {**marked, **scales}.items():
        # Most significant byte first, lower case, unpadded: the form of TensorRT's own caches.
        (bits,) = struct.unpack(">I", struct.pack(">f", scale))
        lines.append(f"{name}: {bits:x}")
    return "\n".join(lines) + "\n"


def read_cache(text: str, origin: str = "the calibration cache") -> dict[str, float]:
    """Returns {tensor: scale} of a calibration cache.

    Args:
      text: content of the file, by TensorRT or by `write_cache`.
      origin: of the text, for messages.

    Raises:
      DataError: it is no calibration cache, or a scale is not positive.
    """
    lines = text.splitlines()
    if not lines or not _HEADER.fullmatch(lines[0].strip()):
        first = repr(lines[0][:60]) if lines else "nothing"
        raise DataError(
            f"{origin}: is no calibration cache of TensorRT: line 1 is {first}, expected "
            "TRT-<version>-EntropyCalibration2"
        )
    scales = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        name, _, digits = line.rpartition(":")  # names hold colons of their own
        try:
            # A cache is a file from anywhere: int() of a long line would take quadratic time.
            bits = int(digits.strip()[:_DIGITS], 16)
            (scale,) = struct.unpack(">f", struct.pack(">I", bits))
        except (ValueError, struct.error) as error:
            raise DataError(
                f"{origin}: line {number}: expected 'tensor: hexadecimal float', found "
                f"{line[:60]!r}"
            ) from error
        if not name or not math.isfinite(scale) or scale <= 0:
            raise DataError(
                f"{origin}: line {number}: the scale of {name[:60]!r} is {scale}, expected a positive "
                "number: calibrate again"
            )
        if not name.startswith(DIGEST):
            scales[name] = scale
    if not scales:
        raise DataError(f"{origin}: holds no scale: remove it and calibrate again")
    return scales


def digest_of_cache(text: str) -> str:
    """Returns the digest of the weights that a cache belongs to; "" where it does not say so."""
    names = (line.rpartition(":")[0] for line in text.splitlines()[1:])
    return next((n.removeprefix(DIGEST) for n in names if n.startswith(DIGEST)), "")


def write_json(scales: dict[str, float], digest: str = "") -> str:
    """Returns the JSON of {tensor: scale}: the largest value of every tensor, and the digest."""
    largest = {name: scale * LEVELS for name, scale in scales.items()}
    marked = {"weights": digest} if digest else {}
    return json.dumps({**marked, "tensor_scales": largest}, indent=2) + "\n"


def digest_of_json(text: str) -> str:
    """Returns the digest of the weights that scales in JSON belong to; "" where it is not there."""
    try:
        digest = json.loads(text).get("weights", "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return digest if isinstance(digest, str) else ""


def read_json(text: str, origin: str) -> dict[str, float]:
    """Returns {tensor: scale} of the JSON of `write_json` and of the original.

    Args:
      text: content of the file.
      origin: of the text, for messages.

    Raises:
      DataError: it is other JSON, or a value is not a positive number.
    """
    try:
        largest = json.loads(text)["tensor_scales"].items()
        scales = {name: float(value) / LEVELS for name, value in largest}
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        OverflowError,  # a whole number of 400 digits
    ) as error:
        raise DataError(
            f'{origin}: expected JSON such as {{"tensor_scales": {{"tensor": 6.0}}}}'
        ) from error
    for name, scale in scales.items():
        if not math.isfinite(scale) or scale <= 0:
            raise DataError(f"{origin}: the value of '{name}' is no positive number")
    return scales


def _version_number(version: str) -> int:
    """Returns TensorRT's number of a version: 8.5.1 is 8501, 10.8 is 100800."""
    major, minor, patch = ([int(part) for part in version.split(".")] + [0, 0])[:3]
    return (
        major * 10000 + minor * 100 + patch if major >= 10 else major * 1000 + minor * 100 + patch
    )
