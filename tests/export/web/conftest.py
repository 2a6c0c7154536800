"""The runtime of pages, and a browser."""

import pytest

from rcnn_jax.errors import RcnnError
from rcnn_jax.export.web.onnxruntime_web import runtime_files
from tests.browser.driver import browser


@pytest.fixture(scope="session")
def runtime():
    """The npm package in the cache of the machine; skips where it cannot be had."""
    try:
        return runtime_files()
    except RcnnError as error:  # no network
        pytest.skip(f"onnxruntime-web cannot be fetched: {error}")


@pytest.fixture(scope="module")
def window():
    with browser() as opened:
        yield opened
