from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rcnn_jax.data.conversion.partition import (
    random_partitions,
    sequence_partitions,
    shard_path,
    shards,
)


@given(st.integers(0, 200), st.floats(0, 99.9), st.integers(0, 2**32))
def test_a_random_division_loses_and_doubles_nothing(count, val_split, seed):
    validation, training = random_partitions(range(count), val_split, seed)
    assert sorted(validation + training) == list(range(count))
    assert len(validation) == int(val_split / 100 * count)


def test_a_random_division_is_random_and_seeded():
    items = list(range(1000))
    validation, training = random_partitions(items, 20, seed=1)
    assert [validation, training] == random_partitions(items, 20, seed=1)
    assert set(validation) != set(random_partitions(items, 20, seed=2)[0])
    # The mean of 200 random items of 0..999 is 499.5 with a deviation of about 18.
    assert 400 < sum(validation) / 200 < 600
    assert training != sorted(training)


def test_sequences_are_dealt_longest_first_into_reversed_partitions():
    sequences = {"b": [1, 2], "a": [3, 4], "long": [5, 6, 7], "short": [8]}
    # Order: long, a, b, short; dealt to 0, 1, 0, 1; then reversed.
    assert sequence_partitions(sequences, 2) == [[3, 4, 8], [5, 6, 7, 1, 2]]
    assert sequence_partitions(sequences, 0) == [[5, 6, 7, 3, 4, 1, 2, 8]]
    assert sequence_partitions({"a": [1]}, 3) == [[], [], [1]]


def test_shards_are_equal_with_the_remainder_in_the_last():
    assert shards([1, 2, 3, 4, 5, 6, 7, 8], 3) == [[1, 2], [3, 4], [5, 6, 7, 8]]
    assert shards([1, 2], 3) == [[], [], [1, 2]]
    assert shards([1, 2], 0) == [[1, 2]]


def test_file_names_leave_out_what_is_not_counted():
    def name(num_partitions, num_shards):
        path = shard_path(
            Path("out/kitti.v1"),
            partition=1,
            num_partitions=num_partitions,
            shard=3,
            num_shards=num_shards,
        )
        return str(path)

    assert name(2, 10) == "out/kitti.v1-fold-001-of-002-shard-00003-of-00010"
    assert name(2, 0) == "out/kitti.v1-fold-001-of-002"
    assert name(0, 10) == "out/kitti.v1-shard-00003-of-00010"
    assert name(0, 0) == "out/kitti.v1"
