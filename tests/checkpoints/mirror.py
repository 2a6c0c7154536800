"""Published weights on a server of this machine: their names, random numbers.

The files that the publishers have cannot be fetched where tests run. A row keeps everything but the end
of its address, which names the digest of the file that is served instead: names, mirror, cache and digest
check are those of a user.
"""

import dataclasses
import hashlib
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rcnn_jax.checkpoints import cache, imported, published, server
from rcnn_jax.checkpoints.taken_for_granted import Granted
from tests.checkpoints.http_server import Site, serving


@contextmanager
def mirror(patch: pytest.MonkeyPatch, folder: str) -> Iterator[Site]:
    """Serves an empty mirror and makes it that of the process; `publish` fills it."""
    patch.setenv(cache.CACHE_VARIABLE, folder)
    patch.setenv("no_proxy", "*")
    for name in (server.OFFLINE_VARIABLE, "RCNN_JAX_KEY"):
        patch.delenv(name, raising=False)
    with serving() as site:
        patch.setenv(server.MIRROR_VARIABLE, site.address)
        yield site


def publish(
    patch: pytest.MonkeyPatch,
    site: Site,
    name: str,
    content: bytes,
    suffix: str = ".safetensors",
) -> None:
    """Makes the content of a file that of a published name."""
    row = published.find(name)
    digest = hashlib.sha256(content).hexdigest()[:8]
    url = f"{row.url.rpartition('/')[0]}/{name.rpartition('/')[2]}-{digest}{suffix}"
    patch.setitem(published.PUBLISHED, name, dataclasses.replace(row, url=url))
    parts = urllib.parse.urlsplit(url)
    site.files[f"/{parts.netloc}{parts.path}"] = content


def shrink(patch: pytest.MonkeyPatch, score_threshold: float = 0.0) -> None:
    """Lets an import take a small canvas and few boxes for granted, so that a run takes seconds."""
    settings = imported.torchvision_settings

    def smaller(*words) -> Granted:
        granted = settings(*words)
        network = {
            **granted.network,
            "test_rpn_post_nms_topn": "40",
            "test_detections_per_image": "8",
            "test_score_threshold": str(score_threshold),
        }
        return dataclasses.replace(granted, network=network, short_side=128, long_side=192)

    patch.setattr(imported, "torchvision_settings", smaller)
