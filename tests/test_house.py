"""Rules of the house that one import alone does not show; `test_floors.py` has those that it does.

- Outside `tasks`, `spec` and `models` nobody asks which detector it is.
- Outside `tasks` and `spec` nobody reads a field of a config.
- `data` and `spec` import no jax, not even through others.
- No circle of imports.
- No identifier is a word that `docs/glossary.md` replaces by a noun of the field, in tests neither.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.tasks.families import FAMILIES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rcnn_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
AROUND = ("tests", "tools", "benchmarks", "experiments", "configs", "examples")
KNOW_DETECTORS = ("tasks", "spec", "models")
READ_CONFIGS = ("tasks", "spec")
DETECTORS = {"FasterRcnn", "MaskRcnn", "FasterRcnnTask", "MaskRcnnTask"}
BLOCKS = {
    field.name
    for table in TABLES.values()
    for field in table.fields
    if field.kind == "message" and field.name not in ("export", "prune")  # words of commands too
} | {"enc_key"}
"""Names that nothing but a config has; checked wherever they are read."""
JAX = ("jax", "jaxlib", "flax", "optax", "orbax")
NOT_NOUNS = {
    "found",
    "said",
    "gave",
    "sealed",
    "woven",
    "apart",
    "turned",
    "judged",
    "verdict",
    "verdicts",
} | {"share", "shares", "Place", "Places", "places"}
"""Words that say nothing of what a value is: detections, matches, findings, fractions do."""
NO_VALUES = {"place"}
"""Good for a function, which does it, and for no value: slot, position, index, path say which."""


def questions(source: str) -> Iterator[str]:
    """Yields a sentence for every place that asks which detector it is."""
    for node in ast.walk(ast.parse(source)):
        line = f"line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(_names_kind(leaf) for side in sides for leaf in _leaves(side)):
                yield f"{line}: compares a kind: ask `tasks.families.family(kind)`"
        elif isinstance(node, ast.MatchValue) and _names_kind(node.value):
            yield f"{line}: compares a kind: ask `tasks.families.family(kind)`"
        elif isinstance(node, ast.Dict):
            if len([key for key in node.keys if key is not None and _names_kind(key)]) > 1:
                yield f"{line}: a table by kind: make it a field of `tasks.families.Family`"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            asked = {leaf.id for leaf in _leaves(node) if isinstance(leaf, ast.Name)}
            if node.func.id in ("isinstance", "issubclass") and asked & DETECTORS:
                yield f"{line}: asks for the class of a task or network: use the protocol"
        elif isinstance(node, ast.ImportFrom) and node.module in (
            f"rcnn_jax.{package}.{kind}" + rest
            for package in ("tasks", "models")
            for kind in FAMILIES
            for rest in ("", ".config", ".data", ".task")
        ):
            yield f"{line}: {node.module} is of one detector"


def readings(source: str) -> Iterator[str]:
    """Yields a sentence for every place that reads a field of a config.

    Known are blocks of the specs by their names, and whatever a parameter gives that is annotated as
    a config; a config in disguise passes.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        name = _field_read(node)
        if name in BLOCKS:
            yield f"line {getattr(node, 'lineno', 0)}: reads '{name}' of a config: `tasks` does that"
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        arguments = [*function.args.args, *function.args.kwonlyargs, *function.args.posonlyargs]
        configs = {
            argument.arg
            for argument in arguments
            if argument.annotation is not None
            and {"ConfigDict", "Config"} & _words(ast.unparse(argument.annotation))
        }
        for node in ast.walk(function):
            if (
                isinstance(node, ast.Attribute | ast.Subscript)
                and isinstance(node.value, ast.Name)
                and node.value.id in configs
            ):
                yield f"line {node.lineno}: {ast.unparse(node)} reads a config: `tasks` does that"


def vague_names(source: str) -> Iterator[str]:
    """Yields every variable, parameter, field or keyword whose name is no noun of the field."""
    for node in ast.walk(ast.parse(source)):
        for key in ("id", "arg", "attr", "name"):
            name = getattr(node, key, "") or ""
            # An underscore in front hides a word from importers, not from readers.
            if name.strip("_") in NOT_NOUNS or (name in NO_VALUES and _is_value(node)):
                yield f"line {getattr(node, 'lineno', 0)}: '{name}': say what it is"


def _is_value(node: ast.AST) -> bool:
    return isinstance(node, ast.arg) or isinstance(getattr(node, "ctx", None), ast.Store)


def circles(imports: Mapping[str, set[str]]) -> list[list[str]]:
    """Returns the groups of modules that import each other (Tarjan's components of two and more)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(imports[module]):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                groups.append(sorted(group))

    for module in sorted(imports):
        if module not in index:
            visit(module)
    return groups


def import_graph(package: Path) -> dict[str, set[str]]:
    """Returns {module: modules of the package that it imports}, inside functions too.

    Imports for types alone are left out: they do not run.
    """
    paths = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in package.rglob("*.py")
    }
    graph: dict[str, set[str]] = {}
    for module, path in paths.items():
        graph[module] = set()
        for name in _imported(ast.parse(path.read_text(encoding="utf-8"))):
            while name and name not in paths:
                name = name.rpartition(".")[0]
            if name and name != module:
                graph[module].add(name)
    return graph


def _imported(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        else:
            yield from _imported(child)


def _names_kind(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value in FAMILIES


def _leaves(node: ast.AST) -> Iterator[ast.AST]:
    yield from ast.walk(node)


def _words(text: str) -> set[str]:
    return set(text.replace("'", " ").replace('"', " ").replace("|", " ").split())


def _field_read(node: ast.AST) -> str | None:
    """Returns the name that `x.name`, `x["name"]` or `x.get("name")` reads."""
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return node.slice.value if isinstance(node.slice.value, str) else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        first, of = node.args[0], node.func.value
        if isinstance(of, ast.Attribute) and of.attr == "attrs":  # of an HDF5 file
            return None
        if node.func.attr == "get" and isinstance(first, ast.Constant):
            return first.value if isinstance(first.value, str) else None
    return None


def _outside(parts: tuple[str, ...]) -> list[Path]:
    return [path for path in FILES if path.relative_to(PACKAGE).parts[0] not in parts]


def _broken(check, paths: list[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}, {sentence}"
        for path in paths
        for sentence in check(path.read_text(encoding="utf-8"))
    ]


def test_outside_tasks_spec_and_models_nobody_asks_which_detector_it_is():
    assert _broken(questions, _outside(KNOW_DETECTORS)) == []


def test_outside_tasks_and_spec_nobody_reads_a_field_of_a_config():
    assert _broken(readings, _outside(READ_CONFIGS)) == []


@pytest.mark.parametrize("folder", ["rcnn_jax", *AROUND])
def test_names_are_nouns_of_the_field(folder):
    assert _broken(vague_names, sorted((ROOT / folder).rglob("*.py"))) == []


@pytest.mark.parametrize(
    "source",
    ["found = 1", "def f(said): pass", "x.share", "f(found=1)", "def _sealed(): pass"]
    + ["place = 1", "def f(place): pass", "[1 for place in x]", "class Place: pass"],
)
def test_every_vague_name_is_named(source):
    (complaint,) = vague_names(source)
    assert "say what it is" in complaint


def test_a_function_may_place_something():
    assert [*vague_names("from a import place\ndef place(): pass\nx = place()")] == []


def test_docstrings_say_what_a_value_is():
    """`Returns what X says of Y` makes the reader look for the noun."""
    vague = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        and (ast.get_docstring(node) or "").startswith("Returns what ")
    ]
    assert vague == []


@pytest.mark.parametrize("package", ["data", "spec"])
def test_importing_all_of_a_package_imports_no_jax(package):
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in FILES
        if path.relative_to(PACKAGE).parts[0] == package
    ]
    program = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"print([name for name in {JAX!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


@pytest.mark.parametrize("package", ["rcnn_jax", "benchmarks"])
def test_no_modules_import_each_other(package):
    assert circles(import_graph(ROOT / package)) == []


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ('kind == "mask_rcnn"', "compares a kind"),
        ('kind in ("faster_rcnn", "x")', "compares a kind"),
        ('{"faster_rcnn": 1, "mask_rcnn": 2}[kind]', "a table by kind"),
        ("isinstance(task, MaskRcnnTask)", "asks for the class"),
        ('match kind:\n  case "mask_rcnn":\n    pass', "compares a kind"),
        ("from rcnn_jax.tasks.mask_rcnn.task import MASK_CHUNK", "is of one detector"),
    ],
)
def test_every_question_is_found(source, sentence):
    (complaint,) = questions(source)
    assert sentence in complaint


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("config.training_config", "reads 'training_config'"),
        ('fields["model_config"]', "reads 'model_config'"),
        ('config.get("enc_key")', "reads 'enc_key'"),
        ("def f(config: ConfigDict):\n  return config.seed", "config.seed reads a config"),
        ('def f(given: "ConfigDict | None"):\n  return given[name]', "given[name] reads a config"),
    ],
)
def test_every_reading_is_found(source, sentence):
    assert any(sentence in complaint for complaint in readings(source))


def test_what_is_no_question_and_no_reading_is_left_alone():
    source = (
        'def f(config: ConfigDict):\n  return detector_parser("mask_rcnn"), g(config), a.kind == b'
    )
    assert [*questions(source), *readings(source)] == []


def test_circles_are_found_through_others():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert circles(graph) == [["a", "b", "c"]]
