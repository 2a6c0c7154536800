"""JSON files of annotations, whatever tool wrote them."""

import json
from pathlib import Path
from typing import Any

from rcnn_jax.errors import DataError
from rcnn_jax.printable import shown
from rcnn_jax.text_file import read_text


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file.

    Raises:
      DataError: it cannot be read, or is no JSON.
    """
    text = read_text(path, "JSON file")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON: {shown(str(error))}") from error
