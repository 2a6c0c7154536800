"""Mutants of pickles of arrays, the files of detectron2's model zoo: any of them may be a program."""

import functools
import io
import pickle
import pickletools
import random
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.checkpoints.imported import import_checkpoint
from rcnn_jax.checkpoints.pretrained import apply_weights, load_weights
from rcnn_jax.errors import CheckpointError
from tests.fuzz.case import Case, Target, read_all, sound_cases, write_case
from tests.fuzz.damage import ODD, changed_bytes, changed_tree

LAYERS = (
    *("backbone.bottom_up.stem.conv1", "backbone.fpn_lateral2", "backbone.fpn_lateral3"),
    *("backbone.fpn_lateral4", "backbone.fpn_lateral5", "proposal_generator.rpn_head.conv"),
    *("proposal_generator.rpn_head.objectness_logits", "proposal_generator.rpn_head.anchor_deltas"),
    *("roi_heads.box_head.fc1", "roi_heads.box_head.conv1", "roi_heads.box_predictor.cls_score"),
    *("roi_heads.box_predictor.bbox_pred", "roi_heads.mask_head.deconv"),
    *("roi_heads.mask_head.predictor", "backbone.bottom_up.res2.0.conv1"),
    *("backbone.bottom_up.res2.0.conv1.norm", "backbone.bottom_up.res2.99.conv9", "pixel_mean"),
)
SHAPES = ((), (0,), (3,), (2, 3), (4, 2, 1, 1), (0, 3, 1, 1), (2, 1, 3, 3), (1,) * 7, (12, 0))
DTYPES = ("f4",) * 20 + ("f2", "f8", "i8", "u1", "?", ">f4", "c8", "O", "U3", "M8[s]")
CALLS = (
    *(
        b"cos\nsystem\n",
        b"cnumpy.f2py.os\nsystem\n",
        b"cbuiltins\neval\n",
        b"c__builtin__\ngetattr\n",
    ),
    *(
        b"cnumpy\ndtype\n",
        b"cnumpy.core.multiarray\n_reconstruct\n",
        b"cnumpy.core.multiarray\nscalar\n",
    ),
    *(b"ccollections\nOrderedDict\n", b"c_codecs\nencode\n", b"c\n\n", b"c\xff\n\xff\n"),
)
"""Opcodes that name a global: of programs, and of arrays that are built otherwise than saved."""
PIECES = (
    *CALLS,
    *(b"(", b")", b"}", b"]", b"\x8f", b"t", b"l", b"d", b"R", b"b", b"s", b"u", b"a", b"e", b"0", b"2"),
    *(b"Q", b"\x81", b"\x85", b"\x86", b"\x87", b"\x90", b"\x91", b"\x93", b"\x94", b"\x92", b"N", b"."),
    *(b"h\x00", b"h\xff", b"j\xff\xff\xff\xff", b"q\x00", b"K\x00", b"J\xff\xff\xff\xff", b"I9\n"),
    b"Vx\n",
    *(b"\x8a\xff" + b"\xff" * 255, b"X\xff\xff\xff\xff", b"\x8e" + b"\xff" * 8, b"\x95" + b"\xff" * 8),
    *(b"G\x7f\xf0" + bytes(6), b"F1e999\n", b"S'\\x'\n", b"P1\n", b"\x97", b"\x98", b"\x82\x01"),
)  # fmt: skip


def tiny_model(rng: random.Random) -> dict[str, Any]:
    """Returns arrays under detectron2's names, of shapes that seldom fit."""
    named = {
        f"{layer}.{leaf}": np.zeros(rng.choice(SHAPES), rng.choice(DTYPES))
        for layer in rng.sample(LAYERS, rng.randrange(1, 6))
        for leaf in rng.sample(("weight", "bias", "running_var", "running_mean", "odd"), 2)
    }
    content: dict[Any, Any] = {"model": named, "__author__": "nobody", "matching_heuristics": True}
    if rng.random() < 0.3:
        changed_tree(rng, content, (*ODD, named, np.zeros(3), {1: 2}))
    return content


def _dumped(content: Any, protocol: int) -> bytes:
    """Pickles as the C pickler does, with memo numbers that depend on nothing but the content."""
    stream = io.BytesIO()
    pickle.Pickler(stream, protocol).dump(content)
    return stream.getvalue()


def forged_program(rng: random.Random) -> bytes:
    """Returns a pickle with other opcodes at the borders of its own."""
    program = _dumped(tiny_model(rng), rng.choice((0, 1, *(2,) * 6, 3, 4, 4, 5)))
    try:
        borders = [at for _, _, at in pickletools.genops(program) if at is not None]
    except ValueError:
        return program
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 4))):
        position = rng.choice(borders)
        program = program[:position] + rng.choice(PIECES) + program[position + rng.randrange(3) :]
    unusual = rng.random()
    if unusual < 0.02:
        return b"\x80\x02]q\x00" + b"(K\x01e" * 300_000 + b"."
    if unusual < 0.04:
        return b"\x80\x02}" + b"}" * 5000 + b"K\x01K\x02s" * 5000 + b"."
    if unusual < 0.06:  # every list holds the one before twice
        return (
            b"\x80\x02]q\x00" + b"".join(b"]q%c(h%ch%ce" % (i + 1, i, i) for i in range(60)) + b"."
        )
    return program


def pickle_mutant(rng: random.Random) -> Case:
    """Returns a pickle that somebody made up, or a sound one with other bytes."""
    if rng.random() < 0.25:
        sound = rng.choice(sound_cases("pickles", ".pkl"))
        return Case(".pkl", changed_bytes(rng, sound.data))
    return Case(".pkl", forged_program(rng))


def check_pickle(case: Case, folder: Path) -> None:
    """Reads a pickle as pretrained weights, and tries to import it as a model.

    Raises:
      RcnnError: its layers are refused.
    """
    path = write_case(case, folder)
    read_all(functools.partial(_apply, path), name=path)
    try:
        import_checkpoint(path)
    except CheckpointError as error:  # no seed is a whole model: those have megabytes
        assert str(error).startswith(str(path)), error


def _apply(path: Path) -> None:
    layer = {"conv1": {"kernel": np.zeros((1, 1, 3, 2), np.float32)}}
    apply_weights(layer, {}, load_weights(path))


def _pickle_seeds() -> dict[str, Case]:
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1)
    names = {"backbone.bottom_up.stem.conv1.weight": kernel}
    model = {"model": names, "__author__": "nobody"}
    return {f"protocol_{n}": Case(".pkl", _dumped(model, n)) for n in (2, 3, 4, 5)} | {
        "bare": Case(".pkl", _dumped(names, 2))
    }


PICKLES = Target("pickles", (".pkl",), _pickle_seeds, pickle_mutant, check_pickle, quick=150)
