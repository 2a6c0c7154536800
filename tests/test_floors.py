"""The floors of the house: imports point down only. Read from the source, nothing is imported.

0 foundation  <- 1 ops | spec  <- 2 models | data  <- 3 tasks  <- 4 checkpoints  <- 5 runtime
  <- 6 evaluate | compress  <- 7 train | inference | diagnose  <- 8 export, configure
  <- 9 cli, main, api, sweep, pareto, preflight
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rcnn_jax"
FLOORS = {
    **dict.fromkeys(
        (
            "batches",
            "errors",
            "hosts",
            "image_file",
            "interrupt",
            "kinds",
            "optional",
            "printable",
            "processes",
            "report",
            "reporter",
            "settings",
            "structures",
            "text_file",
            "tracing",
            "version",
        ),
        0,
    ),
    **dict.fromkeys(("ops", "spec"), 1),
    **dict.fromkeys(("models", "data"), 2),
    "tasks": 3,
    "checkpoints": 4,
    "runtime": 5,
    **dict.fromkeys(("evaluate", "compress"), 6),
    **dict.fromkeys(("train", "inference", "diagnose"), 7),
    **dict.fromkeys(("configure", "export"), 8),
    **dict.fromkeys(
        ("__init__", "cli", "main", "api", "sweep", "pareto", "preflight", "benchmark"), 9
    ),
}
SEPARATE = (1, 2, 6, 7)
"""Floors whose packages do not know each other."""
FORBIDDEN = {
    "tensorflow": "no module imports TensorFlow",
    "keras": "no module imports Keras",
    "torch": "no module imports torch",
    "torchvision": "no module imports torch",
    "pickle": "nothing is pickled",
}
OPTIONAL = {
    "hotcoco",
    "tensorrt",
    "tensorrt_rtx_bindings",
    "openvino",
    "onnxruntime_ep_nv_tensorrt_rtx",
    "onnxruntime_ep_webgpu",
    "tensorflow_datasets",
    "h5py",
    "av",
    "similari",
    "optuna",
    "submitit",
    "wandb",
    "clearml",
    "mlflow",
}
NO_JAX = {"data", "spec"}
JAX = {"jax", "jaxlib", "flax", "optax", "orbax"}


@dataclass(frozen=True)
class Import:
    """One imported module and the line it stands on."""

    module: str
    line: int


def imports_of(source: str) -> Iterator[Import]:
    """Yields every module that the source imports, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write the whole name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (Import(name, node.lineno) for name in names)


def broken_rules(part: str, source: str) -> list[str]:
    """Returns a sentence for every import in a file of the part that breaks a rule.

    Args:
      part: package or module directly below rcnn_jax.
      source: text of the file.
    """
    broken = []
    for module in imports_of(source):
        root, *rest = module.module.split(".")
        where = f"line {module.line}: {module.module}"
        if root in FORBIDDEN:
            broken.append(f"{where}: {FORBIDDEN[root]}")
        if root in OPTIONAL:
            broken.append(f"{where}: optional packages come through optional.require only")
        if root in JAX and part in NO_JAX:
            broken.append(f"{where}: {part} never imports jax or what stands on it")
        if root == "flax" and part == "ops" and rest[:1] != ["struct"]:
            broken.append(f"{where}: ops takes nothing of flax but flax.struct")
        if root == "rcnn_jax" and rest:
            other = rest[0] if rest[0] in FLOORS else "__init__"
            if part in NO_JAX and other == "structures":
                broken.append(f"{where}: structures imports jax, {part} must not")
            if FLOORS[other] > FLOORS[part]:
                broken.append(
                    f"{where}: floor {FLOORS[part]} ({part}) looks up to floor {FLOORS[other]} "
                    f"({other})"
                )
            elif FLOORS[other] == FLOORS[part] and other != part and FLOORS[part] in SEPARATE:
                broken.append(f"{where}: {part} and {other} stand side by side on one floor")
    return broken


def source_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", source_files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down_only(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert part in FLOORS, f"{part} stands on no floor: give it one in {Path(__file__).name}"
    assert broken_rules(part, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("part", "line", "rule"),
    [
        ("ops", "from rcnn_jax.models.layers import Conv", "looks up to floor 2 (models)"),
        ("ops", "import flax.linen as nn", "nothing of flax but flax.struct"),
        ("ops", "from flax import linen", "nothing of flax but flax.struct"),
        (
            "data",
            "def f():\n  import jax.numpy as jnp",
            "line 2: jax.numpy: data never",
        ),
        ("spec", "from flax import struct", "spec never imports jax"),
        ("data", "from rcnn_jax.models import heads", "stand side by side"),
        ("train", "from rcnn_jax.inference import draw", "stand side by side"),
        ("evaluate", "import rcnn_jax.cli.main", "looks up to floor 9 (cli)"),
        ("export", "import tensorrt", "optional.require only"),
        ("models", "import torch", "no module imports torch"),
    ],
)
def test_every_broken_rule_is_named(part, line, rule):
    (message,) = broken_rules(part, line)
    assert rule in message


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("ops", "import flax.struct"),
        ("ops", "from flax import struct"),
        ("ops", "from rcnn_jax.structures import Proposals"),
        ("cli", "from rcnn_jax.train.loop import train"),
        ("spec", "from rcnn_jax import errors"),
        ("cli", "from rcnn_jax import __version__"),
    ],
)
def test_what_is_allowed_is_left_alone(part, line):
    assert broken_rules(part, line) == []
