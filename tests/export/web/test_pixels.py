"""The pixels that the page makes of a picture, beside those of the command line."""

import dataclasses
import json
from importlib import resources

import cv2
import numpy as np
import pytest

from rcnn_jax.data.loader import images
from rcnn_jax.settings.data import GeometrySettings
from tests.browser.driver import served
from tests.export.web.pages import smooth

GEOMETRIES = [
    GeometrySettings(mode="keep_aspect", height=64, width=64),
    GeometrySettings(mode="stretch", height=96, width=128),
    GeometrySettings(mode="pad_crop", height=96, width=96),
    GeometrySettings(mode="pad_crop", height=64, width=64, crop=(8, 4, 70, 60), prescale=(80, 90)),
    GeometrySettings(mode="keep_aspect", height=416, width=416),
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: f"{g.mode}-{g.height}")
def test_the_browser_makes_the_pixels_of_the_command_line(window, geometry, tmp_path):
    asset = resources.files("rcnn_jax.export.web") / "assets" / "pixels.mjs"
    (tmp_path / "pixels.mjs").write_bytes(asset.read_bytes())
    (tmp_path / "index.html").write_text("<html></html>")
    shapes = {
        "large.png": smooth(300, 420),
        "small.png": smooth(70, 50),
        "deep.png": smooth(100, 90).astype(np.uint16) * 257,
    }
    with served(tmp_path) as (address, _):
        window.open(f"{address}/index.html")
        for name, image in shapes.items():
            assert cv2.imwrite(str(tmp_path / name), image)
            for order, count in (("rgb", 3), ("bgr", 3), ("l", 1)):
                model = {"channel_order": order, "mean": [0] * count, "std": [1] * count}
                script = f"""(async () => {{
                    const pixels = await import('./pixels.mjs');
                    const blob = await (await fetch('{name}')).blob();
                    const image = await pixels.decode(blob);
                    const geometry = {json.dumps(dataclasses.asdict(geometry))};
                    const placed = pixels.fit(image.height, image.width, geometry);
                    return Array.from(pixels.networkInput(image, placed, {json.dumps(model)}));
                }})()"""
                shape = (count, geometry.height, geometry.width)
                seen = np.asarray(window.value(script)).reshape(shape).transpose(1, 2, 0)
                source = images.read_image(tmp_path / name, order)
                canvas = images.apply_image(source, images.fit(source.shape[:2], geometry))
                # OpenCV rounds positions to 1/32 of a pixel, and grey levels once more.
                difference = np.abs(seen - canvas.astype(np.float64))
                assert difference.max() <= 2
                assert difference.mean() < 0.8
