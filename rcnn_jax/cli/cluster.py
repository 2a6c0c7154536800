"""`cluster check`: tries what a job of several processes needs, started as the job would be."""

import argparse
from argparse import Namespace
from pathlib import Path

from rcnn_jax.cli import flag_groups
from rcnn_jax.cli.flags import existing_folder
from rcnn_jax.cli.outputs import CommandPaths
from rcnn_jax.hosts.launch import choose_gpus, find_launch, gpus_here


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `cluster`."""
    parser.add_argument(
        "action", choices=("check",), help="try processes, devices, folder, signals"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where results will go, on every machine (default: the current folder)",
    )
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="GPUs of a process (1)")
    parser.add_argument("--num_processes", "-np", type=int, metavar="N", help="with --coordinator")
    flag_groups.hosts(parser)


def paths(args: Namespace) -> CommandPaths:
    """Lists no path: nothing that stays is read or written."""
    del args
    return CommandPaths()


def run(args: Namespace) -> int:
    """Prints the findings; returns 0 where nothing is to be mended, else 2.

    Raises:
      UsageError: not all processes have come, or there is no such folder.
    """
    from rcnn_jax.hosts.check import check_cluster
    from rcnn_jax.hosts.team import join, team
    from rcnn_jax.reporter import SafeConsole

    console = SafeConsole()
    folder = existing_folder(args.folder, "--folder")
    launch = find_launch(
        args.coordinator,
        args.num_processes,
        args.process_id,
        # A minute instead of half an hour: who checks a cluster sits before it and waits.
        init_timeout=args.init_timeout or 60.0,
        heartbeat_timeout=args.heartbeat_timeout,
        stall_timeout=args.stall_timeout,
    )
    if launch is not None and launch.count > 1:
        choose_gpus(args.gpus, visible=gpus_here())
        join(launch, lambda text: console.print(f"note: {text}", markup=False))
    together = team()
    findings = check_cluster(launch, together, folder)
    if together.is_chief:
        for finding in findings:
            console.print(
                f"{finding.mark:<4}  {finding.name:<10} {finding.text}",
                markup=False,
            )
            if finding.mend:
                console.print(f"      {'':<10} {finding.mend}", markup=False)
    together.finish()
    return 0 if all(finding.good for finding in findings) else 2
