"""Header of an exported graph: model and preprocessing, in the metadata of the file.

A graph alone does not say how images come to its input or what its classes are called. The header
does, so a file can be checked against a spec and used without one.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

from rcnn_jax.checkpoints.origin import Origin
from rcnn_jax.kinds import Kind
from rcnn_jax.runtime.stored_fields import header_values, parse_json
from rcnn_jax.settings.data import GeometrySettings
from rcnn_jax.settings.network import PixelSettings
from rcnn_jax.tasks.families import family
from rcnn_jax.version import __version__

ContractName = Literal["tao", "nms", "plain"]
HEADER_KEY = "rcnn_jax"
OutputForm = Literal["plain", "nms_rows", "detection_rows"]
"""How outputs are read: as plain arrays, or as the DeepStream parser of the detector takes them."""
MASKS = "mask_fcn_logits/BiasAdd"
DETECTIONS = "generate_detections"
NMS_NAMES = ("NMS", "NMS_1")
"""Outputs of a Faster R-CNN for DeepStream; its parser reads them by position."""
_OUTPUT_NAMES: dict[OutputForm, tuple[str, ...]] = {
    "plain": ("boxes", "scores", "classes", "valid"),
    "nms_rows": (),  # the names may be changed
    "detection_rows": (DETECTIONS,),
}


@dataclass(frozen=True, kw_only=True)
class Header:
    """Model, preprocessing and outputs of a graph, for its readers.

    Attributes:
      kind: which detector.
      contract: `tao`, what the DeepStream parser of the detector takes; `nms`, that of a Faster R-CNN for
        a Mask R-CNN without masks; `plain`.
      class_names: background excluded.
      category_ids: of Mask R-CNN, else None.
      geometry: from image file to canvas.
      channel_order: of the input.
      mean: subtracted from the pixels.
      std: divides them.
      batch: fixed batch size; None where it is free.
      nms_names: of the two outputs of a Faster R-CNN for DeepStream.
      depends: fields of the spec that the weights depend on; None in files of earlier versions.
      portable: {node that was replaced by standard operators: their form}; None where none was.
      version: of the program that wrote the file.
    """

    kind: Kind
    contract: ContractName
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...] | None
    geometry: GeometrySettings
    channel_order: Literal["rgb", "bgr", "l"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    batch: int | None
    nms_names: tuple[str, str] = NMS_NAMES
    depends: dict[str, Any] | None = None
    portable: dict[str, str] | None = None
    version: str = __version__

    @property
    def canvas(self) -> tuple[int, int]:
        """(height, width) of the input."""
        return self.geometry.height, self.geometry.width

    @property
    def pixels(self) -> PixelSettings:
        """The preprocessing as settings."""
        return PixelSettings(channel_order=self.channel_order, mean=self.mean, std=self.std)

    @property
    def origin(self) -> Origin:
        """The model, for the comparison with a spec."""
        return Origin(
            kind=self.kind,
            class_names=self.class_names,
            category_ids=self.category_ids,
            depends=self.depends,
            pixels=self.pixels,
            geometry=self.geometry,
            # The canvas is in the graph's shapes; only a bundle can be compiled for another.
            fixed_canvas=True,
        )

    @property
    def form(self) -> OutputForm:
        """How the outputs are read."""
        match self.contract:
            case "plain":
                return "plain"
            case "nms":
                return "nms_rows"
            case "tao":
                return family(self.kind).outputs

    @property
    def input_name(self) -> str:
        """Name of the input, as the graph was written."""
        return family(self.kind).input_name

    def output_names(self) -> tuple[str, ...]:
        """Returns the outputs that a graph of this kind and contract has at least."""
        return _OUTPUT_NAMES[self.form]

    def to_json(self) -> dict[str, Any]:
        """Returns the header as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Any) -> "Header":
        """Returns the header that `to_json` described.

        Raises:
          ValueError: somebody else wrote the fields, or changed them.
        """
        return cls(**header_values(fields))

    def to_metadata(self) -> dict[str, str]:
        """Returns the header as ONNX metadata."""
        return {HEADER_KEY: json.dumps(self.to_json())}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> "Header | None":
        """Returns the header that `to_metadata` wrote, or None where there is none.

        Raises:
          ValueError: the text was changed, or another version wrote it.
        """
        if HEADER_KEY not in metadata:
            return None
        return cls.from_json(parse_json(metadata[HEADER_KEY]))
