"""The benchmarks import downwards only; read from the source, nothing is imported."""

import ast
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"
SUITES = {"train", "predict", "export", "ops", "data", "eval", "growth", "compile", "profile"}


def imports_by_module():
    """{module: modules of the benchmarks that it imports, inside functions too}."""
    modules = {path.stem: ast.parse(path.read_text()) for path in FOLDER.glob("*.py")}
    imports = {name: set() for name in modules}
    for name, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "benchmarks":
                imports[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("benchmarks."):
                imports[name].add(node.module.split(".")[1])
    return imports


def test_suites_do_not_know_each_other():
    imports = imports_by_module()
    assert {name: imports[name] & SUITES for name in SUITES} == {name: set() for name in SUITES}
    assert imports["suite"] & SUITES == SUITES
