"""Memory in huge pages: otherwise half the processor time of a training step on a CPU is page faults.

XLA takes the memory of a step anew for every step, hundreds of megabytes in pages of 4 kB. glibc (2.35
and later) asks for pages of 2 MB when a variable of the environment says so at the start of a program,
so a command starts itself again, once, before anything is imported that takes time. Numbers do not
change. `GLIBC_TUNABLES=glibc.malloc.hugetlb=0` does without.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

VARIABLE = "GLIBC_TUNABLES"
_TUNABLE = "glibc.malloc.hugetlb"
_ON_REQUEST = Path("/sys/kernel/mm/transparent_hugepage/enabled")

Execute = Callable[..., object]


def take_huge_pages(execute: Execute = os.execve) -> None:
    """Starts this program again with huge pages; returns where it has them or cannot have them.

    Args:
      execute: replaces the process by (program, arguments, environment).
    """
    variables = with_huge_pages(os.environ)
    if variables is not None and _are_on_request():
        # orig_argv and not argv: the options of Python itself (-m, -X) count as well.
        execute(sys.executable, [sys.executable, *sys.orig_argv[1:]], variables)


def with_huge_pages(variables: Mapping[str, str]) -> dict[str, str] | None:
    """Returns the environment that asks for huge pages, None where it has an opinion already."""
    tunables = variables.get(VARIABLE, "")
    # Also what ends the second start: the variable is there now.
    if _TUNABLE in tunables:
        return None
    joined = ":".join(part for part in (tunables, f"{_TUNABLE}=1") if part)
    return {**variables, VARIABLE: joined}


def _are_on_request() -> bool:
    """Says whether the kernel gives huge pages to programs that ask, and only to them."""
    try:
        # With [always] they come by themselves, with [never] nobody gets any: in both cases a
        # second start would be for nothing.
        return "[madvise]" in _ON_REQUEST.read_text()
    except OSError:
        return False
