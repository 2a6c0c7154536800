"""Measures how early `doctor --model` ranks planted label errors.

    python experiments/label_errors/measure.py OUTPUT/planted.json doctor.json LABELS [original.json]

OUTPUT is what plant.py wrote, doctor.json what `rcnn-jax doctor SPEC --model M --json doctor.json`
wrote, LABELS the number of labels. An error is found at the first suspicion that points at it: at the
wrong label, or, by the box that the model proposes, at the true object. Printed is the part that is found
within the first twentieth, tenth and fifth of as many suspicions as there are labels. With original.json,
what the doctor says of the unchanged labels with the same model, suspicions that stand there too are not
counted: they are errors that nobody planted.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path


def iou(one: list[float], other: list[float]) -> float:
    """Returns the IoU of two boxes of the same order of coordinates."""
    common = max(min(one[2], other[2]) - max(one[0], other[0]), 0) * max(
        min(one[3], other[3]) - max(one[1], other[1]), 0
    )
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return common / max(sum(areas) - common, 1e-9)


def points_at(suspicion: dict, error: dict) -> bool:
    """Says whether a suspicion shows a person the error."""
    y1, x1, y2, x2 = suspicion["box"]
    if suspicion["label"] is not None and error["label"] is not None:
        a, b, c, d = suspicion["label"]["box"]
        if iou([b, a, d, c], error["label"]) > 0.9:
            return True
    return suspicion["proposed"] is not None and iou([x1, y1, x2, y2], error["box"]) > 0.5


def same(one: dict, other: dict) -> bool:
    """Says whether two suspicions are of one place and one cause, the other at least half as strong.

    Every label that fits a detection loosely is a little suspicious: that is no error of the original.
    """
    return (
        one["cause"] == other["cause"]
        and other["strength"] > one["strength"] / 2
        and iou(one["box"], other["box"]) > 0.8
    )


def suspicions_of(doctor: Path) -> list[dict]:
    """Returns the suspicions of a doctor, most suspicious first."""
    return json.loads(doctor.read_text())["suspicions"]


def by_image(suspicions: list[dict]) -> dict[str, list[tuple[int, dict]]]:
    """Returns {stem of the image: its suspicions, each with its rank among all}."""
    ranked = defaultdict(list)
    for rank, suspicion in enumerate(suspicions, start=1):
        ranked[Path(suspicion["image"]).stem].append((rank, suspicion))
    return ranked


def main(planted: Path, doctor: Path, labels: int, original: Path | None = None) -> None:
    """Prints the table."""
    errors = json.loads(planted.read_text())
    suspicions = suspicions_of(doctor)
    if original is not None:
        known = by_image(suspicions_of(original))
        suspicions = [
            suspicion
            for suspicion in suspicions
            if not any(same(suspicion, each) for _, each in known[Path(suspicion["image"]).stem])
        ]
    ranked = by_image(suspicions)
    ranks = defaultdict(list)
    for error in errors:
        own = [rank for rank, each in ranked[error["image"]] if points_at(each, error)]
        ranks[error["kind"]].append(min(own, default=10**9))
    ranks["all"] = [rank for kind in list(ranks) for rank in ranks[kind]]
    print("| error | planted | first 5 % | first 10 % | first 20 % |\n|---|---|---|---|---|")
    for kind, own in ranks.items():
        parts = [sum(r <= labels * part for r in own) / len(own) for part in (0.05, 0.1, 0.2)]
        print(f"| {kind} | {len(own)} | " + " | ".join(f"{part:.1%}" for part in parts) + " |")


if __name__ == "__main__":
    planted, doctor, labels, *original = sys.argv[1:]
    main(Path(planted), Path(doctor), int(labels), *map(Path, original))
