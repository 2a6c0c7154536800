"""The two detectors, the three kinds of spec and the tasks, by their names on the command line."""

from typing import Literal

Kind = Literal["faster_rcnn", "mask_rcnn"]
"""A detector."""

SpecKind = Literal["faster_rcnn", "mask_rcnn", "dataset_convert"]
"""What a spec describes."""

TaskName = Literal["train", "evaluate", "inference", "export"]
"""What is done with a detector; a spec is asked for no more than its task uses."""
