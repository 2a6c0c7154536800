import pytest

from rcnn_jax.data.conversion.sample_modifier import SampleModifier
from rcnn_jax.errors import SpecError

MAPPING = {"Car": "car", "van": "Car", "person": "person", "cyclist": "bicycle"}


def make(**changes):
    return SampleModifier(source_to_target_class_mapping=MAPPING, **changes)


def test_the_default_changes_nothing():
    samples = [["car"], [], ["person", "person"]]
    assert list(SampleModifier().apply(samples, lambda s: s, 1)) == samples


def test_samples_of_a_single_filtered_class_are_left_out():
    modifier = make(filter_samples_containing_only=("car",))
    assert modifier.copies(["car", "van"]) == 0
    assert modifier.copies(["car", "tree"]) == 0  # classes without a target do not count
    assert modifier.copies(["car", "person"]) == 1
    assert modifier.copies(["person"]) == 1
    assert modifier.copies(["tree"]) == 1
    assert modifier.copies([]) == 1


def test_samples_rich_in_a_rare_class_are_duplicated():
    modifier = make(
        dominant_target_classes=("car",),
        minimum_target_class_imbalance={"person": 2.0},
        num_duplicates=3,
    )
    assert modifier.copies(["car", "person", "person"]) == 1  # 2 > 1 * 2 is false
    assert modifier.copies(["car", "person", "person", "person"]) == 4
    assert modifier.copies(["car", "cyclist"]) == 1  # 1 > 1 * 1 is false
    assert modifier.copies(["cyclist"]) == 4
    assert modifier.copies(["car"]) == 1


def test_the_cap_is_divided_among_training_partitions_and_counts_copies():
    modifier = make(dominant_target_classes=("car",), num_duplicates=1, max_training_samples=7)
    samples = [["person"], ["car"], ["person"]]
    written = list(modifier.apply(samples, lambda s: s, training_partitions=2))
    assert written == [["person"], ["person"], ["car"]]


def test_names_outside_the_mapping_are_refused():
    with pytest.raises(SpecError) as caught:
        make(dominant_target_classes=("van",))
    assert str(caught.value) == (
        "sample_modifier_config.dominant_target_classes: 'van' is not a target class of "
        "source_to_target_class_mapping; its targets are: bicycle, car, person."
    )
    with pytest.raises(SpecError, match="its targets are: none"):
        SampleModifier(filter_samples_containing_only=("car",))


def test_negative_numbers_are_refused():
    with pytest.raises(SpecError, match="sample_modifier_config.num_duplicates = -1 is negative"):
        SampleModifier(num_duplicates=-1)
