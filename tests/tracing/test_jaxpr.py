import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend import core
from jax.extend.core import primitives

from rcnn_jax.tracing.jaxpr import bodies, interpret, sites, walk

X = jnp.arange(3.0)


def double(x):
    return jnp.sin(x) * 2.0


@jax.custom_jvp
def with_jvp(x):
    return double(x)


@jax.custom_vjp
def with_vjp(x):
    return double(x)


with_jvp.defjvp(lambda primals, tangents: (double(*primals), tangents[0]))
with_vjp.defvjp(lambda x: (double(x), None), lambda _, gradient: (gradient,))


def as_closed_call(body):
    """A program that calls the body; JAX makes such equations in its own transformations only."""
    inputs, outputs = body.jaxpr.invars, body.jaxpr.outvars
    params = {"call_jaxpr": body}
    call = core.new_jaxpr_eqn(inputs, outputs, primitives.closed_call_p, params, core.no_effects)
    return body.jaxpr.replace(constvars=[], eqns=[call])


CALLS = {
    "jit": jax.jit(double),
    "jit in jit": jax.jit(jax.jit(double)),
    "custom jvp": with_jvp,
    "custom vjp": with_vjp,
    "remat": jax.checkpoint(double),
}
CONTROL = {
    "cond": lambda x: lax.cond(x[0] > 0, double, jnp.cos, x),
    "scan": lambda x: lax.scan(lambda total, row: (total + jnp.sin(row), row), 0.0, x)[0],
    "map": lambda x: lax.map(double, x),
    "while": lambda x: lax.while_loop(lambda y: y[0] < 3.0, lambda y: jnp.sin(y) + y + 1.0, x),
}


def traced(function, *arguments):
    return jax.make_jaxpr(function)(*arguments)


def primitives_of(function, *arguments):
    return [site.primitive for site in walk(traced(function, *arguments).jaxpr)]


def primitive_by_primitive(enter=lambda site: site.call is not None):
    """A rule that computes what the program does; calls are entered."""

    def rule(site, operands):
        if enter(site):
            return None
        equation = site.equation
        outputs = equation.primitive.bind(*operands, **equation.params)
        return outputs if equation.primitive.multiple_results else [outputs]

    return rule


def evaluated(function, *arguments, **choices):
    closed, rule = traced(function, *arguments), primitive_by_primitive(**choices)
    return interpret(closed.jaxpr, closed.consts, arguments, rule, jnp.asarray)


@pytest.mark.parametrize("name", [*CALLS, *CONTROL])
def test_the_walk_finds_what_is_inside_every_equation(name):
    function = {**CALLS, **CONTROL}[name]
    assert "sin" in primitives_of(function, X)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_entered_with_its_operands(name):
    seen = []

    def enter(site):
        seen.append(site.primitive)
        return site.call is not None

    (result,) = evaluated(CALLS[name], X, enter=enter)
    np.testing.assert_allclose(result, double(X))
    assert seen[-2:] == ["sin", "mul"]


@pytest.mark.parametrize("name", CONTROL)
def test_branches_and_loops_are_no_calls(name):
    closed = traced(CONTROL[name], X)
    (site,) = [site for site in sites(closed.jaxpr) if site.bodies]
    assert site.call is None
    with pytest.raises(ValueError, match=f"{site.primitive} at '' is no call to enter"):
        evaluated(CONTROL[name], X, enter=lambda site: bool(site.bodies))
    (result,) = evaluated(CONTROL[name], X)
    np.testing.assert_allclose(result, CONTROL[name](X), rtol=1e-6)


def only_body_equation(function, *arguments):
    (site,) = [site for site in sites(traced(function, *arguments).jaxpr) if site.bodies]
    return site.equation


def test_every_body_knows_which_operands_its_inputs_are():
    def shapes(equation, body):
        return [equation.invars[i].aval.shape for i in body.operands]

    equation = only_body_equation(CONTROL["cond"], X)
    for body in bodies(equation):
        assert (body.role, body.rounds) == ("branch", 1)
        assert shapes(equation, body) == [v.aval.shape for v in body.jaxpr.invars] == [(3,)]

    two = jnp.ones((5, 2))

    def loop(start, rows, factor):
        return lax.scan(lambda total, row: (total + row * factor, total), start, rows)

    equation = only_body_equation(loop, two[0], two, two[1])
    (body,) = bodies(equation)
    assert (body.role, body.rounds) == ("loop", 5)
    assert shapes(equation, body) == [(2,), (2,), (5, 2)], "constants, carried, scanned"
    assert [v.aval.shape for v in body.jaxpr.invars] == [(2,), (2,), (2,)]

    def until(limit, step, start):
        return lax.while_loop(lambda y: jnp.all(y < limit), lambda y: y + step.sum(), start)

    equation = only_body_equation(until, jnp.ones(4), jnp.ones((2, 2)), jnp.ones(4))
    for body in bodies(equation):
        assert (body.role, body.rounds) == ("loop", None)
        assert shapes(equation, body) == [v.aval.shape for v in body.jaxpr.invars]


def test_constants_of_a_body_are_at_hand():
    table = jnp.asarray([1.0, 2.0, 4.0])
    body = jax.make_jaxpr(lambda x: x + table)(X)
    assert len(body.consts) == 1
    (result,) = interpret(as_closed_call(body), (), [X], primitive_by_primitive(), jnp.asarray)
    np.testing.assert_array_equal(result, X + table)


def test_scopes_of_enclosing_equations_come_first_and_calls_are_named():
    @jax.jit
    def block(x):
        with jax.named_scope("inner"):
            return jnp.sin(x)

    def function(x):
        with jax.named_scope("outer"):
            return block(x)

    (site,) = [site for site in walk(traced(function, X).jaxpr) if site.primitive == "sin"]
    assert (site.scope, site.calls) == ("outer/inner", ("block",))


def test_an_equation_comes_before_what_is_inside_it_and_after_what_precedes_it():
    assert primitives_of(lambda x: jax.jit(double)(jnp.cos(x)), X) == ["cos", "jit", "sin", "mul"]


def test_values_may_be_anything():
    """The names of the inputs that every result depends on."""

    def function(a, b, c):
        return jax.jit(jnp.add)(a, b), jax.nn.relu(c), jnp.ones(3) * 2.0

    def rule(site, operands):
        if site.call is not None:
            return None
        return [frozenset().union(*operands)] * len(site.equation.outvars)

    closed = traced(function, X, X, X)
    inputs = [frozenset(name) for name in "abc"]
    values = interpret(closed.jaxpr, closed.consts, inputs, rule, lambda _: frozenset())
    assert values == [{"a", "b"}, {"c"}, frozenset()]


def test_derivative_rules_are_not_entered():
    gradient = jax.grad(lambda x: with_vjp(x).sum())
    assert "cos" not in primitives_of(gradient, X)
    assert isinstance(traced(with_jvp, X).jaxpr, core.Jaxpr)
    assert primitives_of(with_jvp, X) == ["custom_jvp_call", "sin", "mul"]
