from pathlib import Path

from rcnn_jax.cli import compilations
from rcnn_jax.cli.compilations import keep_compilations


def test_compiled_programs_go_to_the_cache_folder_of_the_user(monkeypatch, tmp_path):
    found = {"XDG_CACHE_HOME": str(tmp_path)}
    keep_compilations(found)
    folder = Path(found["JAX_COMPILATION_CACHE_DIR"])
    assert folder.parent == tmp_path / "rcnn_jax"
    assert folder.name.startswith("compiled-")
    assert float(found["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]) == 1.0
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
        found = {"XDG_CACHE_HOME": str(tmp_path)}
        keep_compilations(found)
        names.add(found["JAX_COMPILATION_CACHE_DIR"])
    assert len(names) == 4
