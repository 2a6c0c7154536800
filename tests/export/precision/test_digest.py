"""One digest of cache, JSON and graph: scales of other weights are refused; none at all passes."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from rcnn_jax.errors import DataError
from rcnn_jax.export.conversion import with_precision
from rcnn_jax.export.precision.digest import check_digest, weights_digest, with_digest
from rcnn_jax.export.precision.quantize import insert_qdq
from rcnn_jax.export.precision.scales import (
    digest_of_cache,
    digest_of_json,
    read_cache,
    read_json,
    write_cache,
    write_json,
)
from tests.export.small import model_of

SCALES = {"x": 0.05}


def network(factor=1.0):
    """x -> hidden -> head; the head stays float."""
    rng = np.random.default_rng(0)
    weights = {name: factor * rng.normal(0, 1, (8, 8, 1, 1)) for name in ("k0", "k1")}
    nodes = [
        helper.make_node("Conv", ["x", "k0"], ["hidden"], name="hidden"),
        helper.make_node("Conv", ["hidden", "k1"], ["head"], name="head"),
    ]
    return model_of(nodes, weights, ["head"])


def test_the_digest_is_that_of_the_weights_and_survives_int8():
    model = network()
    digest = weights_digest(model)
    assert digest == weights_digest(network()) != weights_digest(network(1.0001))
    assert weights_digest(with_digest(insert_qdq(model, SCALES), digest)) == digest


def test_cache_and_json_carry_it_beside_the_scales():
    cache, scales = write_cache(SCALES, "00ff12"), write_json(SCALES, "00ff12")
    assert (digest_of_cache(cache), digest_of_json(scales)) == ("00ff12", "00ff12")
    assert read_cache(cache) == {"x": float(np.float32(0.05))}
    assert read_json(scales, "a.json") == pytest.approx(SCALES)
    assert (digest_of_cache(write_cache(SCALES)), digest_of_json(write_json(SCALES))) == ("", "")
    assert digest_of_json("[") == digest_of_json("[]") == digest_of_json('{"weights": 3}') == ""


def test_scales_of_other_weights_are_refused():
    check_digest("", network(), "cal.bin")
    check_digest(weights_digest(network()), network(), "cal.bin")
    with pytest.raises(DataError, match=r"cal\.bin: belongs to other weights of the same layout"):
        check_digest(weights_digest(network(2.0)), network(), "cal.bin")


@pytest.mark.parametrize("form", ["fp32", "int8"])
def test_the_converter_refuses_the_cache_of_another_model(tmp_path, form):
    """Also beside an int8 graph, which needs none: the two would go to one target."""
    cache = tmp_path / "cal.bin"
    cache.write_text(write_cache(SCALES, weights_digest(network(2.0))))
    model = network()
    if form == "int8":
        model = with_digest(insert_qdq(model, SCALES), weights_digest(model))
    with pytest.raises(DataError, match=rf"-c {cache}: belongs to other weights"):
        with_precision(model, "int8", cache, strict=True, name="a.onnx")
    cache.write_text(write_cache(SCALES, weights_digest(network())))
    converted = with_precision(model, "int8", cache, strict=True, name="a.onnx")
    assert weights_digest(converted) == weights_digest(network())
    stored = {t.name: numpy_helper.to_array(t) for t in converted.graph.initializer}
    assert stored["x/scale"] == np.float32(0.05)
