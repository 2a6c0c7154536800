"""The two detectors as rows: whatever differs between them and is no algorithm.

Outside `tasks`, `spec` and `models` nobody asks which detector it is: loops, files and commands ask its
row. What lives on a higher floor and differs (a reader of outputs, a DeepStream parser, flags) is chosen
there by a trait of the row, so that a third detector is a row here and a package beside this file.

Nothing here imports jax, for the command line asks before it is needed; the readers import it when they
are called.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from rcnn_jax.kinds import Kind
from rcnn_jax.tasks.faster_rcnn import fields as faster_rcnn_fields
from rcnn_jax.tasks.faster_rcnn import files as faster_rcnn_files
from rcnn_jax.tasks.faster_rcnn import retraining as faster_rcnn_retraining
from rcnn_jax.tasks.mask_rcnn import fields as mask_rcnn_fields
from rcnn_jax.tasks.mask_rcnn import files as mask_rcnn_files
from rcnn_jax.tasks.mask_rcnn import retraining as mask_rcnn_retraining
from rcnn_jax.tasks.named_files import Config, NamedFiles
from rcnn_jax.tasks.retraining import Retraining

if TYPE_CHECKING:
    from rcnn_jax.data.sources.categories import Categories
    from rcnn_jax.tasks.draft import SpecWriter
    from rcnn_jax.tasks.experiment import Experiment


class ReadExperiment(Protocol):
    """Turns a config into an experiment."""

    def __call__(
        self, config: Config, *, axis_name: str, categories: "Categories | None"
    ) -> "Experiment":
        """Returns the experiment; `tasks.build.build_experiment` explains the arguments."""
        ...


@dataclass(frozen=True, kw_only=True)
class LogFormat:
    """Names of the loss terms in the logs of a detector.

    Attributes:
      terms: {term: name in the line of a step}, in the order printed; other terms follow.
      epoch_terms: the same for the line of an epoch; terms not named here are left out.
      status_terms: the same for status.json and TensorBoard.
      seconds_between_lines: 0 prints every logged step; more prints a step at most that often, and
        only where no progress bar is shown.
      lists_variables: a run begins with the table of trained variables, one row each.
    """

    terms: Mapping[str, str]
    epoch_terms: Mapping[str, str] = field(default_factory=dict)
    status_terms: Mapping[str, str] = field(default_factory=dict)
    seconds_between_lines: float = 0.0
    lists_variables: bool = False


@dataclass(frozen=True, kw_only=True)
class Family:
    """One detector, as loops, files and commands know it.

    Attributes:
      kind: its name on the command line.
      title: its outputs in a few words, for lists of commands.
      read: config -> experiment.
      named_files: config -> the files and folders that it names for commands.
      retrain: config, retraining -> config of the run that takes up a finished model.
      model_name: config -> name of the models of a run, without number and suffix.
      file_fields: {`train`, `evaluate`, `inference`, `images`, `pictures`: field of the spec that names
        the model or folder}; where a spec names none, flags must.
      start_fields: of the spec, that name weights a run starts from or imitates and that are not its own;
        the second is that of pruned models.
      validation_fields: of the spec, that name validation data.
      network: message of the spec that describes the network.
      weights_depend_on: fields of the spec that trained weights depend on, see `tasks.dependence`.
      free: fields of `network` that they do not depend on.
      in_effect: {field: value} of `weights_depend_on` -> what the network is built from.
      may_change: fields that may change when a run is resumed, see `checkpoints.fingerprint`.
      model_unit: what the numbers in names of model files count.
      log: names of the loss terms in logs.
      never_pruned: {layer that could be pruned and never is: why}, as in the original.
      memory_advice: what to do when the device has no memory left, in this order.
      memory_fields: of the spec: images of a device, mixed precision.
      has_category_ids: results name classes by ids of a data set, which model files keep; otherwise by
        names, which the spec has.
      labels: files of detections that inference writes.
      records_from: what `dataset_convert` reads: labels that a dataset spec describes, or a COCO file.
      input_name: of an exported graph.
      draft: returns the writer of specs for new data.
      outputs: the outputs of an exported graph for the DeepStream parsers of TAO: `nms_rows`, rows
        and a count, read by position; `detection_rows`, rows and perhaps masks of every class, read
        by name.
    """

    kind: Kind
    title: str
    read: ReadExperiment
    named_files: Callable[[Config], NamedFiles]
    retrain: Callable[[Config, Retraining], Config]
    model_name: Callable[[Any], str]
    file_fields: Mapping[str, str]
    start_fields: tuple[str, ...]
    validation_fields: str
    network: str
    weights_depend_on: Mapping[str, str]
    free: Mapping[str, str]
    in_effect: Callable[[dict[str, Any]], dict[str, Any]]
    may_change: Mapping[str, str]
    model_unit: Literal["epoch", "step"]
    log: LogFormat
    never_pruned: Mapping[str, str]
    memory_advice: tuple[str, ...]
    memory_fields: tuple[str, str]
    has_category_ids: bool
    labels: Literal["kitti", "coco"]
    records_from: Literal["spec", "coco"]
    input_name: str
    draft: "Callable[[], SpecWriter]"
    outputs: Literal["nms_rows", "detection_rows"]

    @property
    def names_files(self) -> bool:
        """Whether its specs name models, images and folders of results."""
        return bool(self.file_fields)


def family(kind: Kind) -> Family:
    """Returns the row of a detector."""
    return FAMILIES[kind]


def _read_faster_rcnn(
    config: Config, *, axis_name: str, categories: "Categories | None"
) -> "Experiment":
    from rcnn_jax.tasks.faster_rcnn.config import faster_rcnn_experiment

    del categories  # the spec names its classes itself
    return faster_rcnn_experiment(config, axis_name=axis_name)


def _read_mask_rcnn(
    config: Config, *, axis_name: str, categories: "Categories | None"
) -> "Experiment":
    from rcnn_jax.tasks.mask_rcnn.config import mask_rcnn_experiment

    return mask_rcnn_experiment(config, axis_name=axis_name, categories=categories)


def _draft_faster_rcnn() -> "SpecWriter":
    from rcnn_jax.tasks.faster_rcnn.draft import WRITER

    return WRITER


def _draft_mask_rcnn() -> "SpecWriter":
    from rcnn_jax.tasks.mask_rcnn.draft import WRITER

    return WRITER


_KERAS_LOSSES = {
    "rpn_class": "rpn_out_class_loss",
    "rpn_box": "rpn_out_regress_loss",
    "class": "dense_class_td_loss",
    "box": "dense_regress_td_loss",
}
"""The names Keras gave them in the original's log (docs/reference/faster_rcnn.md, "Log names")."""

FASTER_RCNN = Family(
    kind="faster_rcnn",
    title="Faster R-CNN: boxes",
    read=_read_faster_rcnn,
    named_files=faster_rcnn_files.named_files,
    retrain=faster_rcnn_retraining.retrain,
    model_name=faster_rcnn_files.model_name,
    file_fields={
        "train": "training_config.output_model",
        "evaluate": "evaluation_config.model",
        "inference": "inference_config.model",
        "images": "inference_config.images_dir",
        "pictures": "inference_config.detection_image_output_dir",
    },
    start_fields=(
        "training_config.pretrained_weights",
        "training_config.retrain_pruned_model",
        "training_config.teacher",
    ),
    validation_fields="dataset_config.validation_fold or dataset_config.validation_data_source",
    network="model_config",
    weights_depend_on=faster_rcnn_fields.WEIGHTS_DEPEND_ON,
    free=faster_rcnn_fields.FREE,
    in_effect=faster_rcnn_fields.in_effect,
    may_change=faster_rcnn_fields.MAY_CHANGE,
    # The unit in names of files is the original's: scripts of users match `epoch` and `step`.
    model_unit="epoch",
    log=LogFormat(
        terms=_KERAS_LOSSES,
        epoch_terms=_KERAS_LOSSES,
        status_terms=_KERAS_LOSSES,
        seconds_between_lines=10.0,
    ),
    never_pruned={},
    memory_advice=(
        "set a smaller size_height_width or batch_size_per_gpu",
        "if it persists, choose a smaller arch, freeze more of freeze_blocks, or add --use_amp",
        "resize very large images offline and make new TFRecords",
    ),
    memory_fields=("batch_size_per_gpu", "bf16"),
    has_category_ids=False,
    labels="kitti",
    records_from="spec",
    input_name="input_image",
    draft=_draft_faster_rcnn,
    outputs="nms_rows",
)

MASK_RCNN = Family(
    kind="mask_rcnn",
    title="Mask R-CNN: boxes and masks",
    read=_read_mask_rcnn,
    named_files=mask_rcnn_files.named_files,
    retrain=mask_rcnn_retraining.retrain,
    model_name=mask_rcnn_files.model_name,
    # The specs of Mask R-CNN name no model, so its commands need flags.
    file_fields={},
    start_fields=("checkpoint", "pruned_model_path", "teacher"),
    validation_fields="data_config.validation_file_pattern or data_config.coco_val_image_dir "
    "together with data_config.val_json_file, or data_config.tfds_name",
    network="maskrcnn_config",
    weights_depend_on=mask_rcnn_fields.WEIGHTS_DEPEND_ON,
    free=mask_rcnn_fields.FREE,
    in_effect=mask_rcnn_fields.in_effect,
    may_change=mask_rcnn_fields.MAY_CHANGE,
    model_unit="step",
    # The words of the original's log line, and the mask loss.
    # Source: docs/reference/mask_rcnn.md, "Log lines" and "Table of trained variables".
    log=LogFormat(
        terms={
            "rpn_class": "rpn score loss",
            "rpn_box": "rpn box loss",
            "class": "fast_rcnn class loss",
            "box": "fast_rcnn box loss",
            "mask": "mask loss",
        },
        lists_variables=True,
    ),
    # Source: docs/reference/mask_rcnn.md, "Pruning"; with max_level above 6 there are p7, ... as well.
    never_pruned={
        name: "read by every head"
        for name in (*(f"post_hoc_d{k}" for k in range(2, 6)), *(f"p{k}" for k in range(6, 13)))
    },
    memory_advice=(
        "set a smaller image_size or train_batch_size (eval_batch_size when it evaluates)",
        "if it persists, reduce n_workers and prefetch_buffer_size (shuffle_buffer_size holds no "
        "images here)",
        "resize very large images offline and make new TFRecords",
    ),
    memory_fields=("train_batch_size", "use_amp"),
    has_category_ids=True,
    labels="coco",
    records_from="coco",
    input_name="Input",
    draft=_draft_mask_rcnn,
    outputs="detection_rows",
)

FAMILIES: dict[Kind, Family] = {row.kind: row for row in (FASTER_RCNN, MASK_RCNN)}
"""Every detector by its name, in the order in which they are listed."""
