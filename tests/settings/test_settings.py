"""Settings are values: frozen, hashable, and given by name."""

import dataclasses
import importlib
import pkgutil

import pytest

from rcnn_jax import settings

CLASSES = [
    item
    for module in pkgutil.iter_modules(settings.__path__)
    for item in vars(importlib.import_module(f"rcnn_jax.settings.{module.name}")).values()
    if dataclasses.is_dataclass(item) and isinstance(item, type)
]


@pytest.mark.parametrize("setting", CLASSES, ids=lambda c: c.__name__)
def test_settings_are_frozen_and_given_by_name(setting):
    parameters = setting.__dataclass_params__
    assert parameters.frozen and parameters.eq, "a step is compiled once for equal settings"
    assert all(field.kw_only for field in dataclasses.fields(setting))


@pytest.mark.parametrize("setting", CLASSES, ids=lambda c: c.__name__)
def test_every_default_can_be_hashed(setting):
    for field in dataclasses.fields(setting):
        if field.default is not dataclasses.MISSING:
            hash(field.default)
        assert field.default_factory is dataclasses.MISSING
