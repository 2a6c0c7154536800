"""Flags of `prune`: every spelling, and the defaults."""

import pytest

from rcnn_jax.cli import prune_arguments
from tests.cli.test_arguments import parse


@pytest.mark.parametrize("kind", ["faster_rcnn", "mask_rcnn"])
@pytest.mark.parametrize("model", ["-m", "--model", "--pretrained_model", "--model_path"])
@pytest.mark.parametrize("output", ["-o", "--output_file", "--output_dir"])
def test_prune_accepts_every_spelling_of_every_generation(kind, model, output):
    flags = (
        f"{model} a.tlt {output} out -k key --normalizer L2 --equalization_criterion intersection "
        "--pruning_granularity 16 --pruning_threshold 0.3 --min_num_filters 32 "
        "--excluded_layers conv1 fc6 --results_dir r -v --gpu_index 0 --log_file log"
    )
    args = parse(prune_arguments.add_prune, kind, *flags.split())
    short = "-m a.tlt -o out -k key -n L2 -eq intersection -pg 16 -pth 0.3 -nf 32 -r r -v"
    short += " --gpu_index 0 --log_file log -el conv1 fc6"
    assert args == parse(prune_arguments.add_prune, kind, *short.split())
    assert (args.normalizer, args.criterion, args.granularity) == ("L2", "intersection", 16)
    assert (args.thresholds, args.min_filters, args.excluded) == ("0.3", 32, ["conv1", "fc6"])


def test_prune_has_the_defaults_of_the_seeds():
    args = parse(prune_arguments.add_prune, "faster_rcnn", "-m", "a", "-o", "b")
    assert (args.normalizer, args.criterion, args.granularity) == ("max", "union", 8)
    assert (args.min_filters, args.excluded, args.rank) == (16, [], "layer")
