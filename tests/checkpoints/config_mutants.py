"""Mutants of detectron2's config.yaml: other values, tags that ask for objects, odd texts."""

import copy
import functools
import random
from pathlib import Path
from typing import Any

import yaml

from rcnn_jax.checkpoints.detectron2 import DEFAULTS, detectron2_settings, read_config
from rcnn_jax.checkpoints.imported import model_spec
from rcnn_jax.checkpoints.layout import Layout
from tests.fuzz.case import Case, Target, read_all, write_case
from tests.fuzz.damage import ODD, changed_bytes, changed_tree

LAYOUT = Layout(
    depth=50,
    classes=80,
    masks=True,
    anchors_per_cell=3,
    head_width=1024,
    box_crop=7,
    rpn_convs=1,
    box_convs=0,
    fpn_norm=False,
    head_norm=False,
)
TAGS = (
    *("!!python/object/apply:os.system", "!!python/object/new:subprocess.Popen"),
    *("!!python/object:detectron2.config.CfgNode", "!!python/name:os.system", "!!python/tuple"),
    *(
        "!!bool",
        "!!int",
        "!!float",
        "!!null",
        "!!timestamp",
        "!!binary",
        "!!set",
        "!!omap",
        "!!pairs",
    ),
    *("!!map", "!!seq", "!!str", "!!merge", "!!value", "!x", "!"),
)
"""Put before values: Python's own, and YAML's where the value is none of them."""
ODD_TEXTS = (
    *("&a [*a]", "*nobody", "<<: *a", "? [1, 2]\n: 3", "{a: {", "%YAML 9.9", "--- 1\n--- 2", "\t"),
    *(
        "|",
        ">9",
        ".inf",
        "-.nan",
        "1e400",
        "0x_",
        "0b",
        "190:20:30",
        "1_000",
        "08",
        "=",
        "~",
        "0o9",
    ),
    *("2001-99-99", "[[[[[[[[[[" * 300, "{a: " * 400, "- " * 3000, "'", '"\\x', '"\\ud800"', "é"),
    *("\x85", "\ufeff", "\x07", "9" * 6000),
)


NEAR = (
    0.25,
    0.3,
    0.999,
    8,
    100,
    2000,
    1 << 19,
    1e-30,
    1e5,
    [0.5, 1.0],
    [[1.0]],
    [[64], [128], [256]],
)
"""Values that some entry may have: what is read goes on into a spec."""


def config_tree() -> dict[str, Any]:
    """Returns the whole config of a model of the zoo, as far as it is read."""
    tree: dict[str, Any] = {}
    for name, value in {**DEFAULTS, "MODEL.ROI_HEADS.NUM_CLASSES": 80}.items():
        *above, last = name.split(".")
        block = tree
        for part in above:
            block = block.setdefault(part, {})
        block[last] = copy.deepcopy(value)  # a mutant changes the lists
    return tree


def config_mutant(rng: random.Random) -> Case:
    """Returns a config with other values, tags, texts or bytes."""
    tree = config_tree()
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        changed_tree(rng, tree, (*ODD, *NEAR))
    try:
        text = yaml.safe_dump(tree, default_flow_style=rng.choice((None, True, False)))
    except (yaml.YAMLError, ValueError):  # a number of 400 digits
        text = yaml.safe_dump(config_tree())
    lines = text.split("\n")
    for _ in range(rng.choice((0, 0, 1, 2))):
        at = rng.randrange(len(lines))
        before, colon, after = lines[at].partition(": ")
        if rng.random() < 0.7 and colon:
            value = rng.choice((after, after, rng.choice(ODD_TEXTS), "x", ""))
            lines[at] = f"{before}: {rng.choice(TAGS)} {value}"
        else:
            lines[at] = rng.choice((f"{before}: {rng.choice(ODD_TEXTS)}", rng.choice(ODD_TEXTS)))
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    unusual = rng.random()
    if unusual < 0.02:  # every line stands for ten of the one before
        bomb = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
        data = ("a0: &a0 [1]\n" + "\n".join(bomb) + "\nMODEL: {PIXEL_MEAN: *a29}\n").encode()
    elif unusual < 0.03:
        data = b"MODEL: {X: [" + b"1, " * 60_000 + b"]}"
    if rng.random() < 0.2:
        data = changed_bytes(rng, data)
    return Case(".yaml", data)


def check_config(case: Case, folder: Path) -> None:
    """Reads a config as data, and makes the spec of a model of it.

    Raises:
      RcnnError: it is refused.
    """
    path = write_case(case, folder)
    read_all(functools.partial(_spec_of, path), name=path)


def _spec_of(path: Path) -> None:
    granted = detectron2_settings(LAYOUT, read_config(path), str(path))
    model_spec(LAYOUT, granted, str(path))


def _config_seeds() -> dict[str, Case]:
    tagged = (
        "!!python/object:detectron2.config.CfgNode\n"
        "dictitems:\n  MODEL: !!python/object/new:detectron2.config.CfgNode\n"
        "    dictitems: {PIXEL_STD: !!python/tuple [57.375, 57.12, 58.395]}\n"
    )
    return {
        "zoo": Case(".yaml", yaml.safe_dump(config_tree()).encode()),
        "base": Case(".yaml", b"_BASE_: ../Base-RCNN-FPN.yaml\nMODEL:\n  MASK_ON: True\n"),
        "objects": Case(".yaml", tagged.encode()),
    }


CONFIGS = Target("configs", (".yaml",), _config_seeds, config_mutant, check_config, quick=150)
