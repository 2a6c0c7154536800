"""Images that are the same picture: equal files, and hashes that are near and confirmed."""

import numpy as np
import pytest

from rcnn_jax.diagnose.scan import Scan
from rcnn_jax.diagnose.similar import NEAR_BITS, NEAR_GREY, equal_groups, near_groups

GREY = np.full((16, 16), 100, np.uint8)


def scan(digest, bits=0, grey=0, fault=""):
    return Scan(fault=fault, digest=digest, difference=bits, small=GREY + np.uint8(grey))


def test_equal_files_are_a_group_and_broken_ones_are_none():
    scans = [scan(b"a"), scan(b"b", 1 << 40 | 0xFFFF), scan(b"a"), scan(b"", fault="is cut off")]
    assert equal_groups(scans) == [[0, 2]]


@pytest.mark.parametrize("bits", [0, 1, 0b111, 1 << 60 | 1 << 20 | 1])
def test_hashes_that_differ_in_three_bits_anywhere_are_near(bits):
    assert near_groups([scan(b"a"), scan(b"b", bits)]) == [[0, 1]]


def test_more_bits_or_other_greys_are_another_picture():
    far = (1 << (NEAR_BITS + 1)) - 1
    assert near_groups([scan(b"a"), scan(b"b", far)]) == []
    assert near_groups([scan(b"a"), scan(b"b", 0, int(NEAR_GREY) + 1)]) == []


def test_nearness_is_passed_on_along_a_film():
    film = [scan(b"a", 0), scan(b"b", 0b111), scan(b"c", 0b111111), scan(b"d", 0b111111111)]
    assert near_groups(film) == [[0, 1, 2, 3]]


def test_of_equal_files_one_is_compared():
    assert near_groups([scan(b"a"), scan(b"a"), scan(b"b", 1)]) == [[0, 2]]
