"""Runs one suite in a process of its own, so that peak memory is the suite's and nobody else's.

    python -m benchmarks.worker SUITE OPTIONS_AS_JSON OUTPUT

The output is written anew after every benchmark: a suite that is stopped leaves what it has.
"""

import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.memory import peak_of_process
from benchmarks.options import Options
from benchmarks.suite import load_suite


def run_suite(name: str, options: Options, output: Path) -> dict[str, Any]:
    """Runs the cases of a suite and returns what was written last.

    A case that fails is recorded with its error and the others go on; a suite or a case whose
    packages are missing is skipped, with their names.
    """
    start = time.perf_counter()
    result: dict[str, Any] = {
        "suite": name,
        "status": "stopped",  # what a reader sees if this process ends before the suite does
        "reason": "it had no time to finish",
        "device": None,
        "benchmarks": [],
        "skipped": [],
        "errors": [],
    }
    try:
        cases = load_suite(name, options)
    except ModuleNotFoundError as error:
        result |= {"status": "skipped", "reason": _missing(error)}
        return _written(result, start, output)
    for case in cases:
        print(f"  {name}: {case.name} ...", file=sys.stderr, flush=True)
        try:
            result["benchmarks"].append(case.run().to_json())
        except ModuleNotFoundError as error:
            result["skipped"].append({"name": case.name, "reason": _missing(error)})
        except Exception as error:  # whatever a part does, the others are still to be measured
            traceback.print_exc()
            result["errors"].append(
                {"name": case.name, "error": f"{type(error).__name__}: {error}"}
            )
        result["device"] = _device()
        _written(result, start, output)
    failed = [error["name"] for error in result["errors"]]
    result["status"] = "failed" if failed else "ok"
    result["reason"] = f"failed: {', '.join(failed)}" if failed else ""
    return _written(result, start, output)


def _written(result: dict[str, Any], start: float, output: Path) -> dict[str, Any]:
    result["seconds"] = time.perf_counter() - start
    result["host_peak_bytes"] = peak_of_process()
    # Renamed, so that the parent never reads half a file of a worker that it has stopped.
    partial = output.with_name(output.name + ".partial")
    partial.write_text(json.dumps(result, indent=1))
    partial.replace(output)
    return result


def _missing(error: ModuleNotFoundError) -> str:
    return f"the package '{error.name}' is not installed"


def _device() -> dict[str, Any] | None:
    """Returns the JAX devices the suite ran on, None if it did without JAX."""
    # Asking JAX would start its backends in a suite that does without.
    if "jax" not in sys.modules:
        return None
    import jax

    devices = jax.local_devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
    }


if __name__ == "__main__":
    suite, options, output = sys.argv[1:]
    run_suite(suite, Options(**json.loads(options)), Path(output))
