"""`train`: what it says when a run has ended."""

import shlex

import pytest

from rcnn_jax.cli import arguments
from rcnn_jax.cli.parser import Parser
from rcnn_jax.cli.train import next_commands

PARSERS = {
    "evaluate": arguments.add_evaluate,
    "inference": arguments.add_inference,
    "export": arguments.add_export,
}


@pytest.mark.parametrize("kind", ["faster_rcnn", "mask_rcnn"])
@pytest.mark.parametrize("encrypted", [False, True])
def test_the_commands_after_a_run_are_those_of_the_parsers(tmp_path, kind, encrypted):
    best = tmp_path / "my run" / "best.tlt"
    first, *commands = next_commands(best, kind, encrypted=encrypted)
    assert str(best.parent / "metrics.html") in first
    for line, name in zip(commands, PARSERS, strict=True):
        program, detector, command, *flags = shlex.split(line)
        assert (program, detector, command) == ("rcnn-jax", kind, name)
        parser = Parser("test")
        PARSERS[name](parser, kind)
        args = parser.parse_args(flags)
        assert args.model == best and args.spec == best.parent / "spec.txt"
        assert (args.key == "KEY") == encrypted
