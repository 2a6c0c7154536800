"""Session of one command: console, log file and status.json.

status.json holds one JSON object per line, as the original wrote it for programs that watch a run:

    {"date": "3/7/2026", "time": "9:5:0", "status": "STARTED", "verbosity": "INFO", "message": ""}

STARTED comes first, RUNNING once per epoch, SUCCESS or FAILURE last, whatever ends the command. A
command that a signal ended is a FAILURE that says `was interrupted` and how to go on.
"""

import json
import re
import sys
import time
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO, TypeVar

from ml_collections import ConfigDict
from rich import progress
from rich.console import Console

from rcnn_jax.cli.flags import flag_notes, key_from
from rcnn_jax.errors import RcnnError, TrainingError, UsageError
from rcnn_jax.hosts.team import team
from rcnn_jax.interrupt import stopped_by, too_late
from rcnn_jax.kinds import Kind, SpecKind, TaskName
from rcnn_jax.printable import printable
from rcnn_jax.reporter import SILENT, SafeConsole, log_to
from rcnn_jax.tasks.families import family
from rcnn_jax.train.lock import WorkdirLock, held

Item = TypeVar("Item")
Status = Literal["STARTED", "RUNNING", "SUCCESS", "FAILURE", "SKIPPED"]
STATUS_FILE = "status.json"
# In a pipe a line per step would fill the logs of a cluster.
SECONDS_BETWEEN_LINES = 10.0
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Session:
    """The console, log file and status.json of one command; a context manager.

    Leaving it normally writes SUCCESS; leaving it by an exception writes FAILURE with the message.
    With a log file everything printed goes to both places, as plain text: no colour, no live bar.

    Attributes:
      console: console of the user.
      lock: of the folder of status.json, where the command must be alone in it.
    """

    def __init__(
        self,
        title: str,
        *,
        status_folder: Path | None,
        log_file: Path | None = None,
        alone: bool = False,
        chief: bool = True,
    ):
        """Names the command.

        Args:
          title: for example `faster_rcnn train`; the messages of STARTED and SUCCESS use it.
          status_folder: folder of status.json; None until `keep_status_in` names one, if ever.
          log_file: file that everything printed is appended to.
          alone: locks the folder of status.json before anything is written there, until the last line
            is: what is refused leaves no line among those of the command that holds the lock.
          chief: False for the further processes of a job: they say and write nothing.
        """
        self.console: Console = Screen() if chief else SILENT.console
        self._chief = chief
        self._title = title
        self._status_path = status_folder / STATUS_FILE if status_folder else None
        self._log_file = log_file if chief else None
        self._log: TextIO | None = None
        self._alone = alone
        self.lock: WorkdirLock | None = None
        self._exits = ExitStack()

    def __enter__(self) -> "Session":
        if self._log_file:
            self._log = log = self._exits.enter_context(_open_log(self._log_file))
            # The streams and not only the console, because libraries print too. The log was entered
            # first, so it is closed last.
            self._exits.enter_context(redirect_stdout(_Tee(sys.stdout, log)))
            self._exits.enter_context(redirect_stderr(_Tee(sys.stderr, log)))
        self._exits.enter_context(log_to(self))
        if self._chief:
            self._exits.enter_context(_last_line_by_the_monitor(self))
        if self._status_path:
            # `keep_status_in` writes STARTED for the first folder it is given, and this is one.
            path, self._status_path = self._status_path, None
            try:
                self.keep_status_in(path.parent)
            except BaseException as error:
                # Python leaves no context that it could not enter: log, streams and lock would
                # stay.
                self.__exit__(type(error), error, error.__traceback__)
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        too_late()  # a signal from here on finds the command ended
        with self._exits:
            if error is None:
                self.status("SUCCESS", f"{self._title} finished successfully.")
                return
            stop = stopped_by(error)
            if stop is not None:
                text = f"{self._title} was {stop if str(stop) else 'interrupted'}."
            else:
                text = str(error) or type(error).__name__
            with suppress(OSError):  # a full disk is reported once, by what ended the command
                self.status("FAILURE", text, verbosity="ERROR")
                if self._log is not None:  # the screen hears of it from main
                    known = isinstance(error, RcnnError) or stop is not None
                    shown = f"{text}\n" if known else "".join(traceback.format_exception(error))
                    self._log.write(printable(shown))

    def keep_status_in(self, folder: Path) -> None:
        """Names the folder of status.json, where the command line did not, and writes STARTED.

        Raises:
          UsageError: the folder cannot be written, or another process is at work in it.
        """
        if self._status_path is None and self._chief:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if self._alone:
                    # The lock comes before the first line: a training that is refused must not
                    # write FAILURE among the lines of the one that runs.
                    self.lock = self._exits.enter_context(held(folder, self._title, self.note))
                self._status_path = folder / STATUS_FILE
                self.status("STARTED", f"Starting {self._title}.")
            except OSError as error:
                self._status_path = None
                why = _why_no_folder(folder, error)
                raise UsageError(
                    f"{folder}: results cannot be written there: {why}; name another folder, or make "
                    "this one writable"
                ) from error

    def status(
        self,
        status: Status,
        message: str,
        *,
        verbosity: str = "INFO",
        kpi: Mapping[str, float] | None = None,
        graphical: Mapping[str, float] | None = None,
        **fields: Any,
    ) -> None:
        """Appends a line to status.json; without a folder nothing is written.

        Args:
          status: what happened.
          message: a sentence for a person.
          verbosity: INFO, WARNING or ERROR.
          kpi: the numbers that judge the model, written as text as the original did.
          graphical: the numbers that are drawn over epochs, written as text too.
          **fields: further fields: epoch, max_epoch, time_per_epoch, eta.
        """
        if self._status_path is None or not self._chief:
            return
        now = datetime.now()
        line: dict[str, Any] = {
            # Not padded with zeros, as the original's logger writes it.
            "date": f"{now.month}/{now.day}/{now.year}",
            "time": f"{now.hour}:{now.minute}:{now.second}",
            "status": status,
            "verbosity": verbosity,
            "message": message,
            **fields,
        }
        if graphical:
            line["graphical"] = {name: str(value) for name, value in graphical.items()}
        if kpi:
            line["kpi"] = {name: str(value) for name, value in kpi.items()}
        # Opened for every line: nothing is buffered when a process is killed, and a program that
        # watches may move the file away.
        self._status_path.parent.mkdir(parents=True, exist_ok=True)
        with self._status_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def note(self, text: str) -> None:
        """Prints one line that the user should know of but need not act on."""
        self.console.print(f"note: {text}", markup=False)

    def warn(self, text: str) -> None:
        """Prints one line that the user should act on; the command goes on."""
        self.console.print(f"warning: {text}", markup=False, style="yellow")

    def track(self, items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
        """Yields the items: under a bar on a terminal, with a line now and then in a pipe.

        Args:
          items: what is worked on.
          total: their number.
          label: what is done to them.
        """
        # A bar redraws its line by control codes, which a log would collect by the thousand.
        if self.console.is_terminal:
            yield from progress.track(items, label, total, console=self.console, transient=True)
            return
        last = time.monotonic()
        for count, item in enumerate(items, start=1):
            yield item
            if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                self.console.print(f"{label}: {count} of {total}", markup=False)


def read_spec(
    session: Session,
    args: Namespace,
    kind: SpecKind,
    task: TaskName | None = None,
    recorded: Callable[[ConfigDict], str | None] | None = None,
) -> tuple[ConfigDict, str | None]:
    """Returns the checked config without its secrets, and the key.

    The key leaves the config here, so nothing that is written later can hold it.

    Args:
      session: prints the notes of the spec: fields without effect.
      args: flags, of which `spec` (a path) or `config` (a ConfigDict) and `key` are read.
      kind: what the spec must describe.
      task: what is done with it: nothing is asked of the spec that the task does not use.
      recorded: config -> text of the spec of the run that goes on, if any: its recipe counts.

    Raises:
      SpecError: the spec is wrong, or there is no such file.
    """
    # Imported here: help and the errors of flags need no spec reader.
    from rcnn_jax.spec.load import load_spec, validate
    from rcnn_jax.spec.render import redact, written_key

    notes = flag_notes(args)
    if args.config is not None:
        config = args.config
        validate(config, kind, task)
    else:
        loaded = load_spec(args.spec, kind, task)
        begun = recorded(loaded.config) if recorded and loaded.config.recipe else None
        if begun is not None:
            loaded = load_spec(args.spec, kind, task, recorded=begun)
        config = loaded.config
        notes += loaded.notes
        for warning in loaded.warnings:
            session.warn(warning)
    for note in notes:
        session.note(note)
    # From here on the config that everybody sees, and that runs store, holds no key.
    return redact(config), key_from(args, written_key(config))


@contextmanager
def memory_advice(kind: Kind) -> Iterator[None]:
    """Turns an exhausted device into one message that says what to change, in which order.

    Args:
      kind: whose words the advice uses.

    Raises:
      TrainingError: the device is out of memory.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        rows = enumerate(family(kind).memory_advice, start=1)
        advice = "\n".join(f"  {number}. {text}" for number, text in rows)
        raise TrainingError(
            f"the device is out of memory. What helps, in this order:\n{advice}"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether XLA reports exhausted device memory; jax need not be imported."""
    # By name, along all base classes: the class has moved between modules of jaxlib and jax.
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"XlaRuntimeError", "JaxRuntimeError"}) and "RESOURCE_EXHAUSTED" in str(
        error
    )


@contextmanager
def _last_line_by_the_monitor(session: Session) -> Iterator[None]:
    """Lets a process that its monitor ends write the last line of status.json all the same."""
    monitor = team().monitor
    if monitor is not None:
        monitor.farewell = lambda text: session.status("FAILURE", text, verbosity="ERROR")
    try:
        yield
    finally:
        if monitor is not None:
            monitor.farewell = None


class Screen(SafeConsole):
    """A console whose reader may go away: that is an exception, Rich would leave with code 1."""

    def on_broken_pipe(self) -> None:
        """Called while the BrokenPipeError is being handled."""
        raise  # noqa: PLE0704


class _Tee:
    """A text stream that writes to a screen and, without control codes, to a log."""

    encoding = "utf-8"

    def __init__(self, screen: TextIO, log: TextIO):
        self.screen = screen
        self.log = log

    def write(self, text: str) -> int:
        self.log.write(_CONTROL.sub("", text))  # first: the screen may be a closed pipe
        self.screen.write(text)
        return len(text)

    def flush(self) -> None:
        self.screen.flush()
        self.log.flush()

    def isatty(self) -> bool:
        return False


def _why_no_folder(folder: Path, error: OSError) -> str:
    if isinstance(error, FileExistsError):  # what mkdir says of all of these
        return "a link that leads nowhere" if folder.is_symlink() else "it is a file"
    return error.strerror or str(error)


def _open_log(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", encoding="utf-8", buffering=1)
    except OSError as error:
        raise UsageError(f"--log_file {path}: cannot be written: {error.strerror}") from error
