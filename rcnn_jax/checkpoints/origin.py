"""Origin of a model file, and its comparison with a spec.

Bundles, graphs and engines have metadata of their own; an `Origin` is the common part, and
`check_same_model` compares it for all of them. Weights run with other means or anchors without a
complaint and detect little.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rcnn_jax.data.sources.categories import Categories, numbered_categories
from rcnn_jax.errors import CheckpointError, DataError
from rcnn_jax.kinds import Kind
from rcnn_jax.settings.data import GeometrySettings
from rcnn_jax.settings.network import PixelSettings
from rcnn_jax.tasks.dependence import Dependence
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.families import family

# COCO's 80 names, or the anchors of a spec, would hide the sentence that they are in.
_SHOWN_NAMES = 12
_SHOWN_LETTERS = 200


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The settings a model was trained with; None where the file has none.

    Attributes:
      kind: which detector.
      class_names: background excluded, in the order of the predictors.
      category_ids: of a Mask R-CNN, else None.
      depends: fields of the spec that the weights depend on, see `tasks.dependence`.
      pixels: from uint8 to network values.
      geometry: from image file to canvas.
      fixed_canvas: the model takes no other canvas than that of `geometry`.
    """

    kind: Kind
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...] | None
    depends: Dependence | None = None
    pixels: PixelSettings | None = None
    geometry: GeometrySettings | None = None
    fixed_canvas: bool = False

    @property
    def categories(self) -> Categories | None:
        """The classes of a Mask R-CNN; None for a Faster R-CNN, whose spec names them."""
        if self.category_ids is None:
            return None
        return Categories(self.category_ids, self.class_names)


def check_same_model(origin: Origin, experiment: Experiment, name: str) -> list[str]:
    """Compares the model of a file with the model of a spec.

    Args:
      origin: of the file.
      experiment: of the spec.
      name: of the file, begins every message.

    Returns:
      Sentences for the user: permitted differences, and settings that could not be compared.

    Raises:
      CheckpointError: the spec is of another model: results would be wrong. The message names every
        field with both values.
    """
    check_classes(origin.kind, origin.class_names, origin.category_ids, experiment, name)
    lines = list(_differences(origin.depends or {}, experiment.depends))
    # Files of earlier versions state no fields of the spec, but graphs have always had their pixels.
    if not lines and origin.pixels is not None:
        stored, wanted = origin.pixels, experiment.task.pixels
        lines = list(_differences(dataclasses.asdict(stored), dataclasses.asdict(wanted)))
    if lines:
        raise CheckpointError(
            f"{name}: is of another model than the spec describes, and its weights would give "
            "wrong detections:\n  "
            + "\n  ".join(lines)
            + "\nUse the spec it was trained with; thresholds, counts and paths may differ"
        )
    return list(_notes(origin, experiment, name))


def check_kind(stored: Kind, wanted: Kind, name: str) -> None:
    """Stops when a file is of another detector.

    Raises:
      CheckpointError: it is.
    """
    if stored != wanted:
        raise CheckpointError(f"{name}: holds a {stored} model, the spec is of {wanted}")


def check_classes(
    kind: Kind,
    class_names: tuple[str, ...],
    category_ids: tuple[int, ...] | None,
    experiment: Experiment,
    name: str,
) -> None:
    """Checks the detector and the classes of a file.

    Raises:
      CheckpointError: the file is of another detector or has other classes.
      DataError: the spec names no data, so that its classes are unknown.
    """
    check_kind(kind, experiment.kind, name)
    wanted = experiment.task.class_names
    # Before the fields: other classes are the mistake that a user recognises at once.
    if class_names != wanted:
        # Published models hold a spec without data. A list of "category 1, category 2" beside COCO's
        # names would hide that reason.
        if wanted == numbered_categories(len(wanted) + 1).names and experiment.eval_source is None:
            fields = family(experiment.kind).validation_fields
            raise DataError(
                f"{name}: was trained for the classes {_names(class_names)}; the spec names no "
                f"annotations that say which classes it has: set {fields}"
            )
        raise CheckpointError(
            f"{name}: was trained for the classes {_names(class_names)}; the spec maps to "
            f"{_names(wanted)}. Use the spec it was trained with"
        )
    # Equal names with other ids: results would be scored against other categories.
    if experiment.category_ids is not None and category_ids != experiment.category_ids:
        raise CheckpointError(
            f"{name}: was trained for the category ids [{_names(category_ids or ())}]; the "
            f"annotations of the spec have [{_names(experiment.category_ids)}]. Use the "
            "annotations it was trained with"
        )


def _notes(origin: Origin, experiment: Experiment, name: str) -> Iterator[str]:
    """Yields permitted differences, and settings that could not be compared.

    Raises:
      CheckpointError: the canvas differs and the model takes one only.
    """
    if origin.depends is None:
        compared = "classes" if origin.pixels is None else "classes, input size and preprocessing"
        yield (
            f"{name}: does not state the anchors and other settings of its training (an "
            f"earlier version wrote it): only {compared} were compared with the spec"
        )
    # A note and no error: a model may be run on other sizes on purpose, and finds what is of its
    # sizes.
    if origin.geometry is None or origin.geometry == experiment.geometry:
        return
    stored, wanted = origin.geometry, experiment.geometry
    canvas = (stored.height, stored.width), (wanted.height, wanted.width)
    # A graph has its canvas in its shapes; a bundle is compiled for whatever canvas the spec says.
    if origin.fixed_canvas and canvas[0] != canvas[1]:
        raise CheckpointError(
            f"{name}: was exported with another input size (height, width): {canvas[0]}; the spec "
            f"says {canvas[1]}. Use the spec it was exported with, or export the model again"
        )
    lines = _differences(dataclasses.asdict(stored), dataclasses.asdict(wanted))
    yield (
        f"{name}: images are fitted to the input otherwise than it was trained with ("
        + "; ".join(lines)
        + "): objects that come in another size or shape may be missed"
    )


def _differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """Yields a line for every field that differs: `field: trained with A, the spec says B`."""
    # Common fields only: a release that makes a new field matter cannot ask old files for it.
    for field in sorted(stored.keys() & wanted.keys()):
        if stored[field] != wanted[field]:
            yield (
                f"{field}: trained with {_shown(stored[field])}, the spec says "
                f"{_shown(wanted[field])}"
            )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}..."


def _names(values: tuple[Any, ...]) -> str:
    shown = ", ".join(str(value) for value in values[:_SHOWN_NAMES])
    more = len(values) - _SHOWN_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
