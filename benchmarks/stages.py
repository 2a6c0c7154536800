"""Stage of a detector that an operation belongs to, from the name that JAX gave it.

A name is the path through named scopes, nested jits and modules, for example
`jit(step)/transpose(jvp(MaskRcnn.extract))/fpn/l3/conv_general_dilated`.
"""

import re

FORWARD, BACKWARD = "forward", "backward"

STAGES = (
    "backbone",
    "FPN",
    "RPN head",
    "RPN targets",
    "proposals",
    "roi targets",
    "RoIAlign",
    "box head",
    "mask head",
    "mask targets",
    "losses",
    "detections",
    "optimizer",
    "other",
)
"""In the order of a step."""

# The first match wins, so scopes of the algorithm come before the models that they call.
_PATTERNS = tuple(
    (stage, re.compile(pattern))
    for stage, pattern in (
        # Scopes of tasks/two_stage and of the step, the innermost of which says most.
        ("RoIAlign", r"rcnn\.roi_align"),
        ("RPN targets", r"stage\(assign_rpn\)"),
        ("proposals", r"stage\(propose\)"),
        ("roi targets", r"stage\(sample_rois\)"),
        ("RoIAlign", r"stage\(pool\)"),
        ("detections", r"stage\(detect\)"),
        ("mask targets", r"stage\(mask_targets\)"),
        ("optimizer", r"stage\(update\)"),
        # Methods and parts of the models.
        ("mask head", r"\.segment|mask_head"),
        ("box head", r"\.classify|box_head|predictor"),
        ("RPN head", r"\.rpn\b|rpn_head"),
        ("FPN", r"\bfpn\b"),
        ("backbone", r"\.extract|\btrunk\b|stage\(normalize\)"),
        ("losses", r"stage\((rpn_losses|box_losses|mask_cross_entropy)\)"),
    )
)


def stage_of(name: str) -> str:
    """Returns one of STAGES."""
    for stage, pattern in _PATTERNS:
        if pattern.search(name):
            return stage
    return "other"


def direction_of(name: str) -> str:
    """Returns BACKWARD for what `jax.grad` added, else FORWARD."""
    # Backward passes by hand are inside of the same transpose, so they count rightly.
    return BACKWARD if "transpose(" in name else FORWARD
