"""Images that are the same picture: equal files, and copies at another size, quality or frame."""

from collections.abc import Sequence

import numpy as np

from rcnn_jax.diagnose.scan import Scan

NEAR_BITS = 3
"""Bits of 64 in which the hashes of two copies may differ."""

NEAR_GREY = 6.0
"""Mean difference of the small copies, in grey levels, above which images are different ones."""

# One more band than bits may differ, so that one band is free of differences (pigeonhole).
_BANDS, _BAND_BITS = 4, 16
_FULL = 256
"""Images that share a band, above which it says nothing: a plain background has few hashes."""


def equal_groups(scans: Sequence[Scan]) -> list[list[int]]:
    """Returns groups of at least two images whose files are equal, by index."""
    groups: dict[bytes, list[int]] = {}
    for index, scan in enumerate(scans):
        if not scan.fault:
            groups.setdefault(scan.digest, []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def near_groups(scans: Sequence[Scan]) -> list[list[int]]:
    """Returns groups of images that are nearly equal, equal files among them once.

    Hashes that differ in at most three bits agree in at least one of four bands of 16 bits, so only
    images that share a band are compared: the pairs of 100,000 images would be five thousand million.
    """
    first: dict[bytes, int] = {}
    for index, scan in enumerate(scans):
        if not scan.fault:
            first.setdefault(scan.digest, index)
    # One of every group of equal files: copies would multiply the pairs, and are a finding of their own.
    alone = list(first.values())
    parents = {index: index for index in alone}

    def root(index: int) -> int:
        # Union and find with path halving: nearness is passed on along a film, frame by frame.
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    for band in range(_BANDS):
        buckets: dict[int, list[int]] = {}
        for index in alone:
            key = scans[index].difference >> (band * _BAND_BITS) & (1 << _BAND_BITS) - 1
            buckets.setdefault(key, []).append(index)
        for bucket in buckets.values():
            if 1 < len(bucket) <= _FULL:
                for one, other in _near_pairs(bucket, scans):
                    parents[root(one)] = root(other)
    groups: dict[int, list[int]] = {}
    for index in alone:
        groups.setdefault(root(index), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def _near_pairs(bucket: Sequence[int], scans: Sequence[Scan]) -> list[tuple[int, int]]:
    hashes = np.array([scans[index].difference for index in bucket], np.uint64)
    small = np.stack([np.asarray(scans[index].small, np.float32).ravel() for index in bucket])
    pairs = []
    for position in range(len(bucket) - 1):
        bits = np.bitwise_count(hashes[position + 1 :] ^ hashes[position])
        for offset in np.flatnonzero(bits <= NEAR_BITS):
            other = position + 1 + int(offset)
            # The hash proposes, the small copies decide: pictures of one composition share hashes
            # by chance.
            if np.abs(small[position] - small[other]).mean() <= NEAR_GREY:
                pairs.append((bucket[position], bucket[other]))
    return pairs
