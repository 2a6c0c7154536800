"""How a run hears that it should end."""

import signal
import types
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def sigterm_noted() -> Iterator[types.SimpleNamespace]:
    """Yields an object whose `terminated` the first SIGTERM sets; a second one acts as usual."""
    seen = types.SimpleNamespace(terminated=False)

    def note(*_: object) -> None:
        seen.terminated = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGTERM, before)
