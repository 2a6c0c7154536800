"""Damaged images: the bytes of small ones of every kind, changed."""

import functools
import random
from pathlib import Path

import numpy as np

from rcnn_jax.data.formats.image_decoder import decode, pixel_limit
from rcnn_jax.data.formats.image_size import encoded_image_size
from rcnn_jax.errors import DataError
from tests.data.image_samples import samples
from tests.fuzz.case import Case, Target, sound_cases
from tests.fuzz.damage import changed_bytes

SUFFIXES = (".png", ".jpg", ".bmp", ".gif", ".webp", ".tiff")


def mutant(rng: random.Random) -> Case:
    """Returns a picture after a few changes."""
    cases, contents = _sound()
    case = rng.choice(cases)
    return Case(case.suffix, changed_bytes(rng, case.data, contents))


@functools.cache
def _sound() -> tuple[list[Case], list[bytes]]:
    cases = [case for suffix in SUFFIXES for case in sound_cases("images", suffix)]
    return cases, [case.data for case in cases]


def check(case: Case, folder: Path) -> None:
    """Decodes a picture.

    Raises:
      DataError: it is refused.
      AssertionError: the pixels are not those that the header promised.
    """
    try:
        size = encoded_image_size(case.data, "mutant")
        pixels = decode(case.data, "rgb", "mutant")
    except DataError as error:
        assert str(error).startswith("mutant: ") and len(str(error)) < 500, error
        raise
    assert pixels.dtype == np.uint8 and pixels.shape == (*size, 3)
    assert size[0] * size[1] <= pixel_limit()


def _seeds() -> dict[str, Case]:
    endings = {"jpeg": ".jpg"}
    return {
        name: Case(endings.get(kind, f".{kind}"), data)
        for name, data in samples().items()
        for kind in name.split("_")[:1]
    }


IMAGES = Target("images", SUFFIXES, _seeds, mutant, check, quick=3000)
