"""Every stored input again: sound ones are read, and what once went wrong is refused or read."""

from pathlib import Path

import pytest

from tests.fuzz.case import CORPUS
from tests.fuzz.outcome import outcome_of
from tests.fuzz.targets import NAMES, find

NEED_H5PY = {"weights", "bundles", "headers"}
LARGEST = 1 << 19
"""Bytes of the whole corpus: every clone has it."""


def stored(kind: str) -> list[Path]:
    return sorted(path for path in CORPUS.glob(f"*/{kind}/*") if path.is_file())


def outcome(path: Path, folder: Path):
    name = path.parts[-3]
    if name in NEED_H5PY:
        pytest.importorskip("h5py", reason="the extra keras-weights is not installed")
    target = find(name)
    return outcome_of(target, target.read(path), folder)


@pytest.mark.parametrize("path", stored("sound"), ids=lambda p: str(p.relative_to(CORPUS)))
def test_a_sound_input_is_read(path, tmp_path):
    result = outcome(path, tmp_path)
    assert result.kind == "read", result.text


@pytest.mark.parametrize("path", stored("faults"), ids=lambda p: str(p.relative_to(CORPUS)))
def test_what_once_went_wrong_does_so_no_more(path, tmp_path):
    result = outcome(path, tmp_path)
    assert not result.failed, result.text


def test_every_target_has_sound_inputs_and_all_are_small():
    assert {path.parts[-3] for path in stored("sound")} == set(NAMES)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < LARGEST
