"""The npm package of onnxruntime-web: from a registry, or put into the cache by hand."""

import hashlib
import io
import tarfile

import pytest

from rcnn_jax.checkpoints.cache import Digest
from rcnn_jax.errors import ExportError
from rcnn_jax.export.web import onnxruntime_web
from rcnn_jax.reporter import SILENT

FILES = {name for parts in onnxruntime_web.PARTS.values() for name in parts}


def test_the_registry_is_that_of_the_environment_or_of_npm(tmp_path):
    npm = tmp_path / "npm"
    npm.write_text('#!/bin/sh\n[ "$*" = "config get registry" ] && echo http://there:5/npm/\n')
    npm.chmod(0o755)
    variables = {"PATH": str(tmp_path)}
    assert (
        onnxruntime_web._address(variables)
        == f"http://there:5/npm/onnxruntime-web/-/{onnxruntime_web.PACKAGE}"
    )
    variables["npm_config_registry"] = "http://here:4/"
    assert (
        onnxruntime_web._address(variables)
        == f"http://here:4/onnxruntime-web/-/{onnxruntime_web.PACKAGE}"
    )


@pytest.mark.parametrize("script", [None, "exit 1", "echo undefined", "true"])
def test_without_a_registry_one_message_says_where_the_package_can_be_put(script, tmp_path):
    if script is not None:
        (tmp_path / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "npm").chmod(0o755)
    variables = {"PATH": str(tmp_path), "RCNN_JAX_CACHE": str(tmp_path / "cache")}
    with pytest.raises(ExportError) as caught:
        onnxruntime_web._address(variables)
    message = str(caught.value)
    assert f"npm pack onnxruntime-web@{onnxruntime_web.VERSION}" in message
    assert str(tmp_path / "cache" / "web" / onnxruntime_web.PACKAGE) in message
    assert "npm_config_registry is not set" in message


def test_a_package_that_was_put_into_the_cache_needs_no_registry(tmp_path, monkeypatch):
    monkeypatch.setenv("RCNN_JAX_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv(onnxruntime_web.REGISTRY_VARIABLE, raising=False)
    path = onnxruntime_web.package_path()
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as archive:
        for name in FILES:
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    digest = Digest("sha256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(onnxruntime_web, "DIGEST", digest)
    files = onnxruntime_web.runtime_files(offline=True, reporter=SILENT)
    assert files == {name: name.encode() for name in FILES}
    # Another file there is not the package, and there is no registry to ask instead.
    monkeypatch.setattr(onnxruntime_web, "DIGEST", Digest("sha256", "0" * 64))
    with pytest.raises(ExportError, match="npm pack"):
        onnxruntime_web.runtime_files(offline=False, reporter=SILENT)
