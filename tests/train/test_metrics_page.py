"""The page of a run: made from metrics.jsonl, while it trains and at its end."""

import json

from rcnn_jax.train.metrics_page import MetricsPage, sections
from rcnn_jax.train.run_folder import METRICS_FILE, METRICS_PAGE
from rcnn_jax.train.writers import Record


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


def evaluation(step):
    return Record(kind="evaluate", step=step, epoch=1, epochs=2, values={"mAP": 0.4})


def write(folder, rows):
    (folder / METRICS_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))


def page_of(folder):
    return (folder / METRICS_PAGE).read_text()


def test_it_shows_losses_validations_and_the_best_one(tmp_path):
    write(tmp_path, rows())
    writer = MetricsPage(tmp_path, "mAP")
    writer.write(evaluation(30))
    page = page_of(tmp_path)
    assert "best.tlt is the model of step 20." in page
    assert "AP of &lt;b&gt;" in page and "<b>" not in page
    assert page.count("<svg") == 3  # validation, loss, learning rate
    assert '<meta http-equiv="refresh" content="20">' in page
    writer.close()
    assert "http-equiv" not in page_of(tmp_path)


def test_steps_do_not_write_it_and_epochs_do_so_at_most_every_twenty_seconds(tmp_path):
    now = [0.0]
    write(tmp_path, rows(10))
    writer = MetricsPage(tmp_path, "mAP", clock=lambda: now[0])
    writer.write(Record(kind="train", step=10, epoch=1, epochs=2, values={"loss": 1.0}))
    assert not (tmp_path / METRICS_PAGE).exists()
    writer.write(evaluation(20))
    first = page_of(tmp_path)
    now[0] = 19.0
    writer.write(evaluation(30))
    assert page_of(tmp_path) == first
    now[0] = 21.0
    writer.write(evaluation(40))
    assert "step 40" in page_of(tmp_path)


def test_without_a_validation_it_says_so():
    first = sections(rows(10)[:1], "mAP")[0]
    assert "No validation yet" in first.parts[0].text
