"""Real commands in real processes, ended at moments that are named by what the process has written.

No moment is a time: a `Watch` counts the changes of a folder, so that a slow machine is killed where a
quick one is. Used by the tests and by `python -m tools.kill_campaign`.
"""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.e2e import tiny, tiny_mask

PROGRAM = "from rcnn_jax.cli.program import rcnn_jax; rcnn_jax()"
LONGEST = 600
"""Seconds after which a process that does not end has failed."""
CLOCKS = ("status.json", "tensorboard", "checkpoints", "train.lock")
"""Names of files and folders that hold times, or are no result."""


def start(*flags: object) -> subprocess.Popen:
    """Starts `rcnn-jax` with the flags."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, flags)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=signals_as_usual,
    )


def signals_as_usual() -> None:
    """Undoes what a shell does to jobs in the background, which do not hear Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def finish(process: subprocess.Popen, code: int = 0) -> str:
    """Waits for the end of a process, which must have the exit code; returns what it printed."""
    output = process.communicate(timeout=LONGEST)[0]
    assert process.returncode == code, f"exit code {process.returncode}\n{output}"
    return output


def end_when(process: subprocess.Popen, reached: Callable[[], bool], number: int) -> str:
    """Sends a signal as soon as something is reached; a process that is over before gets none."""
    while process.poll() is None and not reached():
        time.sleep(0.002)
    process.send_signal(number)
    return process.communicate(timeout=LONGEST)[0]


class Watch:
    """Counts how often what lies in folders has changed; `watch()` says whether it was often enough."""

    def __init__(self, folders: tuple[Path, ...], changes: int):
        self._folders = folders
        self._wanted = changes
        self._before = self._look()
        self.seen = 0

    def __call__(self) -> bool:
        now = self._look()
        self.seen += now != self._before
        self._before = now
        return self.seen >= self._wanted

    def _look(self) -> dict[str, tuple[int, int]]:
        states = {}
        for folder in self._folders:
            for where, _, names in os.walk(folder):  # passes over what goes while we look
                for path in (where, *(f"{where}/{name}" for name in names)):
                    with contextlib.suppress(OSError):
                        status = os.lstat(path)
                        states[path] = (status.st_mtime_ns, status.st_size)
        return states


def logged(workdir: Path, step: int) -> Callable[[], bool]:
    """Returns a question: has the run logged the step?"""
    path = workdir / "metrics.jsonl"
    return lambda: path.exists() and f'"step": {step},' in path.read_text()


def stored(workdir: Path, step: int) -> dict | None:
    """What the run remembers in the checkpoint of a step; None as long as there is none."""
    manifest = workdir / "checkpoints" / str(step) / "manifest" / "metadata"
    try:
        return json.loads(manifest.read_text())["run_state"]["run"]
    except FileNotFoundError:
        return None


def statuses(folder: Path) -> list[dict]:
    """The lines of status.json."""
    return [json.loads(line) for line in (folder / "status.json").read_text().splitlines()]


def without_run(bundle: bytes) -> bytes:
    """The arrays of an unencrypted bundle; the header names the run, which differs."""
    header = int.from_bytes(bundle[16:24], "little")
    return bundle[24 + header :]


def results(folder: Path) -> dict[str, bytes]:
    """All files that must not depend on interruptions, by name; also half-written ones."""
    return {
        str(path.relative_to(folder)): (
            without_run(path.read_bytes()) if path.suffix == ".tlt" else path.read_bytes()
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not set(CLOCKS) & set(path.relative_to(folder).parts)
    }


def different(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    """The names of files that differ or that one of the two has not."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that can be run into any folder.

    Attributes:
      name: for messages.
      flags: from the folder of results to the flags.
      resumes: a second start goes on where the first was ended.
    """

    name: str
    flags: Callable[[Path], list[object]]
    resumes: bool = False


DATASET_SPEC = """
kitti_config {{
  root_directory_path: "{root}/data" image_dir_name: "images" label_dir_name: "labels"
  image_extension: ".png" partition_mode: "random" num_partitions: 2 val_split: 50 num_shards: 3
}}
image_directory_path: "{root}/data"
"""


def faster_commands(root: Path, epochs: int) -> Iterator[Command]:
    """Writes data and spec; yields every command of Faster R-CNN, each needing the ones before."""
    spec = tiny.write_tiny(root, epochs=epochs, training="ema_decay: 0.9")
    (root / "convert.txt").write_text(DATASET_SPEC.format(root=root))
    model = root / "train" / "best.tlt"
    yield from (
        Command(
            "faster_rcnn dataset_convert",
            lambda out: [
                *("faster_rcnn", "dataset_convert", "-d", root / "convert.txt"),
                *("-o", out / "set", "-r", out),
            ],
        ),
        *_detector("faster_rcnn", spec, model),
        Command(
            "faster_rcnn inference",
            lambda out: ["faster_rcnn", "inference", "-e", spec, "-m", model, "-r", out],
        ),
    )


def mask_commands(root: Path) -> Iterator[Command]:
    """The same of Mask R-CNN."""
    spec = tiny_mask.write_tiny(
        root,
        ("num_steps_per_eval: 4", "num_steps_per_eval: 2\nlogging_frequency: 1\nema_decay: 0.9"),
        (
            "augment_input_data: true",
            "augment_input_data: true\n  scale_jitter_max: 1.5\n  mosaic_probability: 0.5\n"
            "  copy_paste_probability: 0.5",
        ),
    )
    model, images = root / "train" / "best.tlt", root / "data" / "images"
    yield from (
        Command(
            "mask_rcnn dataset_convert",
            lambda out: [
                *("mask_rcnn", "dataset_convert", "-i", images, "-o", out, "-t", "train", "-s", 3),
                *("-a", root / "data" / "instances_train.json", "-r", out),
            ],
        ),
        *_detector("mask_rcnn", spec, model),
        Command(
            "mask_rcnn inference",
            lambda out: [
                *("mask_rcnn", "inference", "-e", spec, "-m", model, "-i", images),
                *("-r", out, "-t", 0.05, "--include_mask"),
            ],
        ),
    )


def _detector(kind: str, spec: Path, model: Path) -> Iterator[Command]:
    yield Command(
        f"{kind} train",
        lambda out: [kind, "train", "-e", spec, "-d", out, "--gpus", 1],
        resumes=True,
    )
    yield Command(
        f"{kind} evaluate",
        lambda out: [kind, "evaluate", "-e", spec, "-m", model, "-r", out],
    )
    yield Command(
        f"{kind} export",
        lambda out: [kind, "export", "-e", spec, "-m", model, "-o", out / "model.onnx", "-r", out],
    )


def undisturbed(command: Command, out: Path) -> tuple[dict[str, bytes], int]:
    """Runs a command to its end; returns its results and how often the folder changed."""
    out.mkdir(parents=True)
    process = start(*command.flags(out))
    watch = Watch((out,), sys.maxsize)
    while process.poll() is None:
        watch()
        time.sleep(0.002)
    finish(process)
    return results(out), watch.seen


def disturbed(command: Command, out: Path, changes: list[int], number: int) -> list[str]:
    """Ends a command after so many changes of its folder, again and again; then lets it finish.

    Returns:
      What was wrong, nothing if all was well.
    """
    out.mkdir(parents=True)
    wrong = []
    for count in changes:
        process = start(*command.flags(out))
        output = end_when(process, Watch((out,), count), number)
        code = process.returncode
        allowed = {0, -number, 128 + number}
        if code not in allowed or "Traceback" in output:
            wrong.append(f"exit code {code} after {count} changes:\n{output}")
        if number != signal.SIGKILL and (out / "status.json").exists() and code != -number:
            last = statuses(out)[-1]
            text = f"interrupted by {signal.Signals(number).name}"
            ends_well = last["status"] == "SUCCESS" if code == 0 else text in last["message"]
            if not ends_well:
                wrong.append(f"exit code {code} and a last status of {last}")
        if code == 0 and not command.resumes:
            return wrong  # over before the signal came: there is nothing to repeat
    process = start(*command.flags(out))
    output = process.communicate(timeout=LONGEST)[0]
    if process.returncode:
        wrong.append(f"exit code {process.returncode} when started again:\n{output}")
    return wrong
