"""What is watched for is noticed: a target that does wrong in every way there is."""

import pytest

from tests.fuzz.case import Case
from tests.fuzz.faulty import DEEDS, FAULTY
from tests.fuzz.outcome import outcome_of, problem_of
from tests.fuzz.targets import NAMES, find
from tests.fuzz.watch import PATIENCE, Run

KINDS = {
    "read": "read",
    "refused": "refused",
    "traceback": "traceback",
    "message": "message",
    "memory": "memory",
    "endless memory": "memory",
    "hang": "hang",
    "wait": "hang",
    "crash": "crash",
}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_file_is_tried_again_and_every_fault_is_noticed(deed, tmp_path):
    path = tmp_path / "one.faulty"
    path.write_text(deed)
    run = Run("faulty", patience=8 if deed == "wait" else PATIENCE).file(path)
    assert dict(run.kinds) == {KINDS[deed]: 1}
    assert len(run.failures) == (deed not in ("read", "refused"))


def test_a_run_goes_on_after_a_crash_and_keeps_what_failed(tmp_path):
    deeds = [FAULTY.case(4, number).data.decode() for number in range(40)]
    first = next(
        n for n in range(36) if "hang" not in deeds[n : n + 4] and "crash" in deeds[n : n + 2]
    )
    run = Run("faulty", tmp_path).mutants(4, 4, first=first, seconds=None)
    tried = deeds[first : first + 4]
    assert run.kinds.total() == 4
    failed = [n for n, deed in enumerate(tried, first) if deed not in ("read", "refused")]
    assert len(run.failures) == len(failed)
    kept = {f"faulty-4-{n}-{KINDS[deeds[n]]}.faulty": deeds[n] for n in failed}
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == kept
    assert f"faulty: 4 cases in {run.seconds:.0f} s" in str(run)


@pytest.mark.parametrize("name", NAMES)
def test_a_mutant_depends_on_seed_and_number_alone(name):
    if name in ("weights", "bundles", "headers"):
        pytest.importorskip("h5py", reason="the extra keras-weights is not installed")
    target = find(name)
    first = [target.case(7, number) for number in range(6)]
    assert [target.case(7, number) for number in reversed(range(6))] == first[::-1]
    assert [target.case(8, number) for number in range(6)] != first


def test_a_file_of_another_target_is_not_read(tmp_path):
    with pytest.raises(ValueError, match="a file of coco ends in .json"):
        find("coco").read(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("a.txt:3: expected a number", ""),
        (" ", "an empty message"),
        ("x" * 20_000, "a message of 20000 letters"),
        ("\x1b[31mred", "raw control characters"),
        ("a\udce9b", "raw control characters"),
        ("Traceback (most recent call last):", "a message with"),
        ("ValueError: this is a bug", "a message with"),
    ],
)
def test_messages_are_held_to_one_measure(message, problem):
    assert problem_of(message).startswith(problem) and bool(problem_of(message)) == bool(problem)


def test_a_warning_is_no_failure(tmp_path):
    assert outcome_of(FAULTY, Case(".faulty", b"warning"), tmp_path).kind == "read"
