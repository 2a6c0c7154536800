"""Draws one metric of several run folders over their minutes and prints the table of the last values.

    python experiments/compare.py OUTPUT.png METRIC[,METRIC...] LABEL=RUN_FOLDER:MINUTES ...

MINUTES is the length of a whole run; validations are placed on it by their share of the steps. Every
metric gets a panel of its own. The table goes to standard output, for the README of the experiment.
"""

import sys
from pathlib import Path

from curve import read_validations
from matplotlib.figure import Figure


def main(picture: Path, metrics: list[str], runs: list[tuple[str, Path, float]]) -> None:
    """Writes the picture and prints the table."""
    figure = Figure(figsize=(5 * len(metrics), 4), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    print("| run | minutes | " + " | ".join(metrics) + " |")
    print("|---|---|" + "---|" * len(metrics))
    for label, folder, minutes in runs:
        validations = read_validations(folder)
        times = [minutes * line["step"] / validations[-1]["step"] for line in validations]
        for axes, metric in zip(panels, metrics, strict=True):
            axes.plot(times, [line[metric] for line in validations], marker="o", label=label)
        cells = " | ".join(f"{validations[-1][metric]:.3f}" for metric in metrics)
        print(f"| {label} | {minutes:.1f} | {cells} |")
    for axes, metric in zip(panels, metrics, strict=True):
        axes.set(xlabel="minutes", title=metric, ylim=(0, 1))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    figure.savefig(picture)


def read_run(text: str) -> tuple[str, Path, float]:
    """Returns (label, folder, minutes) of LABEL=RUN_FOLDER:MINUTES."""
    label, _, rest = text.partition("=")
    folder, _, minutes = rest.rpartition(":")
    return label, Path(folder), float(minutes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(","), [read_run(text) for text in sys.argv[3:]])
