"""Damaged images decode or end in one message; nothing else, whatever the damage."""

import numpy as np

from rcnn_jax.data.formats.image_decoder import decode, pixel_limit
from rcnn_jax.data.formats.image_size import encoded_image_size
from rcnn_jax.errors import DataError
from tests.data.image_mutants import mutants


def outcome(data: bytes) -> str:
    """Decodes; returns what came out."""
    try:
        size = encoded_image_size(data, "mutant")
        pixels = decode(data, "rgb", "mutant")
    except DataError as error:
        assert str(error).startswith("mutant: ") and len(str(error)) < 500
        return "refused"
    assert pixels.dtype == np.uint8 and pixels.shape == (*size, 3)
    assert size[0] * size[1] <= pixel_limit()
    return "decoded"


def test_mutants_are_decoded_or_refused(monkeypatch):
    monkeypatch.setenv("RCNN_JAX_MAX_PIXELS", str(1 << 22))  # quick, and the limit is met
    outcomes = [outcome(data) for _, data in mutants(seed=1, count=1500)]
    assert 100 < outcomes.count("decoded") < 1300


def test_equal_seeds_make_equal_mutants():
    first, second = list(mutants(7, 50)), list(mutants(7, 50))
    assert first == second != list(mutants(8, 50))
