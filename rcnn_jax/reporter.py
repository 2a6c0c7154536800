"""Reporter: output of long-running functions to console, log and status file, or to nobody."""

import io
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.text import Text

from rcnn_jax.printable import printable

Item = TypeVar("Item")


class SafeConsole(Console):
    """A console that prints text without markup and with control characters escaped.

    No markup and no emoji codes: `[red]` and `:car:` may be parts of names.
    """

    def __init__(self, **options: Any):
        # Soft wrap: a path that is broken over two lines cannot be copied, and logs have lines of
        # any length.
        chosen: dict[str, Any] = {"highlight": False, "soft_wrap": True} | options
        super().__init__(**chosen, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string that is printed comes through here, those in tables too."""
        return super().render_str(printable(text), **options)


class Reporter(Protocol):
    """The console and status file of a command, or the silence of a library call.

    Attributes:
      console: where tables and lines are printed.
    """

    console: Console

    def note(self, text: str) -> None:
        """Prints one line that the user should know of but need not act on."""

    def warn(self, text: str) -> None:
        """Prints one line that the user should act on."""

    def status(
        self,
        status: Any,
        message: str,
        *,
        verbosity: str = "INFO",
        kpi: Mapping[str, float] | None = None,
        graphical: Mapping[str, float] | None = None,
        **fields: Any,
    ) -> None:
        """Appends a line to status.json."""

    def track(self, items: Iterable[Item], total: int, label: str) -> Iterable[Item]:
        """Passes the items on and shows how many of the total have gone by."""
        ...


class _Silent:
    """A reporter that prints and writes nothing."""

    def __init__(self) -> None:
        # Not by the environment: FORCE_COLOR would make it a terminal, with a bar.
        self.console: Console = SafeConsole(file=io.StringIO(), quiet=True, force_terminal=False)

    def note(self, text: str) -> None:
        """Does nothing."""

    def warn(self, text: str) -> None:
        """Does nothing."""

    def status(self, status: Any, message: str, **fields: Any) -> None:
        """Does nothing."""

    def track(self, items: Iterable[Item], total: int, label: str) -> Iterable[Item]:
        """Returns the items."""
        return items


SILENT: Reporter = _Silent()
"""Reporter of a caller who wants to hear nothing: the results are returned."""


@contextmanager
def log_to(reporter: Reporter) -> Iterator[None]:
    """Passes the package's `logging` on as warnings of a reporter.

    Functions without a reporter, such as the decoder of images, say what happened by logging, as
    users of a library expect.
    """
    logger = logging.getLogger("rcnn_jax")
    handler = _Warnings(reporter)
    # Else the root logger, which a notebook or absl has set up, shows every line a second time.
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


class _Warnings(logging.Handler):
    def __init__(self, reporter: Reporter):
        super().__init__(logging.WARNING)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        self._reporter.warn(record.getMessage())
