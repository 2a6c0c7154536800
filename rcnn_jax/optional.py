"""Imports of packages outside the core installation."""

import importlib
from types import ModuleType

from rcnn_jax.errors import MissingDependencyError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Imports an optional module; the error names the extra that installs it.

    Args:
      module: dotted module name, for example `tensorrt`.
      extra: the extra of this project that installs it.
      purpose: what the module is needed for, put into the message.

    Raises:
      MissingDependencyError: the module is not installed.
    """
    try:
        # Tried and not looked up: `find_spec` finds a package whose own libraries are missing.
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{purpose} needs the package '{module}', which is not installed: "
            f"run  pip install 'rcnn-jax[{extra}]'"
        ) from error
