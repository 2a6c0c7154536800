"""Ops are tested as the compiler optimises them for users; elsewhere it is told to hurry."""

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def optimised_programs():
    hurried = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", hurried)
