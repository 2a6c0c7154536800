"""The loop of a sweep over an executor that ends at once and leaves what a training leaves."""

import csv
import json
from dataclasses import replace

import pytest

from rcnn_jax.errors import TrainingError, UsageError
from rcnn_jax.reporter import SILENT
from rcnn_jax.sweep import report, run
from rcnn_jax.sweep.definition import Constraint, read_definition
from rcnn_jax.sweep.run import SweepOptions, run_sweep
from rcnn_jax.sweep.samplers import make_sampler
from rcnn_jax.sweep.state import STATE
from rcnn_jax.sweep.trial import LOG, LOST, folder_of, read_trials, reason_of
from tests.e2e.tiny import write_tiny

FIELD = "training_config.regularizer.weight"
OPTIONS = SweepOptions(trials=4, wait=0.0)


class Instant:
    """Ends every command at once, with metrics that the weight of the regulariser decides."""

    slots = 2

    def __init__(self, codes=None, curve=(0.5, 1.0), error="it does not train"):
        self.codes = codes or {}
        self.curve = curve
        self.error = error
        self.started, self.stopped, self._jobs = [], [], {}

    def start(self, commands):
        return [self._start(folder) for folder, _ in commands]

    def _start(self, folder):
        number = int(folder.name)
        self.started.append(number)
        attempt = self.started.count(number)
        code = self.codes.get((number, attempt), self.codes.get(number, 0))
        weight = next(t for t in read_trials(folder.parents[1]) if t.number == number).overrides[
            FIELD
        ]
        if code == 0:
            rows = [
                {"step": step, "kind": "evaluate", "mAP": part * (1 - weight)}
                for step, part in enumerate(self.curve, start=1)
            ]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / "metrics.jsonl").write_text(text)
        else:
            (folder / "log.txt").write_text(
                f"...\nerror: {folder}/spec.txt: {self.error}\n".format(number * 1.5)
            )
        job = f"{number}-{attempt}"
        self._jobs[job] = code
        return job

    def poll(self, job):
        return self._jobs.get(job, LOST)

    def fate(self, job):
        return ""

    def stop(self, job):
        self.stopped.append(job)

    def close(self):
        pass


@pytest.fixture(scope="module")
def definition(tmp_path_factory):
    root = tmp_path_factory.mktemp("definition")
    write_tiny(root, images=4)
    path = root / "sweep_x.py"
    path.write_text(
        'from rcnn_jax.sweep import Float\nSPEC = "spec.txt"\n'
        f'SPACE = {{"{FIELD}": Float(0.0, 0.5, points=5)}}\nOBJECTIVE = "mAP"\n'
    )
    return read_definition(path)


def go(definition, root, executor=None, options=OPTIONS, name="random", prune="none"):
    return run_sweep(
        definition,
        root,
        lambda known: make_sampler(definition, root, name, prune, 0, known),
        executor or Instant(),
        options,
        SILENT,
    )


def test_the_best_trial_becomes_a_spec_file_and_all_are_in_the_sheet(definition, tmp_path):
    trials = go(definition, tmp_path)
    assert [trial.state for trial in trials] == ["done"] * 4
    top = report.best(trials, definition)
    assert top.overrides[FIELD] == min(trial.overrides[FIELD] for trial in trials)
    text = (tmp_path / report.BEST).read_text()
    assert text.endswith((folder_of(tmp_path, top.number) / "spec.txt").read_text())
    rows = list(csv.reader((tmp_path / report.SHEET).read_text().splitlines()))
    assert len(rows) == 5
    assert len(set(rows[0])) == len(rows[0])


def test_a_grid_ends_when_everything_was_tried(definition, tmp_path):
    trials = go(definition, tmp_path, options=SweepOptions(wait=0.0), name="grid")
    assert [trial.overrides[FIELD] for trial in trials] == pytest.approx(
        [0, 0.125, 0.25, 0.375, 0.5]
    )


def test_the_best_validation_counts_and_not_the_last(definition, tmp_path):
    (trial,) = go(definition, tmp_path, Instant(curve=(0.2, 0.9, 0.4)), replace(OPTIONS, trials=1))
    assert trial.values["mAP"] == pytest.approx(0.9 * (1 - trial.overrides[FIELD]))


def test_failed_trials_are_values_with_a_reason_and_the_sweep_goes_on(definition, tmp_path):
    trials = go(definition, tmp_path, Instant({1: 2}))
    assert [trial.state for trial in trials] == ["done", "failed", "done", "done"]
    assert "it does not train" in trials[1].reason
    assert "it does not train" in (tmp_path / report.PAGE).read_text()


def test_three_failures_of_one_reason_stop_the_sweep_with_that_reason(definition, tmp_path):
    executor = Instant(dict.fromkeys(range(1, 9), 2))
    with pytest.raises(TrainingError, match="3 trials in a row failed.*it does not train"):
        go(definition, tmp_path, executor, replace(OPTIONS, trials=9))
    assert len(read_trials(tmp_path)) < 9


@pytest.mark.parametrize(
    "error",
    [
        "ended for want of memory: {0:,.1f} GiB of {0:.0e} are free",
        "process {0:.0f} at 0x{0:.0f}af has no room",
    ],
)
def test_reasons_with_other_figures_are_one_reason(definition, tmp_path, error):
    executor = Instant(dict.fromkeys(range(90), 2), error=error)
    with pytest.raises(TrainingError, match="3 trials in a row failed"):
        go(definition, tmp_path, executor, replace(OPTIONS, trials=9))
    trials = read_trials(tmp_path)
    assert len({trial.reason.partition(": ")[2] for trial in trials}) == len(trials)


@pytest.mark.parametrize(
    ("code", "fate", "log", "reason"),
    [
        (-9, "", "step 3\n", "ended by signal 9: out of memory?"),
        (-11, "", "step 3\n", "ended by signal 11"),
        (LOST, "Slurm says NODE_FAIL", "step 3\n", "an exit code, Slurm says NODE_FAIL: step 3"),
        (LOST, "", "step 3\n\n", "the job is gone without an exit code: step 3"),
        (LOST, "", None, "the job is gone without an exit code: no output"),
        (1, "", "", "exit code 1: no output"),
        (-9, "", "error: a library's\nerror: the disk is full\n", "the disk is full"),
    ],
)
def test_the_reason_is_the_message_else_what_is_known_of_the_end(tmp_path, code, fate, log, reason):
    if log is not None:
        (tmp_path / LOG).write_text(log)
    assert reason_of(tmp_path, code, fate).endswith(reason)


def test_failures_with_others_between_do_not_stop_it(definition, tmp_path):
    trials = go(definition, tmp_path, Instant({0: 2, 2: 2, 4: 2, 6: 2}), replace(OPTIONS, trials=8))
    assert sum(trial.state == "failed" for trial in trials) == 4


@pytest.mark.parametrize("code", [75, 130, 143, LOST])
def test_an_interrupted_trial_is_started_again_and_counts_when_it_ends(definition, tmp_path, code):
    executor = Instant({(1, 1): code})
    trials = go(definition, tmp_path, executor)
    assert [trial.state for trial in trials] == ["done"] * 4
    assert executor.started.count(1) == 2
    assert trials[1].attempts == 2


def test_a_trial_that_is_interrupted_for_ever_fails(definition, tmp_path):
    executor = Instant({1: LOST})
    trials = go(definition, tmp_path, executor)
    assert trials[1].state == "failed"
    assert executor.started.count(1) == OPTIONS.attempts


def test_a_trial_that_gets_on_is_interrupted_as_often_as_a_cluster_likes(definition, tmp_path):
    class Preempted(Instant):
        def _start(self, folder):
            job = super()._start(folder)
            (folder / "checkpoints" / str(self.started.count(1))).mkdir(parents=True, exist_ok=True)
            return job

    executor = Preempted({(1, attempt): 143 for attempt in range(1, 9)})
    trials = go(definition, tmp_path, executor)
    assert trials[1].state == "done"
    assert executor.started.count(1) == 9


def test_the_same_command_goes_on_where_a_killed_sweep_was(definition, tmp_path):
    go(definition, tmp_path, options=replace(OPTIONS, trials=2))
    # as a kill leaves it: one trial at work, whose process died with the sweep
    path = folder_of(tmp_path, 1) / "trial.json"
    content = json.loads(path.read_text()) | {"state": "running", "job": "gone", "values": {}}
    path.write_text(json.dumps(content))
    executor = Instant()
    trials = go(definition, tmp_path, executor)
    assert [trial.state for trial in trials] == ["done"] * 4
    assert sorted(executor.started) == [1, 2, 3]
    assert trials[1].overrides == content["overrides"]


def test_a_process_that_outlives_a_killed_sweep_is_awaited(definition, tmp_path):
    """It holds the lock of its folder, so that a second one would fail."""

    class Orphaned(Instant):
        looks = 0

        def poll(self, job):
            self.looks += job == "orphan"
            return None if job == "orphan" and self.looks < 4 else super().poll(job)

        def _start(self, folder):
            assert folder.name != "0001" or self.looks >= 4, "the orphan is still at work"
            return super()._start(folder)

    go(definition, tmp_path, options=replace(OPTIONS, trials=2))
    path = folder_of(tmp_path, 1) / "trial.json"
    content = json.loads(path.read_text()) | {"state": "running", "job": "orphan", "values": {}}
    path.write_text(json.dumps(content))
    trials = go(definition, tmp_path, Orphaned())
    assert [trial.state for trial in trials] == ["done"] * 4


def test_a_failed_trial_can_be_repeated_alone(definition, tmp_path):
    go(definition, tmp_path, Instant({1: 2}))
    executor = Instant()
    trials = go(definition, tmp_path, executor, replace(OPTIONS, again=(1,)))
    assert executor.started == [1]
    assert trials[1].state == "done"
    with pytest.raises(UsageError, match="has not failed"):
        go(definition, tmp_path, executor, replace(OPTIONS, again=(0,)))


def test_another_space_in_the_same_folder_is_refused(definition, tmp_path):
    go(definition, tmp_path, options=replace(OPTIONS, trials=1))
    other = replace(definition, objectives={"AP": "max"})
    with pytest.raises(UsageError, match="another space or other objectives"):
        go(other, tmp_path)


def test_the_time_of_all_starts_is_one_budget(definition, tmp_path):
    go(definition, tmp_path, options=replace(OPTIONS, trials=1))
    state = json.loads((tmp_path / "sweep.json").read_text()) | {"seconds": 3600.0}
    (tmp_path / "sweep.json").write_text(json.dumps(state))
    executor = Instant()
    go(definition, tmp_path, executor, replace(OPTIONS, minutes=59))
    assert executor.started == []


def test_time_spent_counts_though_a_start_was_killed_outright(definition, tmp_path, monkeypatch):
    # SIGKILL: nothing is written at the end
    monkeypatch.setattr(run._Loop, "leave", lambda self: None)
    go(definition, tmp_path, options=replace(OPTIONS, trials=1, wait=0.01))
    first = json.loads((tmp_path / STATE).read_text())["seconds"]
    assert first > 0
    go(definition, tmp_path, options=replace(OPTIONS, trials=2, wait=0.01))
    assert json.loads((tmp_path / STATE).read_text())["seconds"] > first


def test_a_value_that_no_trial_has_is_said(definition, tmp_path):
    other = replace(definition, objectives={"mask_AP": "max"})
    (trial,) = go(other, tmp_path, options=replace(OPTIONS, trials=1))
    assert trial.state == "failed"
    assert "has no value mask_AP; it has latency_ms, mAP, parameters, seconds" in trial.reason


class Slow(Instant):
    """Goes on for two looks after its first validation, unless it is stopped."""

    def poll(self, job):
        code = super().poll(job)
        self.looks = getattr(self, "looks", 0) + 1
        return 143 if job in self.stopped else None if self.looks < 3 else code


def test_a_trial_without_its_objective_is_stopped_at_its_first_validation(definition, tmp_path):
    other = replace(definition, objectives={"mAP": "max", "nothing": "max"})
    executor = Slow()
    executor.slots = 1
    with pytest.raises(TrainingError, match="has no value nothing; it has latency_ms, mAP"):
        go(other, tmp_path, executor)
    assert [trial.state for trial in read_trials(tmp_path)] == ["failed"] * 3
    assert executor.stopped[0] == "0-1"


def test_a_thousand_bad_combinations_are_a_thousand_failed_trials(
    definition, tmp_path, monkeypatch
):
    def refused(_, overrides):
        raise UsageError(f"num_epochs {overrides['n']}")

    monkeypatch.setattr(type(definition), "spec_of", refused)
    for module, name in ((report, "write_files"), (run, "write_trial"), (run, "write_state")):
        monkeypatch.setattr(module, name, lambda *_: None)
    listed = tuple({"n": n} for n in range(1100))
    other = replace(definition, space={}, listed=listed)
    # No two in a row have the same reason, though one number only tells them apart: each is wrong by
    # itself, and has cost nothing.
    trials = go(other, tmp_path, options=SweepOptions(wait=0.0), name="list")
    assert {trial.state for trial in trials} == {"failed"}
    assert len(trials) == 1100


def test_a_constraint_that_no_trial_keeps_is_told_with_the_nearest_value(definition, tmp_path):
    other = replace(definition, constraints=(Constraint("mAP", ">=", 2.0),))
    trials = go(other, tmp_path)
    assert report.best(trials, other) is None
    assert not (tmp_path / report.BEST).exists()
    top = max(trials, key=lambda trial: trial.values["mAP"])
    words = "no trial keeps all constraints, so there is no best spec: mAP >= 2 (nearest: 0."
    text = report.without_best(trials, other)
    assert text.startswith(words)
    assert f"trial {top.number})" in text
    assert text[1:].split(":")[0] in (tmp_path / report.PAGE).read_text()
    assert report.without_best(trials, definition) == ""


def test_one_bad_combination_is_a_failed_trial(definition, tmp_path):
    listed = ({FIELD: 0.1}, {"training_config.num_epochs": -1}, {FIELD: 0.3})
    other = replace(definition, space={}, listed=listed)
    trials = go(other, tmp_path, options=SweepOptions(wait=0.0), name="list")
    assert [trial.state for trial in trials] == ["done", "failed", "done"]


def test_constraints_decide_what_can_be_best():
    from rcnn_jax.sweep.trial import Trial

    class Definition:
        objectives = {"mAP": "max", "latency_ms": "min"}
        constraints = (Constraint("latency_ms", "<=", 15),)

    def trial(number, score, latency):
        values = {"mAP": score, "latency_ms": latency}
        return Trial(number=number, overrides={}, state="done", values=values)

    trials = [trial(0, 0.9, 20), trial(1, 0.7, 15), trial(2, 0.6, 5), trial(3, 0.6, 6)]
    assert report.best(trials, Definition).number == 1
    assert [each.number for each in report.front(trials, Definition)] == [1, 2]


class TestOptuna:
    """Search and pruning by the library."""

    @pytest.fixture(autouse=True)
    def _needs_optuna(self):
        pytest.importorskip("optuna", reason="optuna (extra sweep) is not installed")

    def test_the_search_finds_the_better_end(self, definition, tmp_path):
        trials = go(definition, tmp_path, options=replace(OPTIONS, trials=25), name="tpe")
        weights = [trial.overrides[FIELD] for trial in trials]
        assert sum(weights[15:]) / 10 < sum(weights[:10]) / 10
        assert (tmp_path / "optuna.journal").exists()
        assert "Importance" in (tmp_path / report.PAGE).read_text()

    def test_a_search_goes_on_and_keeps_its_numbers(self, definition, tmp_path):
        go(definition, tmp_path, options=replace(OPTIONS, trials=3), name="tpe")
        trials = go(definition, tmp_path, options=replace(OPTIONS, trials=6), name="tpe")
        assert [trial.number for trial in trials] == [*range(6)]
        assert len({trial.overrides[FIELD] for trial in trials}) == 6

    def test_hopeless_trials_are_stopped_and_counted(self, definition, tmp_path):
        executor = Instant(curve=(0.1, 0.3, 0.6, 1.0))
        trials = go(definition, tmp_path, executor, replace(OPTIONS, trials=12), "random", "median")
        pruned = [trial for trial in trials if trial.state == "pruned"]
        assert pruned
        assert len(executor.stopped) == len(pruned)
        assert len(trials) == 12

    def test_a_choice_keeps_its_values_whatever_they_are(self, definition, tmp_path):
        from rcnn_jax.sweep import Choice

        field = "model_config.anchor_box_config.scale"
        space = {field: Choice((8.0, 16.0), (12.0, 24.0)), FIELD: definition.space[FIELD]}
        trials = go(replace(definition, space=space), tmp_path, name="tpe")
        assert {trial.state for trial in trials} == {"done"}
        assert {tuple(trial.overrides[field]) for trial in trials} <= {(8.0, 16.0), (12.0, 24.0)}

    @pytest.mark.parametrize("prune", ["median", "hyperband"])
    def test_a_grid_with_pruning_is_tried_once_and_ends(self, definition, tmp_path, prune):
        options = SweepOptions(wait=0.0)
        go(definition, tmp_path, Instant(), replace(options, trials=2), "grid", prune)
        trials = go(definition, tmp_path, Instant(), options, "grid", prune)
        weights = [trial.overrides[FIELD] for trial in trials]
        assert weights == pytest.approx([0, 0.125, 0.25, 0.375, 0.5])
        journal = self.journal(tmp_path)
        assert [trial.params for trial in journal] == [{FIELD: weight} for weight in weights]
        assert all(trial.state.is_finished() for trial in journal)

    def test_a_list_that_grows_goes_on_where_it_ended(self, definition, tmp_path):
        listed = tuple({FIELD: weight} for weight in (0.1, 0.2, 0.3))
        for count in (2, 3):
            other = replace(definition, space={}, listed=listed[:count])
            trials = go(other, tmp_path, None, SweepOptions(wait=0.0), "list", "median")
        assert [trial.overrides for trial in trials] == list(listed)
        assert {trial.state for trial in trials} == {"done"}

    def test_a_trial_of_a_list_that_a_kill_took_before_its_record_is_tried(
        self, definition, tmp_path
    ):
        listed = tuple({FIELD: weight} for weight in (0.1, 0.2))
        other = replace(definition, space={}, listed=listed)
        assert make_sampler(other, tmp_path, "list", "median", 0, []).ask() == (0, listed[0])
        trials = go(other, tmp_path, None, SweepOptions(wait=0.0), "list", "median")
        assert [trial.overrides for trial in trials] == list(listed)

    def test_a_search_learns_from_trials_of_a_start_without_it(self, definition, tmp_path):
        from rcnn_jax.sweep import Choice

        field = "model_config.anchor_box_config.scale"
        space = {field: Choice((8.0, 16.0), (12.0, 24.0)), FIELD: definition.space[FIELD]}
        other = replace(definition, space=space)
        first = go(other, tmp_path, Instant({1: 2}), replace(OPTIONS, trials=3), "random")
        trials = go(other, tmp_path, options=replace(OPTIONS, trials=5), name="tpe")
        assert [trial.number for trial in trials] == [*range(5)]
        assert [trial.values for trial in trials[:3]] == [trial.values for trial in first]
        journal = self.journal(tmp_path)
        assert [trial.params[FIELD] for trial in journal] == [t.overrides[FIELD] for t in trials]
        assert [trial.values for trial in journal[:3]] == [
            [trial.values["mAP"]] if trial.values else None for trial in first
        ]

    @pytest.mark.parametrize("prune", ["none", "median"])
    def test_a_failed_trial_of_a_search_can_be_repeated(self, definition, tmp_path, prune):
        go(definition, tmp_path, Instant({1: 2}), name="tpe", prune=prune)
        options = replace(OPTIONS, again=(1,))
        trials = go(definition, tmp_path, Instant(), options, "tpe", prune)
        assert trials[1].state == "done"

    @pytest.mark.filterwarnings("error")
    def test_a_search_avoids_values_that_break_a_bound_and_says_nothing(self, definition, tmp_path):
        # The best values are those that the bound forbids.
        other = replace(definition, constraints=(Constraint("mAP", "<=", 0.7),))
        trials = go(other, tmp_path, options=replace(OPTIONS, trials=25), name="tpe")
        kept = [trial.values["mAP"] <= 0.7 for trial in trials]
        assert sum(kept[15:]) / 10 > sum(kept[:10]) / 10
        assert not all(kept[:10])

    def test_cmaes_with_several_objectives_is_refused(self, definition, tmp_path):
        other = replace(definition, objectives={"mAP": "max", "seconds": "min"})
        with pytest.raises(UsageError, match="--sampler cmaes: takes one objective"):
            go(other, tmp_path, name="cmaes")

    def journal(self, root):
        import optuna

        backend = optuna.storages.journal.JournalFileBackend(str(root / "optuna.journal"))
        storage = optuna.storages.JournalStorage(backend)
        return optuna.load_study(study_name="sweep", storage=storage).get_trials()

    def test_pruning_with_several_objectives_is_refused(self, definition, tmp_path):
        other = replace(definition, objectives={"mAP": "max", "seconds": "min"})
        with pytest.raises(UsageError, match="several objectives"):
            go(other, tmp_path, prune="median")
