"""The kind of a spec, from the names of its outermost fields."""

import pytest

from rcnn_jax.spec.kinds import TABLES, kind_of


@pytest.mark.parametrize("kind", TABLES)
def test_all_fields_of_a_kind_name_it(kind):
    assert kind_of({field.name for field in TABLES[kind].fields}) == kind


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ({"model_config", "training_config"}, "faster_rcnn"),
        ({"maskrcnn_config"}, "mask_rcnn"),
        ({"kitti_config", "stranger"}, "dataset_convert"),
        ({"stranger"}, None),
        (set(), None),
    ],
)
def test_strangers_do_not_matter_and_a_tie_is_no_answer(names, kind):
    assert kind_of(names) == kind


def test_a_name_of_two_kinds_alone_is_a_tie():
    common = {f.name for f in TABLES["faster_rcnn"].fields} & {
        f.name for f in TABLES["mask_rcnn"].fields
    }
    for name in common:
        assert kind_of({name}) is None
