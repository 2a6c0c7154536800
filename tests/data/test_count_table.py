"""The table of counts: a row per class and per kind of omission, sums at the bottom."""

import io

from rcnn_jax.data.count_table import Column, counts_table, report_findings
from rcnn_jax.data.findings import MISSPELT_KEY, NO_VALIDATION, TINY, UNMAPPED, Finding
from rcnn_jax.reporter import SafeConsole


def cells(table):
    """{heading of a row: its cells}, and the footer."""
    first, *others = table.columns
    rows = {
        head: [str(column._cells[i]) for column in others] for i, head in enumerate(first._cells)
    }
    return rows, [str(column.footer) for column in others]


TRAINING = Column(
    name="training",
    images=1200,
    objects={"car": 4000, "van": 7},
    findings=(Finding(UNMAPPED, "tram", 2), Finding(TINY, "a.jpg", 1)),
)
VALIDATION = Column(name="fold 0", images=30, objects={"van": 2, "bus": 1})


def test_classes_keep_their_order_and_a_class_that_a_part_lacks_counts_zero():
    rows, footer = cells(counts_table([TRAINING, VALIDATION]))
    assert list(rows)[:3] == ["car", "van", "bus"]
    assert rows["car"] == ["4,000", "0"] and rows["bus"] == ["0", "1"]
    assert footer == ["4,007\n1,200", "3\n30"]


def test_omissions_follow_and_are_empty_where_there_is_none():
    rows, _ = cells(counts_table([TRAINING, VALIDATION]))
    assert rows["not mapped: tram"] == ["2", ""]
    assert rows["smaller than a pixel"] == ["1", ""]


def test_brackets_in_names_of_classes_are_printed():
    table = counts_table([Column(name="[bold]", images=1, objects={"[red]": 1})])
    screen = io.StringIO()
    SafeConsole(file=screen, width=80).print(table)
    assert "[red]" in screen.getvalue() and "[bold]" in screen.getvalue()
    # The console knows no markup, so nothing must be escaped for it.
    assert "\\" not in screen.getvalue()


def test_sentences_are_reported_once_by_severity():
    lines = []

    class Listener:
        """A reporter that keeps its lines."""

        def note(self, text):
            lines.append(("note", text))

        def warn(self, text):
            lines.append(("warn", text))

    report_findings(
        [
            Finding(NO_VALIDATION, "no validation data"),
            Finding(MISSPELT_KEY, "'Cra'; did you mean 'car'?"),
            Finding(NO_VALIDATION, "no validation data"),
        ],
        Listener(),
    )
    assert lines == [
        ("note", "no validation data"),
        ("warn", "target_class_mapping: no object is called 'Cra'; did you mean 'car'?"),
    ]
