import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.ops.sampler import sample_indices, sample_labels

KEY = jax.random.key(0)
LABELS = np.repeat(np.int32([1, 0, -1]), [12, 20, 8])


@pytest.mark.parametrize(
    ("positives", "negatives", "kept_positives", "kept_negatives"),
    [(12, 20, 8, 8), (3, 20, 3, 13), (12, 5, 8, 5), (0, 20, 0, 16), (12, 0, 8, 0), (0, 0, 0, 0)],
)
def test_counts_are_exact(positives, negatives, kept_positives, kept_negatives):
    labels = np.full(40, -1, np.int32)
    labels[:positives] = 1
    labels[20 : 20 + negatives] = 0
    sampled = sample_labels(KEY, labels, 16, 8)
    assert (sampled == 1).sum() == kept_positives
    assert (sampled == 0).sum() == kept_negatives
    assert ((sampled == labels) | (sampled == -1)).all()


def test_the_same_key_gives_the_same_sample_and_another_key_another():
    one, same = (sample_labels(KEY, LABELS, 16, 8) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    assert (one != sample_labels(jax.random.key(1), LABELS, 16, 8)).any()


def test_every_label_and_every_pair_is_equally_likely():
    trials = 4000
    keys = jax.random.split(KEY, trials)
    sampled = np.asarray(jax.jit(jax.vmap(lambda k: sample_labels(k, LABELS, 10, 4)))(keys)) >= 0
    for kind, size, kept in [(slice(0, 12), 12, 4), (slice(12, 32), 20, 6)]:
        chosen = sampled[:, kind].astype(float)
        assert (chosen.sum(axis=1) == kept).all()
        for counts, chance in [
            (chosen.sum(axis=0), kept / size),
            ((chosen.T @ chosen)[~np.eye(size, dtype=bool)], kept * (kept - 1) / size / (size - 1)),
        ]:
            deviation = np.sqrt(trials * chance * (1 - chance))
            assert np.abs(counts - trials * chance).max() < 5 * deviation


def test_no_positive_may_be_wanted():
    sampled = sample_labels(KEY, LABELS, 4, 0)
    assert ((sampled == 1).sum(), (sampled == 0).sum()) == (0, 4)


def draw(fronts, backs, with_replacement=False, count=8, most=3, key=KEY):
    """Samples from 20 candidates: 0..9 may be foreground, 10..19 background."""
    anchor = np.arange(20)
    index, foreground, valid = SAMPLE(
        key, anchor < fronts, (anchor >= 10) & (anchor < 10 + backs), count, most, with_replacement
    )
    return np.asarray(index), np.asarray(foreground), np.asarray(valid)


SAMPLE = functools.partial(jax.jit, static_argnums=(3, 4, 5))(sample_indices)


@pytest.mark.parametrize("with_replacement", [False, True])
def test_foreground_comes_first_and_background_fills_up(with_replacement):
    index, foreground, valid = draw(7, 10, with_replacement)
    np.testing.assert_array_equal(foreground, [True] * 3 + [False] * 5)
    assert valid.all()
    assert (index[:3] < 7).all()
    assert (index[3:] >= 10).all()
    assert len(set(index)) == 8


def test_too_few_candidates_leave_the_end_invalid():
    index, foreground, valid = draw(2, 4)
    np.testing.assert_array_equal(valid, [True] * 6 + [False] * 2)
    np.testing.assert_array_equal(foreground, [True] * 2 + [False] * 6)
    assert sorted(index[valid]) == [0, 1, 10, 11, 12, 13]


def test_too_few_candidates_are_drawn_again_with_replacement():
    index, foreground, valid = draw(2, 2, with_replacement=True)
    assert valid.all()
    assert sorted(index) == [0, 1] + [10] * 3 + [11] * 3
    np.testing.assert_array_equal(foreground, [True] * 2 + [False] * 6)


def test_only_foreground_fills_everything_with_replacement():
    index, foreground, valid = draw(10, 0, with_replacement=True)
    assert foreground.all()
    assert valid.all()
    assert len(set(index)) == 8
    index, foreground, _ = draw(3, 0, with_replacement=True)
    assert foreground.all()
    assert sorted(np.bincount(index)) == [2, 3, 3]


def test_only_foreground_stays_bounded_without_replacement():
    _, foreground, valid = draw(10, 0)
    np.testing.assert_array_equal(foreground, valid)
    assert valid.sum() == 3


@pytest.mark.parametrize("with_replacement", [False, True])
def test_without_candidates_nothing_is_valid(with_replacement):
    index, foreground, valid = draw(0, 0, with_replacement)
    assert not valid.any()
    assert not foreground.any()
    assert (index == 0).all()


def test_more_may_be_wanted_than_there_are_candidates():
    _, foreground, valid = draw(10, 10, count=30, most=15)
    assert (foreground.sum(), valid.sum()) == (10, 20)


def test_no_foreground_may_be_wanted():
    _, foreground, valid = draw(5, 10, count=2, most=0)
    assert not foreground.any()
    assert valid.all()


def test_index_samples_are_uniform():
    keys = jax.random.split(KEY, 3000)
    anchor = jnp.arange(20)
    sample = jax.vmap(lambda k: sample_indices(k, anchor < 10, anchor >= 10, 8, 3, False)[0])
    counts = np.bincount(np.asarray(jax.jit(sample)(keys)).ravel(), minlength=20)
    for part, chance in [(counts[:10], 0.3), (counts[10:], 0.5)]:
        assert np.abs(part - 3000 * chance).max() < 5 * np.sqrt(3000 * chance * (1 - chance))


def test_mapped_sampling_equals_the_loop():
    keys = jax.random.split(KEY, 3)
    labels = np.stack([np.roll(LABELS, i) for i in range(3)])
    mapped = jax.vmap(lambda k, x: sample_labels(k, x, 10, 4))(keys, labels)
    loop = [sample_labels(k, x, 10, 4) for k, x in zip(keys, labels, strict=True)]
    np.testing.assert_array_equal(mapped, np.stack(loop))
