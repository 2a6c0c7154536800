"""Default configs: what a config file in Python starts from."""

import pytest

from rcnn_jax.spec.defaults import default_block, default_config


def test_fields_can_be_set_and_mistyped_ones_cannot():
    config = default_config("mask_rcnn")
    config.total_steps = 7
    with pytest.raises(AttributeError):
        config.total_stepz = 7


def test_a_block_of_a_list_has_its_defaults():
    source = default_block("faster_rcnn", "dataset_config.data_sources")
    source.tfrecords_path = "records/*"
    with pytest.raises(AttributeError):
        source.tfrecord_path = "records/*"


@pytest.mark.parametrize("path", ["dataset_config.data_source", "random_seed", ""])
def test_what_is_no_block_is_an_error(path):
    with pytest.raises(KeyError, match="a faster_rcnn spec has no block"):
        default_block("faster_rcnn", path)
