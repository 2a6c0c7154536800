"""Which channels of a teacher's features a pruned model has kept, against the features themselves."""

import dataclasses

import numpy as np
import pytest

from rcnn_jax.checkpoints.bundle import read_bundle
from rcnn_jax.checkpoints.state import stored_experiment, with_weights
from rcnn_jax.cli.main import main
from rcnn_jax.compress.lineage import kept_features

FINE = ("-nf", "2", "-pg", "2")


@pytest.fixture(scope="module")
def pruned(boxes_files, tmp_path_factory):
    """(bundle before, bundle after) of a tiny Faster R-CNN pruned at 0.9."""
    path = tmp_path_factory.mktemp("lineage") / "pruned.tlt"
    flags = ["-m", str(boxes_files.model), "-o", str(path), "-pth", "0.9", *FINE]
    assert main(["faster_rcnn", "prune", *flags]) == 0
    return read_bundle(boxes_files.model), read_bundle(path)


def model_of(bundle):
    return with_weights(stored_experiment(bundle, "model"), bundle, "model")


def test_the_kept_channels_are_the_rows_that_the_next_kernels_read(pruned):
    before, after = pruned
    experiment, variables = model_of(before)
    kept = kept_features(experiment, after)[4]
    width = variables["params"]["rpn_conv1"]["kernel"].shape[2]
    _, smaller = model_of(after)
    assert 0 < len(kept) < width
    # rpn_conv1 reads the features: its rows are those of the whole kernel, its filters some of them.
    rows = variables["params"]["rpn_conv1"]["kernel"][:, :, kept]
    filters = after.arrays["pruning/rpn_conv1/kept"]
    np.testing.assert_array_equal(rows[..., filters], smaller["params"]["rpn_conv1"]["kernel"])


def test_a_file_that_does_not_say_what_was_kept_has_no_lineage(pruned):
    before, after = pruned
    experiment, _ = model_of(before)
    trained = {k: v for k, v in after.arrays.items() if not k.startswith("pruning/")}
    assert kept_features(experiment, dataclasses.replace(after, arrays=trained)) == {}


def test_a_file_of_another_model_has_none_either(pruned):
    _, after = pruned
    experiment, _ = model_of(after)  # narrower than what the file was pruned from
    assert kept_features(experiment, after) == {}
