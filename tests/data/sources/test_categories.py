import pytest

from rcnn_jax.data.sources.categories import Categories, choose_categories, numbered_categories
from rcnn_jax.errors import SpecError


def test_one_class_more_than_categories_renumbers_the_ids():
    categories = choose_categories({7: "cat", 3: "dog"}, 3, "val.json")
    assert categories == Categories((3, 7), ("dog", "cat"))
    assert categories.class_ids == {3: 0, 7: 1}
    assert categories.unused == ()


def test_more_classes_than_the_largest_id_uses_ids_as_they_are():
    categories = choose_categories({1: "dog", 4: "cat"}, 6, "val.json")
    assert categories.ids == (1, 0, 0, 4, 0)
    assert categories.names == ("dog", "(unused 2)", "(unused 3)", "cat", "(unused 5)")
    assert categories.class_ids == {1: 0, 4: 3}
    assert categories.unused == (1, 2, 4)


def test_both_rules_agree_where_ids_have_no_gaps():
    names = {1: "a", 2: "b"}
    assert choose_categories(names, 3, "x").ids == (1, 2)


@pytest.mark.parametrize("num_classes", [2, 4, 7])
def test_any_other_number_is_an_error_that_names_both(num_classes):
    with pytest.raises(SpecError) as caught:
        choose_categories({2: "a", 7: "b"}, num_classes, "val.json")
    assert str(caught.value) == (
        f"data_config.num_classes = {num_classes} does not fit val.json, which has 2 categories "
        "with ids up to 7: set it to 3 (categories + 1: ids are renumbered) or to 8 or more "
        "(largest id + 1: ids are used as they are)"
    )


def test_without_annotations_classes_are_numbered_from_one():
    assert numbered_categories(3) == Categories((1, 2), ("category 1", "category 2"))
