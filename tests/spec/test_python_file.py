"""A spec becomes a config file in Python that says the same, field by field, and can be edited."""

import runpy
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from rcnn_jax.spec import default_block, default_config, load_spec, parse_spec, validate
from rcnn_jax.spec.python_file import python_file
from tests.spec.samples import FASTER, MASK, SAMPLES

GENERATIONS = sorted((Path(__file__).parent / "generations").glob("*.txt"))


def source(text: str, kind=None) -> str:
    return python_file(parse_spec(text, "spec.txt", kind), "out.py")


def body(text: str, kind=None) -> list[str]:
    lines = source(text, kind).splitlines()
    return [line.strip() for line in lines[lines.index(f"    config = {_start(lines)}") + 1 : -1]]


def _start(lines: list[str]) -> str:
    (line,) = [line for line in lines if "= default_config(" in line]
    return line.partition(" = ")[2]


def config_of(python: str, tmp_path: Path) -> ConfigDict:
    path = tmp_path / "config_file.py"
    path.write_text(python, encoding="utf-8")
    return runpy.run_path(str(path))["get_config"]()


def same(config: ConfigDict, wanted: ConfigDict) -> bool:
    return config.to_json(sort_keys=True) == wanted.to_json(sort_keys=True)


@pytest.mark.parametrize("kind", list(SAMPLES))
def test_the_config_is_that_of_the_spec(kind: str, tmp_path: Path) -> None:
    spec = parse_spec(SAMPLES[kind])
    config = config_of(python_file(spec, "x.py"), tmp_path)
    assert same(config, spec.config)
    validate(config, spec.kind)


@pytest.mark.parametrize("path", GENERATIONS, ids=lambda path: path.stem)
def test_every_field_of_every_generation_is_written(path: Path, tmp_path: Path) -> None:
    spec = load_spec(path)
    config, wanted = config_of(python_file(spec, "x.py"), tmp_path), spec.config
    if spec.kind == "faster_rcnn":
        assert config.enc_key is None
        wanted.enc_key = None
        wanted.training_config.visualizer.wandb_config.key = None
    if spec.kind == "mask_rcnn":
        wanted.wandb_config.key = None
    assert same(config, wanted)


def test_only_given_fields_are_set() -> None:
    assert body("total_steps: 9 data_config { num_classes: 3 }", "mask_rcnn") == [
        "",
        "config.total_steps = 9",
        "",
        "config.data_config.num_classes = 3",
    ]


def test_a_block_that_means_something_by_its_presence_is_switched_on() -> None:
    assert "config.training_config.optimizer.sgd.enabled = True" in body(FASTER)


def test_comments_stay_where_they_stood() -> None:
    text = (
        "# Head.\n"
        "total_steps: 9  # short\n"
        "data_config {  # the data\n"
        "  # two and the background\n"
        "  num_classes: 3 # classes\n"
        "}\n"
        "#last\n"
    )
    assert body(text, "mask_rcnn") == [
        "",
        "# Head.",
        "config.total_steps = 9  # short",
        "",
        "# the data",
        "# two and the background",
        "config.data_config.num_classes = 3  # classes",
        "# last",
    ]


def test_keys_are_left_out_in_comments_too() -> None:
    python = source(f'enc_key: "hunter2"  # hunter2 is the key\n{FASTER}')
    assert "hunter2" not in python
    assert "# config.enc_key: keys are not written into files  # <redacted> is the key" in python


@pytest.mark.parametrize(
    "comment",
    [
        "#enc_key: 'hunter2'",
        '# enc_key : "hunter2',
        "# enc_key: hunter2",
        f'# wandb_config {{ key: "{"hunter2" * 5}" }}',
    ],
)
def test_keys_that_were_commented_out_are_left_out(comment: str) -> None:
    python = source(f'{comment}\n# target_class_mapping {{ key: "car" value: "car" }}\n{FASTER}')
    assert "hunter2" not in python
    assert '# target_class_mapping { key: "car" value: "car" }' in python


@pytest.mark.parametrize(
    "text",
    [
        r"r\"; import os",
        r"'''\"\"\"",
        r"a\\b",
        "ünïcode",
        r"\342\200\256reversed",
    ],
)
def test_no_text_ends_its_quotes_or_hides(text: str, tmp_path: Path) -> None:
    spec = parse_spec(f'{FASTER} inference_config {{ images_dir: "x{text}" }}')
    python = python_file(spec, "x.py")
    assert "\u202e" not in python
    assert same(config_of(python, tmp_path), spec.config)


@pytest.mark.parametrize("ending", ["\x0b", "\x0c", "\x1c", "\u2028", "\x85"])
def test_a_comment_cannot_become_code(ending: str, tmp_path: Path) -> None:
    text = f"# a{ending}raise SystemExit\n{MASK}"
    spec = parse_spec(text)
    assert same(config_of(python_file(spec, "x.py"), tmp_path), spec.config)


def test_no_file_name_ends_the_docstring(tmp_path: Path) -> None:
    name = 'a"""\nraise SystemExit\n"""\\'
    python = python_file(parse_spec(MASK, name), f"{name}.py")
    assert same(config_of(python, tmp_path), parse_spec(MASK).config)


def test_class_names_with_dots_are_kept(tmp_path: Path) -> None:
    text = FASTER.replace('key: "Car"', 'key: "st. bernard"')
    long = text.replace('value: "car"', f'value: "{"c" * 80}"')
    for each in (text, long):
        spec = parse_spec(each)
        assert same(config_of(python_file(spec, "x.py"), tmp_path), spec.config)


def test_a_default_config_can_be_set_but_not_extended() -> None:
    config = default_config("faster_rcnn")
    config.training_config.num_epochs = 3
    with pytest.raises(AttributeError, match="num_epochs"):
        config.training_config.num_epoch = 3
    block = default_block("faster_rcnn", "dataset_config.data_sources")
    block.kitti_directory_path = "data"
    with pytest.raises(KeyError, match=r"no block dataset_config\.sources"):
        default_block("faster_rcnn", "dataset_config.sources")
