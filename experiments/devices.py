"""One training, cut in many ways: losses, time and traffic by devices, processes and body.

    python -m experiments.devices [--steps 20] [--out FILE]

Every row is the tiny detector of the tests with the same global batch, seed and rate, in fresh processes
with virtual devices of a CPU. Times are of that CPU, whose cores all devices share: they show what a
body costs, not how a cluster scales. The fastest step counts: other work on the machine only adds.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
GLOBAL_BATCH = 8
ROWS = [
    *[(1, devices, body) for body in ("shard_map", "pmap") for devices in (1, 2, 4, 8)],
    *[(processes, 1, "shard_map") for processes in (2, 4)],
    (2, 1, "pmap"),
    (2, 2, "shard_map"),
]
"""(processes, devices of each, body)."""
_REDUCED = re.compile(r"= (?P<shapes>\(?[^=]*?)\s(?:all-reduce|all-reduce-start)\(")
_COMMENT = re.compile(r"/\*.*?\*/")
_SHAPE = re.compile(r"(?P<kind>f32|bf16|f16|s32|u32)\[(?P<sides>[\d,]*)\]")
_BYTES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", nargs=2, metavar=("SPEC", "BODY"), help=argparse.SUPPRESS)
    parser.add_argument("--devices", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--leaves", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        spec, body = args.worker
        work(Path(spec), body, args.devices, args.rank, args.steps, args.leaves)
        return
    from tests.e2e.tiny import write_tiny

    with tempfile.TemporaryDirectory() as folder:
        spec = write_tiny(Path(folder), images=2 * GLOBAL_BATCH)
        rows = []
        for row in ROWS:
            rows.append(run(spec, *row, args.steps))
            print(table(rows).splitlines()[-1], flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(table(rows))
    print(table(rows))


def run(
    spec: Path, processes: int, devices: int, body: str, steps: int, leaves: Path | None = None
) -> dict:
    """Trains in as many processes; returns what process 0 measured, its weights are in `leaves`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    forced = f"--xla_force_host_platform_device_count={devices}"
    variables = {**os.environ, "XLA_FLAGS": forced, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "experiments.devices", "--steps", str(steps)]
    command += ["--devices", str(devices), "--worker", str(spec), body]
    command += ["--leaves", str(leaves)] if leaves else []
    started = [
        subprocess.Popen(
            [*command, "--rank", json.dumps([port, processes, index])],
            cwd=ROOT,
            env=variables,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(processes)
    ]
    outputs = [process.communicate()[0] for process in started]
    assert not any(process.returncode for process in started), outputs
    measured = json.loads(outputs[0].splitlines()[-1])
    return {"processes": processes, "devices": devices, "body": body, **measured}


def work(
    spec: Path, body: str, devices: int, rank: list[int], steps: int, leaves: Path | None
) -> None:
    """Takes the steps and prints losses, seconds of a step and bytes that a device reduces.

    Process 0 writes the weights and statistics after them, as {path: array}, where `leaves` names a file.
    """
    from rcnn_jax.hosts.launch import Launch
    from rcnn_jax.hosts.team import join, team

    port, processes, index = rank
    if processes > 1:
        join(
            Launch(coordinator=f"127.0.0.1:{port}", count=processes, index=index, found_by="flags"),
            print,
        )
    import dataclasses

    import jax
    import numpy as np

    from rcnn_jax.data.loader.pipeline import training_batches
    from rcnn_jax.settings.data import LoaderSettings
    from rcnn_jax.spec.load import load_spec
    from rcnn_jax.tasks.build import build_experiment
    from rcnn_jax.train import parallel
    from rcnn_jax.train.schedules import make_schedule
    from rcnn_jax.train.step import init_state, make_step

    experiment = build_experiment(load_spec(spec).config, "faster_rcnn")
    experiment = dataclasses.replace(experiment, augment=None)
    task, chosen = experiment.task, parallel.choose_devices(devices, body)
    schedule = make_schedule(experiment.schedule, 4 * steps)
    state = init_state(task, task.init(jax.random.key(0)), experiment.optimizer, schedule, 1)
    step = make_step(
        task, experiment.optimizer, schedule, steps_per_epoch=2, axis_name=parallel.AXIS
    )
    stream = training_batches(
        experiment.train_source(),
        experiment.geometry,
        None,
        experiment.train_gt,
        task.pixels.channel_order,
        LoaderSettings(global_batch=GLOBAL_BATCH, seed=1),
        process_index=team().index,
        process_count=team().count,
    )
    mapped, replicas = parallel.map_step(step, chosen), parallel.replicate(state, chosen)
    losses, seconds, text = [], [], ""
    for _ in range(steps):
        batch = parallel.shard(next(stream), chosen)
        if not text:
            text = mapped.lower(replicas, batch).compile().as_text()
        began = time.monotonic()
        replicas, metrics = mapped(replicas, batch)
        losses.append(float(parallel.on_first_device(metrics, chosen)["loss"]))
        seconds.append(time.monotonic() - began)
    team().wait("end")
    team().finish()
    last = parallel.first_replica(replicas, chosen)
    if leaves is not None and index == 0:
        paths, _ = jax.tree_util.tree_flatten_with_path((last.params, last.collections))
        np.savez(leaves, **{jax.tree_util.keystr(path): leaf for path, leaf in paths})
    after = jax.tree.leaves(last.params)
    norm = sum(float((leaf.astype("f8") ** 2).sum()) for leaf in after) ** 0.5
    measured = {"losses": losses, "norm": norm, "seconds": min(seconds[1:])}
    print(json.dumps({**measured, "reduced": reduced_bytes(text)}), flush=True)


def reduced_bytes(program: str) -> int:
    """Returns the bytes that the all-reduces of a compiled program add up over devices."""
    total = 0
    # Long tuples are printed with /*index=5*/ in between.
    for operation in _REDUCED.finditer(_COMMENT.sub("", program)):
        for shape in _SHAPE.finditer(operation["shapes"]):
            size = _BYTES[shape["kind"]]
            for side in filter(None, shape["sides"].split(",")):
                size *= int(side)
            total += size
    return total


def table(rows: list[dict]) -> str:
    """Returns the rows as Markdown; differences are to the first row."""
    first = rows[0]["losses"]
    lines = [
        "| processes | devices of each | body | loss after the last step | largest relative "
        "difference of a loss | losses equal to 1e-4 until step | fastest step, ms | MB reduced | "
        "MB sent by a device |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        gaps = [abs(a - b) / abs(b) for a, b in zip(row["losses"], first, strict=True)]
        equal = next((i for i, gap in enumerate(gaps) if gap > 1e-4), len(gaps))
        count = row["processes"] * row["devices"]
        sent = row["reduced"] * 2 * (count - 1) / count  # a ring
        lines.append(
            f"| {row['processes']} | {row['devices']} | {row['body']} | {row['losses'][-1]:.6f} | "
            f"{max(gaps):.1e} | {equal} | {1e3 * row['seconds']:.0f} | {row['reduced'] / 1e6:.2f} | "
            f"{sent / 1e6:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
