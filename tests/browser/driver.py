"""A headless Chromium by the WebDriver protocol (W3C), which is a few JSON requests."""

import contextlib
import functools
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


# WebGPU by SwiftShader, Chromium's own driver of Vulkan for machines without a GPU.
WEBGPU = (
    *(flag for flag in FLAGS if flag != "--disable-gpu"),
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
)


# A camera that shows a moving pattern, and permission to use it.
CAMERA = (*FLAGS, "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""Key of an element's id in a reply, by the standard."""


class Browser:
    """One window."""

    def __init__(self, address, flags=FLAGS):
        self._address = address
        options = {"args": list(flags), "binary": shutil.which("chromium")}
        reply = self._ask(
            "POST", "", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        )
        self._address = f"{address}/{reply['sessionId']}"

    @contextlib.contextmanager
    def screen(self, width, scheme="light"):
        """A screen of this width, that of a phone below 500 pixels; the usual one afterwards."""
        try:
            self.command(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=800,
                deviceScaleFactor=1,
                mobile=width < 500,
            )
            preference = {"name": "prefers-color-scheme", "value": scheme}
            self.command("Emulation.setEmulatedMedia", features=[preference])
            yield
        finally:
            self.command("Emulation.clearDeviceMetricsOverride")
            self.command("Emulation.setEmulatedMedia", features=[])

    def open(self, url):
        self._ask("POST", "/url", {"url": url})

    def value(self, script):
        """The value of a JavaScript expression."""
        return self._ask("POST", "/execute/sync", {"script": f"return {script}", "args": []})

    def click(self, selector):
        self._ask("POST", f"/element/{self._element(selector)}/click", {})

    def type(self, selector, text):
        """Types into an element; into a file input, the path of a file."""
        self._ask("POST", f"/element/{self._element(selector)}/value", {"text": text})

    def drop(self, path, at=(200, 200)):
        """Drags a file from outside of the browser and lets it fall on the page."""
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.command("Input.dispatchDragEvent", type=kind, x=at[0], y=at[1], data=data)

    def command(self, name, **parameters):
        """The result of a command of Chromium's own protocol."""
        return self._ask("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def size(self, width, height):
        self._ask("POST", "/window/rect", {"width": width, "height": height})

    def picture(self):
        """A screenshot, PNG in base64."""
        return self._ask("GET", "/screenshot")

    def wait(self, script, seconds=120):
        """Waits until an expression is true; returns it."""
        for _ in range(int(seconds / 0.1)):
            if value := self.value(script):
                return value
            time.sleep(0.1)
        raise AssertionError(
            f"{script} did not become true: {self.value('document.body.innerText')}"
        )

    def close(self):
        self._ask("DELETE", "")

    def _element(self, selector):
        wanted = {"using": "css selector", "value": selector}
        return self._ask("POST", "/element", wanted)[ELEMENT]

    def _ask(self, method, path, content=None):
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self._address + path, data, method=method)
        with urllib.request.urlopen(request, timeout=180) as reply:
            return json.load(reply)["value"]


@contextlib.contextmanager
def browser(flags=FLAGS):
    """Starts a driver and a window; skips where there is none."""
    driver = shutil.which("chromedriver")
    if driver is None or shutil.which("chromium") is None:
        pytest.skip("chromium and chromedriver are not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        window = Browser(f"http://127.0.0.1:{port}/session", flags)
        try:
            yield window
        finally:
            window.close()
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def served(folder):
    """Serves a folder as `python -m http.server` does; yields (address, paths that were asked for)."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
