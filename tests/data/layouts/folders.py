"""Small annotated folders in the layouts of other tools, made for a test."""

import json

import cv2
import numpy as np


def picture(path, height=40, width=60):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(abs(hash(path.name)) % 2**32).integers(0, 256, (height, width, 3))
    assert cv2.imwrite(str(path), noise.astype(np.uint8))
    return path


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def kitti_line(name, x1, y1, x2, y2, occluded=0):
    return f"{name} 0 {occluded} 0 {x1} {y1} {x2} {y2} 0 0 0 0 0 0 0\n"


def voc_xml(name, *objects, size=(40, 60), difficult=0):
    boxes = "".join(
        f"<object><name>{label}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin>"
        f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for label, x1, y1, x2, y2 in objects
    )
    height, width = size
    return (
        f"<annotation><filename>{name}</filename><size><width>{width}</width>"
        f"<height>{height}</height></size>{boxes}</annotation>"
    )


def coco(path, images, annotations, categories):
    """Writes a file from (file name), (image number, category, bbox, more) and names."""
    content = {
        "images": [
            {"id": i, "file_name": name, "height": 40, "width": 60} for i, name in enumerate(images)
        ],
        "annotations": [
            {"id": i, "image_id": image, "category_id": category, "bbox": bbox, **more}
            for i, (image, category, bbox, more) in enumerate(annotations)
        ],
        "categories": [{"id": i, "name": name} for i, name in categories.items()],
    }
    return text(path, json.dumps(content))
