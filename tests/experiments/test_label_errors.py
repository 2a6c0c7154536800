"""Planting of label errors, and how early a ranking has them, on sets of a few lines."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.data.layouts.folders import coco, kitti_line, picture, text

FOLDER = Path(__file__).parents[2] / "experiments/label_errors"
OBJECTS = 10
"""Of an image."""


def run(script, *words):
    command = [sys.executable, str(FOLDER / script), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def source(tmp_path):
    """Two images of training and one of validation, ten objects of two classes in each."""
    root = tmp_path / "source"
    for stem in "abc":
        rows = [
            kitti_line(("cell", "star")[n % 2], 40 * n, 10, 40 * n + 30, 30) for n in range(OBJECTS)
        ]
        text(root / "labels" / f"{stem}.txt", "".join(rows))
        picture(root / "images" / f"{stem}.png", 40, 400)
    text(root / "train.txt", "a\nb\n")
    text(root / "val.txt", "c\n")
    return root


def plant(source, output, *words):
    run("plant.py", "bccd", source, output, *words)
    return json.loads((output / "planted.json").read_text())


def rows_of(folder):
    """(image, class, left edge) of every label."""
    lines = [
        (path.stem, line.split())
        for path in sorted((folder / "labels").glob("*.txt"))
        for line in path.read_text().splitlines()
    ]
    return Counter((stem, words[0], float(words[4])) for stem, words in lines)


def test_as_many_labels_are_changed_as_are_said_to_be_and_each_in_its_way(source, tmp_path):
    output = tmp_path / "planted"
    errors = plant(source, output, "--part", "0.2")
    assert Counter(error["kind"] for error in errors) == {"class": 2, "missing": 2, "shifted": 2}
    before, after = rows_of(source), rows_of(output)
    assert after.total() == before.total() - 2
    # Nothing but the errors differs: without them, and what took their place, both are the same.
    true = Counter((e["image"], e["class"], e["box"][0]) for e in errors)
    assert before - after == true
    wrong = after - before
    assert wrong.total() == 4
    other = {"cell": "star", "star": "cell"}
    for error in errors:
        left = error["box"][0]
        if error["kind"] == "class":
            assert wrong[error["image"], other[error["class"]], left] == 1
        if error["kind"] == "shifted":
            width, height = 30, 20
            moved = [b - a for a, b in zip(error["box"], error["label"], strict=True)]
            assert moved[:2] == pytest.approx(moved[2:])
            assert width / 3 <= abs(moved[0]) <= 2 * width / 3
            assert height / 3 <= abs(moved[1]) <= 2 * height / 3
            assert wrong[error["image"], error["class"], round(error["label"][0], 2)] == 1
        assert (error["label"] is None) == (error["kind"] == "missing")


def test_the_same_seed_plants_the_same_errors_and_another_one_others(source, tmp_path):
    first, again, other = (
        plant(source, tmp_path / name, "--part", "0.2", "--seed", seed)
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert first == again != other


def test_outlines_move_with_their_boxes(tmp_path):
    source, output = tmp_path / "source", tmp_path / "planted"
    outline = {"segmentation": [[10, 10, 20, 10, 20, 20]]}
    for name in ("instances_train.json", "instances_val.json"):
        coco(source / name, ["a.png"], [(0, 1, [10, 10, 10, 10], outline)], {1: "cell"})
    run("plant.py", "nuclei", source, output, "--part", "1", "--kinds", "shifted")
    (item,) = json.loads((output / "instances_train.json").read_text())["annotations"]
    dx, dy = item["bbox"][0] - 10, item["bbox"][1] - 10
    assert abs(dx) > 3 and abs(dy) > 3
    expected = [10 + dx, 10 + dy, 20 + dx, 10 + dy, 20 + dx, 20 + dy]
    assert item["segmentation"] == [pytest.approx(expected)]


def suspicion(error):
    """What a doctor says that has seen an error: boxes of it are (y1, x1, y2, x2)."""
    x1, y1, x2, y2 = error["box"]
    label = None if error["label"] is None else {"box": [error["label"][n] for n in (1, 0, 3, 2)]}
    ranked = {"image": f"images/{error['image']}.png", "proposed": error["class"], "label": label}
    cause = error["kind"]
    return ranked | {"box": [y1, x1, y2, x2], "cause": cause, "strength": 0.9}


def measured(tmp_path, errors, suspicions, labels, *original):
    """{kind: parts that are found within the first twentieth, tenth and fifth}."""
    (tmp_path / "planted.json").write_text(json.dumps(errors))
    (tmp_path / "doctor.json").write_text(json.dumps({"suspicions": suspicions}))
    lines = run(
        "measure.py", tmp_path / "planted.json", tmp_path / "doctor.json", labels, *original
    ).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {row[0]: row[2:] for row in cells}


def harmless(count):
    """Suspicions that point at no error: far from all objects."""
    return [
        {"image": "images/a.png", "label": None, "proposed": "cell", "cause": "missing"}
        | {"box": [900 + n, 900, 930 + n, 930], "strength": 0.9}
        for n in range(count)
    ]


def test_a_perfect_ranking_finds_all_and_a_reversed_one_nothing(source, tmp_path):
    errors = plant(source, tmp_path / "planted", "--part", "0.2")
    # 120 labels: their first twentieth are as many suspicions as there are errors.
    shown, others = [suspicion(error) for error in errors], harmless(114)
    best = measured(tmp_path, errors, shown + others, 120)
    assert set(best) == {"class", "missing", "shifted", "all"}
    assert all(row == ["100.0%"] * 3 for row in best.values())
    worst = measured(tmp_path, errors, others + shown, 120)
    assert all(row == ["0.0%"] * 3 for row in worst.values())
    # Behind ten others: after the twentieth, the first two in the tenth, all in the fifth.
    middle = measured(tmp_path, errors, [*others[:10], *shown, *others[10:]], 120)
    assert middle["all"] == ["0.0%", "33.3%", "100.0%"]


def test_what_stands_in_the_original_too_does_not_stand_before_the_errors(source, tmp_path):
    errors = plant(source, tmp_path / "planted", "--part", "0.2")
    shown, others = [suspicion(error) for error in errors], harmless(114)
    (tmp_path / "original.json").write_text(json.dumps({"suspicions": others}))
    rows = measured(tmp_path, errors, others + shown, 120, tmp_path / "original.json")
    assert rows["all"] == ["100.0%"] * 3
