"""Repeat-factor sampling: images of rare classes are drawn more often than once an epoch.

    share of images that hold a class --> factor of the class --> largest factor of an image's classes

f(c) is the fraction of the images that hold class c, its factor max(1, sqrt(t / f(c))) for a threshold
t. An image has the largest factor of its classes; one without objects has 1. An epoch is longer than
the data set by the mean factor, so no image comes less often than it did.

Source: Gupta, Dollar, Girshick: LVIS: A Dataset for Large Vocabulary Instance Segmentation
(arXiv 1908.03195, 2019), appendix B.
"""

import numpy as np

from rcnn_jax.data.sources.boxes import Source

ONE = 1 << 16
"""A factor of 1. Whole numbers, because a plan must be the same on every machine to the last record."""


def repeat_factors(source: Source, threshold: float) -> np.ndarray | None:
    """Returns the factor of every image.

    Crowd regions do not count: nothing is learnt from them.

    Args:
      source: the training images; their annotations are read, no pixels.
      threshold: t, in [0, 1].

    Returns:
      i64[records] in units of 1 / ONE, at least ONE; None where no image comes more often.
    """
    if threshold <= 0:
        return None
    classes = []
    for record in range(len(source)):
        annotation = source.annotation(record)
        classes.append(np.unique(annotation.classes[~annotation.crowd]))
    images = np.bincount(np.concatenate(classes), minlength=1) if classes else np.zeros(1)
    # Classes that no image holds divide by nothing that is used.
    of_class = np.sqrt(threshold * len(source) / np.maximum(images, 1))
    factors = np.array(
        [max(1.0, *of_class[present]) if len(present) else 1.0 for present in classes]
    )
    rounded = np.rint(factors * ONE).astype(np.int64)
    return rounded if (rounded > ONE).any() else None


def expected_draws(factors: np.ndarray | None, records: int) -> int:
    """Returns the images of an epoch, to the nearest one above."""
    return records if factors is None else -(-int(factors.sum()) // ONE)


def describe(factors: np.ndarray) -> str:
    """Returns one sentence on what the factors do."""
    often = factors[factors > ONE]
    return (
        f"repeat_factor_threshold: {len(often)} of {len(factors)} images are drawn more than once an "
        f"epoch, at most {often.max() / ONE:.1f} times; an epoch has {factors.sum() / ONE:.0f} images"
    )
