"""Kills real commands at random moments and compares their files with undisturbed ones, byte by byte.

    python -m tools.kill_campaign --kills 50 --seed 0
    python -m tools.kill_campaign --kills 20 --signal TERM --only train

Every command of both detectors on tiny data: conversion, training (which resumes), evaluation, export,
inference. A moment is a number of changes in the folder of results, drawn between none and as many as
an undisturbed command makes. Exit code 1 when anything differs, hangs or tells a wrong end.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.e2e.kills import (
    Command,
    different,
    disturbed,
    faster_commands,
    mask_commands,
    results,
    undisturbed,
)

EPOCHS = 4
ROUND = 3
"""Kills of one training before it is left to finish."""


def main() -> int:
    """Runs the campaign; returns the exit code."""
    parser = argparse.ArgumentParser(description="Kills real commands at random moments.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signal", choices=("KILL", "TERM", "INT", "HUP"), default="KILL")
    parser.add_argument("--only", default="", help="commands whose name holds this text")
    args = parser.parse_args()
    number = signal.Signals[f"SIG{args.signal}"]
    root = Path(tempfile.mkdtemp(prefix="kills-"))
    commands = prepare(root, args.only)
    moments, wrong, done = random.Random(args.seed), 0, 0
    while done < args.kills:
        command, expected, changes = moments.choice(commands)
        # Only training resumes: for it several kills in a row are one case. Another command starts
        # anew.
        count = min(ROUND if command.resumes else 1, args.kills - done)
        # Counted in changes of the folder and not in seconds, so that a moment is the same on any
        # machine.
        drawn = [moments.randint(0, changes) for _ in range(count)]
        out = root / "again"
        faults = disturbed(command, out, drawn, number)
        faults += [f"differs: {name}" for name in different(results(out), expected)]
        done += count
        wrong += bool(faults)
        print(
            f"{done:>4} {command.name:<28} {number.name} after {drawn} of {changes} changes", end=""
        )
        print("  " + ("\n".join(faults) or "same"), flush=True)
        shutil.rmtree(out)
    print(f"{done} signals, {wrong} commands with a fault; data in {root}")
    return 1 if wrong else 0


def prepare(root: Path, only: str) -> list[tuple[Command, dict[str, bytes], int]]:
    """Runs every command once, undisturbed; returns what it leaves and how often its folder changed."""
    prepared = []
    for kind, commands in (
        ("faster", list(faster_commands(root / "faster", EPOCHS))),
        ("mask", list(mask_commands(root / "mask"))),
    ):
        for command in commands:
            task = command.name.split()[1]
            # The training runs in any case: the other commands read its model.
            if only and only not in command.name and task != "train":
                continue
            entry = (command, *undisturbed(command, root / kind / task))
            print(f"     {command.name:<28} {entry[2]} changes, {len(entry[1])} files", flush=True)
            if only in command.name:
                prepared.append(entry)
    return prepared


if __name__ == "__main__":
    sys.exit(main())
