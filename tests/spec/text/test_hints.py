"""Hints: other formats, specs of other networks, and the block in which a field belongs."""

import pytest

from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.text.hints import described, elsewhere, other_form, other_network
from rcnn_jax.spec.text.tokens import tokenize
from tests.spec.samples import SAMPLES

FASTER, MASK = TABLES["faster_rcnn"], TABLES["mask_rcnn"]


def form(text):
    return other_form(text, tokenize(text))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("<!DOCTYPE html>\n<html>", "a web page"),
        ('<?xml version="1.0"?>', "a web page"),
        ("[model]\narch = 1\n", "TOML"),
        ('{"model_config": {}}', "JSON"),
        ("---\nmodel: 1", "YAML"),
        ("model:\n  arch: resnet\n", "YAML"),
        ("import jax\n\nx = 1\n", "Python, which `python -m rcnn_jax.main --config=FILE` runs"),
        ("# a comment\ndef get_config():\n", "Python, which"),
        ("```\nmodel_config {\n", "Markdown: leave out the ```"),
        ("a: 1\n<<<<<<< HEAD\n", "a text with an unfinished merge"),
        ("version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    ],
)
def test_other_formats_are_called_what_they_are(text, name):
    assert form(text).startswith(name)


@pytest.mark.parametrize("text", [*SAMPLES.values(), "", "# nothing\n", "steps:\n  3\n"])
def test_a_spec_is_not_taken_for_another_format(text):
    assert form(text) == ""


@pytest.mark.parametrize(
    ("names", "network"),
    [
        ({"bbox_rasterizer_config", "model_config"}, "detectnet_v2"),
        ({"ssd_config"}, "ssd"),
        ({"yolov4_config", "training_config"}, "yolo_v4"),
        ({"train_config", "eval_config"}, "classification"),
        ({"train_config"}, ""),
        ({"model_config", "training_config"}, ""),
    ],
)
def test_specs_of_other_networks_are_known_by_fields_of_their_own(names, network):
    assert other_network(names) == network


def test_no_spec_of_ours_passes_for_one_of_another_network():
    for table in TABLES.values():
        assert other_network({field.name for field in table.fields}) == ""


@pytest.mark.parametrize(
    ("name", "table", "root", "hint"),
    [
        ("num_epochs", FASTER, FASTER, "; it belongs into training_config"),
        ("random_seed", FASTER.find("model_config").table, FASTER, "; it belongs to the top level"),
        ("random_sed", FASTER, FASTER, "; did you mean 'random_seed'?"),
        ("total_steps", FASTER, FASTER, "; specs of mask_rcnn have it"),
        ("num_epoch", FASTER, FASTER, "; did you mean 'num_epochs', which belongs into training_config?"),
        ("qqqqqqqq", FASTER, FASTER, ""),
        ("abc", FASTER, FASTER, ""),
    ],
)  # fmt: skip
def test_an_unknown_field_is_sent_where_it_belongs(name, table, root, hint):
    assert elsewhere(name, table, root) == hint


def test_the_fields_that_tell_a_kind_are_listed_up_to_three():
    names = {field.name for field in MASK.fields} | {"stranger"}
    told = described("mask_rcnn", names).split(", ")
    assert len(told) == 3 and told == sorted(told) and "stranger" not in told
