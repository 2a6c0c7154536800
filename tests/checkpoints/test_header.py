import pytest

from rcnn_jax.checkpoints.header import check_header
from rcnn_jax.errors import CheckpointError
from tests.checkpoints.mutants import HEADER


def message(header) -> str:
    with pytest.raises(CheckpointError) as error:
        check_header(header, "m.tlt")
    return str(error.value).removeprefix("m.tlt: is not as this program writes bundles: ")


def test_a_header_is_returned_as_it_is_with_fields_of_later_releases():
    header = {**HEADER, "of_a_later_release": [1]}
    assert check_header(header, "m.tlt") == header


@pytest.mark.parametrize("field", ["spec", "class_names", "arch", "channel_plan", "convention"])
def test_every_header_has_the_fields_of_a_model(field):
    header = {name: value for name, value in HEADER.items() if name != field}
    assert message(header) == f"its header lacks {field}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("spec", 5),
        ("class_names", []),
        ("class_names", "car"),
        ("class_names", ["car", None]),
        ("channel_plan", {"conv1": 0}),
        ("channel_plan", {"conv1": 10**12}),
        ("channel_plan", {"conv1": True}),
        ("category_ids", [1, -2]),
        ("category_ids", [1, 2.0]),
        ("step", -1),
        ("step", 2**40),
        ("run_state", {"step": 7}),
        ("run_state", {"run_id": "abc", "best_metric": "high"}),
        ("run_state", {"run_id": "abc", "best_loss": float("nan")}),
        ("run_state", {"run_id": "abc", "due": 1}),
        ("convention", None),
        ("created_with", {"jax": 1}),
    ],
)
def test_a_field_of_another_type_or_range_is_named(field, value):
    text = message({**HEADER, field: value})
    assert text == f"the field {field} of its header is {value!r}"


def test_fields_that_contradict_each_other_are_named():
    assert message({**HEADER, "category_ids": [1]}) == "it has 2 classes, 1 ids"
    assert message({n: v for n, v in HEADER.items() if n != "step"}).startswith("it has the state")
    assert message([]) == "its header is no list of fields"


def test_a_number_of_hundreds_of_digits_is_refused_in_one_message():
    text = message({**HEADER, "run_state": {"run_id": "abc", "best_loss": 10**400}})
    assert text.startswith(
        "the field run_state of its header is {'run_id': 'abc', 'best_loss': 1000"
    )
