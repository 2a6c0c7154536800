"""A Mask R-CNN run that is killed ends with the bytes of one that is not."""

import random
import signal

import pytest

from tests.e2e.kills import different, disturbed, mask_commands, results, undisturbed


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bytes(tmp_path):
    commands = {command.name.split()[1]: command for command in mask_commands(tmp_path)}
    expected, changes = undisturbed(commands["train"], tmp_path / "train")
    drawn = [random.Random(5).randint(changes // 2, changes - 1)]
    assert disturbed(commands["train"], tmp_path / "killed", drawn, signal.SIGKILL) == []
    assert different(results(tmp_path / "killed"), expected) == []
