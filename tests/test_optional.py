"""Optional packages: imported where they are there, else named with the extra that brings them."""

import json
import sys

import pytest

from rcnn_jax.errors import MissingDependencyError
from rcnn_jax.optional import require


def test_a_package_that_is_there_is_returned():
    assert require("json", extra="x", purpose="Reading") is json


def test_a_package_that_is_not_there_is_named_with_its_extra():
    with pytest.raises(MissingDependencyError) as error:
        require("no_such_package_here", extra="tfds", purpose="Reading a.txt")
    assert str(error.value) == (
        "Reading a.txt needs the package 'no_such_package_here', which is not installed: "
        "run  pip install 'rcnn-jax[tfds]'"
    )


def test_a_package_whose_own_libraries_are_missing_is_missing_too(tmp_path, monkeypatch):
    (tmp_path / "half_there.py").write_text("import no_such_library_here\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingDependencyError, match="half_there"):
        require("half_there", extra="x", purpose="This")
    assert "half_there" not in sys.modules
