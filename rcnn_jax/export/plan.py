"""Plan of an export: its options, and the model, images and header that follow from them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rcnn_jax.compress.qat import float_variables, in_float, rounded_variables
from rcnn_jax.errors import UsageError
from rcnn_jax.export.build import check_images
from rcnn_jax.export.comparison import reference_predictor
from rcnn_jax.export.contracts import make_header
from rcnn_jax.export.deployment import Deployment, check_deployment
from rcnn_jax.export.files import Files, check_output
from rcnn_jax.export.lowering.portable import Forms
from rcnn_jax.export.precision.calibration_data import CalibrationSettings
from rcnn_jax.export.precision.lower import DataType
from rcnn_jax.export.verification.accuracy import Subset, validation_images
from rcnn_jax.models.quant import QuantPlan
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.backend import Predictor
from rcnn_jax.runtime.bundle import OpenBundle
from rcnn_jax.runtime.header import NMS_NAMES, ContractName, Header
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import Variables

AGAIN = (
    "import its checkpoint with a fixed number, rcnn-jax weights import FILE --roi_sampling_ratio 2, "
    "or train with roi_sampling_ratio: 2"
)
"""What to do with a model of adaptive sampling that is to become portable."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of an export.

    Attributes:
      output: `.onnx`, or `.etlt` for an encrypted file. The report goes to `<output>.check.json` and
        `<output>.check.txt`; int8 also writes its scales and the FP32 graph whose tensors they
        name, `<stem>.fp32<suffix>`.
      key: encrypts an `.etlt`.
      contract: outputs for DeepStream's TAO parsers, or plain ones.
      batch: fixed batch size; None leaves it free.
      nms_names: of the two outputs of a Faster R-CNN for DeepStream.
      data_type: of the dense part of the graph.
      calibration: how int8 gets its scales; None takes the usual settings and a cache beside the output.
      force_ptq: calibrate a model on images although it was trained with fake quantisation.
      eval_images: validation images on which average precisions are compared; 0 for none.
      portable: forms of RoiAlign and NonMaxSuppression in standard operators; None keeps these two
        operators.
      accept_loss: write an fp16 or int8 graph whose detections agree too little with the model's;
        a graph that is wrong in fp32 is never written.
      deployment: further output.
    """

    output: Path
    key: str | None = field(default=None, repr=False)
    contract: ContractName = "tao"
    batch: int | None = None
    nms_names: tuple[str, str] = NMS_NAMES
    data_type: DataType = "fp32"
    calibration: CalibrationSettings | None = None
    force_ptq: bool = False
    eval_images: int = 0
    portable: Forms | None = None
    accept_loss: bool = False
    deployment: Deployment = Deployment()

    @property
    def scales(self) -> CalibrationSettings:
        """How int8 gets its scales."""
        if self.calibration is not None:
            return self.calibration
        return CalibrationSettings(cache_file=self.output.with_suffix(".cal"))

    @property
    def files(self) -> Files:
        """Names of the files that are written."""
        return Files(output=self.output, key=self.key)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedRanges:
    """A model whose ranges were trained with, and which is exported with them.

    Attributes:
      quant: the rounded inputs of its network.
      variables: of the model file, with the ranges.
      reference: the network that rounds, in JAX: what the int8 graph is compared with.
    """

    quant: QuantPlan
    variables: Variables
    reference: Predictor


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Model, images and header of an export.

    Attributes:
      experiment: with the layer widths of the model file, in float.
      variables: of the model file; rounded to the int8 grid where `trained` says so.
      header: of the graph.
      images: u8[b h w c] on which the model and its graphs are compared.
      images_are: where they came from.
      subset: validation images on which average precisions are compared, or None.
      reference: the model in JAX, in float.
      trained: ranges to export with; None where int8 is calibrated after training.
    """

    experiment: Experiment
    variables: Variables
    header: Header
    images: np.ndarray
    images_are: str
    subset: Subset | None
    reference: Predictor
    trained: TrainedRanges | None = None


def check_fixed_samples(experiment: Experiment, needs: str) -> None:
    """Checks that RoIAlign takes a fixed number of samples in a cell.

    Args:
      experiment: the model.
      needs: what needs it, begins the message.

    Raises:
      UsageError: the number depends on the box.
    """
    if not experiment.task.settings.roi_samples:
        raise UsageError(
            f"{needs}: only a fixed number of samples of RoIAlign has a portable form, and this model "
            "takes as many as a cell has cells of the map (detectron2's POOLER_SAMPLING_RATIO 0); "
            f"{AGAIN}"
        )


def make_plan(
    model: OpenBundle, experiment: Experiment, options: ExportOptions, reporter: Reporter
) -> Plan:
    """Returns the plan of an export; refuses impossible options before anything takes long.

    Args:
      model: the file, opened.
      experiment: compared with the file already.
      options: the choices.
      reporter: console.

    Raises:
      RcnnError: the choices, the spec, the data or the model cannot be used.
    """
    # From cheap to expensive: choices that contradict each other end the command before the file is
    # decoded, and before the first compilation.
    header = make_header(experiment, options.contract, options.batch, options.nms_names)
    files = options.files
    check_deployment(options.deployment, header, files.output)
    check_output(files.output)
    if files.encrypts and not options.key:
        raise UsageError(f"-o {files.output}: an .etlt file is encrypted: give the key with -k")
    if options.portable is not None:
        check_fixed_samples(experiment, "--portable")
    # The fp32 graph next to an int8 model is the one its scales name; that of another export would
    # be mistaken for it.
    if options.data_type == "int8" and files.single.exists():
        raise UsageError(f"{files.single}: exists already; remove it or choose another -o")
    experiment, variables, trained = _trained(*model.load(experiment), options, reporter)
    count = options.eval_images
    subset = validation_images(experiment, count, reporter) if count else None
    images, images_are = check_images(experiment, header)
    reporter.console.print(f"exporting {model.path}, check on {images_are}", markup=False)
    return Plan(
        experiment=experiment,
        variables=variables,
        header=header,
        images=images,
        images_are=images_are,
        subset=subset,
        reference=reference_predictor(experiment, variables),
        trained=trained,
    )


def _trained(
    experiment: Experiment, variables: Variables, options: ExportOptions, reporter: Reporter
) -> tuple[Experiment, Variables, TrainedRanges | None]:
    """Returns the float form of a model, and its ranges where they are exported.

    Args:
      experiment: with the rounded inputs of the model file.
      variables: of the model file.
      options: the choices.
      reporter: console.
    """
    quant = experiment.task.model.quant
    if not quant.sites:
        if options.force_ptq and options.data_type == "int8":
            reporter.note("--force_ptq has no effect: the model was trained in float")
        return experiment, variables, None
    if options.data_type == "int8" and not options.force_ptq:
        reference = reference_predictor(experiment, variables)
        trained = TrainedRanges(quant=quant, variables=variables, reference=reference)
        # The FP32 graph is that of the rounded weights: with it the cache gives this int8 graph again.
        return in_float(experiment), rounded_variables(variables, quant), trained
    reporter.note(
        "the model was trained with fake quantisation: its ranges are not used "
        + ("because of --force_ptq" if options.force_ptq else f"in {options.data_type}")
    )
    return in_float(experiment), float_variables(variables), None
