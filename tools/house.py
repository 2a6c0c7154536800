"""Measures the structure of the package, for a comparison of two states of it.

    python -m tools.house [ROOT]

Prints one line per measure: files and their lines, comments per line of code, upward imports, circles of
modules, places that ask which detector it is. The floors are those of `tests/test_floors.py`.
"""

import ast
import io
import statistics
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

KINDS = {"faster_rcnn", "mask_rcnn"}
OWN = ("tasks", "spec", "models")
"""Packages that may know which detector it is."""


def main(root: Path) -> None:
    """Prints the measures of the package below `root`."""
    sys.path.insert(0, str(root))
    package = root / "rcnn_jax"
    files = sorted(package.rglob("*.py"))
    lines = [len(path.read_text().splitlines()) for path in files]
    code, comments = map(sum, zip(*(count(path.read_text()) for path in files), strict=True))
    graph = {module_of(path, root): set(imports(path, root)) for path in files}
    print(f"files                          {len(files)}")
    print(f"lines, median of a file        {statistics.median(lines):.0f}")
    print(f"files under 60 lines           {sum(n < 60 for n in lines)}")
    print(f"files over 400 lines           {sum(n > 400 for n in lines)}")
    print(f"lines of code per comment      {code / max(comments, 1):.1f}")
    print(f"circles of modules             {len(circles(graph))}")
    print(f"places that ask for the kind   {sum(asks(path, package) for path in files)}")
    rooms = {path.parent: 0 for path in files}
    for path in files:
        rooms[path.parent] += 1
    print(f"files in the fullest folder    {max(rooms.values())}")


def count(text: str) -> tuple[int, int]:
    """Returns (lines that hold code, comment lines); docstrings are neither."""
    code, comments, strings = set(), set(), set()
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            strings.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        rows = range(token.start[0], token.end[0] + 1)
        if token.type == tokenize.COMMENT:
            comments.update(rows)
        elif token.type not in (
            tokenize.NL,
            tokenize.NEWLINE,
            tokenize.INDENT,
            tokenize.DEDENT,
            tokenize.ENDMARKER,
        ):
            code.update(rows)
    return len(code - strings), len(comments)


def module_of(path: Path, root: Path) -> str:
    """Returns the dotted name of a file."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, root: Path) -> Iterator[str]:
    """Yields the modules of the package that a file imports when it is loaded.

    Imports inside functions are made later and close no circle.
    """
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("rcnn_jax"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rcnn_jax"):
            for alias in node.names:
                inner = root / Path(*f"{node.module}.{alias.name}".split("."))
                is_module = inner.with_suffix(".py").exists() or (inner / "__init__.py").exists()
                yield f"{node.module}.{alias.name}" if is_module else str(node.module)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Returns the strongly connected groups of more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = []
            while (member := stack.pop()) != node:
                group.append(member)
            if group:
                found.append([*group, node])

    sys.setrecursionlimit(10_000)
    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def asks(path: Path, package: Path) -> int:
    """Returns how often a file compares something with the name of a detector."""
    if path.relative_to(package).parts[0] in OWN:
        return 0
    found = 0
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare):
            values = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
            found += bool(values & KINDS)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
