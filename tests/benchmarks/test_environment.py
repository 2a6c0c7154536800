import json
import socket
from importlib.metadata import version
from pathlib import Path

from benchmarks import environment


def test_description_is_json_with_versions():
    described = json.loads(json.dumps(environment.describe()))
    assert described["versions"]["jax"] == version("jax")
    assert described["cores"] >= 1


def test_description_tells_neither_paths_nor_the_name_of_the_machine(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(Path.home() / "cache"))
    text = json.dumps([environment.describe(), environment.as_found()])
    for private in (str(Path(__file__).parents[2]), str(Path.home() / "cache")):
        assert private not in text
    assert f'"{socket.gethostname()}"' not in text


def test_variables_that_change_speed_are_recorded(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_something=1")
    assert environment.describe()["variables"]["XLA_FLAGS"] == "--xla_something=1"


def test_state_of_a_gpu_is_read_from_nvidia_smi(monkeypatch):
    line = "H200, 580.1, 143771 MiB, 3 MiB, 345 MHz, 1980 MHz, 3201 MHz, 30, 75.1 W, 0 %"
    monkeypatch.setattr(environment, "_output", lambda *_: line)
    (gpu,) = environment.as_found()["gpus"]
    assert gpu["name"] == "H200"
    assert (gpu["clocks.sm"], gpu["clocks.max.sm"]) == ("345 MHz", "1980 MHz")


def test_machine_without_nvidia_smi_has_no_gpus(monkeypatch):
    monkeypatch.setattr(environment.shutil, "which", lambda _: None)
    assert environment.as_found()["gpus"] == []
