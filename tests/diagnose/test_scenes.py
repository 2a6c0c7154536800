"""Films by their names and their looks, beside sets that are merely numbered through."""

from pathlib import Path

import numpy as np
import pytest

from rcnn_jax.diagnose.scan import Scan
from rcnn_jax.diagnose.scenes import films, whole_film


def named(names, classes=("car", "bus")):
    return {
        film.name: len(film.frames) for film in films(paths(names), [set(classes)] * len(names))
    }


def paths(names):
    return [Path("/set") / name for name in names]


def walk(count, step, seed=0):
    """Scans of pictures, each of which differs from the one before by a part `step`."""
    random = np.random.default_rng(seed)
    looks, scans = random.uniform(0, 255, (16, 16)), []
    for _ in range(count):
        looks = (1 - step) * looks + step * random.uniform(0, 255, (16, 16))
        scans.append(Scan(size=(9, 9), digest=random.bytes(8), small=looks.astype(np.uint8)))
    return scans


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([f"{f}_{n:04}.png" for f in ("a", "b") for n in range(10)], {"a_*": 10, "b_*": 10}),
        (
            [f"{c}_000000_{n:06}_leftImg8bit.png" for c in ("ulm", "bonn", "jena") for n in range(4)],
            {f"{c}_000000_*_leftImg8bit": 4 for c in ("ulm", "bonn", "jena")},
        ),
        (
            [f"{c}{n}_png.rf.{n:08x}.jpg" for c in ("yard", "street") for n in range(5)],
            {"yard*_png": 5, "street*_png": 5},
        ),
        (
            [f"{s}/{c}/images/frame_{n}.png" for s, n in (("train", 1), ("train", 2), ("val", 3))
             for c in ("yard", "street")],
            {"yard/frame_*": 3, "street/frame_*": 3},
        ),
        ([f"BloodImage_{n:05}.jpg" for n in range(20)], {}),
        ([f"{n:04}.jpg" for n in range(20)], {}),
        ([f"{year}_{n:06}.jpg" for year in (2007, 2008, 2012) for n in range(9)], {}),
        ([f"IMG_{n:04}.jpg" for n in range(19)] + ["a_1.jpg", "a_2.jpg", "a_3.jpg"], {}),
        ([f"{n * 2654435761 % 2**32:08x}.jpg" for n in range(1000)], {}),
    ],
)  # fmt: skip
def test_several_counters_of_frames_are_films_and_numbering_is_none(names, expected):
    assert named(names) == expected


def test_a_counter_for_every_class_is_no_film():
    names = [f"{name}_{n:03}.jpg" for name in ("cat", "dog") for n in range(10)]
    own = [{name.partition("_")[0]} for name in names]
    assert films(paths(names), own) == []
    own[0] = {"cat", "dog"}
    assert [film.name for film in films(paths(names), own)] == ["cat_*", "dog_*"]


def test_one_counter_over_the_set_is_a_film_where_neighbours_look_alike():
    # Out of order: the number decides, `9` comes before `10`.
    order = np.random.default_rng(1).permutation(40).tolist()
    names, looks = [f"clip{n}.png" for n in order], walk(40, 0.1)
    film = whole_film(paths(names), [looks[n] for n in order])
    assert film is not None and film.name == "clip*"
    assert [order[index] for index in film.frames] == list(range(40))
    assert whole_film(paths(names), walk(40, 1.0)) is None
    assert whole_film(paths(f"clip{n}.png" for n in range(8)), walk(8, 0.1)) is None
