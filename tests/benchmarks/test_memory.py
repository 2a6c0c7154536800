import numpy as np
import pytest

from benchmarks.memory import peak_of_process, peak_since_reset, reset_peak

MIB = 2**20


def test_peak_counts_what_was_freed_before_it_was_asked_for():
    if not reset_peak():
        pytest.skip("this system cannot reset the peak of a process")
    before = peak_since_reset()
    np.ones(64 * MIB, np.uint8).sum()
    after = peak_since_reset()
    assert before is not None and after is not None
    assert after - before > 32 * MIB
    assert peak_of_process() > 32 * MIB


def test_reset_forgets_what_was_freed():
    np.ones(64 * MIB, np.uint8).sum()
    if not reset_peak():
        pytest.skip("this system cannot reset the peak of a process")
    forgotten = peak_since_reset()
    assert forgotten is not None
    np.ones(64 * MIB, np.uint8).sum()
    again = peak_since_reset()
    assert again is not None and again - forgotten > 32 * MIB
