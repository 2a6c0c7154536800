"""All targets by name. Each is imported when it is asked for: most need no JAX."""

from tests.fuzz.case import Target

NAMES = (
    "specs",
    "records",
    "coco",
    "layouts",
    "images",
    "bundles",
    "weights",
    "headers",
    "pickles",
    "configs",
)


def find(name: str) -> Target:
    """Returns a target.

    Raises:
      KeyError: there is none of this name.
    """
    match name:
        case "specs":
            from tests.spec.mutants import SPECS as target
        case "records":
            from tests.data.record_mutants import RECORDS as target
        case "coco":
            from tests.data.coco_mutants import COCO as target
        case "layouts":
            from tests.data.layouts.mutants import LAYOUTS as target
        case "images":
            from tests.data.image_mutants import IMAGES as target
        case "bundles":
            from tests.checkpoints.mutants import BUNDLES as target
        case "weights":
            from tests.checkpoints.mutants import WEIGHTS as target
        case "pickles":
            from tests.checkpoints.pickle_mutants import PICKLES as target
        case "configs":
            from tests.checkpoints.config_mutants import CONFIGS as target
        case "headers":
            from tests.export.mutants import HEADERS as target
        case "faulty":
            from tests.fuzz.faulty import FAULTY as target
        case _:
            raise KeyError(name)
    return target
