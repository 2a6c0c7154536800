"""Draws the validation curve of a run folder and prints it as a table.

    python experiments/curve.py RUN_FOLDER MINUTES OUTPUT.png [METRIC ...]

MINUTES is the length of the whole run on the machine the README names; validations are placed on it by
their share of the steps. The table goes to standard output, for the README of the experiment.
"""

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure

DEFAULT_METRICS = ("mAP", "mAP@0.50")


def read_validations(run: Path) -> list[dict]:
    """Returns the validation lines of metrics.jsonl in order."""
    lines = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "evaluate"]


def main(run: Path, minutes: float, picture: Path, metrics: tuple[str, ...]) -> None:
    """Writes the picture and prints the table."""
    validations = read_validations(run)
    last = validations[-1]["step"]
    times = [minutes * line["step"] / last for line in validations]
    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for metric in metrics:
        values = [line[metric] for line in validations]
        axes.plot(times, values, marker="o", label=f"{metric}  {values[-1]:.3f}")
    axes.set(xlabel="minutes", ylabel="average precision", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(picture)
    print("| step | minutes | " + " | ".join(metrics) + " |")
    print("|---|---|" + "---|" * len(metrics))
    for time, line in zip(times, validations, strict=True):
        cells = " | ".join(f"{line[metric]:.3f}" for metric in metrics)
        print(f"| {line['step']} | {time:.1f} | {cells} |")


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        float(sys.argv[2]),
        Path(sys.argv[3]),
        tuple(sys.argv[4:]) or DEFAULT_METRICS,
    )
