"""The DeepStream bundle of an exported model: files that run as they are.

    nvinfer_config.txt           preprocessing, model, parser            gst-nvinfer
    labels.txt                   one line per class, background included
    deepstream_app_config.txt    video file in, annotated video file out  deepstream-app -c
    deepstream_README.md         the three commands, and what to change
    class_map.txt                of a Mask R-CNN: its classes for NVIDIA's tao-deploy

Everything is derived from the header of the graph, and read back before it counts. nvinfer computes
`net-scale-factor * (pixel - offset)` with ONE factor, pads at the bottom and right with 0, and cannot
crop. Both parser functions are in DeepStream's own library. The key of an encrypted model is in none
of the files: nvinfer cannot decrypt.

The types of the graph say its precision. nvinfer builds such a graph itself with `strongly-typed=1`,
and with `network-mode=0`: 1 and 2 would set flags of a weakly typed network beside it, and 1 without
a calibration cache silently becomes 2. An nvinfer that does not know the key is given an engine, or
for int8 the fp32 graph with its cache. Objects that end below the frame, by a rounding error or by
the parser of masks, which keeps the height of a box whose top it moves, are dropped by gst-nvinfer
unless `crop-objects-to-roi-boundary` is set.

Source: docs/reference/deepstream.md, "Keys of nvinfer", "Precision of a typed graph" and
"Objects at the edge of a frame"; DeepStream's "Gst-nvinfer".
"""

import os
from dataclasses import dataclass
from pathlib import Path

from rcnn_jax.errors import SpecError, UsageError
from rcnn_jax.export.conversion import Precision
from rcnn_jax.export.deepstream.files import INFER_CONFIG, LABELS
from rcnn_jax.export.deepstream.parsers import LIBRARY, parser_of
from rcnn_jax.runtime.header import MASKS, Header

COLOR_FORMATS = {"rgb": 0, "bgr": 1, "l": 2}
SAMPLE = "file:///opt/nvidia/deepstream/deepstream/samples/streams/sample_1080p_h264.mp4"


@dataclass(frozen=True, kw_only=True)
class DeepStreamBundle:
    """Contents of the files.

    Attributes:
      model: the exported file, `.onnx` or `.etlt`; the bundle lies beside it.
      header: of the graph.
      precision: of the graph.
      threshold: least score of a detection that is shown.
      engine: engine built already, or None for the one that nvinfer names itself.
      library: with the parser function.
      cache: calibration cache of an int8 model, for the fp32 graph beside it; None where there is
        none.
    """

    model: Path
    header: Header
    precision: Precision
    threshold: float
    engine: Path | None = None
    library: str = LIBRARY
    cache: Path | None = None

    @property
    def onnx(self) -> str:
        """Name of the plain graph next to the bundle."""
        return self.model.with_suffix(".onnx").name

    @property
    def batch(self) -> int:
        """Frames nvinfer gives to the engine at once."""
        return self.header.batch or 1

    @property
    def engine_name(self) -> str:
        """The engine, seen from the bundle; by default as nvinfer calls what it builds itself."""
        if self.engine is not None:
            return os.path.relpath(self.engine, self.model.parent)
        # nvinfer puts its network-mode into the name, which is 0 whatever the types of the graph
        return f"{self.onnx}_b{self.batch}_gpu0_fp32.engine"

    @property
    def single(self) -> str:
        """Name of the fp32 graph that the cache of an int8 model is for."""
        return f"{self.model.stem}.fp32.onnx"


def check_header(header: Header, outputs: tuple[str, ...] | None = None) -> None:
    """Stops when DeepStream cannot run a graph as it was trained.

    Args:
      header: of the graph.
      outputs: its names, where they are known.

    Raises:
      SpecError: the channels are scaled differently.
      UsageError: no parser reads the outputs, or a class name cannot stand in a label file.
    """
    parser = parser_of(header)
    if parser.masks and outputs is not None and MASKS not in outputs:
        raise UsageError(
            f"--gen_ds_config: the parser of Mask R-CNN needs the output {MASKS}, and this graph was "
            "written without masks by an earlier version; export the model again"
        )
    # One factor for all channels: nothing in nvinfer could make up for three.
    if len(set(header.std)) > 1:
        raise SpecError(
            "--gen_ds_config: nvinfer scales all channels by one net-scale-factor, the model "
            f"divides them by {', '.join(f'{value:g}' for value in header.std)}: train with one "
            "image_scaling_factor, or feed the model through a preprocessing of your own"
        )
    for name in header.class_names:
        if set(name) & set(";\r\n"):
            raise UsageError(
                f"--gen_ds_config: the class name {name!r} cannot stand in {LABELS}, where ';' and "
                "line ends separate labels"
            )


def notes(header: Header) -> list[str]:
    """Returns the differences between nvinfer and the training, a sentence each."""
    geometry = header.geometry
    # Scaled to the canvas first, so padding and cropping have nothing left to do.
    stretched = geometry.prescale == header.canvas and geometry.crop is None
    if geometry.mode != "pad_crop" or stretched:
        return []
    height, width = header.canvas
    return [
        "the spec pads and crops images without scaling them, nvinfer only scales: results agree "
        f"for frames of {width}x{height} pixels alone; set enable_auto_resize in the spec and "
        "train with it to be free of this"
    ]


def labels(header: Header) -> list[str]:
    """Returns the label of every class id that the parser gives."""
    parser = parser_of(header)
    if parser.background_first:
        return [parser.background, *header.class_names]
    return [*header.class_names, parser.background]


def infer_config(bundle: DeepStreamBundle) -> str:
    """Returns the text of nvinfer's config file."""
    header = bundle.header
    height, width = header.canvas
    parser = parser_of(header)
    keys: dict[str, object] = {
        "gpu-id": 0,
        "gie-unique-id": 1,
        "process-mode": 1,
        "interval": 0,
        "batch-size": bundle.batch,
        # repr: all digits, because nvinfer's rounding of a shortened factor would be another
        # preprocessing.
        "net-scale-factor": repr(1.0 / header.std[0]),
        "offsets": ";".join(repr(value) for value in header.mean),
        "model-color-format": COLOR_FORMATS[header.channel_order],
        "infer-dims": f"{len(header.mean)};{height};{width}",
        "maintain-aspect-ratio": int(header.geometry.mode == "keep_aspect"),
        # Bottom and right, where training pads; DeepStream can centre the image.
        "symmetric-padding": 0,
        "scaling-filter": 1,
        "onnx-file": bundle.onnx,
        "model-engine-file": bundle.engine_name,
        "labelfile-path": LABELS,
        "network-mode": 0,
        "strongly-typed": 1,
        "network-type": 3 if parser.masks else 0,
        "num-detected-classes": len(labels(header)),
        "cluster-mode": 4,
        "crop-objects-to-roi-boundary": 1,
        "output-tensor-meta": 0,
        "custom-lib-path": bundle.library,
        "output-blob-names": ";".join(parser.outputs or header.nms_names),
        **parser.keys,
    }
    comments = {
        "net-scale-factor": "network input = net-scale-factor * (pixel - offset)",
        "model-color-format": "0 RGB, 1 BGR, 2 grey",
        "maintain-aspect-ratio": "as the model was trained; padding is at the bottom and right",
        "scaling-filter": "bilinear",
        "network-mode": f"0 for every precision: the types of the graph say {bundle.precision}",
        "strongly-typed": "keeps them; DeepStream before 9.1 may not know the key, see the README",
        "num-detected-classes": "with the background",
        "cluster-mode": "none: the graph ends with its own suppression",
        "crop-objects-to-roi-boundary": "0 would drop objects that end below the frame",
        "segmentation-threshold": "masks are logits: 0 is a probability of 0.5",
    }
    lines = [f"# {header.kind}, written by rcnn-jax {header.version}", "[property]"]
    for key, value in keys.items():
        lines += [f"# {comments[key]}"] if key in comments else []
        lines.append(f"{key}={value}")
    lines += [
        "",
        "[class-attrs-all]",
        "# the parser applies this one threshold to all classes",
        f"pre-cluster-threshold={bundle.threshold!r}",
    ]
    return "\n".join(lines) + "\n"


def app_config(bundle: DeepStreamBundle) -> str:
    """Returns the text of deepstream-app's config file: DeepStream's sample video in, out.mp4 out."""
    groups: dict[str, dict[str, object]] = {
        "application": {"enable-perf-measurement": 1, "perf-measurement-interval-sec": 5},
        "tiled-display": {"enable": 0},
        "source0": {"enable": 1, "type": 3, "uri": SAMPLE, "num-sources": 1, "gpu-id": 0},
        "streammux": {
            "gpu-id": 0,
            "batch-size": bundle.batch,
            "batched-push-timeout": 40000,
            "width": 1920,
            "height": 1080,
            "enable-padding": 0,
            "live-source": 0,
        },
        "primary-gie": {
            "enable": 1,
            "gpu-id": 0,
            "gie-unique-id": 1,
            "batch-size": bundle.batch,
            "config-file": INFER_CONFIG,
        },
        "osd": {
            "enable": 1,
            "gpu-id": 0,
            "border-width": 3,
            "text-size": 15,
            "text-color": "1;1;1;1;",
            "text-bg-color": "0.3;0.3;0.3;1",
            "font": "Serif",
            "display-mask": int(parser_of(bundle.header).masks),
            "display-bbox": 1,
            "display-text": 1,
        },
        "sink0": {
            "enable": 1,
            "type": 3,
            "container": 1,
            "codec": 1,
            "enc-type": 0,
            "sync": 0,
            "bitrate": 4000000,
            "output-file": "out.mp4",
            "source-id": 0,
        },
        "tests": {"file-loop": 0},
    }
    comments = {
        "source0.type": "3: a URI",
        "source0.uri": "any file:// or rtsp:// address",
        "streammux.width": "of the source: the muxer would distort other sizes before nvinfer",
        "sink0.type": "3: a file; 2: a window; 1: nowhere",
        "sink0.enc-type": "0: NVENC; 1: software, for GPUs without an encoder",
    }
    lines = []
    for group, keys in groups.items():
        lines.append(f"[{group}]")
        for key, value in keys.items():
            comment = comments.get(f"{group}.{key}")
            lines += [f"# {comment}"] if comment else []
            lines.append(f"{key}={value}")
        lines.append("")
    return "\n".join(lines)
