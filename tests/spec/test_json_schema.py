"""The JSON Schema against the tables, and against the configs that it describes."""

import json

import pytest

from rcnn_jax.cli.main import main
from rcnn_jax.spec.json_schema import is_searched, json_schema
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.schema import walk


def at(schema, path):
    for name in path.split("."):
        schema = schema.get("items", schema)["properties"][name]
    return schema


@pytest.mark.parametrize("kind", list(TABLES))
def test_every_field_but_secrets_is_described(kind):
    schema = json_schema(kind)
    for path, field in walk(TABLES[kind]):
        if field.secret:
            with pytest.raises(KeyError):
                at(schema, path)
        else:
            assert at(schema, path)["description"].startswith(field.doc)


@pytest.mark.parametrize("kind", list(TABLES))
def test_the_schema_is_plain_json_without_infinities(kind):
    text = json.dumps(json_schema(kind), allow_nan=False)
    assert json.loads(text)["$schema"].startswith("https://json-schema.org/")


def test_numbers_carry_their_ranges_for_validators_and_for_searches():
    weight = at(json_schema("faster_rcnn"), "training_config.regularizer.weight")
    assert (weight["type"], weight["minimum"], weight["exclusiveMaximum"]) == ("number", 0, 1)
    assert (weight["automl_enabled"], weight["valid_min"], weight["valid_max"]) == ("TRUE", 0, 1)


@pytest.mark.parametrize("kind", ["faster_rcnn", "mask_rcnn"])
def test_what_a_search_may_change_has_an_effect_and_is_listed(kind):
    schema = json_schema(kind)
    listed = set(schema["automl_default_parameters"])
    assert len(listed) > 20
    for path, field in walk(TABLES[kind]):
        if path in listed:
            assert is_searched(field)
            assert not field.no_effect
            assert at(schema, path)["automl_enabled"] == "TRUE"
        if field.reads or field.kind == "string":
            assert path not in listed


def test_the_command_prints_one_kind_or_all(capsys):
    assert main(["spec", "schema", "--json", "--kind", "mask_rcnn"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "mask_rcnn spec"
    assert main(["spec", "schema", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(TABLES)
