import numpy as np

from rcnn_jax.data.loader.image_cache import CachedImages
from tests.data.loader.test_batching import Memory


class Counted(Memory):
    """A source that counts what it decodes."""

    def __init__(self):
        super().__init__([(10, 20)] * 4, [[]] * 4)
        self.decoded = []

    def image(self, index, channel_order):
        self.decoded.append(index)
        return super().image(index, channel_order)


def test_an_image_is_decoded_once_per_channel_order():
    source = Counted()
    cached = CachedImages(source)
    first, again = cached.image(2, "rgb"), cached.image(2, "rgb")
    assert first is again and source.decoded == [2]
    assert cached.image(2, "l").shape == (10, 20, 1)
    assert source.decoded == [2, 2]
    np.testing.assert_array_equal(first, source.image(2, "rgb"))


def test_the_images_used_last_stay_within_the_limit():
    source = Counted()
    cached = CachedImages(source, limit=2 * 600)
    for index in (0, 1, 0, 2, 0, 1):
        cached.image(index, "rgb")
    assert source.decoded == [0, 1, 2, 1]


def test_what_is_kept_cannot_be_written_to():
    assert not CachedImages(Counted()).image(0, "rgb").flags.writeable
    small = Counted()
    cached = CachedImages(small, limit=0)
    cached.image(0, "rgb"), cached.image(0, "rgb")
    assert small.decoded == [0, 0]


def test_all_else_is_that_of_the_source():
    source = Counted()
    cached = CachedImages(source)
    assert len(cached) == 4 and cached.name(1) == "image-1" and cached.size(1) == (10, 20)
    assert cached.class_names == source.class_names and cached.findings == ()
    assert not len(cached.annotation(0).boxes)
