"""Console scripts: each leaves with the exit code of its command and under its own name."""

import subprocess
import sys

import pytest

PROGRAMS = {
    "rcnn-jax": "rcnn_jax",
    "tlt": "tao",
    "faster_rcnn": "faster_rcnn",
    "mask_rcnn": "mask_rcnn",
    "tao-converter": "converter",
}


def run(name, *words):
    function = PROGRAMS[name]
    code = (
        f"import sys; sys.argv[0] = '/usr/bin/{name}'\n"
        f"from rcnn_jax.cli.program import {function}; {function}()"
    )
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_wrong_flag_is_one_message_with_the_name_of_the_program(name):
    ended = run(name, "--no_such_flag")
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith(f"error: {name}") and "Traceback" not in ended.stderr
