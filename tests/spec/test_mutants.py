"""Specs with mistakes made by chance: refused in words or read, never a traceback, a key or a hang."""

import pytest

from tests.spec.mutants import fault, mutants


@pytest.mark.parametrize("seed", range(4))
def test_no_mutant_is_more_than_an_error(seed: int) -> None:
    faults = {text: fault(text, patient=True) for text in mutants(seed, 100)}
    assert {text: what for text, what in faults.items() if what} == {}


def test_mutants_depend_on_their_seed_alone() -> None:
    assert list(mutants(5, 20)) == list(mutants(5, 20))
    assert list(mutants(5, 20)) != list(mutants(6, 20))
