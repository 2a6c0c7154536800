"""A process of a job whose steps are one collective each; flags: PORT COUNT INDEX STALL."""

import sys
import time

from rcnn_jax.cli.main import guarded
from rcnn_jax.hosts.launch import Launch, quiet_runtime
from rcnn_jax.hosts.team import join
from rcnn_jax.interrupt import interrupts


def work() -> int:
    port, count, index, stall = map(int, sys.argv[1:])
    import os

    quiet_runtime(os.environ)
    together = join(
        Launch(
            coordinator=f"127.0.0.1:{port}",
            count=count,
            index=index,
            found_by="flags",
            init_timeout=60.0,
            heartbeat_timeout=60.0,
            stall_timeout=float(stall),
        ),
        print,
    )
    with interrupts() as signals, together.heeding(signals):
        step = 0
        while not together.tick(f"step {step + 1}"):
            assert together.gather_json([index, step]) == [[i, step] for i in range(count)]
            step += 1
            print(f"step {step}", flush=True)
            time.sleep(0.02)
        print(f"stopped after step {step}", flush=True)
        signals.look()
    return 0


if __name__ == "__main__":
    sys.exit(guarded(work))
