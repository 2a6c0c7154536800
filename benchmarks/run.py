"""The benchmarks as one program.

    python -m benchmarks.run [--suite train,predict,export,ops,data,eval,growth,compile]
                             [--size tiny|quick|full|real|gpu] [--profile]
                             [--json out/benchmarks/latest.json]

Every suite runs in its own process. Beside the JSON lie a Markdown report and its plots. On a
machine with a GPU the size is `gpu`, elsewhere `quick`, unless it is given; at size `gpu` those
suites run that need one, the profile among them.
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
from benchmarks.suite import NAMES, ON_GPU, ON_REQUEST
from rcnn_jax.cli.huge_pages import with_huge_pages

ROOT = Path(__file__).parents[1]
SHARES = {"train": 4.0, "predict": 3.0, "export": 2.0, "growth": 2.0, "profile": 2.0}
"""Of the time that is left, in relation to the suites that follow; 1 for the others."""
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
        frozen=flags.frozen,
        compiled_peers=flags.compiled_peers,
        spec=flags.spec,
        batch=flags.batch,
        trace=str(flags.json.with_suffix("")) + "-trace" if "profile" in flags.suite else "",
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
    for number, name in enumerate(flags.suite):
        print(f"{name}", file=sys.stderr, flush=True)
        left = flags.time_limit - (time.monotonic() - start)
        content["suites"].append(run_suite(name, options, share_of(left, flags.suite[number:])))
        # After every suite: a run that is killed leaves what it has.
        output.write_text(json.dumps(content, indent=1) + "\n")
    written = report.write(content, output)
    for suite in content["suites"]:
        print(f"{suite['suite']}: {suite['status']} {suite['reason']}".rstrip())
    print("\n".join(str(path) for path in (output, *written)))
    return int(any(suite["status"] == "failed" for suite in content["suites"]))


def share_of(seconds: float, suites: list[str]) -> float:
    """Returns the time of the first of the suites that are left, in proportion to SHARES."""
    # Of what is left and not of the whole: a suite that ends early leaves its time to the others.
    parts = [SHARES.get(name, 1.0) for name in suites]
    return seconds * parts[0] / sum(parts)


def run_suite(name: str, options: Options, seconds: float) -> dict[str, Any]:
    """Runs a suite in a process of its own, for at most so many seconds."""
    before = environment.as_found()
    result: dict[str, Any] = {
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
        # Through a file: libraries print to the worker's streams.
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "suite.json"
            ended = _run_worker(name, options, file, seconds)
            if file.exists():
                result = json.loads(file.read_text())
                # `stopped` is what the worker writes until it is done: with a crash it means
                # something else.
                if ended == "crashed" and result["status"] == "stopped":
                    result |= {"status": "failed", "reason": "its process crashed"}
            elif ended == "out of time":
                result |= {"reason": f"{seconds:.0f} s were too few for its first benchmark"}
            else:
                result |= {"status": "failed", "reason": "its process crashed before a result"}
    return {**result, "found_before": before, "found_after": environment.as_found()}


def _run_worker(name: str, options: Options, file: Path, seconds: float) -> str:
    command = [sys.executable, "-m", "benchmarks.worker", name, json.dumps(options.to_json()), file]
    # The user's own variables win.
    variables = {**_WORKER_ENVIRONMENT, **os.environ}
    variables = with_huge_pages(variables) or variables  # as commands do; the peers have them too
    if name == "compile" and not environment.as_found()["gpus"]:
        # JAX's CUDA plugin compiles for a GPU that is absent unless it has looked for one in vain.
        variables.setdefault("JAX_PLATFORMS", "cpu")
    if name == "profile":  # inside a command buffer the profiler sees no single operations
        flags = variables.get("XLA_FLAGS", "")
        variables["XLA_FLAGS"] = f"{flags} --xla_gpu_enable_command_buffer=".strip()
    try:
        # A process per suite: peak memory, compiled programs and a crash are its own.
        done = subprocess.run(command, cwd=ROOT, env=variables, timeout=seconds)
    except subprocess.TimeoutExpired:
        return "out of time"
    return "ended" if done.returncode == 0 else "crashed"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--suite",
        type=_suites,
        help=f"comma-separated: {', '.join(NAMES)}; at size gpu {', '.join(ON_GPU)}",
    )
    parser.add_argument(
        "--json",
        type=lambda name: Path(name).absolute(),
        default=ROOT / "out" / "benchmarks" / "latest.json",
        help="where results go; FILE.md and the plots are written beside it",
    )
    parser.add_argument(
        "--size",
        choices=SIZES,
        help="which sizes are measured; gpu on a machine with a GPU, else quick",
    )
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="about how long one benchmark is measured"
    )
    parser.add_argument(
        "--time-limit", type=float, default=480.0, help="seconds after which the run is cut short"
    )
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="only rcnn_jax")
    parser.add_argument("--bf16", action="store_true", help="train and predict in bfloat16")
    parser.add_argument("--frozen", action="store_true", help="train with frozen batch norm")
    parser.add_argument(
        "--compiled-peers",
        action="store_true",
        help="measure torch.compile too, which takes minutes",
    )
    parser.add_argument(
        "--profile", action="store_true", help="also trace a training step: time per stage"
    )
    parser.add_argument("--spec", default="", help="a spec for train and predict")
    parser.add_argument("--batch", type=int, default=1, help="images per step of --spec")
    flags = parser.parse_args(arguments)
    if flags.size is None:
        flags.size = "gpu" if environment.as_found()["gpus"] else "quick"
    if flags.suite is None:
        flags.suite = list(ON_GPU if flags.size == "gpu" else NAMES)
    if flags.profile and "profile" not in flags.suite:
        flags.suite = [*flags.suite, "profile"]
    if flags.spec:
        flags.spec = str(Path(flags.spec).absolute())
    return flags


def _suites(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    known = (*NAMES, *ON_REQUEST)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown suite {', '.join(unknown)}; there are {', '.join(known)}"
        )
    return names


if __name__ == "__main__":
    sys.exit(main())
