"""Specs with mistakes made by chance: refused in words or read, never a traceback, a key or a hang."""

from pathlib import Path

import pytest

from tests.fuzz.outcome import failures
from tests.spec.mutants import SPECS


@pytest.mark.parametrize("seed", range(4))
def test_no_mutant_is_more_than_an_error(seed: int, tmp_path: Path) -> None:
    assert failures(SPECS, seed, 100, tmp_path) == []
