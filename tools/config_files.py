"""Writes the config files in Python from the specs of the same names; their docstrings stay.

python -m tools.config_files            writes configs/**/*.py
python -m tools.config_files --check    fails when a file is not what would be written
"""

import sys
from pathlib import Path

from rcnn_jax.spec import load_spec
from rcnn_jax.spec.python_file import python_file

CONFIGS = Path(__file__).parents[1] / "configs"
# It takes the path of any spec, so no spec has its content.
WRITTEN_BY_HAND = (CONFIGS / "spec.py",)


def sources() -> dict[Path, Path]:
    """Returns {config file: spec with the same content}."""
    files = [path for path in sorted(CONFIGS.rglob("*.py")) if path not in WRITTEN_BY_HAND]
    by_file = {path: path.with_suffix(".txt") for path in files}
    by_file[CONFIGS / "quickstart.py"] = CONFIGS / "faster_rcnn" / "quickstart.txt"
    return by_file


def rewritten(path: Path, spec: Path) -> str:
    """Returns the content of a config file below its docstring."""
    docstring, source = path.read_text(encoding="utf-8"), python_file(load_spec(spec), str(path))
    # The docstring is written by people: what the config is for is in no spec.
    return _head(docstring) + source.removeprefix(_head(source))


def _head(source: str) -> str:
    return source[: source.index('"""', 3) + 3]


def main() -> int:
    """Writes the files, or with --check compares them; returns the exit code."""
    stale = [
        path
        for path, spec in sources().items()
        if path.read_text(encoding="utf-8") != rewritten(path, spec)
    ]
    if "--check" in sys.argv[1:]:
        for path in stale:
            sys.stderr.write(f"{path} is stale: run python -m tools.config_files\n")
        return 1 if stale else 0
    for path in stale:
        path.write_text(rewritten(path, sources()[path]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
