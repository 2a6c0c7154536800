"""What the monitor decides, from signs of life in a dict and a clock that the tests move."""

import contextlib
import json
import threading
import time

import pytest

from rcnn_jax.hosts.monitor import EXIT_CODE, LEAST_STALL, LocalStore, Monitor


class Ended(BaseException):
    """Stands for the end of a process."""


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Job:
    """Monitors of several processes over one store, looked at by hand."""

    def __init__(self, count, stall=None, heartbeat=100.0):
        self.clock, self.store, self.codes = Clock(), LocalStore(), []
        names = {i: f"process {i} on node{i}" for i in range(count)}
        self.monitors = [
            Monitor(
                self.store,
                i,
                count,
                heartbeat_timeout=heartbeat,
                stall_timeout=stall,
                names=names,
                linger=0.0,
                end=self.ended,
                clock=self.clock,
            )
            for i in range(count)
        ]
        for monitor in self.monitors:
            for peer in monitor._peers.values():
                peer.seen = self.clock.now

    def ended(self, code):
        self.codes.append(code)
        raise Ended

    def beat(self, *, without=(), seconds=1.0):
        self.clock.now += seconds
        for i, monitor in enumerate(self.monitors):
            if i not in without:
                monitor.look()


def beats_until_end(job, **how):
    for count in range(1, 1000):
        try:
            job.beat(**how)
        except Ended:
            return count
    raise AssertionError("the job did not end")


def test_processes_that_give_signs_of_life_are_left_alone():
    job = Job(3)
    for _ in range(500):
        job.beat()
    assert job.codes == []


def test_a_process_that_falls_silent_ends_the_others_within_the_timeout_and_is_named(capfd):
    job = Job(3, heartbeat=20.0)
    job.beat()
    beats = beats_until_end(job, without={1})
    assert beats <= 20
    assert job.codes == [EXIT_CODE]
    errors = capfd.readouterr().err
    assert "no sign of life from process 1 on node1 for 20 s (--heartbeat_timeout)" in errors
    assert errors.count("error:") == 1


def test_a_process_that_left_with_an_error_is_quoted_with_its_exit_code(capfd):
    job = Job(2)
    job.beat()
    job.monitors[1].leave("a.png: damaged", 2)
    beats = beats_until_end(job, without={1})
    assert beats <= 4
    assert job.codes == [2]
    assert "error: process 0 on node0: process 1 on node1 has ended: a.png: damaged" in (
        capfd.readouterr().err
    )


def test_a_process_that_has_finished_is_not_missed():
    job = Job(2, heartbeat=5.0)
    job.monitors[1].finish()
    for _ in range(50):
        job.beat(without={1})
    assert job.codes == []


def test_who_has_done_his_part_waits_for_others_as_long_as_they_work():
    """Inference: files of their own, no tick; an hour later than the first the last one is ready."""
    job = Job(2, stall=30.0)
    job.monitors[0].rest("the end")
    for file in range(720):
        job.monitors[1].rest(f"file {file}")
        job.beat(seconds=5.0)
    assert job.codes == []
    assert 175 <= beats_until_end(job) <= 185  # six times what is given, between steps


def test_the_processes_that_did_not_reach_a_step_are_named(capfd):
    job = Job(4, stall=30.0)
    for step in range(1, 6):
        for monitor in job.monitors:
            monitor.tick(f"step {step}")
        job.beat()
    for i in (0, 2):
        job.monitors[i].tick("step 6")
    seconds = beats_until_end(job)
    assert 30 <= seconds <= 32
    assert job.codes == [EXIT_CODE]
    assert (
        "nothing has moved for 30 s (--stall_timeout): step 6 was not reached by process 1 on node1, "
        "process 3 on node3" in capfd.readouterr().err
    )


def test_without_a_timeout_a_job_is_stuck_after_twenty_median_steps_but_not_before_ten_minutes():
    job = Job(2)
    for step in range(1, 12):
        for monitor in job.monitors:
            monitor.tick(f"step {step}")
        job.beat(seconds=60.0)
    beats = beats_until_end(job, seconds=20.0)
    assert 20 * 60 <= beats * 20 + 60 <= 20 * 60 + 40
    quick = Job(2)
    for step in range(1, 5):
        for monitor in quick.monitors:
            monitor.tick(f"step {step}")
        quick.beat()
    beats = beats_until_end(quick, seconds=10.0)
    assert LEAST_STALL - 10 <= beats * 10 <= LEAST_STALL + 20


@pytest.mark.parametrize(
    ("stall", "patience"), [(10.0, 60), (200.0, LEAST_STALL), (None, LEAST_STALL)]
)
def test_what_is_due_between_steps_may_take_longer_than_a_step(stall, patience, capfd):
    job = Job(2, stall=stall)
    for monitor in job.monitors:
        monitor.tick("step 1")
        monitor.rest("what is due after step 1")
    beats = beats_until_end(job)
    assert patience <= beats <= patience + 2
    assert "all processes have begun what is due after step 1" in capfd.readouterr().err


def test_a_lone_process_says_what_does_not_end(capfd):
    job = Job(1, stall=5.0)
    job.monitors[0].tick("step 3")
    job.monitors[0].tick("step 4")
    with pytest.raises(Ended):
        for _ in range(100):
            job.beat()
    assert "error: nothing has moved for 5 s (--stall_timeout): step 4 does not end" in (
        capfd.readouterr().err
    )


@pytest.mark.parametrize("ahead", [(5, 5, 5), (7, 5, 6), (0, 9, 9), (0, 0, 0)])
@pytest.mark.parametrize("who", [0, 2])
def test_all_stop_at_one_place_that_each_can_reach(ahead, who):
    """Whatever the order in which they hear of the signal, nobody begins a piece the others do not."""
    job = Job(3)
    for monitor, ticks in zip(job.monitors, ahead, strict=True):
        for step in range(ticks):
            assert monitor.tick(f"step {step}") is None
    job.monitors[who].ask_to_stop(15)
    stopped = {}

    def work(i):
        step = ahead[i]
        while (number := job.monitors[i].tick(f"step {step}")) is None:
            step += 1
        stopped[i] = step, number

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for _ in range(2):  # before anybody begins more, all have heard of it
        job.beat()
    for thread in threads:
        thread.start()
    job.beat()
    for thread in threads:
        thread.join(timeout=10)
    assert stopped == dict.fromkeys(range(3), (max(ahead), 15))


def test_a_coordinator_that_no_longer_answers_ends_the_process(capfd):
    job = Job(2, heartbeat=10.0)

    def broken():
        raise RuntimeError("UNAVAILABLE: connection reset\nmore")

    job.store.read = broken
    with pytest.raises(Ended):
        for _ in range(30):
            job.beat(without={0})
    assert "process 0 on node0" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("stall", "flag"), [(0.5, "--stall_timeout"), (None, "--heartbeat_timeout")]
)
def test_a_coordinator_that_neither_answers_nor_fails_ends_the_process(capfd, stall, flag):
    answer, codes = threading.Event(), []
    store = LocalStore()

    def read():
        answer.wait(20.0)  # as a stopped process: no value, no error
        raise Ended

    store.read = read

    def ended(code):
        codes.append(code)
        answer.set()
        raise Ended

    monitor = Monitor(store, 1, 2, heartbeat_timeout=1.0, stall_timeout=stall, beat=0.02, end=ended)

    def look():
        with contextlib.suppress(Ended):
            monitor.look()

    # By hand and not by `start`, so that the ends are seen here.
    asking = threading.Thread(target=look, daemon=True)
    asking.start()
    began = time.monotonic()
    with pytest.raises(Ended):
        while time.monotonic() - began < 10.0:
            monitor._look_outside()
            time.sleep(0.01)
    assert codes == [EXIT_CODE] and time.monotonic() - began < 5.0
    asking.join(timeout=10)
    assert not asking.is_alive()
    printed = capfd.readouterr().err
    assert "process 0, the coordinator" in printed and flag in printed


def test_notes_of_an_end_survive_as_json():
    job = Job(2)
    job.monitors[1].leave('a "quoted"\nline', 1)
    assert job.monitors[0].gone() == {1: ('a "quoted"\nline', 1)}
    assert json.loads(job.store.read()["gone/1"])["code"] == 1
