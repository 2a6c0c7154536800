"""Several runs in one folder, starting anew, going back, and the model that every run leaves."""

import json
import re
import shutil

import pytest

from rcnn_jax.checkpoints.bundle import read_header
from rcnn_jax.cli.main import main
from rcnn_jax.data.loader.plan import TrainingPlan
from tests.e2e.kills import different, results
from tests.e2e.tiny import write_tiny


def train(spec, *flags):
    return main(["faster_rcnn", "train", "-e", str(spec), "--gpus", "1", *flags])


def variant(spec, name, *changes):
    text = spec.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = spec.with_name(name)
    path.write_text(text)
    return path


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A folder with a run that is over."""
    root = tmp_path_factory.mktemp("runs")
    spec = write_tiny(root, epochs=2)
    assert train(spec) == 0
    return spec


def test_a_second_model_in_the_folder_is_a_run_of_its_own(first, capsys):
    run = first.parent / "run"
    before = results(run)
    second = variant(
        first, "second.txt", ("tiny.tlt", "second.tlt"), ("num_epochs: 2", "num_epochs: 1")
    )
    assert train(second) == 0
    printed = capsys.readouterr().out
    assert (
        f"{run} holds another run: the models of this one, second, are written there too" in printed
    )
    after = results(run)
    own = {"second.epoch1.tlt", "runs/second/best.tlt", "runs/second/metrics.jsonl"}
    assert own <= set(after)
    assert {name: after[name] for name in before} == before

    assert train(second) == 0
    assert (
        f"the run second in {run} is finished (3 steps): nothing to do" in capsys.readouterr().out
    )
    assert train(first) == 0
    assert f"the run tiny in {run} is finished (6 steps): nothing to do" in capsys.readouterr().out

    assert train(second, "--fresh", "--slim") == 0
    assert {name: data for name, data in results(run).items() if name in before} == before
    assert "run_state" not in read_header(run / "second.epoch1.tlt")[1]
    assert "run_state" in read_header(run / "tiny.epoch2.tlt")[1]


def test_resume_from_model_of_an_older_epoch_is_said_and_with_fresh_obeyed(first, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(first.parent / "run", run, ignore=shutil.ignore_patterns("runs", "second*"))
    before = results(run)
    line = f'resume_from_model: "{run}/tiny.epoch1.tlt"\n  num_epochs: 2'
    back = variant(first, "back.txt", ("num_epochs: 2", line))
    assert train(back, "-d", str(run)) == 0
    printed = capsys.readouterr().out
    assert (
        f"resume_from_model names {run}/tiny.epoch1.tlt (step 3); this run is at step 6" in printed
    )
    assert "To go on from step 3 instead, add --fresh" in printed
    assert different(results(run), before) == []

    assert train(back, "-d", str(run), "--fresh") == 0
    assert "going on from" in capsys.readouterr().out
    changed = different(results(run), before)
    assert set(changed) <= {"config.json", "spec.txt"}


def test_fresh_leaves_nothing_of_the_run_before(first, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(first.parent / "run", run, ignore=shutil.ignore_patterns("runs", "second*"))
    leftover = run / ".tiny.epoch2.tlt.99999999.tmp"
    leftover.write_bytes(b"half")
    (run / "tensorboard").mkdir()
    (run / "tensorboard" / "events.out.tfevents.1.host").write_bytes(b"of the run before")
    change = ("num_epochs: 2", "num_epochs: 1\n  visualizer { enabled: true }")
    shorter = variant(first, "shorter.txt", change)
    assert train(shorter, "-d", str(run), "--fresh") == 0
    assert {path.name for path in run.glob("*.tlt")} == {"tiny.epoch1.tlt", "best.tlt"}
    assert {path.name for path in (run / "eval").glob("*.json")} == {"step-3.json"}
    assert {row["step"] for row in metrics(run)} == {3}
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["3"]
    (events,) = (run / "tensorboard").iterdir()
    assert events.name != "events.out.tfevents.1.host"
    assert not leftover.exists()


def test_without_validation_data_the_last_model_is_the_one_that_is_named(first, tmp_path, capsys):
    text = first.read_text()
    block = re.search(r"  validation_data_source \{.*?\n  \}\n", text, re.DOTALL).group()
    spec = variant(first, "blind.txt", (block, ""), ("num_epochs: 2", "num_epochs: 1"))
    assert train(spec, "-d", str(tmp_path)) == 0
    line = f"{tmp_path}/best.tlt: step 3, the last one: there was no validation to choose by"
    assert line in capsys.readouterr().out
    assert read_header(tmp_path / "best.tlt")[1]["step"] == 3


def test_an_early_stop_between_validations_is_validated(first, tmp_path, capsys):
    spec = variant(
        first,
        "early.txt",
        ("num_epochs: 2", "num_epochs: 9 early_stopping { min_delta: 1000 patience: 1 }"),
        ("validation_period_during_training: 2", "validation_period_during_training: 5"),
    )
    assert train(spec, "-d", str(tmp_path)) == 0
    assert "early stopping" in capsys.readouterr().out
    last = metrics(tmp_path)[-2:]
    assert [(row["step"], row["kind"]) for row in last] == [(6, "evaluate"), (6, "epoch")]
    assert read_header(tmp_path / "best.tlt")[1]["step"] == 6


def test_a_best_model_that_is_gone_is_made_good(first, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(first.parent / "run", run, ignore=shutil.ignore_patterns("runs", "second*"))
    (run / "best.tlt").unlink()
    assert train(first, "-d", str(run)) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (run / "best.tlt").exists()


def test_a_damaged_image_in_the_middle_costs_no_step(first, tmp_path, capsys):
    spec = write_tiny(tmp_path, epochs=2)
    (record, _) = TrainingPlan([(96, 96)] * 6, 7, 2)[2].records
    image = sorted((tmp_path / "data" / "images").iterdir())[record]
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    assert train(spec) == 2
    captured = capsys.readouterr()
    assert image.name in captured.err and "Traceback" not in captured.err
    assert "stopped by an error after step 2, which is saved" in captured.out
    image.write_bytes(whole)
    assert train(spec, "--accept-data-changes") == 0
    assert "after step 2" in capsys.readouterr().out
    undisturbed = results(first.parent / "run")
    assert {"metrics.jsonl", "tiny.epoch2.tlt", "eval/step-6.json"} <= set(undisturbed)
    for name, data in results(tmp_path / "run").items():
        assert name in ("config.json", "spec.txt", "data.json") or undisturbed[name] == data
