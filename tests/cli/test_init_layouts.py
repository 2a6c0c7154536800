"""`init` keeps what the author of a folder decided: the splits and the numbers of a YOLO data set."""

import pytest

from rcnn_jax.cli.main import main
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from tests.data.layouts.folders import picture, text


@pytest.mark.parametrize("declared", ["folders", "yaml", "lists"])
def test_the_split_of_a_yolo_folder_is_the_one_that_trains(tmp_path, capsys, monkeypatch, declared):
    monkeypatch.setenv("RCNN_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RCNN_JAX_OFFLINE", "1")
    data, spec = tmp_path / "data", tmp_path / "out" / "spec.txt"
    parts = {"train": "part_a", "val": "part_b"}
    if declared == "folders":
        parts = {split: f"{split}2017" for split in parts}
    yaml = "names: {1: cat, 2: dog}\n"
    for split, count in (("train", 6), ("val", 4)):
        images = [f"images/{parts[split]}/{split}_{n}.png" for n in range(count)]
        for number, image in enumerate(images):
            picture(data / image, 120, 160)
            label = (data / image.replace("images", "labels")).with_suffix(".txt")
            text(label, f"{1 + number % 2} 0.4 0.4 0.5 0.5\n")
        if declared == "yaml":
            yaml += f"{split}: images/{parts[split]}\n"
        if declared == "lists":
            text(data / f"{split}.txt", "".join(f"./{image}\n" for image in images))
    text(data / "data.yaml", yaml)
    code = main(["init", str(data), "-o", str(spec), "--threads", "1", "--weights", "none"])
    printed = " ".join("".join(capsys.readouterr()).split())
    assert code == 0, printed
    assert "splits of the folder" in printed
    loaded = load_spec(spec, task="train")
    experiment = build_experiment(loaded.config, loaded.kind)
    source = experiment.eval_source()
    stems = {source.name(n).rsplit("/", 1)[-1].split(".")[0] for n in range(len(source))}
    assert stems == {f"val_{n}" for n in range(4)}
    assert set(experiment.task.class_names) >= {"cat", "dog"}
