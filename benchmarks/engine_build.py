"""One engine of `benchmarks.engines`, built in a process of its own: what it took, as JSON.

python -m benchmarks.engine_build MODEL.onnx sm80,sm86,sm89,sm120 LARGEST_BATCH
"""

import json
import sys
import time
from pathlib import Path

from rcnn_jax.errors import RcnnError
from rcnn_jax.processes import peak_memory
from rcnn_jax.reporter import SILENT
from rcnn_jax.runtime import tensorrt_rtx
from rcnn_jax.runtime.tensorrt_rtx import RtxSettings, targets_of


def main(arguments: list[str]) -> int:
    """Builds the model of the arguments; prints JSON, or the reason on the error stream."""
    path, targets, largest = arguments
    trt = tensorrt_rtx.library("building")
    settings = RtxSettings(targets=targets_of(targets), batches=(1, 1, int(largest)))
    content = Path(path).read_bytes()
    # What Python and its packages hold is part of the peak: a user's process has it too.
    start = time.perf_counter()
    try:
        plan = tensorrt_rtx.build(trt, content, settings, SILENT)
    except RcnnError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    took = {"seconds": time.perf_counter() - start, "bytes": len(plan), "memory": peak_memory()}
    print(json.dumps(took))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
