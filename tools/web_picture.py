r"""A screenshot of an exported web page, taken in headless Chromium.

    make quickstart
    rcnn-jax mask_rcnn export -m out/quickstart/masks/run/best.tlt -o out/web.onnx \
        --data_type int8 --web out/page
    python -m tools.web_picture out/page docs/images/web.png \
        --image out/quickstart/new/images/000003.png

The page is served on this machine, as `python -m http.server` does, and looks at the picture that
`--image` names, else at its reference picture. Needs chromium and chromedriver.
"""

import argparse
import base64
import shutil
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from rcnn_jax.checkpoints.atomic import write_file
from tests.browser.driver import browser, served

STATE = "document.body.dataset.state"
STATUS = "document.getElementById('status').textContent"
_STEP = 8  # between colours


def main(argv: list[str] | None = None) -> int:
    """Takes the screenshot; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("page", type=Path, help="folder of `export --web`")
    parser.add_argument("output", type=Path, help="the screenshot, .png")
    parser.add_argument("--image", type=Path, help="picture that the page looks at")
    parser.add_argument("--size", type=int, nargs=2, default=(720, 560), metavar=("W", "H"))
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        # A copy, because the picture must lie beside the page, and the page is the user's.
        folder = shutil.copytree(args.page, Path(name) / "page")
        query = "?backend=wasm"
        if args.image is not None:
            shutil.copyfile(args.image, folder / f"picture{args.image.suffix}")
            query += f"&image=picture{args.image.suffix}"
        with browser() as window, served(folder) as (address, _):
            window.size(*args.size)
            window.open(f"{address}/index.html{query}")
            if window.wait(STATE) != "ready":
                sys.stderr.write(f"error: {args.page}: {window.value(STATUS)}\n")
                return 2
            write_file(args.output, [small(base64.b64decode(window.picture()))])
    return 0


def small(png: bytes) -> bytes:
    """Returns a PNG in fewer colours: the grain of photographs hardly compresses otherwise."""
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    # To the nearest step and not down, so that white stays white.
    rounded = np.minimum((image.astype(np.uint16) + _STEP // 2) // _STEP * _STEP, 255)
    return cv2.imencode(".png", rounded.astype(np.uint8), (cv2.IMWRITE_PNG_COMPRESSION, 9))[
        1
    ].tobytes()


if __name__ == "__main__":
    sys.exit(main())
