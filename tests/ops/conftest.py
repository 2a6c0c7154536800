"""Ops are tested as the compiler optimises them for users; elsewhere it is told to hurry."""

import os

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def optimised_programs():
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    hurried = os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"]
    jax.config.update("jax_disable_most_optimizations", hurried.lower() in ("1", "true"))
