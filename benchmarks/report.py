"""From the JSON of a run to a page of Markdown with plots.

python -m benchmarks.report out.json      writes out.md and out-SUITE.png anew
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.aims import with_aims
from benchmarks.plots import write_plot

_MIB = 2**20


def write(content: dict[str, Any], json_path: Path) -> list[Path]:
    """Writes the page and the plots beside the JSON and returns their paths.

    Args:
      content: what `benchmarks.run` wrote into json_path.
      json_path: gives folder and stem of the names.
    """
    plots = {}
    for suite in content["suites"]:
        path = json_path.with_name(f"{json_path.stem}-{suite['suite']}.png")
        if write_plot(suite, path):
            plots[suite["suite"]] = path
    page = json_path.with_suffix(".md")
    page.write_text(
        markdown(content, {suite: path.name for suite, path in plots.items()}), encoding="utf-8"
    )
    return [page, *plots.values()]


def markdown(content: dict[str, Any], plots: dict[str, str]) -> str:
    """Returns the page.

    Args:
      content: as `benchmarks.run` writes it.
      plots: {suite: file name of its plot}.
    """
    parts = [f"# Benchmarks of rcnn_jax, {content['date']}\n"]
    parts.append(
        "Medians over rounds in which the contestants take turns. *Ratio* is the peer's time over "
        "ours, the median of the rounds' own ratios: above 1 rcnn_jax is faster. *Compile* is "
        "tracing, lowering and compiling. *Temp* is what the compiler states for temporary "
        "buffers, *peak* the largest resident memory of the process until the warm-up was over. "
        "*Reference* times come from a shared machine with two AVX-512 cores and no GPU.\n"
    )
    parts.append(_environment(content))
    parts.append(_aims(content["suites"]))
    for suite in content["suites"]:
        parts.append(_suite(suite, plots.get(suite["suite"])))
    return "\n".join(part for part in parts if part)


def _environment(content: dict[str, Any]) -> str:
    environment = content["environment"]
    options = content["options"]
    rows = [
        (
            "size",
            options["size"]
            + (", bfloat16" if options["bf16"] else "")
            # Reports of earlier versions do not have it.
            + (", frozen batch norm" if options.get("frozen") else ""),
        ),
        ("revision", environment["revision"] or "unknown"),
        ("processor", f"{environment['processor']}, {environment['cores']} cores"),
        ("memory", _memory(environment["memory_bytes"])),
        ("system", f"{environment['system']}, Python {environment['python']}"),
        (
            "versions",
            ", ".join(f"{name} {value}" for name, value in environment["versions"].items()),
        ),
        (
            "variables",
            ", ".join(f"{k}={v}" for k, v in environment["variables"].items()) or "none set",
        ),
    ]
    for suite in content["suites"]:
        device = suite["device"]
        text = f"{device['count']} x {device['kind']}, " if device else ""
        before, after = suite["found_before"], suite["found_after"]
        text += f"load {_pair(before, after, 'load_1min')}"
        clocks = [max(state["core_mhz"], default=None) for state in (before, after)]
        if None not in clocks:
            text += f", core {clocks[0]:.0f} to {clocks[1]:.0f} MHz"
        for one, other in zip(before["gpus"], after["gpus"], strict=False):
            text += (
                f"; {one['name']} driver {one['driver_version']}, "
                f"SM {one['clocks.sm']} to {other['clocks.sm']} (most {one['clocks.max.sm']}), "
                f"{one['temperature.gpu']} to {other['temperature.gpu']} C"
            )
        rows.append((f"as found, {suite['suite']}", text))
    return "## Environment\n\n" + _table(("", ""), rows)


def _pair(before: dict[str, Any], after: dict[str, Any], name: str) -> str:
    values = [state[name] for state in (before, after)]
    return "unknown" if None in values else f"{values[0]:.1f} to {values[1]:.1f}"


def _aims(suites: list[dict[str, Any]]) -> str:
    rows = [
        (
            aim["what"],
            f"{_number(aim['value'])} {aim['unit']}",
            f"{aim['relation']} {_number(aim['limit'])} {aim['unit']}",
            "met" if aim["met"] else "**missed**",
        )
        for suite in suites
        for one in suite["benchmarks"]
        for aim in one["aims"]
    ]
    if not rows:
        return ""
    return "## Aims\n\n" + _table(("aim", "measured", "limit", ""), rows)


def _suite(suite: dict[str, Any], plot: str | None) -> str:
    parts = [f"## {suite['suite']}\n"]
    if suite["status"] != "ok":
        parts.append(f"{suite['status'].capitalize()}: {suite['reason']}.\n")
    parts += [f"- `{left['name']}` was left out: {left['reason']}" for left in suite["skipped"]]
    parts += [f"- `{error['name']}` failed: {error['error']}" for error in suite["errors"]]
    if not suite["benchmarks"]:
        return "\n".join(parts) + "\n"
    if plot:
        parts.append(f"![{suite['suite']}]({plot})\n")
    head = (
        "benchmark", "contestant", "median ms", "min ms", "ratio", "img/s", "img/s per core",
        "compile s", "temp MiB", "peak MiB", "device peak MiB", "rounds", "reference ms",
    )  # fmt: skip
    rows = [row for one in suite["benchmarks"] for row in _rows(one)]
    if rows:
        parts.append(_table(*_without_empty_columns(head, rows)))
    parts.append(_details(suite["benchmarks"]))
    for one in suite["benchmarks"]:
        if one["table"]:
            table = one["table"]
            parts.append(f"### {table['title']}\n")
            parts.append(_table(table["head"], table["rows"]))
    peak = _mib(suite["host_peak_bytes"])
    parts.append(f"The suite took {suite['seconds']:.0f} s; its process peaked at {peak} MiB.\n")
    return "\n".join(parts)


def _rows(one: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for number, side in enumerate(one["sides"]):
        ratio, images, reference = one["ratios"].get(side["name"]), one["images"], one["reference"]
        rows.append(
            (
                one["name"] if number == 0 else "",
                side["name"],
                _number(1e3 * side["median"]),
                _number(1e3 * side["min"]),
                "" if ratio is None else f"{ratio:.2f}",
                "" if images is None else _number(images / side["median"]),
                "" if images is None else _number(images / max(side["cpu_median"], 1e-9)),
                "" if side["compile_seconds"] is None else f"{side['compile_seconds']:.1f}",
                _mib(side["temp_bytes"]),
                _mib(side["host_peak_bytes"]),
                _mib(side["device_peak_bytes"]),
                f"{len(side['seconds'])} x {side['calls']}",
                _reference(reference) if reference and number == 0 else "",
            )
        )
    return rows


def _details(benchmarks: list[dict[str, Any]]) -> str:
    lines = []
    for one in benchmarks:
        settings = ", ".join(f"{name} {value}" for name, value in one["parameters"].items())
        notes = "".join(f"; {note}" for note in one["notes"])
        lines.append(f"- {one['name']}: {settings}{notes}")
    return "\n".join(lines) + "\n"


def _reference(reference: dict[str, Any]) -> str:
    values = sorted({reference["low"], reference["high"]})
    return "-".join(_number(1e3 * value) for value in values)


def _without_empty_columns(
    head: tuple[str, ...], rows: list[tuple[str, ...]]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    # A run on a CPU knows no device memory: empty columns would hide the others.
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    return tuple(head[i] for i in kept), [tuple(row[i] for i in kept) for row in rows]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    # A bar inside a cell would begin another one.
    text = ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines]
    return "\n".join(text) + "\n"


def _number(value: float) -> str:
    """Returns three significant digits without an exponent."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _mib(count: int | None) -> str:
    return "" if count is None else f"{count / _MIB:.0f}"


def _memory(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**30:.0f} GiB"


def main(arguments: list[str]) -> int:
    """Writes the pages of JSON files anew, judged by the aims of today; what was measured stays."""
    for name in arguments:
        path = Path(name)
        content = with_aims(json.loads(path.read_text(encoding="utf-8")))
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        for written in write(content, path):
            print(written)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
