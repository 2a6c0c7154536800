"""Splits: those of the folder, or made by groups that nothing tears apart."""

from pathlib import Path

import numpy as np
import pytest

from rcnn_jax.configure.splits import groups_of, scenes, split_items
from rcnn_jax.data.layouts.collection import Item, Labelled
from rcnn_jax.diagnose.scan import Scan
from rcnn_jax.errors import DataError


def items(*names, split="", label="cat"):
    return [
        Item(Path(name), Path("x"), (Labelled(label, (1, 1, 9, 9)),), (40, 60), split)
        for name in names
    ]


def scans(count, seed=0):
    random = np.random.default_rng(seed)
    return [
        Scan(
            size=(40, 60),
            digest=bytes([number % 256, number // 256]),
            difference=int(random.integers(0, 2**63)),
            small=random.integers(0, 256, (16, 16)).astype(np.uint8),
        )
        for number in range(count)
    ]


def parts(split):
    return {
        part: {item.image.name for item in split.items if item.split == part}
        for part in ("train", "val")
    }


def test_the_splits_of_the_folder_are_kept_and_test_images_have_no_place():
    given = [
        *items("a.png", "b.png", split="train"),
        *items("c.png", split="val"),
        *items("d.png", split="test"),
        *items("e.png"),
    ]
    divided = split_items(given, scans(5), seed=1)
    assert parts(divided) == {"train": {"a.png", "b.png", "e.png"}, "val": {"c.png"}}
    assert divided.unused == 1
    assert "1 images are in no split of the folder: they train" in divided.sentences


def test_without_validation_images_the_test_split_validates():
    given = [*items("a.png", split="train"), *items("d.png", split="test")]
    divided = split_items(given, scans(2), seed=1)
    assert parts(divided) == {"train": {"a.png"}, "val": {"d.png"}}
    assert (
        "splits of the folder; there is no validation split, so test validates" in divided.sentences
    )


@pytest.mark.parametrize("given", ["", "train"])
def test_a_fifth_validates_where_a_split_is_made_and_rare_classes_are_in_both(given):
    names = [f"{number}.png" for number in range(100)]
    every = [*items(*names[:90], split=given), *items(*names[90:], split=given, label="rare")]
    divided = split_items(every, scans(100), seed=3)
    assert len(parts(divided)["val"]) == 20
    rare = {item.split for item in divided.items if item.objects[0].name == "rare"}
    assert rare == {"train", "val"}
    assert parts(split_items(every, scans(100), seed=3)) == parts(divided)
    assert parts(split_items(every, scans(100), seed=4)) != parts(divided)


@pytest.mark.parametrize("seed", range(6))
def test_every_class_of_two_images_is_in_both_parts_and_one_of_one_trains(seed):
    names = [f"{number}.png" for number in range(60)]
    rare = {0: "a", 1: "a", 2: "b", 3: "b", 4: "b", 5: "c", 6: "c", 7: "alone"}
    given = [
        item
        for number, name in enumerate(names)
        for item in items(name, label=rare.get(number, "cat"))
    ]
    split = split_items(given, scans(60), seed=seed)
    classes = {
        part: {obj.name for item in split.items if item.split == part for obj in item.objects}
        for part in ("train", "val")
    }
    assert classes == {"train": {"a", "b", "c", "alone", "cat"}, "val": {"a", "b", "c", "cat"}}
    assert sum(item.split == "val" for item in split.items) == 12
    assert any("no validation image shows 'alone'" in sentence for sentence in split.sentences)


def test_a_validation_of_few_images_is_said_to_be_chance():
    few = split_items(items(*"abcdefghij"), scans(10), seed=1)
    assert any("average precision over 2 images is chance" in line for line in few.sentences)
    many = split_items(items(*(f"{n}.png" for n in range(60))), scans(60), seed=1)
    assert not any("chance" in line for line in many.sentences)


def test_near_duplicates_and_copies_are_one_group():
    looks = scans(6)
    same, near = looks[0], looks[2]
    looks[1] = same
    looks[3] = Scan(size=(40, 60), digest=b"x", difference=near.difference ^ 1, small=near.small)
    groups = groups_of(items(*"abcdef"), looks)
    assert groups[0] == groups[1]
    assert groups[2] == groups[3]
    assert len(set(groups)) == 4


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([f"{film}_{n:03}.png" for film in "abc" for n in range(4)], 3),
        ([f"{film}_{n:03}.png" for film in "ab" for n in range(10)], 2),
        ([f"{film}_000000_{n:06}_leftImg8bit.png" for film in "abc" for n in range(9)], 3),
        ([f"IMG_{n:04}.jpg" for n in range(20)], 0),  # one counter is no film
        ([f"{n:06}.png" for n in range(20)], 0),
        ([f"cat{n // 2}_jpg.rf.{n:032x}.jpg" for n in range(20)], 10),
        ([f"yard{n // 5}/frame{n}.png" for n in range(20)], 4),
        ([f"images/{n}.png" for n in range(20)], 0),
    ],
)
def test_names_tell_scenes(names, expected):
    groups = scenes(items(*names))
    covered = [sorted(group) for group in groups]
    assert len({tuple(group) for group in covered}) == expected


def test_two_films_stay_whole_and_that_is_said():
    given = items(*(f"{film}_{n:03}.png" for film in ("street", "yard") for n in range(10)))
    divided = split_items(given, scans(20), seed=1)
    torn = {
        part: {name.partition("_")[0] for name in names} for part, names in parts(divided).items()
    }
    assert torn["train"].isdisjoint(torn["val"])
    assert any("2 groups of images of one scene" in line for line in divided.sentences)


def test_folders_and_counters_of_single_classes_are_no_scenes():
    pets = ("cat", "dog", "hen")
    counted = [
        item for pet in pets for n in range(10) for item in items(f"{pet}_{n}.png", label=pet)
    ]
    folders = [
        item for pet in pets for n in range(10) for item in items(f"{pet}/{n}.png", label=pet)
    ]
    for given in (counted, folders):
        assert scenes(given) == []
        divided = split_items(given, scans(30), seed=1)
        classes = {(item.split, item.objects[0].name) for item in divided.items}
        assert classes == {(part, pet) for part in ("train", "val") for pet in pets}


def test_a_set_that_is_one_film_is_split_by_time_and_that_is_said():
    random = np.random.default_rng(2)
    looks, film = random.uniform(0, 255, (16, 16)), []
    for number in range(100):
        # A twentieth of every picture is new; neighbours are near duplicates too.
        looks = 0.95 * looks + 0.05 * random.uniform(0, 255, (16, 16))
        small = looks.astype(np.uint8)
        film.append(Scan(size=(9, 9), digest=bytes([number]), difference=7, small=small))
    divided = split_items(items(*(f"clip_{n:03}.png" for n in range(100))), film, seed=1)
    validating = sorted(int(name[5:8]) for name in parts(divided)["val"])
    blocks = sorted({n // 10 for n in validating})
    assert validating == [10 * block + n for block in blocks for n in range(10)]
    assert len(validating) == 20
    assert any("frames of one film do ('clip_*')" in line for line in divided.sentences)
    photographs = split_items(items(*(f"clip_{n:03}.png" for n in range(100))), scans(100), seed=1)
    assert not any("film" in line for line in photographs.sentences)


def test_one_image_is_too_few():
    with pytest.raises(DataError, match="too few for a training and a validation split"):
        split_items(items("a.png"), scans(1), seed=1)
