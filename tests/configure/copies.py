"""One small set in the layouts of other tools: the same images, the same boxes."""

import json
import shutil
from pathlib import Path

from rcnn_jax.data.formats.image_size import read_image_size
from rcnn_jax.data.formats.kitti import read_labels
from rcnn_jax.data.synthetic import write_kitti

SIDE = 160
COUNT = 30


def kitti(root: Path, *, count: int = COUNT) -> Path:
    write_kitti(root, seed=5, count=count, height=SIDE, width=SIDE)
    return root


def rows(root: Path):
    """Yields image, (height, width) and [(class, x1, y1, x2, y2)] of a KITTI folder."""
    for image in sorted((root / "images").iterdir()):
        objects = read_labels(root / "labels" / f"{image.stem}.txt")
        boxes = [(o.class_name, o.x1, o.y1, o.x2, o.y2) for o in objects]
        yield image, read_image_size(image), boxes


def names(root: Path) -> list[str]:
    return sorted({box[0] for _, _, boxes in rows(root) for box in boxes})


def yolo(source: Path, root: Path) -> Path:
    order = names(source)
    for number, (image, (height, width), boxes) in enumerate(rows(source)):
        split = "valid" if number % 5 == 0 else "train"
        (root / split / "images").mkdir(parents=True, exist_ok=True)
        (root / split / "labels").mkdir(parents=True, exist_ok=True)
        shutil.copy(image, root / split / "images")
        lines = [
            f"{order.index(name)} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} "
            f"{(x2 - x1) / width} {(y2 - y1) / height}\n"
            for name, x1, y1, x2, y2 in boxes
        ]
        (root / split / "labels" / f"{image.stem}.txt").write_text("".join(lines))
    (root / "data.yaml").write_text(f"names: {json.dumps([*order, 'never drawn'])}\n")
    return root


def voc(source: Path, root: Path) -> Path:
    (root / "JPEGImages").mkdir(parents=True)
    (root / "Annotations").mkdir()
    for image, (height, width), boxes in rows(source):
        shutil.copy(image, root / "JPEGImages")
        objects = "".join(
            # The format counts from 1: whole pixels, the last one included.
            f"<object><name>white {name}</name><truncated>1</truncated><difficult>0</difficult><bndbox>"
            f"<xmin>{x1 + 1:g}</xmin><ymin>{y1 + 1:g}</ymin><xmax>{x2:g}</xmax><ymax>{y2:g}</ymax>"
            "</bndbox></object>"
            for name, x1, y1, x2, y2 in boxes
        )
        (root / "Annotations" / f"{image.stem}.xml").write_text(
            f"<annotation><filename>{image.name}</filename><size><width>{width}</width>"
            f"<height>{height}</height></size>{objects}</annotation>"
        )
    return root


def coco(source: Path, root: Path, *, crowd: int = 0) -> Path:
    (root / "images").mkdir(parents=True)
    order = names(source)
    content = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 0, "name": "cells"}]
        + [{"id": 3 * n + 2, "name": name} for n, name in enumerate(order)],
    }
    for number, (image, (height, width), boxes) in enumerate(rows(source), start=1):
        shutil.copy(image, root / "images")
        content["images"].append(
            {"id": number, "file_name": image.name, "height": height, "width": width}
        )
        for name, x1, y1, x2, y2 in boxes:
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": 3 * order.index(name) + 2,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": crowd,
                    "segmentation": _mask(x1, y1, x2, y2, height, width)
                    if crowd
                    else [[x1, y1, x2, y1, x2, y2, x1, y2]],
                }
            )
    (root / "annotations.json").write_text(json.dumps(content))
    return root


def _mask(x1, y1, x2, y2, height, width):
    x1, y1, x2, y2 = (round(value) for value in (x1, y1, x2, y2))
    counts = [x1 * height + y1]
    for _ in range(x2 - x1 - 1):
        counts += [y2 - y1, height - (y2 - y1)]
    counts += [y2 - y1]
    return {"size": [height, width], "counts": [*counts, height * width - sum(counts)]}


def cvat(source: Path, root: Path) -> Path:
    (root / "images").mkdir(parents=True)
    images = []
    for number, (image, (height, width), boxes) in enumerate(rows(source)):
        shutil.copy(image, root / "images")
        shapes = "".join(
            f'<box label="{name}" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"/>'
            for name, x1, y1, x2, y2 in boxes
        )
        images.append(
            f'<image id="{number}" name="{image.name}" width="{width}" height="{height}">{shapes}</image>'
        )
    (root / "annotations.xml").write_text(
        f"<annotations><version>1.1</version>{''.join(images)}</annotations>"
    )
    return root


def label_studio(source: Path, root: Path) -> Path:
    (root / "images").mkdir(parents=True)
    tasks = []
    for number, (image, (height, width), boxes) in enumerate(rows(source)):
        shutil.copy(image, root / "images")
        result = [
            {
                "id": f"r{index}",
                "type": "rectanglelabels",
                "original_width": width,
                "original_height": height,
                "value": {
                    "x": 100 * x1 / width,
                    "y": 100 * y1 / height,
                    "width": 100 * (x2 - x1) / width,
                    "height": 100 * (y2 - y1) / height,
                    "rotation": 0,
                    "rectanglelabels": [name],
                },
            }
            for index, (name, x1, y1, x2, y2) in enumerate(boxes)
        ]
        tasks.append(
            {
                "id": number,
                "data": {"image": f"/data/upload/1/0a1b2c3d-{image.name}"},
                "annotations": [{"id": number, "completed_by": 1, "result": result}],
            }
        )
    (root / "export.json").write_text(json.dumps(tasks))
    return root
