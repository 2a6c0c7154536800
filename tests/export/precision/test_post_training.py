"""Calibration over real data: training records, a folder, a tensorfile, a cache."""

import dataclasses

import numpy as np
import pytest
from rich.console import Console

from rcnn_jax.errors import DataError
from rcnn_jax.export.precision.calibration_data import CalibrationSettings, calibration_batches
from rcnn_jax.export.precision.model_view import ModelView
from rcnn_jax.export.precision.placement import place
from rcnn_jax.export.precision.post_training import calibrate
from rcnn_jax.export.precision.scales import read_cache, write_cache
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from tests.e2e import tiny, tiny_mask
from tests.export.tiny import graph


class Listener:
    """A console that remembers."""

    def __init__(self):
        self.console = Console(record=True, width=200, file=None, quiet=False)
        self.notes = []

    def note(self, text):
        self.notes.append(text)

    def warn(self, text):
        self.notes.append(text)

    def track(self, items, total, label):
        return items


@pytest.fixture(scope="module", params=["faster_rcnn", "mask_rcnn"])
def case(request, tmp_path_factory):
    """(root, experiment, FP32 graph, header) of data and a model that nobody trained."""
    root = tmp_path_factory.mktemp(request.param)
    write = tiny.write_tiny if request.param == "faster_rcnn" else tiny_mask.write_tiny
    config = load_spec(write(root), request.param).config
    experiment = build_experiment(config, request.param)
    return root, experiment, *graph(experiment)


def settings(folder, **changes):
    return CalibrationSettings(
        **{"cache_file": folder / "cal.bin", "batches": 2, "batch_size": 3} | changes
    )


def images_of(root):
    return next(path for path in (root / "data").rglob("*") if path.suffix == ".png").parent


def test_training_batches_cover_the_set_without_repeating_an_image(case, tmp_path):
    _, experiment, _, header = case
    first, second = (
        np.concatenate(
            list(calibration_batches(experiment, header, settings(tmp_path), Listener()))
        )
        for _ in range(2)
    )
    assert first.shape == (6, 3, *header.canvas) and first.dtype == np.float32
    np.testing.assert_array_equal(first, second)
    assert len({image.tobytes() for image in first}) == 6
    source = experiment.train_source()
    pixels = source.image(0, experiment.task.pixels.channel_order).astype(np.float32)
    mean = np.asarray(experiment.task.pixels.mean, np.float32)
    std = np.asarray(experiment.task.pixels.std, np.float32)
    wanted = ((pixels - mean) / std).transpose(2, 0, 1)
    if pixels.shape[:2] == header.canvas:  # not resized: the same numbers, in one of the batches
        assert np.abs(first - wanted).max(axis=(1, 2, 3)).min() < 1e-6


def test_more_batches_than_images_are_cut_and_reported(case, tmp_path):
    _, experiment, _, header = case
    listener = Listener()
    batches = calibration_batches(
        experiment, header, settings(tmp_path, batches=10, batch_size=4), listener
    )
    assert [len(batch) for batch in batches] == [4]
    assert "the training data has 6 images, 4 are used" in listener.notes[0]


def test_a_folder_is_sampled_and_too_few_images_are_counted(case, tmp_path):
    root, experiment, _, header = case
    folder = images_of(root)
    count = len(list(folder.glob("*.png")))
    chosen = settings(tmp_path, image_dir=folder, batches=1)
    (batch,) = calibration_batches(experiment, header, chosen, Listener())
    assert batch.shape == (3, 3, *header.canvas)
    chosen = dataclasses.replace(chosen, batches=5)
    with pytest.raises(DataError, match=rf"holds {count} images .* 5 of --batch_size 3 need 15"):
        list(calibration_batches(experiment, header, chosen, Listener()))
    chosen = dataclasses.replace(chosen, image_dir=tmp_path / "absent")
    with pytest.raises(DataError, match="absent: the folder of --cal_image_dir does not exist"):
        list(calibration_batches(experiment, header, chosen, Listener()))


def test_the_data_file_is_written_once_and_then_read(case, tmp_path):
    root, experiment, _, header = case
    chosen = settings(tmp_path, data_file=tmp_path / "cal.npz")
    fresh = list(calibration_batches(experiment, header, settings(tmp_path), Listener()))
    written = list(calibration_batches(experiment, header, chosen, Listener()))
    before = chosen.data_file.read_bytes()
    chosen = dataclasses.replace(chosen, image_dir=root / "absent", batches=99)
    again = list(calibration_batches(experiment, header, chosen, Listener()))
    assert chosen.data_file.read_bytes() == before
    for other in (written, again):
        np.testing.assert_array_equal(np.stack(fresh), np.stack(other))


def test_every_method_finds_a_scale_for_every_tensor(case, tmp_path):
    _, experiment, model, header = case
    wanted = set(place(ModelView(model)).readers)
    calibrated = {}
    for method in ("max", "percentile", "entropy"):
        chosen = settings(tmp_path, method=method, batches=1)
        calibrated[method] = calibrate(model, experiment, header, chosen, Listener(), None)
        assert wanted <= set(calibrated[method].scales) and not calibrated[method].reused
        assert calibrated[method].origin == f"calibrated by {method}"
    for name in wanted:
        largest = calibrated["max"].scales[name]
        for method in ("percentile", "entropy"):
            assert 0 < calibrated[method].scales[name] <= largest * (1 + 1e-6)


def test_an_existing_cache_is_used_and_no_image_is_read(case, tmp_path):
    root, experiment, model, header = case
    chosen = settings(tmp_path, image_dir=root / "absent")
    scales = dict.fromkeys(place(ModelView(model)).readers, 0.25)
    chosen.cache_file.write_text(write_cache(scales))
    listener = Listener()
    calibrated = calibrate(model, experiment, header, chosen, listener, None)
    assert calibrated.reused and calibrated.scales == read_cache(write_cache(scales))
    assert "cal.bin exists: its scales are used and nothing is calibrated" in listener.notes[0]


def test_offsets_are_the_same_with_a_cache_and_without(case, tmp_path):
    _, experiment, model, header = case
    chosen = settings(tmp_path)
    (batch,) = list(calibration_batches(experiment, header, chosen, Listener()))[:1]
    fresh = calibrate(model, experiment, header, chosen, Listener(), batch[:2])
    own = calibrate(model, experiment, header, chosen, Listener(), None)
    chosen.cache_file.write_text(write_cache(fresh.scales))
    reused = calibrate(model, experiment, header, chosen, Listener(), batch[:2])
    listener = Listener()
    assert calibrate(model, experiment, header, chosen, listener, None).offsets == {}
    assert "biases of int8 layers are not corrected" in listener.notes[-1]
    kinds = ("Conv", "ConvTranspose", "Gemm")
    layers = [node.output[0] for node in model.graph.node if node.op_type in kinds]
    assert fresh.offsets and set(fresh.offsets) <= set(layers)
    assert set(own.offsets) == set(fresh.offsets), "measured on what it was calibrated on"
    for name, offset in fresh.offsets.items():
        np.testing.assert_array_equal(reused.offsets[name], offset)


def test_a_cache_of_another_graph_is_refused(case, tmp_path):
    _, experiment, model, header = case
    chosen = settings(tmp_path)
    chosen.cache_file.write_text(write_cache({"some/other/tensor": 0.5}))
    with pytest.raises(DataError, match="cal.bin: belongs to another graph: it has no scale for"):
        calibrate(model, experiment, header, chosen, Listener(), None)
