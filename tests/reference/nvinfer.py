"""gst-nvinfer on a CPU, slow and obvious: what DeepStream does with a bundle, from its files alone.

Read from the public documentation of gst-nvinfer, its public source and that of the parsers
(docs/reference/deepstream.md): the precision it builds, scaling,
padding, `y = net-scale-factor * (x - offset)`, the two parser functions row by row, the class filter,
and the way back to the frame, on which objects are dropped or cut. Numbers are float32, as there.
"""

import configparser
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime


@dataclass
class DetectedObject:
    """One object as the frame's metadata hold it; the mask is what the parser copied."""

    label: str
    score: float
    box: np.ndarray  # y1, x1, y2, x2 in pixels of the frame
    mask: np.ndarray | None


class Refused(Exception):
    """TensorRT does not build what nvinfer asks of it."""


MODES = {"0": "fp32", "1": "int8", "2": "fp16"}


class Nvinfer:
    """Runs the bundle of a folder.

    Attributes:
      precision: in which the engine computes.
      engine: name under which nvinfer keeps it.
    """

    def __init__(self, folder: Path, *, knows_strong_types: bool = True):
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
        strong = knows_strong_types and self.keys.get("strongly-typed") == "1"
        self.precision = self.build(folder, strong)
        mode = MODES[self.keys["network-mode"]]
        if mode == "int8" and self.precision == "fp16":
            mode = "fp16"
        name, batch = self.keys["onnx-file"], self.keys["batch-size"]
        self.engine = f"{name}_b{batch}_gpu{self.keys['gpu-id']}_{mode}.engine"

    def build(self, folder: Path, strong: bool) -> str:
        """Returns the precision of the engine that nvinfer has TensorRT 10 build."""
        graph = onnx.load(folder / self.keys["onnx-file"]).graph
        typed = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer)
        quantised = any(node.op_type == "QuantizeLinear" for node in graph.node)
        mode = MODES[self.keys["network-mode"]]
        if strong:
            if mode != "fp32":
                raise Refused("precision flags beside a strongly typed network")
            return "int8" if quantised else "fp16" if typed else "fp32"
        if mode == "int8":
            cache = self.keys.get("int8-calib-file")
            if cache is None or not (folder / cache).is_file():
                mode = "fp16"  # "INT8 calibration file not specified. Trying FP16 mode."
        if quantised and mode != "int8" or typed and mode == "fp32":
            raise Refused(f"a graph of lower precision in a weakly typed {mode} network")
        return mode

    def detect(self, frame: np.ndarray) -> list[DetectedObject]:
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
        visible = []
        for number, score, left, top, width, height, mask in objects:
            if number >= self.classes or score < self.threshold:
                continue
            box = self.attach((left, top, width, height), ratios, frame.shape[:2])
            if box is not None:
                keep = mask if self.keys.get("output-instance-mask") == "1" else None
                visible.append(DetectedObject(self.labels[number], score, box, keep))
        return visible

    def attach(self, parsed, ratios, size) -> np.ndarray | None:
        """Returns the box (y1, x1, y2, x2) on the frame, None for an object that is dropped.

        Args:
          parsed: left, top, width, height on the network input.
          ratios: (y, x) the frame was scaled by.
          size: (height, width) of the frame.
        """
        frame_height, frame_width = np.float32(size[0]), np.float32(size[1])
        ratio_y, ratio_x = np.float32(ratios[0]), np.float32(ratios[1])
        left, top, width, height = (np.float32(value) for value in parsed)
        left, top, width, height = left / ratio_x, top / ratio_y, width / ratio_x, height / ratio_y
        left, top = max(left, np.float32(0)), max(top, np.float32(0))
        if self.keys.get("crop-objects-to-roi-boundary", "0") == "1":
            if left + width >= frame_width:
                width = frame_width - left
            if top + height > frame_height:
                height = frame_height - top
        elif top + height > frame_height:
            return None
        return np.asarray([top, left, top + height, left + width], np.float64)

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
