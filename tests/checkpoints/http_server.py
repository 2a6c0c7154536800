"""A web server on this machine that behaves as servers and proxies do."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server has and how it behaves; tests change it while it runs.

    Attributes:
      files: {path: content}.
      cut_after: bytes after which the next answers break off, one number for each; none left: whole.
      status: {path: code} of answers without a file.
      redirects: {path: address}.
      page: answers every request with a page of HTML, as a login of a hotel does.
      page_type: its content type.
      pause: seconds between pieces of 1000 bytes.
      ranges: understands `Range`.
      etag: of all files.
      asked: (path, Range, Authorization) of every request so far.
      address: of the server.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    status: dict[str, int] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    page: bool = False
    page_type: str = "text/html"
    pause: float = 0.0
    ranges: bool = True
    etag: str = '"1"'
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    address: str = ""


@contextmanager
def serving() -> Iterator[Site]:
    """Runs a server while it is needed."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):  # noqa: N802
            _answer(self, site)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    path, wanted = handler.path.partition("?")[0], handler.headers.get("Range", "")
    site.asked.append((path, wanted, handler.headers.get("Authorization", "")))
    handler.close_connection = True
    if site.page:
        body = b"<!DOCTYPE html><html>Please log in</html>"
        return _send(handler, 200, body, {"Content-Type": site.page_type})
    if path in site.redirects:
        return _send(handler, 302, b"", {"Location": site.redirects[path]})
    if path in site.status:
        return _send(handler, site.status[path], b"no", {"Content-Type": "text/plain"})
    if path not in site.files:
        return _send(handler, 404, b"no", {"Content-Type": "text/plain"})
    body, headers = site.files[path], {"ETag": site.etag}
    same = handler.headers.get("If-Range", site.etag) == site.etag
    if wanted and site.ranges and same:
        start = int(wanted.removeprefix("bytes=").partition("-")[0])
        if start >= len(body):
            return _send(handler, 416, b"", {"Content-Range": f"bytes */{len(body)}"})
        headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return _send(handler, 206, body[start:], headers, site)
    return _send(handler, 200, body, headers, site)


def _send(
    handler: BaseHTTPRequestHandler,
    code: int,
    body: bytes,
    headers: dict[str, str],
    site: Site | None = None,
) -> None:
    handler.send_response(code)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if site is not None and site.cut_after:
        body = body[: site.cut_after.pop(0)]
    step = 1000 if site is not None and site.pause else max(len(body), 1)
    for begin in range(0, len(body), step):
        handler.wfile.write(body[begin : begin + step])
        if site is not None and site.pause:
            handler.wfile.flush()
            time.sleep(site.pause)
