"""Threads beside the work that see what the work cannot: who is dead, who is stuck, who wants to stop.

Work of several processes waits in collectives, inside C++, where no exception and no signal handler of
Python arrives. So every process writes a sign of life and its place in the work to a common store once a
second, reads those of the others, and ends itself when the work cannot go on:

    beat/<i>     sign of life, ticks begun, what is worked on
    gone/<i>     left with an error, and which
    done/<i>     finished
    stop/<i>     a signal asks to stop
    limit/<i>    ticks begun when it heard of that

A *tick* is a piece of work that all processes begin in the same order: a training step, a batch of a
validation. To stop, every monitor answers with the ticks that its process has begun. All go on to the
largest of these numbers and stop there: none waits in a collective that another never enters. JAX has
such an agreement too (`reached_preemption_sync_point`); its handler takes SIGTERM away from Python's, and
it hears of no other signal.
"""

import contextlib
import json
import os
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol

EXIT_CODE = 75
"""EX_TEMPFAIL: the same command, started again, may succeed; schedulers requeue on it."""
BEAT = 1.0
REST_STALLS = 6.0
"""Between steps, when files are written and weights validated, a given timeout counts so many times."""
PATIENCE_OF_STEPS, LEAST_STALL = 20.0, 600.0
"""Without --stall_timeout a job is stuck after so many median steps, but not before so many seconds."""


class Store(Protocol):
    """Few small values that all processes see; JAX's coordination service, or a dict in tests."""

    def set(self, key: str, value: str) -> None:
        """Writes a value, over an older one."""

    def read(self) -> Mapping[str, str]:
        """Returns all values by key."""
        ...


class LocalStore:
    """The store of a job of one process."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def set(self, key: str, value: str) -> None:
        """Writes a value."""
        self._values[key] = value

    def read(self) -> Mapping[str, str]:
        """Returns all values by key."""
        return self._values


@dataclass
class _Peer:
    """What is known of another process.

    Attributes:
      sign: its last sign of life.
      seen: when that was new here.
      moved: when it last told of work without a tick.
      ticks: that it has begun.
      doing: what it works on.
    """

    sign: str = ""
    seen: float = 0.0
    moved: float = 0.0
    ticks: int = 0
    doing: str = ""


class Monitor:
    """Watches over one process and its peers.

    Attributes:
      names: of the processes, for messages: `process 1 on node02`.
      farewell: told the message before the process ends; writes status.json, for example.
      leaving: exit code of a process that has finished or left with an error; None before.
    """

    def __init__(
        self,
        store: Store,
        index: int,
        count: int,
        *,
        heartbeat_timeout: float,
        stall_timeout: float | None,
        start_timeout: float = 0.0,
        names: Mapping[int, str] | None = None,
        beat: float = BEAT,
        linger: float = 4 * BEAT,
        end: Callable[[int], NoReturn] = os._exit,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Takes the store and the limits; `start` begins the thread.

        Args:
          store: common to all processes.
          index: of this process.
          count: of processes.
          heartbeat_timeout: seconds after which a silent peer is dead.
          stall_timeout: seconds without a tick after which the job is stuck; None, see `LEAST_STALL`.
          start_timeout: seconds that may pass before the first tick; 0 for any.
          names: see `Monitor`.
          beat: seconds between two looks.
          linger: seconds that process 0, the home of the store, stays when it ends all.
          end: ends the process with a code.
          clock: seconds.
        """
        self.names = dict(names or {})
        self.farewell: Callable[[str], object] | None = None
        self.leaving: int | None = None
        self._store, self._index, self._count = store, index, count
        self._heartbeat, self._stall = heartbeat_timeout, stall_timeout
        # a job of hundreds of processes must not ask its coordinator for all signs every second
        self._beat = beat * max(1.0, count / 64)
        # A few beats early: what is promised is the end within the time.
        self._patience = max(heartbeat_timeout - 5 * self._beat, 0.5 * heartbeat_timeout)
        self._end, self._clock, self._linger = end, clock, linger
        self._lock = threading.Lock()
        self._ticks, self._doing = 0, "start"
        self._last_tick: float | None = None
        self._least = start_timeout
        # The last ones only: a run may be slower after a change of canvas, or faster without a
        # profiler.
        self._steps: deque[float] = deque(maxlen=50)
        self._wanted: int | None = None
        self._limit: int | None = None
        self._answered = False
        self._peers = {i: _Peer() for i in range(count) if i != index}
        self._left = self._failing = 0.0
        # In looks of the thread outside, not by the clock: where this process was held up itself, nobody
        # has waited for an answer.
        self._unheard = 0.0
        self._quiet, self._ending = threading.Event(), threading.Lock()
        self._told = threading.Event()
        # A daemon: it must not keep a process alive whose work is done.
        self._thread = threading.Thread(target=self._run, daemon=True, name="monitor")
        # A stopped coordinator answers with nothing, not even an error: who waits for it inside C++ needs
        # somebody outside. Its own store lies in its own process.
        self._outside = threading.Thread(target=self._wait_outside, daemon=True, name="watch")

    def start(self) -> None:
        """Begins to watch."""
        now = self._clock()
        for peer in self._peers.values():
            peer.seen = now
        self._last_tick = now if self._least else None
        self._thread.start()
        if self._index:
            self._outside.start()

    def tick(self, doing: str) -> int | None:
        """Begins a piece of work; returns the number of the signal where the place to stop is reached.

        Args:
          doing: what begins, for messages: `step 12`.
        """
        while True:
            with self._lock:
                if not self._answered or (self._limit is not None and self._ticks < self._limit):
                    now = self._clock()
                    if self._last_tick is not None:
                        self._steps.append(now - self._last_tick)
                    self._ticks, self._doing, self._last_tick = self._ticks + 1, doing, now
                    self._least = 0.0
                    return None
                if self._limit is not None:
                    self._last_tick = None
                    return self._wanted
            time.sleep(0.02)  # the others are about to say where they are

    def rest(self, doing: str) -> None:
        """Allows the work until the next tick as much time as a file or a compilation takes."""
        with self._lock:
            self._doing, self._last_tick = doing, self._clock()
            self._least = min(LEAST_STALL, REST_STALLS * (self._stall or LEAST_STALL))

    def ask_to_stop(self, number: int) -> None:
        """Asks all processes to stop together; may be called by a signal handler."""
        # No lock and no network here: the handler may have interrupted a thread that holds either.
        self._wanted = self._wanted or number

    def leave(self, text: str, code: int) -> None:
        """Tells the others that this process ends with an error; from here on it watches nobody."""
        self.leaving = code
        self._quiet.set()
        self._tell(f"gone/{self._index}", json.dumps({"text": text, "code": code}))
        self._told.set()

    def finish(self) -> None:
        """Tells the others that this process has finished."""
        self.leaving = 0
        self._quiet.set()
        self._tell(f"done/{self._index}", "1")
        self._told.set()

    def gone(self) -> dict[int, tuple[str, int]]:
        """Returns who has left with an error: {index: (text, exit code)}."""
        departures = {}
        for key, value in self._read().items():
            kind, _, index = key.partition("/")
            if kind == "gone" and int(index) != self._index:
                message = json.loads(value)
                departures[int(index)] = str(message["text"]), int(message["code"])
        return departures

    def silent(self, seconds: float) -> list[int]:
        """Returns the peers without a sign of life for so long."""
        now = self._clock()
        return [i for i, peer in self._peers.items() if now - peer.seen > seconds]

    def name(self, index: int) -> str:
        """Returns the name of a process for messages."""
        return self.names.get(index, f"process {index}")

    def end(self, text: str, code: int = EXIT_CODE, *, tell: bool = True) -> NoReturn:
        """Says why, and ends the process: its main thread may be where no exception arrives.

        Args:
          text: why.
          code: exit code.
          tell: the others too; False where the store is gone and would hold the process for ever.
        """
        self._quiet.set()
        if not self._ending.acquire(blocking=False):  # another thread has said it already
            time.sleep(60.0)
        say = f"error: {self.name(self._index)}: {text}" if self._count > 1 else f"error: {text}"
        with contextlib.suppress(Exception):
            # Not print: the main thread may hold the lock of stderr, inside C++ and for ever.
            os.write(2, f"{say}\n".encode())
        if self.farewell is not None:
            with contextlib.suppress(Exception):
                self.farewell(text)
        if tell:
            self._tell(f"gone/{self._index}", json.dumps({"text": text, "code": code}))
        if self._index == 0 and self._count > 1:
            time.sleep(self._linger)  # the store lives here: the others must have read the reason
        self._end(code)

    def look(self) -> None:
        """One beat: writes the own sign, reads those of the others, ends the process if it must."""
        now = self._clock()
        with self._lock:
            sign = json.dumps({"ticks": self._ticks, "doing": self._doing, "at": now})
        self._tell(f"beat/{self._index}", sign)
        if self._wanted is not None:
            self._tell(f"stop/{self._index}", str(self._wanted))
        values = self._read()
        done = {int(key.partition("/")[2]) for key in values if key.startswith("done/")}
        for i, peer in self._peers.items():
            sign = values.get(f"beat/{i}", "")
            # By change, not by the time in it: clocks of machines differ, and a sign that arrived
            # is new.
            if sign != peer.sign:
                message = json.loads(sign)
                peer.sign, peer.seen = sign, now
                if message["ticks"] == peer.ticks and message["doing"] != peer.doing:
                    peer.moved = now
                peer.ticks, peer.doing = message["ticks"], message["doing"]
            # Who has finished writes no signs and is not dead.
            if i in done:
                peer.seen = now
        self._agree(values)
        self._mourn(values, now)
        self._unstick(now)

    def _agree(self, values: Mapping[str, str]) -> None:
        asked = [value for key, value in sorted(values.items()) if key.startswith("stop/")]
        if not asked:
            return
        with self._lock:
            self._wanted = self._wanted or int(asked[0])
            if not self._answered:
                self._answered = True  # from here on the main thread begins nothing unasked
                answer = self._ticks
            else:
                answer = None
        if answer is not None:
            self._tell(f"limit/{self._index}", str(answer))
            values = self._read()
        limits = [int(value) for key, value in values.items() if key.startswith("limit/")]
        if len(limits) == self._count:
            with self._lock:
                # The largest, because who has begun a tick waits in it for all others.
                self._limit = max(limits)

    def _mourn(self, values: Mapping[str, str], now: float) -> None:
        left = sorted(
            int(key.partition("/")[2])
            for key in values
            if key.startswith("gone/") and key != f"gone/{self._index}"
        )
        # What makes one process fail mostly makes all fail, each with its own message: a moment for it.
        self._left = (self._left or now) if left else 0.0
        if left and now - self._left >= 2 * self._beat:
            message = json.loads(values[f"gone/{left[0]}"])
            self.end(f"{self.name(left[0])} has ended: {message['text']}", int(message["code"]))
        dead = self.silent(self._patience)
        if dead:
            names = ", ".join(map(self.name, dead))
            self.end(
                f"no sign of life from {names} for {self._heartbeat:g} s (--heartbeat_timeout): it "
                "was killed, or its machine or network failed. All processes end; the same command "
                "goes on from what is saved"
            )

    def _unstick(self, now: float) -> None:
        with self._lock:
            began, own, steps = self._last_tick, self._ticks, list(self._steps)
            least = self._least
        if began is None:
            return
        limit = self._stall
        if limit is None:
            # The median: one slow step, as at a validation, must not lengthen the patience with
            # all.
            limit = max(LEAST_STALL, PATIENCE_OF_STEPS * statistics.median(steps or [0.0]))
        limit = max(limit, least)
        # Who has done his part of the images waits for the others, whose work goes on without a tick.
        began = max([began, *(peer.moved for peer in self._peers.values())])
        if now - began <= limit:
            return
        ticks = {self._index: own, **{i: peer.ticks for i, peer in self._peers.items()}}
        behind = [i for i, count in sorted(ticks.items()) if count < max(ticks.values())]
        # All in the same step and one silent: it is the one that has stopped in C++.
        behind = behind or sorted(self.silent(3 * self._beat))
        most = max(self._peers.values(), key=lambda peer: peer.ticks, default=_Peer())
        doing = most.doing if most.ticks > own else self._doing
        if self._count == 1:
            who = f"{doing} does not end"
        elif behind:
            names = ", ".join(map(self.name, behind))
            who = f"{doing} was not reached by {names}"
        else:
            who = f"all processes have begun {doing}, and it does not end"
        self.end(
            f"nothing has moved for {limit:.0f} s (--stall_timeout): {who}. All processes end; the same "
            "command goes on from what is saved"
        )

    def _run(self) -> None:
        while not self._quiet.wait(self._beat):
            self.look()

    def _wait_outside(self) -> None:
        # Longer than the other thread: the last word of a process may be what is not answered.
        while not self._told.wait(self._beat):
            self._look_outside()

    def _look_outside(self) -> None:
        """Ends the process when the store has not answered for too long."""
        limits = {"heartbeat_timeout": self._patience}
        if self._stall is not None:
            limits["stall_timeout"] = self._stall
        flag, limit = min(limits.items(), key=lambda each: each[1])
        self._unheard += self._beat
        if self._unheard <= limit:
            return
        given = self._heartbeat if flag == "heartbeat_timeout" else limit
        self.end(
            f"no answer from {self.name(0)}, the coordinator, for {given:g} s (--{flag}): it is stopped, "
            "or its machine or the network between has failed. All processes end; the same command goes "
            "on from what is saved",
            self.leaving or EXIT_CODE,
            tell=False,
        )

    def _tell(self, key: str, value: str) -> None:
        with contextlib.suppress(Exception):
            self._store.set(key, value)
            self._unheard = 0.0

    def _read(self) -> Mapping[str, str]:
        """Returns the values of the store; ends the process when it has not answered for long."""
        try:
            values = self._store.read()
        except Exception as error:
            self._failing = self._failing or self._clock()
            if self._clock() - self._failing > self._heartbeat and not self._quiet.is_set():
                self.end(
                    f"{self.name(0)}, the coordinator, no longer answers ({_first_line(error)})"
                )
            return {}
        self._unheard = self._failing = 0.0
        return values


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
