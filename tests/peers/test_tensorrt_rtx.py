"""NVIDIA's own parser and builder take every kind of export: the gate that the table stands for.

The packages of the extra `rtx` need no GPU. A build is no run on a card.
"""

import functools
import importlib.util

import pytest

from rcnn_jax.export.lowering.portable import Forms, to_portable
from rcnn_jax.export.precision.fp16 import to_fp16
from rcnn_jax.export.precision.model_view import ModelView
from rcnn_jax.export.precision.placement import place
from rcnn_jax.export.precision.quantize import insert_qdq
from rcnn_jax.export.verification.tensorrt_gate import complaints
from rcnn_jax.reporter import SILENT
from rcnn_jax.runtime import tensorrt_rtx
from rcnn_jax.runtime.tensorrt_rtx import RtxSettings
from tests.export import tiny

pytestmark = pytest.mark.peers

if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
    reason = "the extra rcnn-jax[rtx] is not installed; `make test-peers` does where it can"
    pytest.skip(reason, allow_module_level=True)

GRID = Forms(nms="loop", roi_align="grid")
GATHER = Forms(nms="loop", roi_align="gather")


@functools.cache
def graph_of(kind, contract, batch):
    return tiny.graph(getattr(tiny, kind)(), contract=contract, batch=batch)[0]


def lowered(model, types):
    if types.startswith("int8"):
        model = insert_qdq(model, dict.fromkeys(place(ModelView(model)).readers, 0.05))
    return to_fp16(model) if types in ("fp16", "int8 in fp16") else model


def builds(model, *targets):
    assert complaints(model) == []  # what the table lets pass, the builder takes
    trt = tensorrt_rtx.library("the test")
    settings = RtxSettings(targets=targets, batches=(1, 1, 2))
    return len(tensorrt_rtx.build(trt, model.SerializeToString(), settings, SILENT)) > 100_000


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("types", ["fp32", "fp16", "int8", "int8 in fp16"])
@pytest.mark.parametrize("contract", ["tao", "plain"])
@pytest.mark.parametrize("kind", ["faster_rcnn", "mask_rcnn"])
def test_every_kind_of_export_is_built(kind, contract, types, batch):
    assert builds(to_portable(lowered(graph_of(kind, contract, batch), types)), "sm89")


@pytest.mark.parametrize("forms", [GRID, GATHER])
@pytest.mark.parametrize("types", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", ["faster_rcnn", "mask_rcnn"])
def test_every_form_is_built_for_all_generations_at_once(kind, types, forms):
    model = to_portable(lowered(graph_of(kind, "tao", None), types), forms)
    turing = ("sm75",) if types == "fp16" else ()
    assert builds(model, *turing, "sm80", "sm86", "sm89", "sm120")


@pytest.mark.parametrize("arch", ["vgg:16", "googlenet", "mobilenet_v2", "efficientnet:b0"])
def test_other_backbones_are_built(arch):
    model = tiny.graph(tiny.faster_rcnn(arch), contract="tao")[0]
    for types in ("fp32", "fp16", "int8 in fp16"):
        assert builds(to_portable(lowered(model, types)), "sm89")
