"""The sweep file: what it defines, and one message for what is wrong in it."""

import pytest

from rcnn_jax.errors import UsageError
from rcnn_jax.spec.load import parse_spec
from rcnn_jax.sweep.definition import Constraint, read_definition
from tests.e2e.tiny import write_tiny

FIELD = "training_config.regularizer.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("sweep")
    write_tiny(root, images=4)
    return root


def define(folder, text):
    path = folder / "sweep_x.py"
    path.write_text(f'from rcnn_jax.sweep import Choice, Float, Int\nSPEC = "spec.txt"\n{text}\n')
    return read_definition(path)


def test_a_space_is_read_with_objectives_and_constraints(folder):
    sweep = define(
        folder,
        f'SPACE = {{"{FIELD}": Float(1e-6, 1e-3)}}\nOBJECTIVE = {{"mAP": "max", "latency_ms": "min"}}\n'
        'CONSTRAINTS = ["latency_ms <= 15", "mAP >= 0.5"]',
    )
    assert sweep.kind == "faster_rcnn"
    assert list(sweep.objectives) == ["mAP", "latency_ms"]
    assert sweep.constraints == (
        Constraint("latency_ms", "<=", 15.0),
        Constraint("mAP", ">=", 0.5),
    )
    assert sweep.measures == {"mAP", "latency_ms"}


def test_the_spec_of_a_trial_has_its_values_and_keeps_the_rest(folder):
    sweep = define(folder, f'SPACE = {{"{FIELD}": Float(1e-6, 1e-3)}}')
    text = sweep.spec_of({FIELD: 0.25, "training_config.num_epochs": 7, "random_seed": 3})
    config = parse_spec(text).config
    assert config.training_config.regularizer.weight == 0.25
    assert config.training_config.num_epochs == 7
    assert config.random_seed == 3
    assert config.training_config.rpn_mini_batch == 32


def test_a_list_of_trials_is_read(folder):
    sweep = define(folder, f'def trials():\n  for w in (0.1, 0.2):\n    yield {{"{FIELD}": w}}')
    assert sweep.listed == ({FIELD: 0.1}, {FIELD: 0.2})


def test_bounds_say_by_how_much_they_are_broken():
    assert Constraint("a", "<=", 15).violation(20) == 5
    assert Constraint("a", ">=", 15).violation(20) == -5


def test_the_digest_changes_with_what_is_searched_for(folder):
    first = define(folder, f'SPACE = {{"{FIELD}": Float(1e-6, 1e-3)}}').digest
    assert define(folder, f'SPACE = {{"{FIELD}": Float(1e-6, 1e-3)}}').digest == first
    assert define(folder, f'SPACE = {{"{FIELD}": Float(1e-6, 1e-2)}}').digest != first


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "either SPACE"),
        ("SPACE = {}", "SPACE: expected fields"),
        (f'SPACE = {{"{FIELD}": 3}}', "found another value for training_config"),
        ('SPACE = {"training_config.nothing": Float(0, 1)}', "no field training_config.nothing"),
        ('SPACE = {"training_config.num_epochs": Choice("many")}', "training_config.num_epochs"),
        ("def trials():\n  return []", "trials(): expected dicts"),
        ("SPACE = 1 / 0", "sweep_x.py:3: ZeroDivisionError"),
        ("SPACE = (", "sweep_x.py:3: SyntaxError"),
        (f'SPACE = {{"{FIELD}": Float(0, 1)}}\nOBJECTIVE = {{"mAP": "up"}}', "OBJECTIVE"),
        (f'SPACE = {{"{FIELD}": Float(0, 1)}}\nCONSTRAINTS = ["fast"]', "'fast' is no"),
        (f'SPACE = {{"{FIELD}": Float(2, 1)}}', "holds no value"),
        ("trials = 5", "trials: expected a function, found 5"),
        ("def trials():\n  yield 3", "trials(): expected dicts"),
        ("def trials():\n  yield {3: 1}", "trials(): expected dicts"),
        ("def trials():\n  return 1 / 0", "sweep_x.py:4: ZeroDivisionError"),
        ("def trials():\n  while True:\n    yield {}", "at most 10000 trials, found more"),
        ("SPACE = {3: Float(0, 1)}", "found another value for 3"),
        (f'SPACE = {{"{FIELD}": Float(0, 1)}}\nOBJECTIVE = {{"mAP": ["max"]}}', "OBJECTIVE"),
        (f'SPACE = {{"{FIELD}": Float(0, 1)}}\nOBJECTIVE = 7', "OBJECTIVE"),
        (f'SPACE = {{"{FIELD}": Float(0, 1)}}\nCONSTRAINTS = 15', "'15' is no"),
        (f'SPACE = {{"{FIELD}": Float(0, 1)}}\nCONSTRAINTS = ["mAP >= 1.2.3"]', "'mAP >= 1.2.3'"),
    ],
)
def test_what_is_wrong_is_one_message_with_its_place(folder, text, words):
    with pytest.raises(UsageError) as error:
        define(folder, text)
    assert words in str(error.value)


def test_a_missing_file_and_a_spec_of_records_are_refused(folder, tmp_path):
    with pytest.raises(UsageError, match="no such sweep file"):
        read_definition(tmp_path / "none.py")
    path = tmp_path / "sweep.py"
    path.write_text("x = 1")
    with pytest.raises(UsageError, match="expected SPEC"):
        read_definition(path)
