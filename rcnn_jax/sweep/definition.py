"""The file of a sweep: Python that names a spec and what is tried of it.

    SPEC = "spec.txt"                              relative to the file
    SPACE = {"training_config.regularizer.weight": Float(1e-6, 1e-3, log=True), ...}
    def trials(): yield {"training_config.num_epochs": 20}          instead of SPACE: a list
    OBJECTIVE = {"mAP": "max", "latency_ms": "min"}                 by default the metric of the spec
    CONSTRAINTS = ["latency_ms <= 15"]

It is run like a config file: with the rights of the user.
"""

import hashlib
import itertools
import re
import runpy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ml_collections import ConfigDict

from rcnn_jax.errors import RcnnError, UsageError
from rcnn_jax.kinds import Kind
from rcnn_jax.spec.load import load_spec, validate
from rcnn_jax.spec.render import render
from rcnn_jax.sweep.space import Distribution, Overrides, Space

Direction = Literal["max", "min"]
MEASURES = ("parameters", "seconds", "latency_ms")
"""Values of a trial beside the metrics of its validation: weights, time of training, of inference."""
LONGEST = 10_000
"""Trials of a list at most."""

_CONSTRAINT = re.compile(r"\s*([\w@.:\[\]]+)\s*(<=|>=)\s*(-?\d+(?:\.\d*)?(?:e[-+]?\d+)?)\s*")


@dataclass(frozen=True)
class Constraint:
    """A bound on a value of a trial."""

    name: str
    relation: Literal["<=", ">="]
    bound: float

    def violation(self, value: float) -> float:
        """Returns by how much a value breaks the bound; at most 0 where it holds."""
        return value - self.bound if self.relation == "<=" else self.bound - value

    def __str__(self) -> str:
        return f"{self.name} {self.relation} {self.bound:g}"


@dataclass(frozen=True)
class Definition:
    """Definition of a sweep: space or list of trials, objectives, constraints.

    Attributes:
      path: the file.
      kind: which detector.
      spec: text of the spec that all trials start from.
      space: distributions by field; empty where `listed` says what is tried.
      listed: overrides of every trial, in order; None where `space` is searched.
      objectives: value of a trial -> direction, the first decides which trial is best.
      constraints: that a good trial keeps.
    """

    path: Path
    kind: Kind
    spec: Path
    space: Space
    listed: tuple[Overrides, ...] | None
    objectives: Mapping[str, Direction]
    constraints: tuple[Constraint, ...]

    @property
    def digest(self) -> str:
        """Changes with what is searched for, not with how many trials there are."""
        # Not the list of trials: it may grow from one start to the next, and the old ones stay valid.
        parts = (self.kind, sorted(self.space.items()), dict(self.objectives), self.constraints)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    @property
    def measures(self) -> frozenset[str]:
        """Names of all values that objectives and constraints need."""
        return frozenset(self.objectives) | {each.name for each in self.constraints}

    def spec_of(self, overrides: Overrides) -> str:
        """Returns the text of the spec of one trial.

        Raises:
          RcnnError: a field does not exist, or does not take the value.
        """
        # Anew for every trial: a config that an earlier trial changed would hand its values on.
        loaded = load_spec(self.spec, self.kind, "train")
        config = loaded.config
        for path, value in overrides.items():
            _override(config, path, value)
        validate(config, self.kind, "train")
        return render(config, self.kind)


def read_definition(path: Path) -> Definition:
    """Runs a sweep file and checks what it defines.

    Raises:
      UsageError: it cannot be run, or what it defines is no sweep.
      SpecError: the spec is wrong.
    """
    if not path.is_file():
        raise UsageError(f"{path}: there is no such sweep file")
    try:
        # A program of the user's own, which may compute its ranges; YAML would need a language for
        # them.
        names = runpy.run_path(str(path))
    except RcnnError:
        raise
    except Exception as error:  # whatever the user's Python raises, at its line
        line = _line_of(error, path)
        raise UsageError(f"{path}{line}: {type(error).__name__}: {error}") from error
    spec = names.get("SPEC")
    if not isinstance(spec, str | Path):
        raise UsageError(f"{path}: expected SPEC, the path of the spec that is varied")
    spec_path = path.parent / spec
    loaded = load_spec(spec_path, None, "train")
    # Such a spec loads, and has nothing to train.
    if loaded.kind == "dataset_convert":
        raise UsageError(f"{path}: {spec_path} is not the spec of a detector")
    space, listed = _tried(names, path)
    definition = Definition(
        path=path,
        kind=loaded.kind,
        spec=spec_path,
        space=space,
        listed=listed,
        objectives=_objectives(names.get("OBJECTIVE"), path),
        constraints=_constraints(names.get("CONSTRAINTS", ()), path),
    )
    # A field that does not exist is found now, and not by the first trial.
    first = listed[0] if listed else {name: each.at(0.5) for name, each in space.items()}
    definition.spec_of(first)
    return definition


def _tried(names: Mapping[str, Any], path: Path) -> tuple[Space, tuple[Overrides, ...] | None]:
    space, trials = names.get("SPACE"), names.get("trials")
    if (space is None) == (trials is None):
        raise UsageError(f"{path}: expected either SPACE, a dict of ranges, or a function trials()")
    if space is not None:
        wrong = (
            [
                name
                for name, each in space.items()
                if not isinstance(name, str) or not isinstance(each, Distribution)
            ]
            if isinstance(space, Mapping)
            else ["SPACE"]
        )
        if wrong or not space:
            raise UsageError(
                f"{path}: SPACE: expected fields with Float, Int or Choice of rcnn_jax.sweep"
                + (f", found another value for {', '.join(map(str, wrong))}" if wrong else "")
            )
        return dict(space), None
    if not callable(trials):
        raise UsageError(f"{path}: trials: expected a function, found {trials!r}")
    try:
        # One more than there may be: a generator without an end would fill the memory.
        made: Any = trials()
        listed: tuple[Any, ...] = tuple(itertools.islice(made, LONGEST + 1))
    except RcnnError:
        raise
    except Exception as error:  # the user's Python again
        line = _line_of(error, path)
        raise UsageError(f"{path}{line}: {type(error).__name__}: {error}") from error
    if len(listed) > LONGEST:
        raise UsageError(
            f"{path}: trials(): expected at most {LONGEST} trials, found more; does it end?"
        )
    if not listed or not all(
        isinstance(each, Mapping) and all(isinstance(name, str) for name in each) for each in listed
    ):
        raise UsageError(f"{path}: trials(): expected dicts of fields and values")
    return {}, tuple(dict(each) for each in listed)


def _objectives(given: Any, path: Path) -> dict[str, Direction]:
    if given is None:
        return {}
    if isinstance(given, str):
        # A measure is a cost, a metric a quality, so a bare name says its direction.
        given = {given: "min" if given in MEASURES else "max"}
    if not isinstance(given, Mapping) or any(
        not isinstance(name, str) or direction not in ("max", "min")
        for name, direction in given.items()
    ):
        raise UsageError(f"{path}: OBJECTIVE: expected a name, or names with 'max' or 'min'")
    # The order is the user's: the first objective decides which trial is best.
    return dict(given)


def _constraints(given: Any, path: Path) -> tuple[Constraint, ...]:
    texts = list(given) if isinstance(given, list | tuple) else [given]
    constraints = []
    for text in texts:
        match = _CONSTRAINT.fullmatch(str(text))
        if match is None:
            raise UsageError(
                f"{path}: CONSTRAINTS: '{text}' is no 'name <= number' or 'name >= number'"
            )
        relation: Literal["<=", ">="] = "<=" if match[2] == "<=" else ">="
        constraints.append(Constraint(match[1], relation, float(match[3])))
    return tuple(constraints)


def _override(config: ConfigDict, path: str, value: Any) -> None:
    *parents, name = path.split(".")
    node: Any = config
    try:
        for parent in parents:
            node = node[parent]
            # An optional block that a trial writes into is in its spec.
            if isinstance(node, ConfigDict) and "enabled" in node:
                node.enabled = True
        old = node[name]
        # Lists of users hold 1 where the field holds 1.0; a ConfigDict refuses to change the type.
        if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        node[name] = tuple(value) if isinstance(value, list) else value
    except (KeyError, AttributeError) as error:
        raise UsageError(f"the spec has no field {path}: see  rcnn-jax spec explain") from error
    except TypeError as error:
        raise UsageError(f"{path} = {value!r}: {error}") from error


def _line_of(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError) and error.lineno:
        return f":{error.lineno}"
    trace, line = error.__traceback__, ""
    while trace is not None:
        # The innermost line of the user's own file: the frames below are those of a library they called.
        if trace.tb_frame.f_code.co_filename == str(path):
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line
