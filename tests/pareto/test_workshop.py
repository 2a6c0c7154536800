"""The workshop: names of files, results that are there, commands that fail or are stopped."""

import math
import time

import pytest

from rcnn_jax.errors import TrainingError, UsageError
from rcnn_jax.pareto.candidate import Candidate, Result, read_result, write_result
from rcnn_jax.pareto.workshop import TimeUp, Workshop, check_model
from rcnn_jax.reporter import SILENT
from rcnn_jax.spec.load import load_spec
from rcnn_jax.sweep.trial import LOG


class Executor:
    """Runs nothing: every command leaves a line in its log and ends with a code."""

    def __init__(self, code):
        self.code = code
        self.closed = False
        self.words = []

    def start(self, commands):
        ((folder, words),) = commands
        self.words.append(list(words))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOG).write_text("error: the images are gone\n")
        return ["1"]

    def fate(self, job):
        return ""

    def poll(self, job):
        return self.code

    def stop(self, job):
        pass

    def close(self):
        self.closed = True


def workshop(files, root, code, *, seconds=1e6, key=None):
    return Workshop(
        kind=files.kind,
        model=files.model,
        config=load_spec(files.spec, files.kind, "train").config,
        root=root,
        target="onnxruntime",
        metric=None,
        key=key,
        deadline=time.monotonic() + seconds,
        reporter=SILENT,
        executor=Executor(code),
    )


def test_a_command_that_fails_makes_a_failed_candidate_with_its_message(boxes_files, tmp_path):
    shop = workshop(boxes_files, tmp_path, 2)
    result = shop.measure(Candidate(0.5, "fp32"))
    assert result.reason == "prune: the images are gone"
    assert math.isnan(result.metric)
    stored = read_result(tmp_path / "candidates" / "keep-0.5-fp32")
    assert stored is not None
    assert stored.reason == result.reason
    (words,) = shop.executor.words
    assert words[:2] == ["faster_rcnn", "prune"]
    assert words[words.index("--keep-params") + 1] == "0.5"


def test_a_result_that_is_there_starts_no_command(boxes_files, tmp_path):
    shop = workshop(boxes_files, tmp_path, 2, seconds=-1)
    candidate = Candidate(0.5, "int8 QAT")
    known = Result(candidate=candidate, metric=0.5, latency=0.3)
    write_result(tmp_path / "candidates" / candidate.name, known)
    assert shop.measure(candidate) == known
    assert shop.executor.words == []


def test_without_time_nothing_begins_and_what_runs_is_stopped(boxes_files, tmp_path):
    late = workshop(boxes_files, tmp_path, 0, seconds=-1)
    with pytest.raises(TimeUp):
        late.measure(Candidate(0.5, "fp32"))
    assert late.executor.words == []
    endless = workshop(boxes_files, tmp_path, None, seconds=0.01)
    with pytest.raises(TimeUp):
        endless.measure(Candidate(0.5, "fp32"))
    assert endless.executor.closed
    assert read_result(tmp_path / "candidates" / "keep-0.5-fp32") is None


def test_a_command_that_somebody_stops_is_no_result(boxes_files, tmp_path):
    with pytest.raises(TrainingError, match="prune was interrupted"):
        workshop(boxes_files, tmp_path, 143).measure(Candidate(0.5, "fp32"))
    assert read_result(tmp_path / "candidates" / "keep-0.5-fp32") is None


def test_files_of_an_encrypted_model_are_encrypted_and_no_command_line_has_the_key(
    boxes_files, tmp_path
):
    shop = workshop(boxes_files, tmp_path, 2, key="secret")
    assert shop.graph_file(Candidate(1.0, "fp32")).suffix == ".etlt"
    shop.measure(Candidate(1.0, "int8"))
    assert "secret" not in str(shop.executor.words) + repr(shop)


def test_only_a_trained_model_is_compressed(tmp_path):
    with pytest.raises(UsageError, match="found an exported one"):
        check_model(tmp_path / "model.etlt")
