"""The program as a whole: processes, files, and what happens when something is missing."""

import json

import pytest

from benchmarks import run, worker
from benchmarks.case import Case
from benchmarks.options import Options
from benchmarks.results import SCHEMA
from benchmarks.suite import NAMES, ON_GPU, ON_REQUEST, load_suite

TINY = Options(size="tiny", peers=False)


def test_program_writes_json_page_and_plot(tmp_path, capsys):
    output = tmp_path / "deep" / "out.json"
    assert run.main(["--suite", "eval", "--size", "tiny", "--json", str(output)]) == 0
    content = json.loads(output.read_text())
    assert content["schema"] == SCHEMA
    assert content["options"]["size"] == "tiny"
    (suite,) = content["suites"]
    assert (suite["suite"], suite["status"], suite["device"]) == ("eval", "ok", None)
    assert [one["name"] for one in suite["benchmarks"]] == ["voc 4 images", "coco 4 images"]
    assert suite["benchmarks"][1]["ratios"]["pycocotools"] > 0
    assert suite["host_peak_bytes"] > 0
    assert "## eval" in output.with_suffix(".md").read_text()
    assert str(output) in capsys.readouterr().out


def test_unknown_suite_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit) as exit_:
        run.main(["--suite", "ops,speed"])
    assert exit_.value.code == 2
    assert (
        f"unknown suite speed; there are {', '.join((*NAMES, *ON_REQUEST))}"
        in capsys.readouterr().err
    )


def test_time_is_shared_between_the_suites_that_are_left():
    limits = [run.share_of(90.0, ["train", "ops", "data"]), run.share_of(30.0, ["ops", "data"])]
    assert limits == [60.0, 15.0]
    assert run.share_of(15.0, ["data"]) == 15.0


def test_profile_is_a_suite_of_its_own():
    flags = run._parse(["--suite", "train", "--size", "tiny", "--profile"])
    assert flags.suite == ["train", "profile"]
    assert "profile" not in run._parse(["--size", "tiny"]).suite


@pytest.mark.parametrize(
    ("gpus", "size", "suites"), [([{"name": "H200"}], "gpu", ON_GPU), ([], "quick", NAMES)]
)
def test_size_and_suites_follow_the_machine(monkeypatch, gpus, size, suites):
    monkeypatch.setattr(run.environment, "as_found", lambda: {"gpus": gpus})
    flags = run._parse([])
    assert (flags.size, flags.suite) == (size, list(suites))
    assert run._parse(["--suite", "ops"]).suite == ["ops"]
    assert not flags.compiled_peers
    assert run._parse(["--size", "tiny", "--compiled-peers"]).compiled_peers


def test_without_time_a_suite_is_not_begun():
    result = run.run_suite("ops", TINY, seconds=0.0)
    assert (result["status"], result["reason"]) == ("stopped", "no time was left")


def test_process_without_a_result_is_a_failure(monkeypatch):
    monkeypatch.setattr(run, "_run_worker", lambda *_: "crashed")
    result = run.run_suite("ops", TINY, seconds=9.0)
    assert (result["status"], result["reason"]) == ("failed", "its process crashed before a result")


def test_suite_that_runs_out_of_time_keeps_what_it_has(monkeypatch):
    def out_of_time(name, options, file, seconds):
        partial = {"suite": name, "status": "stopped", "reason": "", "benchmarks": [{"name": "x"}]}
        file.write_text(json.dumps(partial))
        return "out of time"

    monkeypatch.setattr(run, "_run_worker", out_of_time)
    result = run.run_suite("ops", TINY, seconds=9.0)
    assert result["status"] == "stopped"
    assert result["benchmarks"] == [{"name": "x"}]


def test_suite_without_its_packages_is_skipped(monkeypatch, tmp_path):
    def missing(name, options):
        raise ModuleNotFoundError("No module named 'grain'", name="grain")

    monkeypatch.setattr(worker, "load_suite", missing)
    result = worker.run_suite("data", TINY, tmp_path / "out.json")
    assert (result["status"], result["reason"]) == (
        "skipped",
        "the package 'grain' is not installed",
    )
    assert json.loads((tmp_path / "out.json").read_text())["status"] == "skipped"


def test_case_that_fails_does_not_stop_the_others(monkeypatch, tmp_path, capsys):
    def fail():
        raise ValueError("no")

    def lack():
        raise ModuleNotFoundError("No module named 'pycocotools'", name="pycocotools")

    good = load_suite("eval", TINY)[0]
    mixed = [Case("bad", fail), Case("lacking", lack), good]
    monkeypatch.setattr(worker, "load_suite", lambda *_: mixed)
    result = worker.run_suite("eval", TINY, tmp_path / "out.json")
    assert (result["status"], result["reason"]) == ("failed", "failed: bad")
    assert result["errors"] == [{"name": "bad", "error": "ValueError: no"}]
    assert result["skipped"] == [
        {"name": "lacking", "reason": "the package 'pycocotools' is not installed"}
    ]
    assert [one["name"] for one in result["benchmarks"]] == [good.name]
    assert "ValueError: no" in capsys.readouterr().err


def test_suite_of_an_unknown_name_is_an_error():
    with pytest.raises(ValueError, match="suite is 'speed', expected one of train, predict"):
        load_suite("speed", TINY)


def test_options_survive_json():
    options = Options(size="full", bf16=True, spec="x.txt", batch=3)
    assert Options(**json.loads(json.dumps(options.to_json()))) == options
