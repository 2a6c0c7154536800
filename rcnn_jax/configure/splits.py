"""Splits of a data set: those of the folder, or made anew by groups that must not be torn apart.

items + scans -> groups (films, sources of augmented copies, near duplicates) -> training, validation
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rcnn_jax.data.layouts.collection import Item
from rcnn_jax.diagnose.scan import Scan
from rcnn_jax.diagnose.scenes import PLAIN_FOLDERS, Film, films, one_class_each, whole_film
from rcnn_jax.diagnose.similar import equal_groups, near_groups
from rcnn_jax.errors import DataError

VALIDATION_FRACTION = 0.2
"""Of the images that validate where a split is made."""

# Draws are cheap beside reading the images, and the best of some is near the share in every class.
_TRIES = 64
_FEWEST_VALIDATING = 10
_FEWEST_FOLDERS = 3
# Of a film that is the whole set: each is long beside the time in which a picture changes.
_BLOCKS = 10


@dataclass(frozen=True)
class Split:
    """Images by part.

    Attributes:
      items: with `train` or `val` as their split.
      unused: images of the test split, which a spec has no place for.
      sentences: how it came about.
    """

    items: tuple[Item, ...]
    unused: int
    sentences: tuple[str, ...]


def split_items(items: Sequence[Item], scans: Sequence[Scan], *, seed: int) -> Split:
    """Returns training and validation images.

    Args:
      items: the images of a folder, in the order of the scans.
      scans: what they are.
      seed: of a split that is made.

    Raises:
      DataError: there are too few images for two splits.
    """
    counts = Counter(item.split for item in items)
    notes: list[str] = []
    # Whoever split a set knows it better: films, places, persons that must not be on both sides.
    if counts["val"] and (counts["train"] or counts[""]):
        chosen = [item.split or "train" for item in items]
        if counts[""]:
            notes.append(f"{counts['']} images are in no split of the folder: they train")
        notes.insert(0, "splits of the folder")
    elif counts["test"] and (counts["train"] or counts[""]):
        chosen = ["val" if item.split == "test" else "train" for item in items]
        notes.append("splits of the folder; there is no validation split, so test validates")
    else:
        film = whole_film([item.image for item in items], scans)
        groups = groups_of(items, scans) if film is None else _blocks(film, items, scans)
        validating = _chosen(items, groups, seed)
        chosen = ["val" if group in validating else "train" for group in groups]
        several = sum(count > 1 for count in Counter(groups).values())
        notes.append(
            f"a fifth of the images validates, chosen with seed {seed} so that classes are balanced"
        )
        if film is not None:
            notes.append(
                f"neighbouring images look alike, as frames of one film do ('{film.name}'): it is split "
                f"by time, in {_BLOCKS} blocks; both splits show its scene, so the validation does not "
                "say how well others are seen"
            )
        elif several:
            notes.append(
                f"{several} groups of images of one scene, film or source stay in one split each"
            )
    placed = [
        dataclasses.replace(item, split=part)
        for item, part in zip(items, chosen, strict=True)
        if part in ("train", "val")
    ]
    unused = len(items) - len(placed)
    if unused:
        notes.append(f"{unused} test images are left out: a spec names training and validation")
    parts = Counter(item.split for item in placed)
    for part in ("train", "val"):
        if not parts[part]:
            raise DataError(
                f"{len(items)} images are too few for a training and a validation split: none is left "
                f"for '{part}'"
            )
    notes.append(f"{parts['train']} training images, {parts['val']} validation images")
    notes += _doubts(placed, parts["val"])
    return Split(tuple(placed), unused, tuple(notes))


def _doubts(items: Sequence[Item], validating: int) -> list[str]:
    """Returns sentences on the limits of the validation: classes that it lacks, and too few images."""
    names = {
        part: {obj.name for item in items if item.split == part for obj in item.objects}
        for part in ("train", "val")
    }
    notes = []
    if unseen := sorted(names["train"] - names["val"]):
        listed = ", ".join(f"'{name}'" for name in unseen[:8])
        notes.append(f"no validation image shows {listed}: nothing tells how well that is learnt")
    if validating < _FEWEST_VALIDATING:
        notes.append(
            f"an average precision over {validating} images is chance for the most part: look at the "
            "pictures"
        )
    return notes


def groups_of(items: Sequence[Item], scans: Sequence[Scan]) -> list[int]:
    """Returns the number of the group of every image: copies, near duplicates, frames of one scene."""
    # A near copy of a training image that validates is a question whose answer was learnt.
    return _joined((*equal_groups(scans), *near_groups(scans), *scenes(items)), len(items))


def _blocks(film: Film, items: Sequence[Item], scans: Sequence[Scan]) -> list[int]:
    """Returns the number of the group of every image: blocks of a film, equal files together."""
    # Not near duplicates: neighbour by neighbour they would make the film one group.
    blocks = [block.tolist() for block in np.array_split(np.array(film.frames), _BLOCKS)]
    return _joined((*equal_groups(scans), *blocks), len(items))


def _joined(parts: Sequence[Sequence[int]], count: int) -> list[int]:
    """Returns the group of each of `count` images, where images of one part are in one group."""
    parents = list(range(count))

    def root(index: int) -> int:
        while parents[index] != index:
            # Halved on the way, so that chains of a long film stay short.
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    for part in parts:
        for other in part[1:]:
            parents[root(other)] = root(part[0])
    return [root(index) for index in range(count)]


def scenes(items: Sequence[Item]) -> list[list[int]]:
    """Returns groups of images whose names say that they belong together, by index.

    `street_0012` and `street_0013` are frames of one film, `a.rf.123` and `a.rf.456` augmented copies of
    one picture, and folders of several images are scenes where there are some of them.
    """
    sources: dict[str, list[int]] = {}
    folders: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        stem, folder = item.image.stem, item.image.parent
        if ".rf." in stem:
            sources.setdefault(stem.split(".rf.")[0], []).append(index)
        if folder.name.lower() not in PLAIN_FOLDERS:
            folders.setdefault(str(folder), []).append(index)
    groups = [members for members in sources.values() if len(members) > 1]
    classes = [{obj.name for obj in item.objects} for item in items]
    groups += [list(film.frames) for film in films([item.image for item in items], classes)]
    named = list(folders.values())
    if len(named) >= _FEWEST_FOLDERS and sum(map(len, named)) == len(items):
        # Folders of classes are no scenes: whole in one split, the other one would lack the class.
        groups += [] if one_class_each(named, classes) else named
    return groups


def _chosen(items: Sequence[Item], groups: Sequence[int], seed: int) -> set[int]:
    """Returns the groups that validate: of many draws the one whose classes are nearest to the share."""
    names = sorted({obj.name for item in items for obj in item.objects})
    column = {name: index for index, name in enumerate(names)}
    order = sorted(set(groups))
    row = {group: index for index, group in enumerate(order)}
    # Per group: number of images, then of objects by class.
    table = np.zeros((len(order), 1 + len(names)))
    for item, group in zip(items, groups, strict=True):
        table[row[group], 0] += 1
        for obj in item.objects:
            table[row[group], 1 + column[obj.name]] += 1
    totals = table.sum(axis=0)
    wanted = max(round(VALIDATION_FRACTION * len(items)), 1)
    best: tuple[float, set[int]] = (np.inf, set())
    for attempt in range(_TRIES):
        taken = _draw(table, wanted, np.random.default_rng([seed, attempt]))
        fractions = table[taken].sum(axis=0) / np.maximum(totals, 1)
        # Of a class with few objects a fifth cannot be met exactly: the root lets it weigh less.
        weights = np.sqrt(totals / totals.max())
        weights[0] = len(names) + 1.0
        distance = float((weights * np.abs(fractions - VALIDATION_FRACTION)).sum())
        if distance < best[0]:
            best = (distance, {order[index] for index in taken})
    return best[1]


def _draw(table: np.ndarray, wanted: int, generator: np.random.Generator) -> list[int]:
    """Returns groups that validate, at random, but with an image of every class in both parts.

    Args:
      table: f64[g 1+c], number of images of a group, then of its objects by class.
      wanted: images, at most, unless the first group has more.
      generator: of the draw.
    """
    classes = [np.flatnonzero(row).tolist() for row in table[:, 1:]]
    training = (table[:, 1:] > 0).sum(axis=0).tolist()  # groups that hold a class and still train
    taken: list[int] = []
    count, seen = 0, set()
    order = generator.permutation(len(table)).tolist()

    def take(index: int) -> None:
        nonlocal count
        taken.append(index)
        count += int(table[index, 0])
        seen.update(classes[index])
        for number in classes[index]:
            training[number] -= 1

    def fits(index: int) -> bool:
        # The last group of a class trains: what was never shown cannot be measured either.
        last = any(training[number] == 1 for number in classes[index])
        return count + int(table[index, 0]) <= wanted and not last

    # The rarest first: left to chance, a class of three images validates in every second draw.
    for number in np.argsort(training, kind="stable").tolist():
        if number not in seen:
            own = (index for index in order if number in classes[index] and fits(index))
            if (index := next(own, None)) is not None:
                take(index)
    chosen = set(taken)
    for index in order:
        if index not in chosen and fits(index):
            take(index)
    if not taken:  # every group is large, or the only one of a class
        sizes = table[:, 0]
        taken = [index for index in order if sizes[index] < sizes.sum()][:1]
    return taken
