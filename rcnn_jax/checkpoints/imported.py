"""Import of whole detectors: a checkpoint of torchvision or detectron2 becomes a bundle, nothing trained.

    arrays --names, layouts--> weights --read_layout--> Layout     what shapes show
                                   |  torchvision, detectron2--> Granted    what they do not
                                   v
                spec text --> experiment --every layer, both ways--> Bundle

A layer that the network lacks is as wrong as one that the file lacks: both are refused by name, for a
model that is nearly right finds nearly nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np

from rcnn_jax.checkpoints.bundle import Bundle
from rcnn_jax.checkpoints.detectron2 import detectron2_settings, read_config
from rcnn_jax.checkpoints.detectron2_names import from_detectron2, is_detectron2
from rcnn_jax.checkpoints.layout import Layout, check_finite, read_layout
from rcnn_jax.checkpoints.leaves import flatten
from rcnn_jax.checkpoints.pretrained import flat_arrays
from rcnn_jax.checkpoints.published import PUBLISHED, Published
from rcnn_jax.checkpoints.schemes import Weights, by_layer
from rcnn_jax.checkpoints.state import model_header
from rcnn_jax.checkpoints.taken_for_granted import THREE_RATIOS, Granted
from rcnn_jax.checkpoints.torch_names import from_torch
from rcnn_jax.checkpoints.torchvision import torchvision_settings
from rcnn_jax.data.sources.categories import Categories, numbered_categories
from rcnn_jax.errors import CheckpointError, RcnnError, SpecError, UsageError
from rcnn_jax.models.variables import layer_order
from rcnn_jax.reporter import SILENT, Reporter
from rcnn_jax.spec.load import LoadedSpec, load_spec, parse_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.text_file import read_text

SUFFIXES = (".pth", ".pt", ".pkl", ".safetensors", ".npz")
# The stride of the coarsest level: with another multiple its cells would hang over the canvas.
CANVAS_MULTIPLE = 64
MOST_CLASSES = 1 << 20
"""Bytes of a file of class names."""


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Options of an import: facts that no checkpoint holds.

    Attributes:
      spec: spec of the model; None makes one.
      config: config.yaml of detectron2.
      classes: file of class names, one a line.
      bn_eps: epsilon that batch norm was run with; None for the source's.
      roi_sampling_ratio: samples per side of a cell of RoIAlign, 1 to 8, instead of the source's; None
        keeps them.
      published: row of the file, where it is a published one.
    """

    spec: Path | None = None
    config: Path | None = None
    classes: Path | None = None
    bn_eps: float | None = None
    roi_sampling_ratio: int | None = None
    published: Published | None = None


def import_checkpoint(
    path: Path, options: ImportOptions = ImportOptions(), *, reporter: Reporter = SILENT
) -> Bundle:
    """Returns the bundle of a checkpoint.

    Args:
      path: `.pth`, `.pt`, `.safetensors`, `.npz` or `.pkl`.
      options: what the caller knows of it.
      reporter: told what was recognised and what was taken for granted.

    Raises:
      CheckpointError: the file is none of a Faster or Mask R-CNN on ResNet-FPN, or a layer does not fit.
      UsageError: an option does not fit the file.
      SpecError: the spec given is wrong.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{path}: a checkpoint is imported from {', '.join(SUFFIXES)}, not from '{path.suffix}'"
        )
    arrays = flat_arrays(path)
    # By the names of layers, not by the suffix: both libraries write .pth, and files get renamed.
    detectron2 = is_detectron2(arrays)
    weights = from_detectron2(arrays) if detectron2 else from_torch(arrays)
    layout = read_layout(weights, str(path))
    # After the layout: for a file of another architecture that is the message that helps.
    check_finite(weights, str(path))
    granted = _with_samples(_granted(path, layout, options, detectron2=detectron2), options)
    categories = _categories(layout, granted, options, path)
    kind = f"{granted.source}'s {layout.title}, {layout.classes} classes"
    reporter.note(f"recognised {kind}{_extras(layout)}")
    notes = granted.notes
    if options.spec is not None:
        instead = "" if options.config is None else f", not from {options.config}"
        notes = (f"what no shape shows is taken from {options.spec}{instead}",)
    for sentence in notes:
        reporter.note(sentence)
    if granted.categories is None and options.classes is None:
        reporter.note(
            f"nothing says what the {layout.classes} classes are called; --classes FILE names them"
        )
    if options.spec is not None:
        spec = load_spec(options.spec, "mask_rcnn", "inference")
    else:
        spec = model_spec(layout, granted, str(options.config or path))
    # Faster R-CNN of these libraries is this network without masks; `faster_rcnn` has no pyramid.
    experiment = build_experiment(spec.config, "mask_rcnn", categories=categories)
    counted = experiment.depends["data_config.num_classes"]
    # Only a spec of the user can differ. Predictors would be refused by shape further down; this
    # says it in classes.
    if counted != layout.classes + 1:
        raise CheckpointError(
            f"{path}: has {layout.classes} classes and background, the spec says num_classes: {counted}"
        )
    kept = _kept(weights, experiment, granted, str(path))
    return Bundle("mask_rcnn", model_header(experiment), kept)


def spec_text(layout: Layout, granted: Granted) -> str:
    """Returns the spec of a model, without data: what a run that goes on from it adds."""
    # Rounded up, never down: at less than their size the published AP would not be reached.
    height, width = (
        -(-side // CANVAS_MULTIPLE) * CANVAS_MULTIPLE
        for side in (granted.short_side, granted.long_side)
    )
    network = {
        "arch": '"resnet"',
        "nlayers": str(layout.depth),
        **granted.network,
        "include_mask": _flag(layout.masks),
        "rpn_conv_depth": str(layout.rpn_convs),
        "box_head": '"4conv1fc"' if layout.box_convs else '"2fc"',
        "fpn_norm": '"bn"' if layout.fpn_norm else '"none"',
        "head_norm": '"bn"' if layout.head_norm else '"none"',
        "fast_rcnn_mlp_head_dim": str(layout.head_width),
        # The side of a mask, from which the network takes its crops: a half for masks, a quarter
        # for boxes.
        "mrcnn_resolution": str(4 * layout.box_crop),
        "num_scales": "1",
        # Both libraries end in P6, which is P5 subsampled: it has no weights, so no shape shows it.
        "min_level": "2",
        "max_level": "6",
    }
    data = {
        "image_size": f'"({height}, {width})"',
        "short_side": str(granted.short_side),
        "long_side": str(granted.long_side),
        # As TAO counts, with background.
        "num_classes": str(layout.classes + 1),
    }
    return f"data_config {{\n{_lines(data)}}}\nmaskrcnn_config {{\n{_lines(network)}}}\n"


def _lines(fields: Mapping[str, str]) -> str:
    return "".join(f"  {name}: {value}\n" for name, value in fields.items())


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _granted(path: Path, layout: Layout, options: ImportOptions, *, detectron2: bool) -> Granted:
    # Three ratios of one size is a guess that holds for nearly all. Another number has no likely
    # answer, and a wrong one gives a model that runs and finds nothing.
    if layout.anchors_per_cell != len(THREE_RATIOS) and options.spec is None and not options.config:
        raise CheckpointError(
            f"{path}: rpn-class has {layout.anchors_per_cell} anchors a cell, the library's default has "
            f"{len(THREE_RATIOS)}: no shape shows which they are; give a spec with -e, or detectron2's "
            "config with --config"
        )
    if detectron2:
        # Its FrozenBatchNorm2d has the number in the code and no config changes it, so a flag that
        # says otherwise is a mistake about the source.
        if options.bn_eps not in (None, 1e-5):
            raise UsageError(
                f"--bn_eps {options.bn_eps:g}: detectron2's batch norm always has 1e-5"
            )
        config = None if options.config is None else read_config(options.config)
        return detectron2_settings(layout, config, str(options.config or path))
    if options.config is not None:
        raise UsageError(f"--config {options.config}: is for detectron2, {path} is of torchvision")
    # The user's word wins over the table: a file may be called as a published one and be trained
    # further.
    known = options.published or _published(path)
    known_eps = None if known is None else known.bn_eps
    return torchvision_settings(layout, known_eps if options.bn_eps is None else options.bn_eps)


def _with_samples(granted: Granted, options: ImportOptions) -> Granted:
    """Returns the settings with the samples of RoIAlign that the caller wants, and what that means."""
    samples, name = options.roi_sampling_ratio, "roi_sampling_ratio"
    if samples is None:
        return granted
    # Two sources of one field: whichever won, the other would be overruled in silence.
    if options.spec is not None:
        raise UsageError(
            f"--{name} {samples}: is a field of the spec, write it into {options.spec} instead"
        )
    # detectron2's entry is always written; torchvision has this one number.
    trained = granted.network.get(name, "2")
    if trained == f"{samples}":
        return granted
    was = "as many as a cell has cells of the map" if trained == "0" else f"{trained} x {trained}"
    note = (
        f"RoIAlign takes {samples} x {samples} samples in a cell, not {was}, with which the model was "
        "trained: boxes, scores and average precision change a little; python -m "
        "benchmarks.tables.roi_samples MODEL -e SPEC prints by how much"
    )
    network = {**granted.network, name: f"{samples}"}
    return replace(granted, network=network, notes=(*granted.notes, note))


def _published(path: Path) -> Published | None:
    """Returns the published row whose file has this name: such files are copied around by hand."""
    names = {row.url.rpartition("/")[2]: row for row in PUBLISHED.values() if row.is_detector}
    return names.get(path.name)


def _extras(layout: Layout) -> str:
    extras = {
        f"{layout.rpn_convs} convolutions in the RPN": layout.rpn_convs > 1,
        f"{layout.box_convs} convolutions in the box head": layout.box_convs > 0,
        "batch norm in the pyramid": layout.fpn_norm,
        "batch norm in the heads": layout.head_norm,
    }
    present = [text for text, there in extras.items() if there]
    return f"; {', '.join(present)}" if present else ""


def _categories(layout: Layout, granted: Granted, options: ImportOptions, path: Path) -> Categories:
    if options.classes is None:
        return granted.categories or numbered_categories(layout.classes + 1)
    text = read_text(options.classes, "file of class names", UsageError, limit=MOST_CLASSES)
    names = [line.strip() for line in text.splitlines()]
    # Only at the end, where editors leave empty lines. Further up one would shift all ids after it.
    while names and not names[-1]:
        names.pop()
    if len(names) != layout.classes:
        hint = ""
        if len(names) == layout.classes + 1:
            hint = "; background has no line"
        # The mistake nearly everyone makes: lists of COCO's names have 80, torchvision's predictors
        # 91 rows.
        elif {len(names), layout.classes} == {80, 90}:
            hint = "; torchvision counts COCO's unused ids, 90 in all"
        raise UsageError(
            f"--classes {options.classes}: has {len(names)} names, {path} has {layout.classes} "
            f"classes{hint}"
        )
    if "" in names or len(set(names)) != len(names):
        twice = next((n for i, n in enumerate(names) if n in names[:i]), "")
        what = f"'{twice}' twice" if twice else "an empty line"
        raise UsageError(f"--classes {options.classes}: has {what}; every class needs its own name")
    # Renamed classes keep the ids of COCO, gaps included, so that results can still be scored
    # against its annotations.
    known = granted.categories
    ids = known.ids if known is not None else tuple(range(1, layout.classes + 1))
    return Categories(ids, tuple(names))


def model_spec(layout: Layout, granted: Granted, where: str) -> LoadedSpec:
    """Returns the spec of a model, checked.

    Args:
      layout: of its layers.
      granted: what no shape shows.
      where: the config or the checkpoint, begins the message.

    Raises:
      CheckpointError: a value is out of the range that a spec may have.
    """
    try:
        return parse_spec(spec_text(layout, granted), "its spec", "mask_rcnn", "inference")
    except SpecError as error:
        # Nobody wrote that spec: without the name of the config its lines would be of no file.
        raise CheckpointError(f"{where}: the model cannot be built: {error}") from error


def _kept(
    weights: Weights, experiment: Experiment, granted: Granted, name: str
) -> dict[str, np.ndarray]:
    """Returns the arrays of a bundle: every layer of the network, from the file.

    Raises:
      CheckpointError: a layer is missing, has another shape, or belongs to no layer.
    """
    task = experiment.task
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    # Only names, shapes and dtypes are compared. A broadcast zero has them and takes no memory,
    # where arrays would hold the whole model a second time.
    template = jax.tree.map(
        lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), shapes
    )
    ours = {
        leaf: array
        for group, tree in template.items()
        for leaf, array in flatten(tree, group).items()
    }
    model = by_layer(ours)
    if any(_difference(leaves, weights.get(layer)) for layer, leaves in model.items()):
        # The order costs two more traces of the network, a second that only a refusal is worth.
        for layer in layer_order(task.model, task.pixels.channels):
            difference = _difference(model.get(layer, {}), weights.get(layer))
            if layer in model and difference:
                raise CheckpointError(
                    f"{name}: {layer}{difference}, the first layer of the network that differs: the file "
                    "is of another architecture than the spec"
                )
    # A network that ignored them would run too, without the layers that made the file what it is.
    surplus = [layer for layer in weights if layer not in model]
    if surplus:
        raise CheckpointError(
            f"{name}: has layers that the network lacks, '{surplus[0]}' is the first of "
            f"{len(surplus)}: the file is of another architecture than the spec"
        )
    weights = {
        layer: _rescaled(leaves, granted.bn_eps, task.model.convention.bn_eps)
        for layer, leaves in weights.items()
    }
    arrays = {}
    for leaf, array in ours.items():
        layer, _, last = leaf.partition("/")[2].rpartition("/")
        # Renaming left transposed views; one copy here instead of one a layer there.
        arrays[leaf] = np.asarray(weights[layer][last], array.dtype, order="C")
    return arrays


def _difference(ours: Mapping[str, np.ndarray], stored: Mapping[str, np.ndarray] | None) -> str:
    """Returns how a layer of the file differs from the network's, the end of a sentence; "" for not."""
    if stored is None:
        return " is not in the file"
    for leaf in sorted(ours.keys() | stored.keys()):
        stored_shape, wanted = (
            f"{list(side[leaf].shape)}" if leaf in side else "nothing" for side in (stored, ours)
        )
        if stored_shape != wanted:
            return f"/{leaf} is {stored_shape} in the file and {wanted} in the network"
    return ""


def _rescaled(
    leaves: Mapping[str, np.ndarray], trained: float, ours: float
) -> dict[str, np.ndarray]:
    """Returns batch norm that does with our epsilon what it did with another.

    The scale is gamma / sqrt(variance + epsilon). It is gamma that changes, not the variance: with an
    epsilon of 0 the variance would become negative.
    """
    # The usual file: its arrays are handed on as they are.
    if trained == ours or "moving_variance" not in leaves:
        return dict(leaves)
    # In double, so that the only rounding is that of the result.
    variance = np.asarray(leaves["moving_variance"], np.float64)
    with np.errstate(divide="ignore"):
        # A variance of 0 has no finite factor at an epsilon of 0; the source itself computes 1 / 0.
        factor = np.where(variance > 0, np.sqrt((variance + ours) / (variance + trained)), 1.0)
    return {**leaves, "gamma": (leaves["gamma"] * factor).astype(np.float32)}


def import_published(row: Published, path: Path, *, reporter: Reporter = SILENT) -> Bundle:
    """Returns the bundle of a published detector.

    Args:
      row: what is published.
      path: its file in the cache.
      reporter: see `import_checkpoint`.

    Raises:
      CheckpointError: it is a classifier, or its file is not what it should be.
    """
    if not row.is_detector:
        raise CheckpointError(
            f"{row.name}: is a classifier, whose backbone a detector can start from (checkpoint or "
            "pretrained_weights in a spec); a model to run is called coco/..."
        )
    try:
        # The row goes along, since a mirror or the cache may have given the file another name than
        # the table's.
        return import_checkpoint(path, ImportOptions(published=row), reporter=reporter)
    except RcnnError as error:
        # The user wrote a name and has never seen the path in the cache that the inner message
        # begins with.
        raise CheckpointError(f"{row.name}: {error}") from error
