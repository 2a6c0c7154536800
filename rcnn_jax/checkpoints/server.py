"""A server of files: the address to ask, by the mirror and the proxies of the user; why it failed."""

import base64
import os
import socket
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping

from rcnn_jax.checkpoints.cache import cache_key, shown
from rcnn_jax.errors import CheckpointError
from rcnn_jax.version import __version__

MIRROR_VARIABLE = "RCNN_JAX_WEIGHTS_MIRROR"
OFFLINE_VARIABLE = "RCNN_JAX_OFFLINE"

REACH_TIMEOUT = 3.0
"""Seconds after which a server that is only asked whether it is there counts as absent."""

_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers of a server that may be others a moment later."""


def is_offline(variables: Mapping[str, str] = os.environ) -> bool:
    """Says whether RCNN_JAX_OFFLINE forbids the network."""
    return variables.get(OFFLINE_VARIABLE, "").lower() not in ("", "0", "false", "no")


def mirrored(url: str) -> str:
    """Returns the address to read: that of the mirror, where the user has one.

    Raises:
      CheckpointError: RCNN_JAX_WEIGHTS_MIRROR is no http or https address.
    """
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    if not mirror:
        return url
    if urllib.parse.urlsplit(mirror).scheme not in ("http", "https"):
        raise CheckpointError(
            f"{MIRROR_VARIABLE}={shown(mirror)}: expected an http or https address below which the "
            "files lie as in the cache"
        )
    return f"{mirror.rstrip('/')}/{urllib.parse.quote(cache_key(url).as_posix())}"


def request_for(address: str) -> urllib.request.Request:
    """Returns a request; user and password of the address become a header that no redirect gets."""
    parts = urllib.parse.urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    bare = urllib.parse.urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    request = urllib.request.Request(bare, headers={"User-Agent": f"rcnn-jax/{__version__}"})
    if user:
        token = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def may_pass(error: Exception) -> bool:
    """Says whether another attempt can help: names and certificates do not mend themselves."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _PASSING
    cause = getattr(error, "reason", error)
    return not isinstance(cause, socket.gaierror | ConnectionRefusedError | ssl.SSLError)


def reason_of(error: Exception) -> str:
    """Returns why a transfer failed, as half a sentence."""
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return "the server sent nothing for too long"
    if isinstance(cause, socket.gaierror):
        return f"the host cannot be found ({cause.strerror or cause})"
    return str(getattr(cause, "strerror", None) or cause) or type(cause).__name__


def unreachable(url: str, *, timeout: float = REACH_TIMEOUT) -> str:
    """Returns why `download.fetch` would not get the file of an address now; empty where it would.

    Asks for one byte on the way that a transfer takes: by the mirror, through the proxies.

    Args:
      url: http or https address.
      timeout: seconds that the answer may take, name resolution included.
    """
    if is_offline():
        return "the network is not to be used"
    try:
        request = request_for(mirrored(url))
    except CheckpointError as error:
        return str(error)
    request.add_header("Range", "bytes=0-0")
    reasons: list[str] = []

    def ask() -> None:
        try:
            with urllib.request.build_opener().open(request, timeout=timeout) as answer:
                kind = answer.headers.get_content_type()
            page = kind in ("text/html", "application/xhtml+xml")
            reasons.append("a web page answered: a proxy or a login stands between" if page else "")
        # An address may be wrong in many ways, and whoever only asks must not fail of any; late ones
        # belong to nobody, for the caller has gone on.
        except Exception as error:
            reasons.append(reason_of(error))

    # A thread of its own: the timeout of a socket does not count the time that a resolver takes.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(timeout)
    return reasons[0] if reasons else f"no answer within {timeout:g} s"
