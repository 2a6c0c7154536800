"""How long-running functions talk to whoever started them, without knowing who that is."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

from rich.console import Console

Item = TypeVar("Item")


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
