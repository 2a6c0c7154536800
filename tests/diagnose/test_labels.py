"""Labels that a model contradicts: planted errors come first, on the page and in JSON."""

import json

import numpy as np
import pytest

from rcnn_jax.diagnose import kinds, pages, records
from rcnn_jax.diagnose.dataset import examine, with_suspicions
from rcnn_jax.diagnose.labels import describe, suspicions_of
from tests.evaluate.red_squares import RedSquares, red_experiment, write_red


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Red squares; in image 0 a class is wrong, in 1 a label is gone, in 2 one is shifted."""
    root = tmp_path_factory.mktemp("red")
    experiment = red_experiment(write_red(root))
    files = sorted((root / "data" / "labels").glob("*.txt"))
    rows = [path.read_text().splitlines() for path in files[:3]]
    rows[0][1] = rows[0][1].replace("disc", "star")
    del rows[1][0]
    parts = rows[2][2].split()
    shifted = [
        str(int(value) - 8) if 4 <= column < 8 else value for column, value in enumerate(parts)
    ]
    rows[2][2] = " ".join(shifted)
    for path, lines in zip(files, rows, strict=False):
        path.write_text("\n".join(lines) + "\n")
    source = experiment.train_source()
    examined = records.of_source(source, "train", coco=False)
    model = RedSquares(experiment.task.pixels, experiment.task.pixels)
    predictor = model.predictor(experiment, experiment.evaluation)
    suspicions = suspicions_of(experiment, predictor, [source], examined, lambda items, *_: items)
    diagnosis = with_suspicions(examine("red", examined), suspicions, experiment.task.class_names)
    return diagnosis, suspicions


def test_planted_errors_are_the_first_suspicions(planted):
    _, suspicions = planted
    first = {(one.image, one.cause, one.label) for one in suspicions[:3]}
    assert first == {(0, "class", 1), (1, "missing", None), (2, "shifted", 2)}
    assert all(one.strength > 0.5 for one in suspicions[:3])
    assert all(one.strength < 0.1 for one in suspicions[3:])


def test_clear_ones_become_findings(planted):
    diagnosis, _ = planted
    seen = {one.kind: one for one in diagnosis.observations}
    for kind in (kinds.OTHER_CLASS, kinds.UNLABELLED, kinds.ELSEWHERE):
        assert seen[kind].count == 1
    detail = seen[kinds.OTHER_CLASS].examples[0].detail
    assert detail.startswith("'star', the model says 'disc' (0.9")
    assert diagnosis.exit_code >= 1


def test_the_page_shows_them_and_the_json_has_all(planted):
    diagnosis, suspicions = planted
    text = pages.page(diagnosis)
    assert "Labels that may be wrong" in text and "&#x27;disc&#x27; without a label" in text
    ranked = json.loads(json.dumps(pages.as_json(diagnosis)))["suspicions"]
    assert len(ranked) == len(suspicions)
    assert [one["rank"] for one in ranked[:2]] == [1, 2]
    missing = next(one for one in ranked if one["cause"] == "missing")
    assert missing["label"] is None and missing["proposed"] == "disc"
    assert np.isfinite(missing["box"]).all()


@pytest.mark.parametrize(
    ("cause", "label", "proposed", "words"),
    [
        ("class", "cat", 1, "'cat', the model says 'dog'"),
        ("shifted", "cat", 0, "'cat', the model sees 'cat' beside the box"),
        ("missing", None, 1, "'dog' without a label"),
        ("nothing", "cat", -1, "'cat', the model sees nothing there"),
    ],
)
def test_a_suspicion_is_said_in_words(cause, label, proposed, words):
    assert describe(cause, label, proposed, ("cat", "dog")) == words
