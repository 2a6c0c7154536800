"""A run whose thresholds follow the proposals, ended between two of their changes: bit for bit."""

import signal

import pytest

from tests.e2e.kills import different, end_when, finish, logged, results, start
from tests.e2e.tiny import write_tiny

FIELDS = """
  dynamic_rcnn: true
  dynamic_interval: 4
  dynamic_overlap_rank: 4
  dynamic_error_rank: 2
"""


@pytest.mark.slow
def test_a_run_that_was_ended_goes_on_with_its_thresholds(tmp_path):
    spec = write_tiny(tmp_path, epochs=6, training=FIELDS)

    def flags(out):
        return ["faster_rcnn", "train", "-e", spec, "-d", out, "--gpus", 1]

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    finish(start(*flags(whole)))
    process = start(*flags(parts))
    end_when(process, logged(parts, 3), signal.SIGTERM)
    assert process.returncode == 143
    finish(start(*flags(parts)))
    assert different(results(parts), results(whole)) == []
