"""One training, cut in many ways: losses, time and traffic by devices, processes and body.

    python -m experiments.devices [--steps 20] [--out FILE]

Every row is the tiny detector of the tests with the same global batch, seed and rate, in fresh processes
with virtual devices of a CPU. Times are of that CPU, whose cores all devices share: they show what a
body costs, not how a cluster scales. The fastest step counts: other work on the machine only adds.

The first table (`sampled`) is a training as every run is. In the second (`smooth`) no last bit decides
anything: all anchors and all proposals train, none is suppressed, activations and pooling are swish and
mean instead of ReLU and maximum, whose gradients jump. What is left is the order of sums.
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
from typing import Any, Literal

Body = Literal["shard_map", "pmap"]
Case = Literal["sampled", "smooth"]

ROOT = Path(__file__).parents[1]
GLOBAL_BATCH = 8
BODIES: tuple[Body, ...] = ("shard_map", "pmap")
ROWS = [
    *[(1, devices, body) for body in BODIES for devices in (1, 2, 4, 8)],
    *[(processes, 1, body) for body in BODIES for processes in (2, 4)],
    *[(2, 2, body) for body in BODIES],
]
"""(processes, devices of each, body)."""
BOUNDS: dict[Case, float] = {"sampled": 1e-4, "smooth": 1e-5}
"""Relative difference of a loss up to which two cuts count as equal."""
_REDUCED = re.compile(r"= (?P<shapes>\(?[^=]*?)\s(?:all-reduce|all-reduce-start)\(")
_COMMENT = re.compile(r"/\*.*?\*/")
_SHAPE = re.compile(r"(?P<kind>f32|bf16|f16|s32|u32)\[(?P<sides>[\d,]*)\]")
_BYTES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--worker", nargs=3, metavar=("SPEC", "BODY", "CASE"), help=argparse.SUPPRESS
    )
    parser.add_argument("--devices", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--leaves", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        spec, body, case = args.worker
        work(Path(spec), body, case, args.devices, args.rank, args.steps, args.leaves)
        return
    from tests.e2e.tiny import write_tiny

    with tempfile.TemporaryDirectory() as folder:
        spec = write_tiny(Path(folder), images=2 * GLOBAL_BATCH)
        tables = []
        for case, bound in BOUNDS.items():
            rows = []
            for row in ROWS:
                rows.append(run(spec, *row, args.steps, case=case))
                print(table(rows, bound).splitlines()[-1], flush=True)
            tables.append(f"{case}\n\n{table(rows, bound)}")
    text = "\n".join(tables)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text)
    print(text)


def run(
    spec: Path,
    processes: int,
    devices: int,
    body: Body,
    steps: int,
    leaves: Path | None = None,
    case: Case = "sampled",
) -> dict:
    """Trains in as many processes; returns what process 0 measured, its weights are in `leaves`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    forced = f"--xla_force_host_platform_device_count={devices}"
    variables = {**os.environ, "XLA_FLAGS": forced, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "experiments.devices", "--steps", str(steps)]
    command += ["--devices", str(devices), "--worker", str(spec), body, case]
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
    spec: Path,
    body: Body,
    case: Case,
    devices: int,
    rank: list[int],
    steps: int,
    leaves: Path | None,
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
    if case == "smooth":
        without_corners()
        whole: Any = task  # a dataclass, which the protocol of tasks does not say
        task = dataclasses.replace(whole, settings=take_all(whole.settings))
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


def without_corners() -> None:
    """Makes this process's networks smooth: a ReLU that is zero up to rounding has two gradients."""
    import jax
    from jax import lax

    from rcnn_jax.models import layers
    from rcnn_jax.models.backbones import resnet
    from rcnn_jax.models.builder import Builder

    def mean_pool(
        x: jax.Array, window: int, strides: int, padding: layers.Padding = "symmetric"
    ) -> jax.Array:
        pads = ((0, 0), *layers.pool_pads(x.shape[1:3], window, strides, padding), (0, 0))
        sides, steps = (1, window, window, 1), (1, strides, strides, 1)
        return lax.reduce_window(x, 0.0, lax.add, sides, steps, pads) / window**2

    Builder.relu = Builder.swish
    resnet.max_pool = mean_pool


def take_all(settings: Any) -> Any:
    """Returns `TwoStageSettings` by which every anchor and every proposal trains, once.

    An index into a sorted list then never says which, only in which order: of two scores that differ by
    the last bit it does not matter which one comes first.
    """
    import dataclasses

    everything = 1 << 10  # the tiny detector has 72 anchors and 20 objects at most
    replace = dataclasses.replace
    return replace(
        settings,
        rpn_targets=replace(
            settings.rpn_targets, batch_per_image=everything, positive_fraction=1.0
        ),
        train_proposals=replace(
            settings.train_proposals,
            pre_nms=everything,
            post_nms=72,
            nms_threshold=2.0,
            min_size=-1.0,
        ),
        roi_sampling=replace(
            settings.roi_sampling,
            batch_per_image=92,
            foreground_fraction=1.0,
            with_replacement=False,
        ),
    )


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


def table(rows: list[dict], bound: float) -> str:
    """Returns the rows as Markdown; differences are to the first row, equal up to `bound`."""
    first, digits = rows[0]["losses"], f"{bound:.0e}".replace("e-0", "e-")
    lines = [
        "| processes | devices of each | body | loss after the last step | largest relative "
        f"difference of a loss | losses equal to {digits} until step | fastest step, ms | "
        "MB reduced | "
        "MB sent by a device |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        gaps = [abs(a - b) / abs(b) for a, b in zip(row["losses"], first, strict=True)]
        equal = next((i for i, gap in enumerate(gaps) if gap > bound), len(gaps))
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
