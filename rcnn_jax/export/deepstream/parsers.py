"""The parser functions of DeepStream's own library, one for each form of outputs.

Source: docs/reference/deepstream.md, "Parser of Faster R-CNN" and "Parser of Mask R-CNN".
"""

from dataclasses import dataclass, field

from rcnn_jax.errors import UsageError
from rcnn_jax.runtime.header import DETECTIONS, MASKS, Header, OutputForm

LIBRARY = "/opt/nvidia/deepstream/deepstream/lib/libnvds_infercustomparser.so"
"""DeepStream's own library of parsers."""


@dataclass(frozen=True, kw_only=True)
class Parser:
    """Settings with which nvinfer reads the outputs of a graph.

    Attributes:
      keys: of nvinfer's config: the function, and how what it gives is used.
      outputs: their names; empty where the names of the header count.
      background: line of the background in the label file.
      background_first: the classes that the parser gives count from 1, not from 0.
    """

    keys: dict[str, object] = field(default_factory=dict)
    outputs: tuple[str, ...]
    background: str
    background_first: bool

    @property
    def masks(self) -> bool:
        """Whether it reads masks."""
        return MASKS in self.outputs


PARSERS: dict[OutputForm, Parser] = {
    "nms_rows": Parser(
        keys={"parse-bbox-func-name": "NvDsInferParseCustomNMSTLT"},
        outputs=(),
        background="background",
        background_first=False,
    ),
    "detection_rows": Parser(
        keys={
            "parse-bbox-instance-mask-func-name": "NvDsInferParseCustomMrcnnTLTV2",
            "output-instance-mask": 1,
            "segmentation-threshold": 0.0,
        },
        outputs=(DETECTIONS, MASKS),
        background="BG",
        background_first=True,
    ),
}
"""No parser reads the form `plain`."""


def parser_of(header: Header) -> Parser:
    """Returns the parser of a graph.

    Raises:
      UsageError: there is none.
    """
    parser = PARSERS.get(header.form)
    if parser is None:
        raise UsageError(
            f"--gen_ds_config: no DeepStream parser reads the contract '{header.contract}'; leave "
            "--contract out"
        )
    return parser
