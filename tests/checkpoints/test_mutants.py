"""Made-up files of weights: refused or read, whatever they claim."""

import pytest

pytest.importorskip("h5py", reason="the extra keras-weights is not installed")

from tests.checkpoints.mutants import BUNDLES, WEIGHTS
from tests.fuzz.outcome import failures


def test_made_up_bundles_are_refused_or_read(tmp_path):
    assert failures(BUNDLES, 1, 40, tmp_path) == []


def test_made_up_weights_are_refused_or_read(tmp_path):
    assert failures(WEIGHTS, 1, 150, tmp_path) == []
