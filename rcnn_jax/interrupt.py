"""Signals that ask the program to end, as one exception: SIGINT, SIGTERM, SIGHUP, a closed pipe.

`guarded` in `cli/main.py` installs them for every command; the training loop takes them over while
it holds steps that no checkpoint has. A signal that was ignored when the program began (nohup, a
shell's background job) stays ignored.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

from rcnn_jax.errors import RcnnError

SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
ANEW = "the same command starts again"
GOES_ON = "the same command goes on"


class Stopped(KeyboardInterrupt):
    """A signal ends the program; as a KeyboardInterrupt it passes every `except Exception`.

    Attributes:
      number: of the signal.
      advice: how to go on; a run that has saved something says what.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number
        self.advice = ANEW

    def __str__(self) -> str:
        return f"interrupted by {signal.Signals(self.number).name}: {self.advice}"

    @property
    def exit_code(self) -> int:
        """128 and the number of the signal, as a shell reports a program that a signal ended."""
        return 128 + self.number


class Interrupts:
    """Handler of signals: an exception at once, or a note until the work at hand is saved.

    Attributes:
      noted: number of the first signal, or None.
      postponed: the first signal is only noted; a second one is an exception in any case.
      over: the command has ended and its last line is being written: signals come too late.
      asked: told the number of the first signal where several processes stop together; it is then only
        noted, until they have agreed where.
    """

    def __init__(self):
        self.asked: Callable[[int], object] | None = None
        self._passed_on = False
        self.noted: int | None = None
        self.postponed = False
        self.over = False

    def __call__(self, number: int, _: FrameType | None) -> None:
        """The handler of all signals; runs in the main thread between two steps of Python."""
        if self.over:
            return
        # No lock and no buffered stream in here: a handler runs between any two steps of Python, also
        # inside a write of the code it interrupts, and would wait for that code for ever.
        first = self.noted is None and not self._passed_on
        if first and self.asked is not None:
            self._passed_on = True
            self.asked(number)
        else:
            self.noted = self.noted or number
        if first and (self.postponed or self._passed_on):
            text = f"\n{signal.Signals(number).name}: saving; a second one ends at once\n"
            with contextlib.suppress(OSError):
                os.write(2, text.encode())  # a stream could be in the middle of another write
            return
        self.stop()

    def look(self) -> None:
        """Raises Stopped when a signal was noted."""
        if self.noted is not None:
            self.stop()

    def stop(self) -> NoReturn:
        """Raises Stopped for the noted signal."""
        raise Stopped(self.noted or signal.SIGTERM)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """While inside, a signal raises Stopped at once, also one that was noted before."""
        before, self.postponed = self.postponed, False
        try:
            self.look()
            yield
        finally:
            self.postponed = before


_installed: list[Interrupts] = []
_ended = False
"""A command of this process has ended; there is one to a process that `run_program` runs."""


@contextlib.contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Handles the signals of the process until it is left; may be nested.

    Outside the main thread, where Python handles no signals, nothing is installed.
    """
    signals = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    # None is a handler that C code has set, which Python could not put back.
    taken = {
        number: handler
        for number, handler in before.items()
        if handler is not None and handler is not signal.SIG_IGN
    }
    hook = sys.unraisablehook
    _installed.append(signals)
    try:
        # Before the handlers, and taken back after them: no exception of ours is raised without it.
        sys.unraisablehook = lambda lost: _again(lost) or hook(lost)
        for number in taken:
            signal.signal(number, signals)
        yield signals
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
        _installed.remove(signals)


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """While inside, what is done lies in files: the line of a signal says that the command goes on."""
    try:
        yield
    except Stopped as stop:
        stop.advice = GOES_ON
        raise


def stopped_by(error: BaseException) -> KeyboardInterrupt | None:
    """Returns the interruption that an exception stands for, None where it is something else.

    A closed pipe is one: who read the output has gone, and other programs die of SIGPIPE there. So is
    whatever C code made of the exception of a signal: an import that was cut short is an ImportError.

    Args:
      error: what ended the command.
    """
    if isinstance(error, KeyboardInterrupt):
        return error
    if isinstance(error, BrokenPipeError):
        return Stopped(signal.SIGPIPE)
    # By the innermost handlers: the outer ones have not seen the signal.
    noted = _installed[-1].noted if _installed else None
    return None if noted is None or isinstance(error, RcnnError) else Stopped(noted)


def too_late() -> None:
    """Ignores signals from now on: the command has ended and is about to report it."""
    global _ended
    _ended = True
    if _installed:
        _installed[-1].over = True


def run_program(command: Callable[[], int]) -> NoReturn:
    """Runs a command that handles its signals, and ends the process with its exit code.

    Between the last handler of the command and the end of the process the ones of Python would be in
    force: a signal would end a program that has done all its work with another code than 0.
    """
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    for number in SIGNALS:
        # What is ignored stays ignored, as nohup wants it.
        if signal.getsignal(number) in defaults:
            signal.signal(number, _outside)
    leave(command())


def _outside(number: int, _: FrameType | None) -> None:
    """Handles signals before a command has begun and after it has ended."""
    if not _ended:
        os._exit(128 + number)


def leave(code: int) -> NoReturn:
    """Ends the process with the exit code that `guarded` returned.

    What failed or was stopped waits for no thread: one may compile for minutes.

    Args:
      code: of the command.
    """
    for number in SIGNALS:  # the code is known; a late signal would give another one
        signal.signal(number, signal.SIG_IGN)
    # Success ends as Python ends, with everything that is registered for it.
    if code == 0:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def _again(lost: Any) -> bool:
    """Repeats a signal when Python has dropped its exception.

    Signals are often seen right after a collection of garbage, whose callbacks (JAX has one) are such
    a place.
    """
    value = lost.exc_value
    if not isinstance(value, Stopped):
        return False
    # From another thread and a little later: sent from here it would be raised in the same place
    # and be dropped again.
    again = threading.Timer(0.05, os.kill, (os.getpid(), value.number))
    again.daemon = True
    again.start()
    return True
