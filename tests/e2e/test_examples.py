"""The notebook in examples/: its cells run in order, in a folder of their own, as Jupyter runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "ten_cells.ipynb"
# Of a cell that begins with `!`, the rest goes to a shell.
SHELL = "import subprocess; subprocess.run({line!r}, shell=True, check=True)"


def cells() -> list[str]:
    book = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]


def test_it_has_ten_cells():
    assert len(cells()) == 10


@pytest.mark.slow
def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path):
    lines = ["import matplotlib; matplotlib.use('agg')"]
    for cell in cells():
        lines += [
            SHELL.format(line=line.removeprefix("!")) if line.startswith("!") else line
            for line in cell.splitlines()
        ]
    program = tmp_path / "ten_cells.py"
    # A good model is for people; a test only needs to come to its end.
    text = "\n".join(lines)
    for long, short in (
        ("count=160", "count=24"),
        ("minutes=2", "minutes=0.5"),
        ("--overwrite", "--overwrite --canvas 96x96 --arch resnet:10"),
    ):
        assert long in text
        text = text.replace(long, short)
    program.write_text(text)
    scripts = Path(sys.executable).parent
    done = subprocess.run(
        [sys.executable, program.name],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "largest difference:" in done.stdout
    assert (tmp_path / "run" / "metrics.html").stat().st_size > 2000
