"""`rcnn-jax spec`: check, translate, explain."""

import argparse
import json
import runpy
from contextlib import suppress
from pathlib import Path

import pytest

from rcnn_jax.cli import spec as command
from rcnn_jax.errors import SpecError, UsageError
from rcnn_jax.spec import load_spec, parse_spec
from tests.spec.samples import FASTER, MASK


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.txt"
    path.write_text(FASTER + "enc_key: 'hunter2'\n", encoding="utf-8")
    return path


def test_check_warns_of_paths_that_do_not_exist(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check", spec) == 0
    lines = capsys.readouterr().out.splitlines()
    source = "dataset_config.data_sources[0]"
    assert lines == [
        f"warning: {spec}:9:5: {source}.tfrecords_path: glob 'records/*' does not exist",
        f"warning: {spec}:10:5: {source}.image_directory_path: folder 'images' does not exist",
        f"{spec}: a valid faster_rcnn spec, for train, evaluate, inference, export",
    ]


def test_strict_paths_are_errors(spec: Path) -> None:
    with pytest.raises(SpecError, match="folder 'images' does not exist"):
        run("check", spec, "--strict-paths")


def test_paths_that_exist_are_not_mentioned(
    spec: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "a").touch()
    monkeypatch.setenv("DATA_BASE_PATH", str(tmp_path))
    assert run("check", spec, "--strict-paths") == 0
    assert "warning" not in capsys.readouterr().out


def test_check_prints_notes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.txt"
    path.write_text(MASK + "global_gradient_clip_ratio: 1", encoding="utf-8")
    assert run("check", path) == 0
    assert "note: global_gradient_clip_ratio has no effect: " in capsys.readouterr().out


def test_check_raises_what_is_wrong(spec: Path) -> None:
    with pytest.raises(SpecError):
        run("check", spec, "--kind", "mask_rcnn")


def test_check_says_what_a_spec_cannot_be_used_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.txt"
    path.write_text(MASK.replace("total_steps: 100", ""), encoding="utf-8")
    assert run("check", path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{path}: a valid mask_rcnn spec, for inference, export",
        "not for train:",
        f"  {path}: total_steps or num_epochs must be given",
        f"  {path}:2:1: data_config.training_file_pattern or coco_train_json or tfds_name must be given",
        "not for evaluate:",
        f"  {path}:2:1: data_config.validation_file_pattern or coco_val_image_dir or tfds_name must "
        "be given",
        f"  {path}:2:1: data_config.val_json_file must be given",
    ]
    with pytest.raises(SpecError, match="total_steps or num_epochs must be given"):
        run("check", path, "--task", "train")
    assert run("check", path, "--task", "export") == 0


def test_translate_to_json_writes_everything_but_the_key(spec: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "config.json"
    assert run("translate", spec, "-o", output) == 0
    text = output.read_text()
    document = json.loads(text)
    assert "hunter2" not in text
    assert document["enc_key"] == "<redacted>"
    assert document["training_config"]["num_epochs"] == 12
    assert document["training_config"]["optimizer"]["adam"]["enabled"] is False
    assert [path.name for path in output.parent.iterdir()] == ["config.json"]


def test_translate_to_text_gives_the_same_config_without_the_key(
    spec: Path, tmp_path: Path
) -> None:
    output = tmp_path / "full.txt"
    assert run("translate", spec, "-o", output) == 0
    assert "hunter2" not in output.read_text()
    assert load_spec(output).config == parse_spec(FASTER).config


def test_translate_to_python_gives_a_document(spec: Path, tmp_path: Path) -> None:
    output = tmp_path / "full.py"
    assert run("translate", spec, "-o", output) == 0
    assert "hunter2" not in output.read_text()
    config = runpy.run_path(str(output))["get_config"]()
    assert config.to_json() == parse_spec(FASTER).config.to_json()


def test_a_text_python_cannot_quote_plainly_is_quoted_anyway(tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    path.write_text(MASK + 'skip_checkpoint_variables: "a\\"\\"\\"\\\\\\\\"', encoding="utf-8")
    output = tmp_path / "m.py"
    run("translate", path, "-o", output)
    assert runpy.run_path(str(output))["get_config"]() == load_spec(path).config


def test_translate_refuses_other_endings(spec: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a name that ends in \.json, \.txt or \.py"):
        run("translate", spec, "-o", tmp_path / "x.yaml")


def test_explain_tells_type_default_range_and_effect(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "optimizer.sgd.lr") == 0
    assert capsys.readouterr().out == (
        "training_config.optimizer.sgd.lr  (faster_rcnn)\n"
        "  Learning rate.\n"
        "  type     double\n"
        "  default  0.02\n"
        "  range    [0, inf)\n"
        "  effect   no effect: the learning_rate schedule sets the rate of every step\n"
    )


def test_explain_suggests_what_was_meant() -> None:
    with pytest.raises(UsageError) as error:
        run("explain", "num_epoch")
    assert str(error.value).startswith("no spec has a field 'num_epoch'; did you mean num_epochs")


OLD = Path(__file__).parents[1] / "spec" / "tlt_2_0_faster_rcnn.txt"


def test_check_names_an_old_spec(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SpecError, match=r"this is a TLT 2\.0 spec: `rcnn-jax spec translate"):
        run("check", OLD)


def test_translate_upgrades_an_old_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = tmp_path / "new.txt"
    assert run("translate", OLD, "-o", new) == 0
    assert capsys.readouterr().out == f"wrote {new}\n"
    assert run("check", new) == 0
    assert "a valid faster_rcnn spec" in capsys.readouterr().out
    assert load_spec(new).config.training_config.regularizer.type == "L1"


def test_translate_says_what_of_an_old_spec_is_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old.txt"
    old.write_text(
        OLD.read_text().replace("rpn_mini_batch: 200", "rpn_mini_batch: 9 rpn_train_bs: 8")
    )
    run("translate", old, "-o", tmp_path / "new.txt")
    assert "warning: training_config.rpn_train_bs is left out: " in capsys.readouterr().out


def test_check_warns_in_the_order_of_the_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spec.txt"
    text = FASTER.replace("arch:", "use_bias: true use_bias: true arch:")
    path.write_text(text.replace('tfrecords_path: "records/*"', "").replace("images", "none"))
    path.write_text(f"{text}inference_config {{ batch_size: 1 batch_size: 2 }}")
    run("check", path)
    out = capsys.readouterr().out
    positions = [line.split(":")[2:4] for line in out.splitlines() if line.startswith("warning")]
    assert positions == [["5", "18"], ["24", "34"], ["9", "5"], ["10", "5"]]


@pytest.mark.parametrize(
    "value", ["/", "", "x" * 300, "/x" * 300, "a**b", "**", "/**/*.none", "[", "~"]
)
def test_no_path_of_a_spec_breaks_the_check(value: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.txt"
    path.write_text(FASTER.replace("records/*", value).replace('"images"', f'"{value}"'))
    with suppress(SpecError):
        assert run("check", path) == 0


@pytest.mark.parametrize("name", ["is/a/folder", "x" * 300])
def test_an_output_that_cannot_be_written_is_one_message(
    spec: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "is/a/folder.txt").mkdir(parents=True)
    with pytest.raises(UsageError, match="the file cannot be written: "):
        run("translate", spec, "-o", tmp_path / f"{name}.txt")
    assert not list(tmp_path.rglob("*.partial"))


def test_names_are_shown_without_their_escapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a\x1b[31m\nb.txt"
    path.write_text(MASK)
    assert run("check", path) == 0
    assert run("translate", path, "-o", tmp_path / "\x1b]0;.txt") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"a\x1b[31m\nb.txt: a valid mask_rcnn spec" in out
