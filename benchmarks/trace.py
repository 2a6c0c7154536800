"""Reads what JAX's profiler wrote: how long every operation of a compiled program took.

The trace tells operations of the compiler (`fusion.12`); the text of the compiled program tells the
JAX names behind them (`jit(step)/.../conv_general_dilated`).
"""

import gzip
import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = ")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_NAME = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
_CALLS = re.compile(r"(?:calls|to_apply)=%?([\w.\-]+)")
_CONTAINERS = ("while", "conditional", "call")
"""Operations that only hold others, which have events of their own."""


def read_events(folder: Path) -> list[dict[str, Any]]:
    """Returns the events of the only trace below a folder.

    Raises:
      FileNotFoundError: there is none.
    """
    files = sorted(folder.rglob("*.trace.json.gz"))
    if not files:
        raise FileNotFoundError(f"the profiler left no trace in {folder}")
    with gzip.open(files[-1]) as file:
        return json.load(file)["traceEvents"]


def seconds_by_operation(events: list[dict[str, Any]]) -> Counter[str]:
    """Returns {operation of the compiler: seconds} of all its events, without what they contain.

    An accelerator shows each operation on several lines; the one called "XLA Ops" is read, or else
    its streams.
    """
    lines = _lines(events)
    seconds: Counter[str] = Counter()
    for line in lines:
        open_events: list[tuple[float, str]] = []
        for event in sorted(line, key=lambda event: (event["ts"], -event["dur"])):
            begin, length = event["ts"], event["dur"]
            end = begin + length
            # Kernels that follow one another may overlap a little; only what also ends in time is inside.
            while open_events and open_events[-1][0] < end:
                open_events.pop()
            # Self time: a while loop would otherwise count its body twice.
            if open_events:  # what is inside is not the outer operation's own
                seconds[open_events[-1][1]] -= length / 1e6
            name = event["args"]["hlo_op"]
            seconds[name] += length / 1e6
            open_events.append((end, name))
    return Counter(
        {name: s for name, s in seconds.items() if s > 0 and not name.startswith(_CONTAINERS)}
    )


def _lines(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Returns the events of operations, those of one thread or stream together."""
    names: dict[tuple, str] = {}
    lines: dict[tuple, list] = defaultdict(list)
    for event in events:
        thread = event.get("pid"), event.get("tid")
        if event.get("ph") == "M" and event.get("name") == "thread_name":
            names[thread] = event["args"]["name"]
        elif event.get("ph") == "X" and "hlo_op" in event.get("args", {}):
            lines[thread].append(event)
    # Streams repeat what the line of operations shows; a CPU has threads only.
    own = [thread for thread in lines if names.get(thread, "").startswith("XLA Ops")]
    return [lines[thread] for thread in own or lines]


def names_of_operations(program: str) -> dict[str, str]:
    """Returns {operation of the compiler: JAX name} of the text of a compiled program.

    An operation without a name has that of the computation it calls: the commonest one inside.
    """
    names: dict[str, str] = {}
    calls: dict[str, str] = {}
    inside: dict[str, Counter[str]] = defaultdict(Counter)
    computation = ""
    for line in program.splitlines():
        if header := _COMPUTATION.match(line):
            computation = header[1]
            continue
        instruction = _INSTRUCTION.match(line)
        if not instruction:
            continue
        if name := _NAME.search(line):
            names[instruction[1]] = name[1]
            inside[computation][name[1]] += 1
        # A fusion has no name of its own: most of its instructions have.
        elif called := _CALLS.search(line):
            calls[instruction[1]] = called[1]
    for operation, called in calls.items():
        if inside[called]:
            names[operation] = inside[called].most_common(1)[0][0]
    return names
