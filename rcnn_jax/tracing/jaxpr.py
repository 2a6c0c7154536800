"""Walks over traced programs, for every reader of a network by its equations.

    jaxpr -> sites       equations of one level, each with its scope and the bodies that it holds
          -> walk        equations of all levels, depth first
          -> interpret   the same in the order of computation, with the values of their operands

A *value* of `interpret` is whatever its caller computes with: a tensor of a graph that grows, a group of
channels, a set of names. Only calls are entered there, because a body that runs exactly once is the
same as its equations written in its place; branches and loops are left to the caller.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from jax.extend import core

V = TypeVar("V")
Role = Literal["call", "branch", "loop", "other"]

_CALL_BODIES = ("jaxpr", "call_jaxpr", "fun_jaxpr")
"""Parameters that hold the body of jit, remat, closed_call, custom_jvp, custom_vjp, shard_map, ..."""
# Rules of custom derivatives hold jaxprs too, but nothing that runs in the program as it stands.
_DERIVATIVES = ("fwd", "bwd", "jvp")


@dataclass(frozen=True, eq=False)
class Body:
    """A jaxpr inside an equation.

    Attributes:
      jaxpr: its equations.
      consts: values of its constvars.
      role: `call` runs once, one `branch` of several runs, a `loop` runs `rounds` times; `other` is known
        to be there and no more.
      operands: which operands of the equation its inputs are, in order; a loop replaces those that it
        carries after the first round, and `scan` hands over one row of those it scans. Empty for `other`.
      rounds: of a loop whose length is fixed; None where it is not.
    """

    jaxpr: core.Jaxpr
    consts: tuple[Any, ...]
    role: Role
    operands: tuple[int, ...] = ()
    rounds: int | None = 1


@dataclass(frozen=True, eq=False)
class Site:
    """An equation and where it stands.

    Attributes:
      equation: as traced.
      scope: path of the named scopes around it, of enclosing equations first: modules, methods, and
        marks of transformations such as `jvp(...)`.
      calls: names of the jitted functions around it, outermost first.
    """

    equation: core.JaxprEqn
    scope: str
    calls: tuple[str, ...] = ()

    @property
    def primitive(self) -> str:
        """Name of the primitive."""
        return self.equation.primitive.name

    @property
    def bodies(self) -> tuple[Body, ...]:
        """The jaxprs inside the equation; derivative rules are none of them."""
        return bodies(self.equation)

    @property
    def call(self) -> Body | None:
        """The body that the equation runs exactly once on its operands, or None."""
        return call_body(self.equation)


def bodies(equation: core.JaxprEqn) -> tuple[Body, ...]:
    """The jaxprs inside an equation; derivative rules are none of them."""
    params, count = equation.params, len(equation.invars)
    match equation.primitive.name:
        case "cond":
            chosen = range(1, count)  # operand 0 chooses the branch
            return tuple(_body(branch, "branch", chosen) for branch in params["branches"])
        case "scan":
            return (_body(params["jaxpr"], "loop", range(count), params["length"]),)
        # Its operands are the constants of the condition, those of the body, then what is carried;
        # either body sees its own constants alone.
        case "while":
            own, first = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
            carried = range(first, count)
            return (
                _body(params["cond_jaxpr"], "loop", (*range(own), *carried), None),
                _body(params["body_jaxpr"], "loop", (*range(own, first), *carried), None),
            )
    called = next((params[key] for key in _CALL_BODIES if key in params), None)
    if _is_jaxpr(called):
        body = _body(called, "call", range(count))
        # One input for each operand, or the body cannot be entered with them.
        if len(body.jaxpr.invars) == count:
            return (body,)
    return tuple(
        _body(value, "other", ())
        for name, entry in params.items()
        if not name.startswith(_DERIVATIVES)
        for value in (entry if isinstance(entry, tuple | list) else (entry,))
        if _is_jaxpr(value)
    )


def call_body(equation: core.JaxprEqn) -> Body | None:
    """The body that an equation runs exactly once on its operands, or None."""
    called = bodies(equation)
    return called[0] if len(called) == 1 and called[0].role == "call" else None


def sites(jaxpr: core.Jaxpr, within: Site | None = None) -> Iterator[Site]:
    """Yields the equations of one level in order.

    Args:
      jaxpr: a whole program, or a body.
      within: the site that holds the body.
    """
    outer, calls = "", ()
    if within is not None:
        name = within.equation.params.get("name")
        outer = within.scope
        calls = (*within.calls, name) if isinstance(name, str) else within.calls
    for equation in jaxpr.eqns:
        # JAX starts the name stack of a body anew.
        own = str(equation.source_info.name_stack)
        yield Site(equation, "/".join(part for part in (outer, own) if part), calls)


def walk(jaxpr: core.Jaxpr, within: Site | None = None) -> Iterator[Site]:
    """Yields the equations of all levels, each before those inside it."""
    for site in sites(jaxpr, within):
        yield site
        for body in site.bodies:
            yield from walk(body.jaxpr, site)


def interpret(
    jaxpr: core.Jaxpr,
    consts: Sequence[Any],
    operands: Sequence[V],
    rule: Callable[[Site, list[V]], Sequence[V] | None],
    constant: Callable[[Any], V],
    within: Site | None = None,
) -> list[V]:
    """Computes the results of a program over values of any kind.

    Args:
      jaxpr: the program.
      consts: arrays of its constvars.
      operands: values of its inputs.
      rule: (site, values of its operands) -> values of its results; None enters the call.
      constant: the value of an array that is known: a constant or a literal.
      within: the site that holds the program, if it is a body.

    Raises:
      ValueError: the rule returned None for an equation that is no call.
    """
    # A dictionary of its own for each body: jitted functions are traced once, so two calls share
    # their variables, and one environment would mix up their values.
    known = dict(zip(jaxpr.constvars, map(constant, consts), strict=True))
    known.update(zip(jaxpr.invars, operands, strict=True))

    def read(atom: Any) -> V:
        return constant(atom.val) if isinstance(atom, core.Literal) else known[atom]

    for site in sites(jaxpr, within):
        values = [read(atom) for atom in site.equation.invars]
        results = rule(site, values)
        if results is None:
            body = site.call
            if body is None:
                raise ValueError(f"{site.primitive} at '{site.scope}' is no call to enter")
            results = interpret(body.jaxpr, body.consts, values, rule, constant, site)
        known.update(zip(site.equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, core.ClosedJaxpr | core.Jaxpr)


def _body(value: Any, role: Role, operands: Sequence[int], rounds: int | None = 1) -> Body:
    if isinstance(value, core.ClosedJaxpr):
        return Body(value.jaxpr, tuple(value.consts), role, tuple(operands), rounds)
    return Body(value, (), role, tuple(operands), rounds)
