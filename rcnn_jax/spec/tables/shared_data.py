"""Fields of ours about training images that both detectors have, with one number and one text each."""

from rcnn_jax.spec.schema import BELOW_ONE, UNIT, count, real

REPEATS = real(
    "repeat_factor_threshold",
    1223,
    0.0,
    "Images are drawn more often that hold a class which fewer than this fraction of the images has, "
    "up to the root of threshold / fraction; 0: every image once an epoch.",
    allowed=UNIT,
)
"""Repeat-factor sampling (LVIS, 2019)."""

COMPOSITES = (
    real(
        "copy_paste_probability",
        1224,
        0.0,
        "Probability that objects of another training image are pasted onto an image: by their masks, or "
        "as crops with soft edges where there are boxes only.",
        allowed=UNIT,
    ),
    real(
        "mosaic_probability",
        1225,
        0.0,
        "Probability that an image is joined from parts of four training images.",
        allowed=UNIT,
    ),
    real(
        "mosaic_off",
        1226,
        0.15,
        "With mosaic_probability: the last fraction of the run, in steps, that has no mosaics.",
        allowed=UNIT,
    ),
)
"""Training images made from several."""

TILES = (
    count(
        "tile_size",
        1230,
        0,
        "Side in pixels of square tiles that images are cut into, for training, evaluation and inference "
        "of files; each fills the canvas. 0: images are not cut.",
    ),
    real(
        "tile_overlap",
        1231,
        0.2,
        "With tile_size: overlap of neighbouring tiles as a fraction of their side. Objects up to that "
        "size are seen whole.",
        allowed=BELOW_ONE,
    ),
)
"""Tiles of large images with tiny objects."""
