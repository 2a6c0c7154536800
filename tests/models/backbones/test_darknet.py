import numpy as np
import pytest

from rcnn_jax.models import FasterRcnn, narrowed
from tests.reference import darknet as slow
from tests.reference.backbone_cases import features, seeded_variables


@pytest.mark.parametrize(
    ("arch", "trunk", "tail"),
    [
        ("darknet:19", slow.TRUNK_19, slow.TAIL_19),
        ("darknet:53", slow.TRUNK_53, slow.TAIL_53),
    ],
)
def test_features_agree_with_a_slow_reading_of_the_papers(arch, trunk, tail):
    model = narrowed(FasterRcnn(arch, 3, 9, pool_size=2, pool_size_2x=True), 1 / 32)
    variables = seeded_variables(model)
    layers = [row[0] for row in (*trunk, *tail) if isinstance(row, tuple)]
    backbone = [name for name in variables["params"] if not name.startswith(("rpn_", "dense_"))]
    assert sorted(backbone) == sorted([*layers, *(f"{name}_bn" for name in layers)])
    pixels = np.random.default_rng(1).normal(0, 1, (1, 37, 54, 3)).astype(np.float32)
    ours, vector = features(model, variables, pixels)
    expected = slow.run(trunk, variables, pixels.astype(np.float64))
    assert ours.shape[:3] == expected.shape[:3] == ((1, 3, 4) if arch[-2:] == "53" else (1, 2, 3))
    np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)
    mean = slow.run(tail, variables, expected).mean((1, 2))
    np.testing.assert_allclose(vector, mean, atol=1e-5 * np.abs(mean).max(), rtol=0)
