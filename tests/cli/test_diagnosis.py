"""`evaluate --report`, `compare` and `doctor --model` from flags to files, with models nobody trained."""

import json

import pytest

from rcnn_jax.cli.main import main

pytest.importorskip("hotcoco", reason="the extra `report` is not installed")


def text_of(capsys):
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("files", ["boxes_files", "masks_files"])
def test_a_page_a_record_and_a_comparison_of_it_with_itself(files, request, tmp_path, capsys):
    made = request.getfixturevalue(files)
    page = tmp_path / "page.html"
    run = [made.kind, "evaluate", "-e", str(made.spec), "-m", str(made.model)]
    assert main([*run, "-r", str(tmp_path), "--report", str(page)]) == 0
    out = text_of(capsys)
    assert f"page: {page}" in out
    # Random weights find nothing: that is said, and nothing is invented for it.
    assert "none of" in out and "has learnt too little" in out
    written = json.loads((tmp_path / "eval" / "model.json").read_text())
    assert written["diagnosis"]["cause"] is None
    assert len(page.read_text()) < 5_000_000
    record = page.with_suffix(".json")
    numbers = tmp_path / "numbers.json"
    both = tmp_path / "both.html"
    flags = ["-o", str(both), "--json", str(numbers)]
    assert main(["compare", str(record), str(record), *flags]) == 0
    assert "difference within noise" in text_of(capsys)
    assert both.is_file()
    outcomes = {row["verdict"] for row in json.loads(numbers.read_text())["metrics"]}
    assert outcomes == {"within noise"}


def test_two_models_are_compared_with_their_spec(boxes_files, capsys):
    model = str(boxes_files.model)
    assert main(["compare", model, str(boxes_files.graph), "-e", str(boxes_files.spec)]) == 0
    assert "difference within noise" in text_of(capsys)


def test_a_doctor_with_a_model_writes_all_suspicions(boxes_files, tmp_path, capsys):
    path = tmp_path / "doctor.json"
    main(
        ["doctor", str(boxes_files.spec), "--model", str(boxes_files.model), "--json", str(path)]
        + ["-o", str(tmp_path / "doctor.html")]
    )
    capsys.readouterr()
    assert json.loads(path.read_text())["suspicions"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "MODEL", "MODEL"], "is a model: name the spec it is evaluated by with -e"),
        (["compare", "no.json", "no.json"], "FIRST no.json: expected a file"),
        (["doctor", "DATA", "--model", "MODEL"], "--model needs the spec that the model was"),
        (
            ["faster_rcnn", "evaluate", "-e", "SPEC", "-m", "MODEL", "--precision", "2"],
            "--precision 2: expected a fraction above 0, at most 1",
        ),
    ],
)
def test_what_cannot_be_done_is_said(boxes_files, capsys, words, message):
    names = {
        "MODEL": boxes_files.model,
        "SPEC": boxes_files.spec,
        "DATA": boxes_files.root / "data",
    }
    assert main([str(names.get(word, word)) for word in words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
