"""The tool that makes the README's table of backbones, on a small canvas and an eighth of the widths."""

import re

import pytest

from benchmarks.measure import Side
from benchmarks.tables.backbones import HEAD, main, ratio


@pytest.mark.slow
def test_a_row_tells_size_arithmetic_time_and_export(capsys):
    arguments = ["resnet:18", "--height", "64", "--width", "96", "--factor", "0.125"]
    assert main([*arguments, "--seconds", "0"]) == 0
    *head, row = capsys.readouterr().out.splitlines()
    assert "\n".join(head) == HEAD
    assert re.fullmatch(r"\| `resnet:18` \| 0\.2 \| \d+ \| 1\.00 \| 1\.00 \| yes \|", row)


def test_sides_take_turns_and_a_slow_one_has_one_round():
    calls = []
    side, base = (Side(run=lambda name=name: calls.append(name)) for name in ("side", "base"))
    assert ratio(side, base, seconds=0.0) > 0
    assert calls == ["base", "side", "side", "base"]
    assert ratio(base, base, seconds=0.0) == 1.0
