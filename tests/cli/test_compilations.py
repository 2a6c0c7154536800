import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from rcnn_jax.cli import compilations
from rcnn_jax.cli.compilations import forget, keep_compilations


@pytest.fixture(autouse=True)
def _warnings_as_before():
    with warnings.catch_warnings():
        yield


def test_compiled_programs_go_to_the_cache_folder_of_the_user(monkeypatch, tmp_path):
    variables = {"XDG_CACHE_HOME": str(tmp_path)}
    keep_compilations(variables)
    folder = Path(variables["JAX_COMPILATION_CACHE_DIR"])
    assert folder.parent == tmp_path / "rcnn_jax"
    assert folder.name.startswith("compiled-")
    assert float(variables["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]) == 1.0
    other = {}
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    keep_compilations(other)
    assert Path(other["JAX_COMPILATION_CACHE_DIR"]).is_relative_to(tmp_path / "home" / ".cache")


def test_what_the_user_has_set_stays():
    chosen = {
        "JAX_COMPILATION_CACHE_DIR": "mine",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "9",
    }
    keep_compilations(chosen)
    assert chosen == {
        "JAX_COMPILATION_CACHE_DIR": "mine",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "9",
    }


def test_machines_of_other_features_or_cores_do_not_share_programs(monkeypatch, tmp_path):
    names = set()
    for features, cores in (("avx2 avx512f", 2), ("avx2", 2), ("avx2", 4), ("", 2)):
        cpuinfo = tmp_path / "cpuinfo"
        cpuinfo.unlink(missing_ok=True)
        if features:
            cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {features}\n")
        monkeypatch.setattr(compilations, "_CPUINFO", cpuinfo)
        monkeypatch.setattr(compilations, "_cores", lambda cores=cores: cores)
        variables = {"XDG_CACHE_HOME": str(tmp_path)}
        keep_compilations(variables)
        names.add(variables["JAX_COMPILATION_CACHE_DIR"])
    assert len(names) == 4


def test_a_user_without_a_home_has_a_private_folder_among_the_temporary_ones(monkeypatch, tmp_path):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.setattr(compilations.tempfile, "gettempdir", lambda: str(tmp_path))
    variables = {}
    keep_compilations(variables)
    private = tmp_path / f"rcnn_jax-{os.getuid()}"
    assert Path(variables["JAX_COMPILATION_CACHE_DIR"]).parent == private
    assert private.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("trap", ["open", "link"])
def test_a_folder_that_others_could_have_filled_is_not_used(monkeypatch, tmp_path, trap):
    monkeypatch.setattr(compilations, "_roots", lambda variables: [])
    monkeypatch.setattr(compilations.tempfile, "gettempdir", lambda: str(tmp_path))
    private = tmp_path / f"rcnn_jax-{os.getuid()}"
    if trap == "open":
        private.mkdir()
        private.chmod(0o777)
    else:
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        private.symlink_to(tmp_path / "elsewhere")
    chosen = {}
    keep_compilations(chosen)
    assert chosen == {}


def test_a_home_that_cannot_be_written_is_passed_over(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(compilations.tempfile, "gettempdir", lambda: str(tmp_path))
    variables = {"XDG_CACHE_HOME": str(tmp_path / "file")}
    keep_compilations(variables)
    assert f"rcnn_jax-{os.getuid()}" in variables["JAX_COMPILATION_CACHE_DIR"]


def test_a_relative_cache_folder_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    variables = {"XDG_CACHE_HOME": "cache"}
    keep_compilations(variables)
    assert Path(variables["JAX_COMPILATION_CACHE_DIR"]).is_relative_to(tmp_path / ".cache")


def test_all_entries_of_a_program_are_forgotten_and_no_others(tmp_path):
    for name in ("jit_step-0a1b-cache", "jit_step-0a1b-atime", "jit_step_two-0a1b-cache", "x-y"):
        (tmp_path / name).write_bytes(b"x")
    assert {p.name for p in forget(tmp_path, "jit_step")} == {
        "jit_step-0a1b-cache",
        "jit_step-0a1b-atime",
    }
    assert {p.name for p in tmp_path.iterdir()} == {"jit_step_two-0a1b-cache", "x-y"}


PROGRAM = """
from rcnn_jax.cli.compilations import keep_compilations
keep_compilations()
import jax
def twice(x):
    return x + x
assert jax.jit(twice)(2.0) == 4.0
"""


def test_a_torn_entry_is_replaced_without_a_word(tmp_path):
    variables = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def run():
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=variables,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stderr

    run()
    (entry,) = tmp_path.glob("jit_twice-*-cache")
    whole = entry.stat().st_size
    entry.write_bytes(entry.read_bytes()[:100])
    assert run() == ""
    assert entry.stat().st_size > whole // 2
    assert run() == ""
