"""The two detectors, the three kinds of spec and the tasks, by their names on the command line."""

from typing import Literal

Kind = Literal["faster_rcnn", "mask_rcnn"]
"""A detector."""

SpecKind = Literal["faster_rcnn", "mask_rcnn", "dataset_convert"]
"""Subject of a spec: a detector, or a conversion of data."""

TaskName = Literal["train", "evaluate", "inference", "export"]
"""Task of a detector; a spec is asked for no more than its task uses."""
