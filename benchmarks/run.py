"""The benchmarks as one program.

    python -m benchmarks.run [--suite train,predict,ops,data,eval] [--size tiny|quick|full]
                             [--json out/benchmarks/latest.json]

Every suite runs in its own process. Beside the JSON lie a Markdown report and its plots.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import environment, report
from benchmarks.options import SIZES, Options
from benchmarks.results import SCHEMA
from benchmarks.suite import NAMES

ROOT = Path(__file__).parents[1]
_WORKER_ENVIRONMENT = {
    # Compile times are of compiling, not of reading what an earlier run compiled.
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    # Peers share the accelerator with JAX, which otherwise takes three quarters of its memory.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the suites and writes the reports; 0 if nothing failed, 1 otherwise."""
    flags = _parse(arguments)
    options = Options(
        size=flags.size,
        seconds=flags.seconds,
        peers=flags.peers,
        bf16=flags.bf16,
        spec=flags.spec,
        batch=flags.batch,
    )
    output: Path = flags.json
    output.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    content = {
        "schema": SCHEMA,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "options": options.to_json(),
        "environment": environment.describe(),
        "suites": [],
    }
    for name in flags.suite:
        print(f"{name}", file=sys.stderr, flush=True)
        left = flags.time_limit - (time.monotonic() - start)
        content["suites"].append(run_suite(name, options, left))
        output.write_text(json.dumps(content, indent=1) + "\n")
    written = report.write(content, output)
    for suite in content["suites"]:
        print(f"{suite['suite']}: {suite['status']} {suite['reason']}".rstrip())
    print("\n".join(str(path) for path in (output, *written)))
    return int(any(suite["status"] == "failed" for suite in content["suites"]))


def run_suite(name: str, options: Options, seconds: float) -> dict[str, Any]:
    """Runs a suite in a process of its own, for at most so many seconds."""
    before = environment.as_found()
    found: dict[str, Any] = {
        "suite": name,
        "status": "stopped",
        "reason": "no time was left",
        "device": None,
        "benchmarks": [],
        "skipped": [],
        "errors": [],
        "seconds": 0.0,
        "host_peak_bytes": None,
    }
    if seconds > 0:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "suite.json"
            ended = _run_worker(name, options, file, seconds)
            if file.exists():
                found = json.loads(file.read_text())
                if ended == "crashed" and found["status"] == "stopped":
                    found |= {"status": "failed", "reason": "its process crashed"}
            elif ended != "out of time":
                found |= {"status": "failed", "reason": "its process crashed before a result"}
    return {**found, "found_before": before, "found_after": environment.as_found()}


def _run_worker(name: str, options: Options, file: Path, seconds: float) -> str:
    command = [sys.executable, "-m", "benchmarks.worker", name, json.dumps(options.to_json()), file]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**_WORKER_ENVIRONMENT, **os.environ}, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return "out of time"
    return "ended" if done.returncode == 0 else "crashed"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--suite", type=_suites, default=list(NAMES), help=f"comma-separated: {', '.join(NAMES)}"
    )
    parser.add_argument(
        "--json",
        type=lambda name: Path(name).absolute(),
        default=ROOT / "out" / "benchmarks" / "latest.json",
        help="where results go; FILE.md and the plots are written beside it",
    )
    parser.add_argument("--size", choices=SIZES, default="quick", help="which sizes are measured")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="about how long one benchmark is measured"
    )
    parser.add_argument(
        "--time-limit", type=float, default=480.0, help="seconds after which the run is cut short"
    )
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="only rcnn_jax")
    parser.add_argument("--bf16", action="store_true", help="train and predict in bfloat16")
    parser.add_argument("--spec", default="", help="a Faster R-CNN spec for train and predict")
    parser.add_argument("--batch", type=int, default=1, help="images per step of --spec")
    flags = parser.parse_args(arguments)
    if flags.spec:
        flags.spec = str(Path(flags.spec).absolute())
    return flags


def _suites(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown suite {', '.join(unknown)}; there are {', '.join(NAMES)}"
        )
    return names


if __name__ == "__main__":
    sys.exit(main())
