"""`rcnn-jax compress` on a real tiny training: a budget that ends, and the search that goes on."""

import json

import pytest

from rcnn_jax.cli.main import main
from rcnn_jax.pareto import command
from rcnn_jax.pareto.candidate import Candidate, Result, read_result
from rcnn_jax.pareto.workshop import TimeUp
from rcnn_jax.reporter import SILENT
from rcnn_jax.runtime.bundle import open_bundle
from rcnn_jax.spec.load import load_spec
from tests.e2e.kills import finish, start
from tests.e2e.tiny import write_tiny


@pytest.mark.long
def test_a_search_that_ran_out_of_time_goes_on_and_measures_nothing_twice(tmp_path):
    spec = write_tiny(tmp_path, images=4)
    # Wide enough to lose half of its parameters with 16 filters a layer.
    spec.write_text(spec.read_text().replace("value: 8 ", "value: 32 "))
    finish(start("faster_rcnn", "train", "-e", spec))
    model = tmp_path / "run" / "best.tlt"
    root = tmp_path / "search"
    words = ["compress", model, "-e", spec, "-d", root, "--max-drop", "100", "--least", "0.5"]
    first = finish(start(*words, "--minutes", "0.001"))
    assert "the time of the search is up" in first
    output = finish(start(*words))
    results = {
        (keep, precision): read_result(root / "candidates" / Candidate(keep, precision).name)
        for keep in (1.0, 0.5)
        for precision in ("fp32", "int8")
    }
    assert all(result is not None for result in results.values())
    assert results[1.0, "fp32"].latency == 1
    assert 0 < results[0.5, "fp32"].parameters <= 0.5 * results[1.0, "fp32"].parameters
    assert "fastest with a loss of at most 100 points of mAP" in output
    written = {path: path.read_bytes() for path in root.glob("candidates/*/result.json")}
    again = finish(start(*words))
    assert written == {path: path.read_bytes() for path in root.glob("candidates/*/result.json")}
    assert " ..." not in again
    assert json.loads((root / "compress.json").read_text())["seconds"] > 0
    other = start(*words, "--metric", "mAP@0.50")
    assert "holds a search with another model, spec, target or metric" in finish(other, 2)


def test_time_spent_is_written_with_every_candidate(boxes_files, tmp_path, monkeypatch):
    spent = []

    def measure(self, candidate):
        spent.append(json.loads((self.root / command.STATE).read_text())["seconds"])
        if len(spent) == 3:
            raise TimeUp
        return Result(candidate=candidate, metric=0.5, latency=1.0, parameters=9, size=9)

    monkeypatch.setattr(command.Workshop, "measure", measure)
    config = load_spec(boxes_files.spec).config
    model = open_bundle(boxes_files.model, None)
    command.compress(model, config, tmp_path, command.CompressOptions(), SILENT)
    # what a kill during the second and third candidate would leave behind
    assert spent[0] == 0 < spent[1] < spent[2]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--max-drop", "-1"], "--max-drop -1: expected 0 or more"),
        (["--minutes", "0"], "--minutes 0: expected more than 0"),
        (["--minutes", "nan"], "--minutes nan: expected more than 0"),
        (["--max-drop", "nan"], "--max-drop nan: expected 0 or more"),
        (["--least", "2"], "--least 2: expected a fraction"),
        (["--least", "nan"], "--least nan: expected a fraction"),
    ],
)
def test_wrong_flags_are_one_message(boxes_files, tmp_path, capsys, monkeypatch, flags, words):
    monkeypatch.chdir(tmp_path)
    given = [str(boxes_files.model), "-e", str(boxes_files.spec), *flags, "-d", "out"]
    assert main(["compress", *given]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_an_exported_model_and_a_missing_one_are_refused(boxes_files, tmp_path, capsys):
    (tmp_path / "model.onnx").write_bytes(b"")
    spec = str(boxes_files.spec)
    for name, words in (("model.onnx", "found an exported one"), ("none.tlt", "expected a file")):
        assert main(["compress", str(tmp_path / name), "-e", spec, "-d", str(tmp_path / "o")]) == 2
        assert words in capsys.readouterr().err
