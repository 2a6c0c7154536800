"""The clock is a fake one: a call takes as long as it says, and no test depends on the machine."""

from types import SimpleNamespace

import pytest

from benchmarks import measure
from benchmarks.measure import Effort, PeerUnavailableError, Side, compare


@pytest.fixture
def clock(monkeypatch):
    state = SimpleNamespace(now=0.0)
    fake = SimpleNamespace(perf_counter=lambda: state.now, process_time=lambda: 2 * state.now)
    monkeypatch.setattr(measure, "time", fake)
    return state


def taking(clock, seconds, log, name, **fields):
    def run():
        log.append(name)
        clock.now += seconds

    return lambda: Side(run=run, **fields)


def test_contestants_take_turns_and_change_who_begins(clock):
    log = []
    makers = {name: taking(clock, 1.0, log, name) for name in "ab"}
    compare(makers, Effort(seconds=0.0, min_rounds=3))
    assert "".join(log) == "aabb" + "aabb" + "bbaa" + "aabb"  # the first of a turn unmeasured


def test_the_first_call_after_the_other_side_does_not_count(clock):
    last = []

    def side(name):
        def run():
            clock.now += 1.0 if last[-1:] == [name] else 3.0
            last.append(name)

        return lambda: Side(run=run)

    sides, _ = compare({name: side(name) for name in "ab"}, Effort(seconds=0.0, min_rounds=4))
    assert [one.seconds for one in sides] == [(1.0,) * 4] * 2


def test_times_are_per_call_and_one_per_round(clock):
    (ours, peer), notes = compare(
        {"a": taking(clock, 0.25, [], "a"), "b": taking(clock, 0.5, [], "b")},
        Effort(seconds=0.0, min_rounds=3),
    )
    assert (ours.name, ours.seconds, ours.cpu_seconds) == ("a", (0.25,) * 3, (0.5,) * 3)
    assert (peer.name, peer.seconds, notes) == ("b", (0.5,) * 3, ())


def test_short_calls_are_repeated_within_a_round(clock):
    log = []
    effort = Effort(seconds=0.0, min_rounds=1, sample_seconds=1.0)
    (ours,), _ = compare({"a": taking(clock, 0.25, log, "a")}, effort)
    assert ours.calls == 4
    assert len(log) == 2 + 4
    assert ours.seconds == (0.25,)


def test_rounds_fill_the_time_within_bounds(clock):
    for seconds, rounds in ((0.0, 2), (10.0, 5), (1000.0, 7)):
        (ours,), _ = compare(
            {"a": taking(clock, 2.0, [], "a")}, Effort(seconds=seconds, min_rounds=2, max_rounds=7)
        )
        assert len(ours.seconds) == rounds


def test_peer_that_is_missing_leaves_a_note(clock):
    def missing():
        raise PeerUnavailableError("it is not installed")

    makers = {"a": taking(clock, 1.0, [], "a"), "b": missing}
    sides, notes = compare(makers, Effort(seconds=0.0))
    assert [side.name for side in sides] == ["a"]
    assert notes == ("b: it is not installed",)


def test_peer_that_breaks_leaves_a_note(clock):
    def broken():
        raise RuntimeError("operator does not exist")

    sides, notes = compare({"a": taking(clock, 1.0, [], "a"), "b": broken}, Effort(seconds=0.0))
    assert len(sides) == 1
    assert notes == ("b failed: RuntimeError: operator does not exist",)


def test_own_side_that_breaks_is_an_error(clock):
    def broken():
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        compare({"a": broken, "b": taking(clock, 1.0, [], "b")}, Effort(seconds=0.0))


def test_every_call_of_a_round_is_waited_for(clock):
    waited = []
    side = Side(run=lambda: "result", wait=waited.append)
    compare({"a": lambda: side}, Effort(seconds=0.0, min_rounds=2, sample_seconds=0.0))
    assert waited == ["result"] * 4  # two of the warm-up, one per round


def test_accounts_of_the_compiler_are_kept(clock):
    fields = {"compile_seconds": 3.0, "temp_bytes": 7, "device_peak": lambda: 11}
    (ours,), _ = compare({"a": taking(clock, 1.0, [], "a", **fields)}, Effort(seconds=0.0))
    assert (ours.compile_seconds, ours.temp_bytes, ours.device_peak_bytes) == (3.0, 7, 11)
