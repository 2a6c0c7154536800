"""gst-nvinfer on a CPU, slow and obvious: what DeepStream does with a bundle, from its files alone.

Read from the public documentation of gst-nvinfer and the public parsers (reference/deployment
sections 1 and 2): scaling, padding, `y = net-scale-factor * (x - offset)`, the two parser functions
row by row, the class filter, and the way back to the frame.
"""

import configparser
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime


@dataclass
class Found:
    """One object as the frame's metadata hold it; the mask is what the parser copied."""

    label: str
    score: float
    box: np.ndarray  # y1, x1, y2, x2 in pixels of the frame
    mask: np.ndarray | None


class Nvinfer:
    """Runs the bundle of a folder."""

    def __init__(self, folder: Path):
        config = configparser.ConfigParser(delimiters=("=",), comment_prefixes=("#",))
        config.read(folder / "nvinfer_config.txt")
        self.keys = dict(config["property"])
        self.threshold = float(config["class-attrs-all"]["pre-cluster-threshold"])
        self.labels = (folder / self.keys["labelfile-path"]).read_text().splitlines()
        self.classes = int(self.keys["num-detected-classes"])
        self.channels, self.height, self.width = (
            int(dim) for dim in self.keys["infer-dims"].split(";")
        )
        self.session = onnxruntime.InferenceSession(
            str(folder / self.keys["onnx-file"]), providers=["CPUExecutionProvider"]
        )
        assert self.keys["cluster-mode"] == "4"

    def detect(self, frame: np.ndarray) -> list[Found]:
        """Returns what nvinfer attaches to an RGB frame u8[h w 3]."""
        tensor, ratios = self.preprocess(frame)
        layers = {}
        names = [output.name for output in self.session.get_outputs()]
        (given,) = self.session.get_inputs()
        for name, array in zip(
            names, self.session.run(names, {given.name: tensor[None]}), strict=True
        ):
            layers[name] = array[0]  # parsers see one frame
        parse = {
            "NvDsInferParseCustomNMSTLT": self.parse_nms,
            "NvDsInferParseCustomMrcnnTLTV2": self.parse_mask_rcnn,
        }
        boxes = self.keys.get("parse-bbox-func-name")
        masks = self.keys.get("parse-bbox-instance-mask-func-name")
        assert self.keys["network-type"] == ("0" if boxes else "3")
        objects = parse[boxes or masks](layers)
        found = []
        for number, score, left, top, width, height, mask in objects:
            if number >= self.classes or score < self.threshold:
                continue
            y1, x1 = top / ratios[0], left / ratios[1]
            y2, x2 = y1 + height / ratios[0], x1 + width / ratios[1]
            box = np.clip((y1, x1, y2, x2), 0, np.tile(frame.shape[:2], 2))  # padding is no frame
            keep = mask if self.keys.get("output-instance-mask") == "1" else None
            found.append(Found(self.labels[number], score, box, keep))
        return found

    def preprocess(self, frame: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
        """Returns f32[c h w] and the ratios (y, x) the frame was scaled by."""
        source_height, source_width = frame.shape[:2]
        height, width = self.height, self.width
        if self.keys["maintain-aspect-ratio"] == "1":
            fitting = int(self.width * source_height / source_width)
            if fitting <= self.height:
                height = fitting
            else:
                width = int(self.height * source_width / source_height)
        assert self.keys["scaling-filter"] == "1" and self.keys["symmetric-padding"] == "0"
        canvas = np.zeros((self.height, self.width, 3), np.uint8)
        canvas[:height, :width] = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
        order = {"0": (0, 1, 2), "1": (2, 1, 0)}[self.keys["model-color-format"]]
        factor = np.float32(self.keys["net-scale-factor"])
        offsets = [np.float32(text) for text in self.keys["offsets"].split(";")]
        planes = [
            factor * (canvas[:, :, channel].astype(np.float32) - offset)
            for channel, offset in zip(order, offsets, strict=True)
        ]
        return np.stack(planes), (height / source_height, width / source_width)

    def parse_nms(self, layers):
        assert len(layers) == 2
        rows, count = layers.values()
        assert count.dtype == np.int32
        rows = rows.reshape(-1, 7)
        for index in range(count.reshape(-1)[0]):
            _, label, score, x1, y1, x2, y2 = (float(value) for value in rows[index])
            if score < self.threshold:
                continue
            assert int(label) < self.classes
            left, top = clip(x1 * self.width, self.width), clip(y1 * self.height, self.height)
            width = clip((x2 - x1) * self.width, self.width)
            height = clip((y2 - y1) * self.height, self.height)
            if width > 0 and height > 0:
                yield int(label), score, left, top, width, height, None

    def parse_mask_rcnn(self, layers):
        rows, masks = layers["generate_detections"], layers["mask_fcn_logits/BiasAdd"]
        assert rows.dtype == masks.dtype == np.float32 and masks.ndim == 4
        side = masks.shape[2] * masks.shape[3]
        flat = masks.reshape(-1)
        for index in range(masks.shape[0]):
            y1, x1, y2, x2, label, score = (float(value) for value in rows[index])
            if score < self.threshold:
                continue
            left, top = clip(x1, self.width), clip(y1, self.height)
            width, height = clip(x2, self.width) - x1, clip(y2, self.height) - y1
            if width <= 0 or height <= 0:
                continue
            start = (index * self.classes + int(label)) * side  # the stride is the configured one
            mask = flat[start : start + side].reshape(masks.shape[2:])
            yield int(label), score, left, top, width, height, mask


def clip(value: float, size: int) -> float:
    return max(min(value, size - 1), 0)
