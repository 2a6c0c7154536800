"""A reporter for tests: it keeps what it is told."""

import io

from rich.console import Console


class Listener:
    """Keeps notes and warnings apart; the console writes into `screen`."""

    def __init__(self):
        self.screen = io.StringIO()
        self.console = Console(file=self.screen, width=200, soft_wrap=True)
        self.notes, self.warnings = [], []

    def note(self, text):
        self.notes.append(text)

    def warn(self, text):
        self.warnings.append(text)

    def status(self, status, message, **fields):
        pass

    def track(self, items, total, label):
        return items
