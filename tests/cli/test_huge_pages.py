import os
import subprocess
import sys

import pytest

from rcnn_jax.cli import huge_pages
from rcnn_jax.cli.huge_pages import VARIABLE, take_huge_pages, with_huge_pages


def test_what_the_environment_says_already_stays():
    assert with_huge_pages({VARIABLE: "glibc.malloc.hugetlb=0"}) is None
    assert with_huge_pages({VARIABLE: "a.b=1", "HOME": "/"}) == {
        VARIABLE: "a.b=1:glibc.malloc.hugetlb=1",
        "HOME": "/",
    }


@pytest.mark.parametrize(
    ("kernel", "times"), [("always [madvise] never", 1), ("[always] madvise never", 0), (None, 0)]
)
def test_a_program_starts_again_where_the_kernel_gives_pages_on_request(
    kernel, times, tmp_path, monkeypatch
):
    monkeypatch.delenv(VARIABLE, raising=False)
    file = tmp_path / "enabled"
    if kernel is not None:
        file.write_text(kernel)
    monkeypatch.setattr(huge_pages, "_ON_REQUEST", file)
    calls = []
    take_huge_pages(lambda *args: calls.append(args))
    assert len(calls) == times
    for program, arguments, variables in calls:
        assert program == arguments[0] == sys.executable
        assert arguments[1:] == sys.orig_argv[1:]
        assert variables[VARIABLE] == "glibc.malloc.hugetlb=1"


def test_a_command_keeps_its_arguments_output_and_exit_code():
    variables = {name: value for name, value in os.environ.items() if name != VARIABLE}
    code = "from rcnn_jax.cli.program import rcnn_jax; rcnn_jax()"
    for flags, exit_code, text in ((["--version"], 0, "rcnn-jax"), (["nothing"], 2, "nothing")):
        done = subprocess.run(
            [sys.executable, "-c", code, *flags], env=variables, capture_output=True, text=True
        )
        assert done.returncode == exit_code
        assert text in done.stdout + done.stderr
