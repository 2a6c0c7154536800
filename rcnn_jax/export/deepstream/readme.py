"""README of a DeepStream bundle: instructions for the machine that will run the model."""

import os

from rcnn_jax.export.deepstream.config import DeepStreamBundle, notes
from rcnn_jax.export.deepstream.files import APP_CONFIG, CLASS_MAP, INFER_CONFIG, LABELS
from rcnn_jax.export.deepstream.parsers import parser_of


def readme(bundle: DeepStreamBundle) -> str:
    """Returns the text."""
    name, precision = bundle.model.name, bundle.precision
    steps = [
        "Copy this folder to the machine that will run the model. An engine belongs to one GPU and "
        "one TensorRT version: build it there."
    ]
    if bundle.model.suffix != ".onnx":
        steps.append(
            f"`{name}` is encrypted and nvinfer cannot decrypt it. Write the plain graph:\n\n"
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
            "Where an older one prints that it does not know that key, build the engine before:"
            f"\n\n{build}"
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


def _class_map(bundle: DeepStreamBundle) -> str:
    """Returns the line about NVIDIA's own tool, whose classes a first label line would shift."""
    if not parser_of(bundle.header).background_first:
        return ""
    return (
        f"- `{CLASS_MAP}` is for `tao-deploy mask_rcnn`: it counts classes from 1 and wants no line "
        f"for the background, so `{LABELS}` would shift every class by one there.\n"
    )


def _calibrated(bundle: DeepStreamBundle) -> str:
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
        "biases, so such an engine detects a little less."
    )


def _input(bundle: DeepStreamBundle) -> str:
    return bundle.header.input_name


def _dims(bundle: DeepStreamBundle) -> str:
    return "x".join(str(dim) for dim in (len(bundle.header.mean), *bundle.header.canvas))
