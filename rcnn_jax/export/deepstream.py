"""The DeepStream bundle of an exported model: files that run as they are.

    nvinfer_config.txt           preprocessing, model, parser            gst-nvinfer
    labels.txt                   one line per class, background included
    deepstream_app_config.txt    video file in, annotated video file out  deepstream-app -c
    deepstream_README.md         the three commands, and what to change
    class_map.txt                of a Mask R-CNN: its classes for NVIDIA's tao-deploy

Everything is derived from the header of the graph, and read back before it counts. nvinfer computes
`net-scale-factor * (pixel - offset)` with ONE factor, pads at the bottom and right with 0, and cannot
crop. Both parser functions are in DeepStream's own library. The key of a sealed model is in none of
the files: nvinfer cannot open the seal.

The types of the graph say its precision. nvinfer builds such a graph itself with `strongly-typed=1`,
and with `network-mode=0`: 1 and 2 would set flags of a weakly typed network beside it, and 1 without
a calibration cache silently becomes 2. An nvinfer that does not know the key is given an engine, or
for int8 the fp32 graph with its cache. Objects that end below the frame, by a rounding error or by
the parser of masks, which keeps the height of a box whose top it moves, are dropped by gst-nvinfer
unless `crop-objects-to-roi-boundary` is set.

Source: reference/deployment sections 1 to 3, portable_graph section 4; DeepStream's "Gst-nvinfer".
"""

import configparser
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.errors import ExportError, SpecError, UsageError
from rcnn_jax.export.contracts import DETECTIONS, MASKS, Header
from rcnn_jax.export.conversion import Precision

PARSER_LIBRARY = "/opt/nvidia/deepstream/deepstream/lib/libnvds_infercustomparser.so"
"""DeepStream's own library of parsers."""
BACKGROUND = {"faster_rcnn": "background", "mask_rcnn": "BG"}
"""What the line of the background is called; the last of Faster R-CNN, the first of Mask R-CNN."""
COLOR_FORMATS = {"rgb": 0, "bgr": 1, "l": 2}
INFER_CONFIG, LABELS, CLASS_MAP = "nvinfer_config.txt", "labels.txt", "class_map.txt"
APP_CONFIG, README = "deepstream_app_config.txt", "deepstream_README.md"
SAMPLE = "file:///opt/nvidia/deepstream/deepstream/samples/streams/sample_1080p_h264.mp4"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What the files are about.

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
    library: str = PARSER_LIBRARY
    cache: Path | None = None

    @property
    def onnx(self) -> str:
        """Name of the plain graph beside the bundle."""
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
    if header.contract != "tao":
        raise UsageError(
            f"--gen_ds_config: no DeepStream parser reads the contract '{header.contract}'; leave "
            "--contract out"
        )
    if header.kind == "mask_rcnn" and outputs is not None and MASKS not in outputs:
        raise UsageError(
            f"--gen_ds_config: the parser of Mask R-CNN needs the output {MASKS}, and the model "
            "was trained with include_mask: False"
        )
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


def write_bundle(bundle: Bundle) -> list[Path]:
    """Writes the files beside the model, over those of an earlier export; returns their paths.

    Raises:
      ExportError: what nvinfer would read is not what the model takes.
    """
    files = {
        INFER_CONFIG: infer_config(bundle),
        LABELS: "\n".join(labels(bundle.header)) + "\n",
        APP_CONFIG: app_config(bundle),
        README: readme(bundle),
    }
    if bundle.header.kind == "mask_rcnn":
        files[CLASS_MAP] = "\n".join(bundle.header.class_names) + "\n"
    verify(files, bundle.header)
    for name, text in files.items():
        write_file(bundle.model.with_name(name), [text.encode()])
    return [bundle.model.with_name(name) for name in files]


def verify(files: dict[str, str], header: Header) -> None:
    """Reads the config and the labels back as nvinfer does and holds them against the header.

    Args:
      files: {name: text} of the bundle.
      header: of the graph.

    Raises:
      ExportError: they say something else.
    """
    config = configparser.ConfigParser(delimiters=("=",), comment_prefixes=("#",))
    config.read_string(files[INFER_CONFIG])
    keys = config["property"]
    pixels = np.arange(256, dtype=np.float32)[:, None]
    factor = np.float32(keys["net-scale-factor"])
    offsets = np.asarray(keys["offsets"].split(";"), np.float32)
    wanted = (pixels - np.asarray(header.mean, np.float32)) / np.asarray(header.std, np.float32)
    lines = files[LABELS].splitlines()
    size = ";".join(str(dim) for dim in (len(header.mean), *header.canvas))
    for what, right in (
        ("offsets", offsets.size == len(header.mean)),
        (
            "net-scale-factor and offsets",
            np.allclose(factor * (pixels - offsets), wanted, rtol=1e-5, atol=1e-5 * wanted.max()),
        ),
        (
            "model-color-format",
            keys["model-color-format"] == str(COLOR_FORMATS[header.channel_order]),
        ),
        ("infer-dims", keys["infer-dims"] == size),
        ("num-detected-classes", keys["num-detected-classes"] == str(len(lines))),
        (LABELS, lines == labels(header)),
    ):
        if not right:
            raise ExportError(f"the DeepStream bundle was not written: {what} are not the model's")


def notes(header: Header) -> list[str]:
    """Returns what nvinfer does otherwise than the training did, a sentence each."""
    geometry = header.geometry
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
    background = BACKGROUND[header.kind]
    if header.kind == "faster_rcnn":
        return [*header.class_names, background]
    return [background, *header.class_names]


def infer_config(bundle: Bundle) -> str:
    """Returns the text of nvinfer's config file."""
    header = bundle.header
    height, width = header.canvas
    masks = header.kind == "mask_rcnn"
    keys: dict[str, object] = {
        "gpu-id": 0,
        "gie-unique-id": 1,
        "process-mode": 1,
        "interval": 0,
        "batch-size": bundle.batch,
        "net-scale-factor": repr(1.0 / header.std[0]),
        "offsets": ";".join(repr(value) for value in header.mean),
        "model-color-format": COLOR_FORMATS[header.channel_order],
        "infer-dims": f"{len(header.mean)};{height};{width}",
        "maintain-aspect-ratio": int(header.geometry.mode == "keep_aspect"),
        "symmetric-padding": 0,
        "scaling-filter": 1,
        "onnx-file": bundle.onnx,
        "model-engine-file": bundle.engine_name,
        "labelfile-path": LABELS,
        "network-mode": 0,
        "strongly-typed": 1,
        "network-type": 3 if masks else 0,
        "num-detected-classes": len(labels(header)),
        "cluster-mode": 4,
        "crop-objects-to-roi-boundary": 1,
        "output-tensor-meta": 0,
        "custom-lib-path": bundle.library,
    }
    if masks:
        keys |= {
            "output-blob-names": f"{DETECTIONS};{MASKS}",
            "parse-bbox-instance-mask-func-name": "NvDsInferParseCustomMrcnnTLTV2",
            "output-instance-mask": 1,
            "segmentation-threshold": 0.0,
        }
    else:
        keys |= {
            "output-blob-names": ";".join(header.nms_names),
            "parse-bbox-func-name": "NvDsInferParseCustomNMSTLT",
        }
    comments = {
        "net-scale-factor": "network input = net-scale-factor * (pixel - offset)",
        "model-color-format": "0 RGB, 1 BGR, 2 grey",
        "maintain-aspect-ratio": "as the model was trained; padding is at the bottom and right",
        "scaling-filter": "bilinear",
        "network-mode": f"0 for every precision: the types of the graph say {bundle.precision}",
        "strongly-typed": "keeps them; DeepStream before 9.1 does not know the key, see the README",
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


def app_config(bundle: Bundle) -> str:
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
            "display-mask": int(bundle.header.kind == "mask_rcnn"),
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


def readme(bundle: Bundle) -> str:
    """Returns the text of the README: what to do on the machine that will run the model."""
    name, precision = bundle.model.name, bundle.precision
    steps = [
        "Copy this folder to the machine that will run the model. An engine belongs to one GPU and "
        "one TensorRT version: build it there."
    ]
    if bundle.model.suffix != ".onnx":
        steps.append(
            f"`{name}` is sealed and nvinfer cannot open the seal. Write the plain graph:\n\n"
            f"       rcnn-jax decrypt -m {name} -o {bundle.onnx}\n\n"
            "   The key comes from `-k` or the environment variable RCNN_JAX_KEY."
        )
    build = (
        f"       trtexec --onnx={bundle.onnx} --saveEngine={bundle.engine_name} --stronglyTyped"
        + (
            ""
            if bundle.header.batch
            else "".join(
                f" \\\n         --{which}Shapes={_input(bundle)}:{bundle.batch}x{_dims(bundle)}"
                for which in ("min", "opt", "max")
            )
        )
    )
    if bundle.engine is not None:
        steps.append(f"The engine is `{bundle.engine_name}`. To build it again:\n\n{build}")
    elif precision == "fp32":
        steps.append(
            "Nothing to build: at its first start nvinfer builds the engine from "
            f"`{bundle.onnx}` and keeps it as `{bundle.engine_name}`. To build it before:\n\n{build}"
        )
    else:
        steps.append(
            f"Nothing to build with DeepStream 9.1 and later: the graph is {precision}, its types "
            "say where, and nvinfer builds the engine at its first start with `strongly-typed=1`. "
            f"Older ones do not know that key; build the engine before:\n\n{build}"
        )
    steps[-1] += (
        "\n\n   (TensorRT 11 is always strongly typed and has no `--stronglyTyped`.) "
        f"`rcnn-jax converter -m {bundle.batch} -e {bundle.engine_name} {bundle.onnx}` builds it "
        "too, and describes it for `rcnn-jax evaluate`."
    )
    if bundle.cache is not None and bundle.engine is None:
        steps[-1] += _calibrated(bundle)
    steps.append(
        f"Run it; `out.mp4` is the annotated video:\n\n       deepstream-app -c {APP_CONFIG}"
    )
    numbered = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))
    warnings = "".join(f"- {note[0].upper()}{note[1:]}.\n" for note in notes(bundle.header))
    return f"""# {name} in DeepStream

{numbered}

- `{APP_CONFIG}`: set `uri`, and `width` and `height` of `[streammux]` to the size of the source.
- `{INFER_CONFIG}`: `pre-cluster-threshold` is the least score that is shown, one for all classes.
{_class_map(bundle)}- The parser is in DeepStream's own library. If yours lacks it (`nm -D LIBRARY | grep
  NvDsInferParseCustom`), build `post_processor` of NVIDIA-AI-IOT/deepstream_tao_apps and set
  `custom-lib-path`.
- No TensorRT plugin has to be built: the graph has standard operators only, and RoiAlign is one of
  TensorRT's own.
- nvinfer scales frames bilinearly. Where a frame is more than twice as large as the network input
  ({_dims(bundle)}), training and `rcnn-jax inference` average first; scores may differ a little.
{warnings}"""


def _class_map(bundle: Bundle) -> str:
    """Returns the line about NVIDIA's own tool, whose classes a Mask R-CNN's labels would shift."""
    if bundle.header.kind == "faster_rcnn":
        return ""
    return (
        f"- `{CLASS_MAP}` is for `tao-deploy mask_rcnn`: it counts classes from 1 and wants no line "
        f"for the background, so `{LABELS}` would shift every class by one there.\n"
    )


def _calibrated(bundle: Bundle) -> str:
    """Returns how nvinfer builds int8 from the fp32 graph and the calibration cache."""
    cache = os.path.relpath(bundle.cache or "", bundle.model.parent)
    return (
        f"\n\n   Or let an older DeepStream with TensorRT 10 build it from `{bundle.single}` and the "
        f"calibration cache: take `strongly-typed` out of `{INFER_CONFIG}` and set\n\n"
        f"       onnx-file={bundle.single}\n"
        f"       model-engine-file={bundle.single}_b{bundle.batch}_gpu0_int8.engine\n"
        "       network-mode=1\n"
        f"       int8-calib-file={cache}\n\n"
        "   A cache cannot say which layers the export left in float, nor carry the corrected "
        "biases, so such an engine finds a little less."
    )


def _input(bundle: Bundle) -> str:
    return "Input" if bundle.header.kind == "mask_rcnn" else "input_image"


def _dims(bundle: Bundle) -> str:
    return "x".join(str(dim) for dim in (len(bundle.header.mean), *bundle.header.canvas))
