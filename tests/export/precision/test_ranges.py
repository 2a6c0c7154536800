import numpy as np
import pytest

from rcnn_jax.errors import ExportError
from rcnn_jax.export.precision.ranges import BINS, Histogram


def histogram(*arrays):
    result = Histogram()
    for array in arrays:
        result.add(np.asarray(array, np.float32), "x")
    return result


def test_counts_do_not_depend_on_the_order_of_the_batches():
    """The range doubles by merging pairs of bins: what was counted stays in its place."""
    rng = np.random.default_rng(0)
    small, large = rng.uniform(0.25, 1.0, 1000), rng.uniform(1.0, 7.9, 1000)
    anchor = [8.0 - 2**-18]
    first, second = histogram(anchor, small, large), histogram([1 - 2**-21], small, large, anchor)
    assert first.counts.sum() == 2001 and second.counts.sum() == 2002
    assert first.width == second.width * 2 or first.width == second.width
    assert first.largest == second.largest == anchor[0]


def test_zeros_are_not_counted_and_signs_are_dropped():
    counted = histogram([0.0, 0.0, -4.0, 1.0])
    assert counted.counts.sum() == 2 and counted.largest == 4.0
    assert counted.counts[BINS - 1] == 1 and counted.counts[BINS // 4] == 1


def test_max_is_the_largest_value():
    assert histogram([1.0, -3.0], [2.0]).threshold("max") == 3.0


def test_percentile_leaves_out_one_in_ten_thousand():
    """20000 values up to 1 and two outliers: 99.99 % end where the values end."""
    values = np.concatenate([np.linspace(0.0001, 1.0, 20000), [50.0, 100.0]])
    assert histogram(values).threshold("percentile") == pytest.approx(1.0, abs=2 * 100 / BINS)
    assert histogram(values).threshold("max") == 100.0


def test_entropy_clips_outliers_and_keeps_what_is_dense():
    rng = np.random.default_rng(1)
    dense = np.abs(rng.normal(0, 1.0, 100_000))
    threshold = histogram(np.concatenate([dense, [40.0, 60.0]])).threshold("entropy")
    assert 2.0 < threshold < 8.0
    flat = rng.uniform(0.01, 1.0, 100_000)
    assert histogram(flat).threshold("entropy") > 0.95, "nothing is clipped of a flat distribution"


def test_no_threshold_is_beyond_the_largest_value():
    rng = np.random.default_rng(2)
    values = rng.gamma(2.0, 1.0, 5000)
    for method in ("max", "percentile", "entropy"):
        assert 0 < histogram(values[:2500], values).threshold(method) <= values.max() * (1 + 1e-6)


@pytest.mark.parametrize("method", ["max", "percentile", "entropy"])
def test_a_tensor_of_zeros_or_of_one_number_is_no_trouble(method):
    assert histogram(np.zeros(5)).threshold(method) == 0.0
    assert histogram(np.full(5, 2.5)).threshold(method) == 2.5


def test_a_number_that_is_not_finite_names_its_tensor():
    with pytest.raises(ExportError, match="tensor 'x' holds a number that is not finite"):
        histogram([1.0, np.nan])
