"""The page of a run: made from metrics.jsonl, while it trains and at its end."""

import json
import os
import time

from rcnn_jax.train.metrics_page import sections, write_metrics_page
from rcnn_jax.train.run_folder import METRICS_FILE, METRICS_PAGE


def rows(steps=30):
    taken = [
        {"step": s, "epoch": 1 + s // 20, "kind": "train", "loss": 1 / s, "learning_rate": 0.1}
        for s in range(10, steps + 1, 10)
    ]
    scored = [
        {"step": 20, "epoch": 1, "kind": "evaluate", "mAP": 0.4, "AP of <b>": None},
        {"step": 30, "epoch": 2, "kind": "evaluate", "mAP": 0.3, "AP of <b>": 0.1},
    ]
    return [*taken, *scored]


def write(folder, rows):
    (folder / METRICS_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))


def page_of(folder):
    return (folder / METRICS_PAGE).read_text()


def show(folder, finished=False):
    write_metrics_page(folder, "mAP", "Step 30, epoch 2 of 2", finished=finished)


def test_it_shows_losses_validations_and_the_best_one(tmp_path):
    write(tmp_path, rows())
    show(tmp_path)
    page = page_of(tmp_path)
    assert "best.tlt is the model of step 20." in page
    assert "AP of &lt;b&gt;" in page and "<b>" not in page
    assert page.count("<svg") == 3  # validation, loss, learning rate
    assert '<meta http-equiv="refresh" content="20">' in page
    assert str(tmp_path) not in page


def test_it_is_written_at_most_every_twenty_seconds_and_at_the_end(tmp_path):
    write(tmp_path, rows(10)[:1])
    show(tmp_path)
    first = page_of(tmp_path)
    write(tmp_path, rows())
    show(tmp_path)
    assert page_of(tmp_path) == first
    past = time.time() - 20
    os.utime(tmp_path / METRICS_PAGE, (past, past))
    show(tmp_path)
    assert "model of step 20" in page_of(tmp_path)
    show(tmp_path, finished=True)
    assert "http-equiv" not in page_of(tmp_path)


def test_a_run_that_has_logged_nothing_has_no_page(tmp_path):
    show(tmp_path, finished=True)
    assert not (tmp_path / METRICS_PAGE).exists()


def test_without_a_validation_it_says_so():
    first = sections(rows(10)[:1], "mAP")[0]
    assert "No validation yet" in first.parts[0].text


def test_a_single_validation_is_a_line_of_text_and_no_empty_chart():
    first = sections([*rows(10)[:1], rows()[-2]], "mAP")[0]
    text, table = first.parts
    assert text.text == "best.tlt is the model of step 20."
    assert table.rows[0][:3] == ["20", "1", "0.4"]
