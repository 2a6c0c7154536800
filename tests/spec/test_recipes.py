"""A recipe is a name for fields: expanded once, overruled by what is given, written down as it was."""

import dataclasses

import pytest

from rcnn_jax.errors import SpecError
from rcnn_jax.spec import default_config, load_spec, parse_spec, recipes
from rcnn_jax.spec.checks import check_ranges, check_types
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.load import validate
from rcnn_jax.spec.python_file import python_file
from rcnn_jax.spec.recipes import RECIPES, Ingredient
from rcnn_jax.spec.render import render
from rcnn_jax.spec.schema import walk
from tests.spec.samples import FASTER, MASK

OPTIMIZER = "optimizer { sgd { momentum: 0.9 } }"
SMALL = 'recipe: "small_data"\n'


def faster(*changes):
    text = SMALL + FASTER
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return parse_spec(text, "a.txt", task="train")


@pytest.fixture
def of_a_later_version(monkeypatch):
    """The recipe with another value, and with a row more."""
    later = (
        Ingredient({"training_config.ema_decay": 0.5}),
        Ingredient({"training_config.clip_norm": 3.0}),
        Ingredient({"training_config.layer_decay": 0.75}),
    )
    monkeypatch.setitem(RECIPES["small_data"], "faster_rcnn", later)


def rows():
    return [
        (name, kind, path)
        for name, kinds in RECIPES.items()
        for kind, ingredients in kinds.items()
        for row in ingredients
        for path in (*row.fields, *row.unless, *row.needs)
    ]


@pytest.mark.parametrize(("name", "kind", "path"), rows())
def test_every_row_names_a_field(name, kind, path):
    assert path in dict(walk(TABLES[kind]))


@pytest.mark.parametrize("kind", ["faster_rcnn", "mask_rcnn"])
def test_every_value_of_a_recipe_is_of_its_type_and_in_its_range(kind):
    for name in RECIPES:
        config = default_config(kind, recipe=name)
        table = TABLES[kind]
        assert [*check_types(config, table), *check_ranges(config, table)] == []


def test_a_recipe_sets_its_fields_and_says_so():
    spec = faster()
    training = spec.config.training_config
    assert (training.ema_decay, training.clip_norm, training.gt_as_roi) == (0.995, 10.0, True)
    stopping = training.early_stopping
    assert (stopping.enabled, stopping.monitor, stopping.patience) == (True, "map", 10)
    lines = spec.notes[-1].splitlines()
    assert lines[0] == f'recipe "small_data" sets {len(spec.config.recipe_fields)} fields:'
    assert "  training_config.ema_decay = 0.995" in lines
    assert '  training_config.early_stopping.monitor = "map"' in lines
    # The rate of the recipe is that of its optimizer, and this spec has one.
    assert lines[-1] == (
        "  given in the spec, and kept: training_config.optimizer, training_config.learning_rate"
    )
    assert "base_lr" not in spec.notes[-1]


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ("clip_norm: 0", "clip_norm", 0.0),
        ("gt_as_roi: false", "gt_as_roi", False),
        ("ema_decay: 0.9", "ema_decay", 0.9),
        ("enable_augmentation: False", "enable_augmentation", False),
    ],
)
def test_a_given_field_wins_also_as_zero_or_false(given, field, value):
    spec = faster((OPTIMIZER, f"{OPTIMIZER} {given}"))
    assert spec.config.training_config[field] == value
    assert f"training_config.{field}" not in spec.config.recipe_fields
    assert f"training_config.{field}" in spec.notes[-1].splitlines()[-1]


def test_early_stopping_can_be_switched_off():
    stopping = faster(
        (OPTIMIZER, OPTIMIZER + " early_stopping { patience: 0 }")
    ).config.training_config.early_stopping
    assert (stopping.monitor, stopping.patience) == ("loss", 0)


def test_without_validation_data_nothing_waits_for_average_precision():
    assert not faster(("validation_fold: 0", "")).config.training_config.early_stopping.enabled


def test_a_spec_without_an_optimizer_gets_that_of_the_recipe_with_its_rate():
    text = SMALL + FASTER.replace(OPTIMIZER, "")
    start = text.index("learning_rate {")
    rate = text[start : text.index("} }", start) + 3]
    training = parse_spec(text.replace(rate, ""), task="train").config.training_config
    assert training.optimizer.sgd.enabled
    assert training.learning_rate.cosine.base_lr == 0.015


def test_masks_have_a_recipe_of_their_own():
    config = parse_spec(SMALL + MASK, task="train").config
    assert (config.ema_decay, config.data_config.scale_jitter_min) == (0.995, 0.8)
    assert parse_spec(SMALL + MASK + "ema_decay: 0").config.ema_decay == 0.0


def test_an_unknown_recipe_is_refused_with_the_list():
    text = 'recipe: "smal_data"\n' + FASTER.replace(OPTIMIZER, "")
    with pytest.raises(SpecError) as error:
        parse_spec(text, "a.txt")
    # Alone: that an optimizer is missing follows from it.
    assert str(error.value).startswith("a.txt:1:1: recipe = 'smal_data' is not 'small_data'")
    assert "\n" not in str(error.value)
    with pytest.raises(
        SpecError, match=r"recipe 'big': unknown for mask_rcnn; known: 'small_data'"
    ):
        default_config("mask_rcnn", recipe="big")


def test_an_error_in_what_a_recipe_sets_points_at_the_recipe(monkeypatch):
    monkeypatch.setitem(
        RECIPES["small_data"],
        "faster_rcnn",
        (Ingredient({"training_config.rpn_min_overlap": 0.9}),),
    )
    with pytest.raises(
        SpecError, match=r"a.txt:1:1: training_config.rpn_min_overlap = 0.9 is not below"
    ):
        faster(("rpn_min_overlap: 0.3", ""))


def test_what_is_written_down_is_expanded_and_stays_as_it_was(of_a_later_version, monkeypatch):
    monkeypatch.undo()
    first = faster()
    text = render(first.config, "faster_rcnn")
    assert parse_spec(text, task="train").config == first.config
    later = (Ingredient({"training_config.layer_decay": 0.75}),)
    monkeypatch.setitem(RECIPES["small_data"], "faster_rcnn", later)
    again = parse_spec(text, task="train")
    assert again.config == first.config
    assert again.config.training_config.layer_decay == 1.0
    assert not any("recipe" in note for note in again.notes)


def test_a_recipe_of_which_every_field_is_given_is_marked_as_expanded(monkeypatch):
    row = (Ingredient({"training_config.clip_norm": 3.0}),)
    monkeypatch.setitem(RECIPES["small_data"], "faster_rcnn", row)
    spec = faster((OPTIMIZER, f"{OPTIMIZER} clip_norm: 1"))
    assert spec.config.recipe_fields == (recipes.NOTHING,)
    assert spec.notes[-1].startswith('recipe "small_data" sets 0 fields\n  given in the spec')


def test_a_run_that_goes_on_keeps_the_recipe_it_began_with(tmp_path, monkeypatch):
    path = tmp_path / "spec.txt"
    path.write_text(SMALL + FASTER)
    begun = load_spec(path, task="train")
    later = (
        Ingredient({"training_config.ema_decay": 0.5}),
        Ingredient({"training_config.layer_decay": 0.75}),
    )
    monkeypatch.setitem(RECIPES["small_data"], "faster_rcnn", later)
    assert load_spec(path, task="train").config.training_config.layer_decay == 0.75
    on = load_spec(path, task="train", recorded=render(begun.config, "faster_rcnn"))
    assert on.config == begun.config
    assert "as it was when this run began" in on.notes[-1]
    # What the user writes today still wins, and the fingerprint of the run has the last word.
    path.write_text(SMALL + FASTER.replace(OPTIMIZER, f"{OPTIMIZER} clip_norm: 1"))
    on = load_spec(path, task="train", recorded=render(begun.config, "faster_rcnn"))
    assert on.config.training_config.clip_norm == 1.0
    assert on.config.training_config.ema_decay == 0.995


def test_in_python_the_recipe_comes_first_and_assignments_win():
    config = default_config("mask_rcnn", recipe="small_data")
    assert (config.recipe, config.ema_decay) == ("small_data", 0.995)
    assert "ema_decay" in config.recipe_fields
    config.ema_decay = 0.0
    assert config.ema_decay == 0.0


def test_a_config_that_names_a_recipe_without_its_fields_is_refused():
    config = faster().config
    with config.unlocked():
        config.recipe_fields = ()
    with pytest.raises(SpecError, match=r"config.recipe = 'small_data' has no effect in a config"):
        validate(config, "faster_rcnn")
    with pytest.raises(SpecError, match="recipe_fields needs recipe"):
        parse_spec(FASTER + 'recipe_fields: "none"')


def test_a_translated_config_file_has_what_the_recipe_sets():
    spec = faster()
    source = python_file(spec, "a.py")
    scope = {}
    exec(compile(source, "a.py", "exec"), scope)
    config = scope["get_config"]()
    validate(config, "faster_rcnn", "train")
    assert config.training_config.ema_decay == 0.995
    assert config.to_json_best_effort() == spec.config.to_json_best_effort()


def test_the_ingredients_are_values():
    assert all(
        dataclasses.is_dataclass(row) for kinds in RECIPES.values() for row in kinds["mask_rcnn"]
    )
