"""The processes of a job as a command sees them: it joins them first, and leaves them last."""

import sys
from argparse import Namespace
from collections.abc import Callable

from rcnn_jax.cli.flags import ON_SEVERAL
from rcnn_jax.hosts.launch import choose_gpus, find_launch, gpus_here
from rcnn_jax.hosts.team import join, watch_alone


def with_others(args: Namespace, task: str, run: Callable[[], int]) -> int:
    """Runs a task in the job that flags or a launcher describe; returns the exit code.

    Where a launcher has started several processes for a task that cannot be shared, the first one does
    it: two writers of a file are none.

    Args:
      args: parsed flags of the task.
      task: which task.
      run: does it.

    Raises:
      UsageError: the flags contradict each other, or not all processes have come.
    """
    launch = find_launch(
        args.coordinator,
        None if args.num_processes == -1 else args.num_processes,
        args.process_id,
        init_timeout=args.init_timeout,
        heartbeat_timeout=args.heartbeat_timeout,
        stall_timeout=args.stall_timeout,
    )
    # 0, for the work is done: with --kill-on-bad-exit another code would end the one that does it.
    if launch is not None and launch.count > 1 and task not in ON_SEVERAL:
        if launch.index == 0:
            return run()
        _say(f"process {launch.index}: {task} is done by process 0 alone")
        return 0
    if launch is None or launch.count == 1:
        if args.stall_timeout is not None:
            watch_alone(args.stall_timeout)
        return run()
    # Before JAX starts, which reads CUDA_VISIBLE_DEVICES once.
    choose_gpus(len(args.gpu_index or ()) or args.gpus or 1, visible=gpus_here())
    together = join(launch, _say)
    try:
        return run()
    finally:
        # After an error `cli.main` tells the others; "finished" would contradict it.
        if sys.exc_info()[0] is None:
            together.finish()


def _say(text: str) -> None:
    sys.stderr.write(f"note: {text}\n")
    sys.stderr.flush()
