"""Cache of downloads: paths of addresses, and digests in names."""

import pytest

from rcnn_jax.checkpoints.cache import Digest, cached_path, named_digest


def test_no_address_leaves_the_cache(tmp_path):
    variables = {"RCNN_JAX_CACHE": str(tmp_path)}
    for path in ("/../../../etc/passwd", "/%2e%2e/%2e%2e/x", "/a%2fb", "/a%00b", "/" + "n" * 300):
        target = cached_path(f"https://example.org{path}", variables)
        assert (tmp_path / "weights").resolve() in target.resolve().parents
        assert len(target.name) < 200


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a/resnet18-f37072fd.pth", Digest("sha256", "f37072fd")),
        ("https://a/1/model_final_f10217.pkl", Digest("md5", "f10217")),
        ("https://a/model_final.pth", None),
        ("https://a/resnet-50.pth", None),
    ],
)
def test_digests_are_read_from_the_names_of_published_files(url, expected):
    assert named_digest(url) == expected
