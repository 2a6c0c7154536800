"""The parser of a graph: by the form of its outputs, and none for plain ones."""

import pytest

from rcnn_jax.errors import UsageError
from rcnn_jax.export.contracts import make_header
from rcnn_jax.export.deepstream.parsers import PARSERS, parser_of
from rcnn_jax.runtime.header import DETECTIONS, MASKS
from tests.export.tiny import faster_rcnn, mask_rcnn


def test_boxes_are_read_by_the_names_of_the_header_and_masks_by_fixed_ones():
    boxes = parser_of(make_header(faster_rcnn(), "tao", None))
    masks = parser_of(make_header(mask_rcnn(), "tao", None))
    assert (boxes.outputs, boxes.masks) == ((), False)
    assert (masks.outputs, masks.masks) == ((DETECTIONS, MASKS), True)
    assert (boxes.background_first, masks.background_first) == (False, True)


def test_functions_are_those_of_the_library_of_deepstream():
    names = {
        value for parser in PARSERS.values() for key, value in parser.keys.items() if "func" in key
    }
    assert names == {"NvDsInferParseCustomNMSTLT", "NvDsInferParseCustomMrcnnTLTV2"}


def test_plain_outputs_have_no_parser():
    with pytest.raises(UsageError, match="no DeepStream parser reads the contract 'plain'"):
        parser_of(make_header(faster_rcnn(), "plain", None))
