"""Which files belong to which run of a folder."""

import json

import pytest

from rcnn_jax.errors import UsageError
from rcnn_jax.tasks.experiment import SpecRecord
from rcnn_jax.train.run_folder import run_folder, write_spec


def fields_of(name):
    return {"training_config": {"output_model": f"/elsewhere/{name}"}}


def begin(root, name, kind="faster_rcnn"):
    """What a run leaves in its folder."""
    fields = fields_of(name) if kind == "faster_rcnn" else {}
    files = run_folder(root, kind, fields)
    for folder in (files.folder / "checkpoints" / "6", files.folder / "eval", files.root):
        folder.mkdir(parents=True, exist_ok=True)
    (files.folder / "tensorboard").mkdir()
    document = {"kind": kind, "config": fields}
    (files.folder / "config.json").write_text(json.dumps(document))
    for path in (
        files.best,
        files.folder / "metrics.jsonl",
        files.folder / "tensorboard" / "events.out.tfevents.1.host",
        files.folder / "eval" / "step-6.json",
        files.folder / "eval" / "step-6_PR_curve.png",
        files.folder / "eval" / "step-3.json",
        files.folder / "eval" / "best.json",
        files.model(3, 1),
        files.model(6, 2),
    ):
        path.write_bytes(b"x")
    return files


def names(root):
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_the_first_run_has_the_folder_and_a_second_one_a_folder_in_it(tmp_path):
    first = run_folder(tmp_path, "faster_rcnn", fields_of("resnet18.tlt"))
    assert first.folder == tmp_path
    begin(tmp_path, "resnet18.tlt")
    second = run_folder(tmp_path, "faster_rcnn", fields_of("resnet18_retrain.tlt"))
    assert second.folder == tmp_path / "runs" / "resnet18_retrain"
    assert second.model(6, 2) == tmp_path / "resnet18_retrain.epoch2.tlt"
    assert second.best == second.folder / "best.tlt"
    assert run_folder(tmp_path, "faster_rcnn", fields_of("resnet18.tlt")) == first
    assert run_folder(tmp_path, "faster_rcnn", fields_of("resnet18")) == first


def test_the_two_detectors_are_two_runs(tmp_path):
    begin(tmp_path, "model.tlt")
    masks = run_folder(tmp_path, "mask_rcnn", {})
    assert masks.folder == tmp_path / "runs" / "model"
    assert masks.model(6, 2) == tmp_path / "model.step-6.tlt"


def test_a_folder_from_which_the_run_is_gone_is_free(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    document = {"kind": "faster_rcnn", "config": fields_of("a.tlt")}
    (tmp_path / "config.json").write_text(json.dumps(document))
    assert run_folder(tmp_path, "faster_rcnn", fields_of("b.tlt")).folder == tmp_path


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": 3, "config": null}'])
def test_a_run_whose_config_cannot_be_read_goes_on_as_it_did(tmp_path, text):
    begin(tmp_path, "a.tlt")
    (tmp_path / "config.json").write_text(text)
    assert run_folder(tmp_path, "faster_rcnn", fields_of("a.tlt")).folder == tmp_path


@pytest.mark.parametrize("name", ["out/..", "..", ".tlt"])
def test_a_model_needs_a_name(tmp_path, name):
    with pytest.raises(UsageError, match=r"names no file; write FOLDER/NAME\.tlt"):
        run_folder(tmp_path, "faster_rcnn", fields_of(name))


def test_fresh_deletes_all_of_this_run_and_nothing_of_another(tmp_path):
    first = begin(tmp_path, "a.tlt")
    second = begin(tmp_path, "a_retrain.tlt")
    of_second = {n for n in names(tmp_path) if n.startswith(("runs/", "a_retrain"))}
    (tmp_path / "a.tlt").write_bytes(b"pruned, somebody's own")
    (tmp_path / "eval" / "other.json").write_bytes(b"of another model")
    first.clear(0, 0, set(), same_run=False)
    assert names(tmp_path) == of_second | {"a.tlt", "eval/other.json", "config.json"}
    second.clear(0, 0, set(), same_run=False)
    assert not list((tmp_path / "runs" / "a_retrain" / "eval").iterdir())
    assert not (tmp_path / "a_retrain.epoch1.tlt").exists()


def test_going_back_to_an_epoch_keeps_what_came_before_it_and_the_model_that_is_named(tmp_path):
    files = begin(tmp_path, "a.tlt")
    files.clear(3, 1, {tmp_path / "a.epoch1.tlt"}, same_run=True)
    left = {n for n in names(tmp_path) if not n.startswith("tensorboard")}
    assert left == {"a.epoch1.tlt", "metrics.jsonl", "config.json", "eval/step-3.json"}


def test_a_model_that_the_spec_starts_from_is_never_deleted(tmp_path):
    files = begin(tmp_path, "a.tlt")
    files.clear(0, 0, {tmp_path / "." / "a.epoch2.tlt"}, same_run=False)
    assert [path.name for path, _ in files.models()] == ["a.epoch2.tlt"]


def test_tensorboard_files_behind_a_link_go_and_the_link_stays(tmp_path):
    files = begin(tmp_path / "run", "a.tlt")
    elsewhere = tmp_path / "logs"
    (files.folder / "tensorboard").rename(elsewhere)
    (files.folder / "tensorboard").symlink_to(elsewhere)
    (elsewhere / "mine.txt").write_text("x")
    files.clear(0, 0, set(), same_run=False)
    assert [path.name for path in elsewhere.iterdir()] == ["mine.txt"]


def test_what_a_run_was_asked_to_do_lies_in_its_folder_and_names_it(tmp_path):
    files = begin(tmp_path, "a.tlt")
    spec = SpecRecord(text="random_seed: 42\n", fields=fields_of("a.tlt"))
    write_spec(files.folder, "faster_rcnn", spec)
    assert (tmp_path / "spec.txt").read_text() == spec.text
    document = json.loads((tmp_path / "config.json").read_text())
    assert (document["kind"], document["config"]) == ("faster_rcnn", spec.fields)
    assert run_folder(tmp_path, "faster_rcnn", fields_of("b.tlt")).folder != tmp_path
