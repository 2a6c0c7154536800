"""Cache of downloaded files: where an address lies, and what its file must hash to.

    address --> CACHE/weights/HOST/PATH

A file is keyed by its whole address, because many are called `model_final.pkl`. `checkpoints/download.py`
fills the cache; files are put there by hand too, so whoever reads one compares its digest.
"""

import hashlib
import os
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rcnn_jax.errors import CheckpointError

CACHE_VARIABLE = "RCNN_JAX_CACHE"
_SAFE_NAME = re.compile(r"[\w.+=,@-]{1,200}")


@dataclass(frozen=True)
class Digest:
    """Expected hash of a file.

    Attributes:
      algorithm: of hashlib.
      prefix: first hex digits; publishers put 6 to 64 of them into the names of their files.
    """

    algorithm: Literal["sha256", "md5"]
    prefix: str


def cache_folder(variables: Mapping[str, str] = os.environ) -> Path:
    """Returns where downloads lie: RCNN_JAX_CACHE, else rcnn_jax below XDG_CACHE_HOME or ~/.cache.

    Raises:
      CheckpointError: neither variable is set and the user has no home.
    """
    chosen = variables.get(CACHE_VARIABLE, "")
    if chosen:
        return Path(chosen).expanduser()
    above = variables.get("XDG_CACHE_HOME", "")
    # The XDG specification says that relative paths are invalid and should be ignored.
    if Path(above).is_absolute():
        return Path(above) / "rcnn_jax"
    try:
        return Path.home() / ".cache" / "rcnn_jax"
    except RuntimeError as error:  # a user id without a name, and no HOME
        raise CheckpointError(
            f"there is no folder for downloads: the user has no home; set {CACHE_VARIABLE} to a folder"
        ) from error


def cached_path(url: str, variables: Mapping[str, str] = os.environ) -> Path:
    """Returns the path of an address in the cache, whether something lies there or not.

    Raises:
      CheckpointError: no http or https address of a file.
    """
    return cache_folder(variables) / "weights" / cache_key(url)


def shown(url: str) -> str:
    """Returns an address without user, password and query: those are secrets of whoever gave it."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urllib.parse.urlunsplit((parts.scheme, host, parts.path, "", ""))


def named_digest(url: str) -> Digest | None:
    """Returns the digest that the name of a published file ends in, or None.

    torchvision's names end in the beginning of the SHA-256 (`-0676ba61.pth`), those of detectron2 in
    that of the MD5 (`model_final_f10217.pkl`).
    """
    name = urllib.parse.urlsplit(url).path.rpartition("/")[2]
    # 8 digits at least: `resnet-50.pth` ends in a number that is no digest.
    if match := re.search(r"-([0-9a-f]{8,64})\.(pth|pt|safetensors)$", name):
        return Digest("sha256", match[1])
    if match := re.fullmatch(r"model_final_([0-9a-f]{6})\.pkl", name):
        return Digest("md5", match[1])
    return None


def matches(path: Path, digest: Digest) -> bool:
    """Says whether the content of a file has a digest."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, digest.algorithm).hexdigest().startswith(digest.prefix)


def cache_key(url: str) -> Path:
    """Returns the path below the cache that stands for an address: its host and its path."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    # Unquoted before it is judged: `%2e%2e` is a `..` as well.
    names = [urllib.parse.unquote(name) for name in parts.path.split("/") if name]
    if parts.scheme not in ("http", "https") or not host or not names:
        raise CheckpointError(
            f"{shown(url)}: expected the http or https address of a file, or a name of `weights list`"
        )
    if parts.query:  # presigned addresses differ in nothing else
        mark = hashlib.sha256(parts.query.encode()).hexdigest()[:8]
        names[-1] = f"{mark}-{names[-1]}"
    return Path(*(_file_name(name) for name in (host.replace(":", "+"), *names)))


def _file_name(name: str) -> str:
    """Returns the name itself where it is harmless, else its hash: a path may hold `..` or a slash."""
    if _SAFE_NAME.fullmatch(name) and name.strip("."):
        return name
    return hashlib.sha256(name.encode()).hexdigest()[:32] + Path(name).suffix[:16].replace("/", "_")
