"""The ablation of recipes: every ingredient is a field that a spec may have."""

import pytest

from experiments.recipes.run import INGREDIENTS, SETS, Row


@pytest.mark.parametrize("data", sorted(SETS))
@pytest.mark.parametrize("name", sorted(INGREDIENTS))
def test_an_ingredient_is_of_fields_that_exist(tmp_path, name, data):
    if INGREDIENTS[name].text(SETS[data].kind) is not None:
        assert Row(name, data, 0, tmp_path).spec(steps=1200) is not None
