"""Plants label errors in copies of BCCD and nuclei: one label in twenty is wrong, missing or shifted.

    python experiments/label_errors/plant.py bccd|nuclei DATA OUTPUT [--part 0.05] [--seed 1]

DATA is the folder of the set; OUTPUT gets the labels, a link to the images, and planted.json: what was
done.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

KINDS = ("class", "missing", "shifted")


def plant(
    objects: dict[str, list[dict]], classes: list[str], part: float, seed: int, kinds: list[str]
):
    """Returns the changed objects, and the errors that were planted.

    Args:
      objects: image -> objects with `box` [x1, y1, x2, y2] and `class`.
      classes: names to choose a wrong one from; with one class no wrong one is planted.
      part: fraction of the objects.
      seed: of the choice.
      kinds: of the errors, in turn.
    """
    rng = random.Random(seed)
    usable = [kind for kind in kinds if kind != "class" or len(classes) > 1]
    every = [(image, number) for image in sorted(objects) for number in range(len(objects[image]))]
    chosen = rng.sample(every, round(part * len(every)))
    errors = []
    changed = {image: [dict(item) for item in items] for image, items in objects.items()}
    for index, (image, number) in enumerate(chosen):
        item, kind = changed[image][number], usable[index % len(usable)]
        error = {"image": image, "kind": kind, "box": item["box"], "class": item["class"]}
        if kind == "class":
            item["class"] = rng.choice([name for name in classes if name != item["class"]])
        elif kind == "shifted":
            x1, y1, x2, y2 = item["box"]
            # By a third to two thirds of a side along both axes: an IoU of 0.06 to 0.29.
            dx, dy = (
                rng.choice((-1, 1)) * rng.uniform(1 / 3, 2 / 3) * side
                for side in (x2 - x1, y2 - y1)
            )
            item["box"] = [x1 + dx, y1 + dy, x2 + dx, y2 + dy]
        else:
            item["gone"] = True
        error["label"] = None if kind == "missing" else item["box"]
        errors.append(error)
    kept = {
        image: [item for item in items if not item.get("gone")] for image, items in changed.items()
    }
    return kept, errors


def read_kitti(folder: Path) -> dict[str, list[dict]]:
    """Returns the objects of a KITTI folder by stem."""
    labels = {}
    for path in sorted((folder / "labels").glob("*.txt")):
        rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
        labels[path.stem] = [
            {"class": row[0], "box": [float(value) for value in row[4:8]]} for row in rows
        ]
    return labels


def write_kitti(folder: Path, objects: dict[str, list[dict]], source: Path) -> None:
    """Writes the labels and links to everything else."""
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    for stem, items in objects.items():
        rows = [
            f"{item['class']} 0 0 0 {' '.join(f'{value:.2f}' for value in item['box'])} 0 0 0 0 0 0 0\n"
            for item in items
        ]
        (folder / "labels" / f"{stem}.txt").write_text("".join(rows))
    for name in ("images", "train.txt", "val.txt"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to((source / name).resolve())


def plant_kitti(source: Path, folder: Path, part: float, seed: int, kinds: list[str]) -> list[dict]:
    """Plants errors in the training and validation labels of a KITTI folder."""
    used = {
        stem for name in ("train", "val") for stem in (source / f"{name}.txt").read_text().split()
    }
    objects = {stem: items for stem, items in read_kitti(source).items() if stem in used}
    classes = sorted({item["class"] for items in objects.values() for item in items})
    changed, errors = plant(objects, classes, part, seed, kinds)
    write_kitti(folder, changed, source)
    return errors


def plant_coco(source: Path, folder: Path, part: float, seed: int, kinds: list[str]) -> list[dict]:
    """Plants errors in both annotation files of a COCO folder; outlines move with their boxes."""
    folder.mkdir(parents=True, exist_ok=True)
    every = []
    for number, name in enumerate(("instances_train.json", "instances_val.json")):
        content = json.loads((source / name).read_text())
        names = {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
        classes = {category["id"]: category["name"] for category in content["categories"]}
        objects: dict[str, list[dict]] = {stem: [] for stem in names.values()}
        for item in content["annotations"]:
            x, y, w, h = item["bbox"]
            row = {"class": classes[item["category_id"]], "box": [x, y, x + w, y + h], "item": item}
            objects[names[item["image_id"]]].append(row)
        changed, errors = plant(objects, list(classes.values()), part, seed + number, kinds)
        every += errors
        ids = {name: number for number, name in classes.items()}
        content["annotations"] = [
            _moved(row["item"], row["box"], ids[row["class"]])
            for rows in changed.values()
            for row in rows
        ]
        (folder / name).write_text(json.dumps(content))
    (folder / "images").unlink(missing_ok=True)
    (folder / "images").symlink_to((source / "images").resolve())
    return every


def _moved(item: dict, box: list[float], category: int) -> dict:
    dx, dy = box[0] - item["bbox"][0], box[1] - item["bbox"][1]
    parts = item["segmentation"]
    if (dx or dy) and isinstance(parts, list):
        parts = [
            [value + (dx, dy)[number % 2] for number, value in enumerate(part)] for part in parts
        ]
    elif dx or dy:
        height, width = parts["size"]
        runs = (
            coco_mask.frPyObjects(parts, height, width)
            if isinstance(parts["counts"], list)
            else parts
        )
        pixels = coco_mask.decode(runs)
        moved = np.zeros_like(pixels)
        rows, columns = np.nonzero(pixels)
        rows, columns = rows + round(dy), columns + round(dx)
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        moved[rows[inside], columns[inside]] = 1
        coded = coco_mask.encode(np.asfortranarray(moved))
        parts = {"size": [height, width], "counts": coded["counts"].decode()}
    bbox = [box[0], box[1], *item["bbox"][2:]]
    return {**item, "bbox": bbox, "segmentation": parts, "category_id": category}


def main() -> None:
    """Plants as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", choices=("bccd", "nuclei"))
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--part", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    args = parser.parse_args()
    work = plant_kitti if args.set == "bccd" else plant_coco
    errors = work(args.data, args.output, args.part, args.seed, args.kinds)
    (args.output / "planted.json").write_text(json.dumps(errors, indent=1))
    counts = {kind: sum(error["kind"] == kind for error in errors) for kind in KINDS}
    print(f"{args.output}: {counts}")


if __name__ == "__main__":
    main()
