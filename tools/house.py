"""Measures of the structure of the package, for a comparison of two states of it.

    python -m tools.house [ROOT]

Prints one line per measure: files and their lines, comments per line of code, circles of
modules, places that ask which detector it is, names that say nothing of a value. The rules are those of
`tests/test_house.py`, so the tool and the tests cannot count differently.
"""

import ast
import io
import statistics
import sys
import tokenize
from pathlib import Path

from tests.test_house import AROUND, KNOW_DETECTORS, circles, import_graph, questions, vague_names


def main(root: Path) -> None:
    """Prints the measures of the package below `root`."""
    package = root / "rcnn_jax"
    files = sorted(package.rglob("*.py"))
    lines = [len(path.read_text().splitlines()) for path in files]
    code, comments = map(sum, zip(*(count(path.read_text()) for path in files), strict=True))
    outside = [path for path in files if path.relative_to(package).parts[0] not in KNOW_DETECTORS]
    asked = sum(len([*questions(path.read_text())]) for path in outside)
    print(f"files                          {len(files)}")
    print(f"lines, median of a file        {statistics.median(lines):.0f}")
    print(f"files under 60 lines           {sum(n < 60 for n in lines)}")
    print(f"files over 400 lines           {sum(n > 400 for n in lines)}")
    print(f"lines of code per comment      {code / max(comments, 1):.1f}")
    print(f"circles of modules             {len(circles(import_graph(package)))}")
    print(f"places that ask for the kind   {asked}")
    around = [path for folder in AROUND for path in (root / folder).rglob("*.py")]
    for what, paths in (("", files), (" around it", around)):
        vague = sum(len([*vague_names(path.read_text())]) for path in paths)
        print(f"{'names that are no nouns' + what:<30} {vague}")
    rooms = {path.parent: 0 for path in files}
    for path in files:
        rooms[path.parent] += 1
    print(f"files in the fullest folder    {max(rooms.values())}")


def count(text: str) -> tuple[int, int]:
    """Returns (lines that hold code, comment lines); docstrings are neither."""
    code, comments, strings = set(), set(), set()
    tree = ast.parse(text)
    # Strings that are statements: docstrings, and those that document a constant.
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            strings.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        rows = range(token.start[0], token.end[0] + 1)
        if token.type == tokenize.COMMENT:
            comments.update(rows)
        # By rows of tokens, so that a call over five lines counts five, as a reader scrolls past
        # them.
        elif token.type not in (
            tokenize.NL,
            tokenize.NEWLINE,
            tokenize.INDENT,
            tokenize.DEDENT,
            tokenize.ENDMARKER,
        ):
            code.update(rows)
    return len(code - strings), len(comments)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
