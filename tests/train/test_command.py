"""What a run says of its batch and rate on several devices, opened but not trained."""

import pytest

from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.train import command
from rcnn_jax.train.run import TrainOptions, open_run
from tests.e2e.tiny import write_tiny
from tests.train.listener import Listener


def opened(tmp_path, devices, more="", **options):
    """(run on so many devices, what its reporter was told); two images a device, base rate 0.01."""
    spec = write_tiny(tmp_path, images=8, training=more)
    experiment = build_experiment(load_spec(spec).config, "faster_rcnn")
    listener = Listener()
    run = open_run(experiment, tmp_path / "run", TrainOptions(devices=devices, **options), listener)
    command._print_parameters(run)
    return run, listener.console.file.getvalue(), listener.notes


@pytest.mark.parametrize(
    ("devices", "more", "flag", "scale"),
    [
        (1, "", None, 1),
        # the spec of Faster R-CNN scales with the devices unless it says otherwise
        (4, "", None, 4),
        (4, "", "none", 1),
        (4, 'lr_scaling: "none"', None, 1),
        (4, 'lr_scaling: "none"', "linear", 4),
        # parts of a step count too: the batch of an update is what the rate belongs to
        (2, 'lr_scaling: "none" accumulate_steps: 2', "linear", 4),
    ],
    ids=str,
)
def test_batch_rate_and_rate_per_image_are_printed(tmp_path, devices, more, flag, scale):
    run, text, _ = opened(tmp_path, devices, more, scale_lr=flag)
    parts = 2 if "accumulate" in more else 1
    batch = 2 * devices * parts
    assert run.global_batch == batch
    rate = 0.01 * scale
    scaled = f", that of the spec times {scale}" if scale > 1 else ""
    assert (
        f"effective batch {batch} images; learning rate in the middle of the run {rate:.4g}{scaled}: "
        f"{rate / batch:.4g} per image" in text
    )
    assert f"{devices} cpu device(s), shard_map" in text


def test_trained_batch_norm_that_sees_less_than_the_batch_says_so(tmp_path):
    for name, more, words in (
        ("whole", "", None),
        ("alone", "sync_bn: false", "on the 2 images of each device alone (sync_bn: False)"),
        ("parts", "accumulate_steps: 2", "on each of the 2 parts of a step (accumulate_steps)"),
    ):
        _, _, notes = opened(tmp_path / name, 2, more)
        told = [note for note in notes if "batch norm is trained" in note]
        assert (words is None) == (told == []), name
        assert words is None or words in told[0]
