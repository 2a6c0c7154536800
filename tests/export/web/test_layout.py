"""The page on a phone and on a desk, light and dark: nothing overlaps or is cut, words can be read."""

import itertools

import pytest

from rcnn_jax.export.web.page import write_web
from tests.browser.contrast import READABLE, contrast
from tests.browser.driver import served
from tests.export.web.pages import plain_graph

# [left, top, right, bottom] of what a person sees, by name.
BOXES = """Object.fromEntries(
    ["title", "open", "camera", "slider", "count", "canvas", "status", "hint"].map((name) => {
        const selector = { open: "label.button", slider: "label:not(.button)", hint: "p:last-of-type" };
        const { left, top, right, bottom } =
            document.querySelector(selector[name] ?? "#" + name).getBoundingClientRect();
        return [name, [left, top, right, bottom]];
    }))"""
COLORS = """(() => {
    const rgb = (element, name) =>
        getComputedStyle(element)[name].match(/[\\d.]+/g).slice(0, 3).map(Number);
    const background = rgb(document.body, "backgroundColor");
    const button = document.querySelector("label.button");
    return [
        [rgb(document.body, "color"), background],
        [rgb(document.getElementById("count"), "color"), background],
        [rgb(document.getElementById("status"), "color"), background],
        [rgb(button, "color"), rgb(button, "backgroundColor")],
    ];
})()"""


@pytest.fixture(scope="module")
def folder(boxes_files, runtime, tmp_path_factory):
    graph, header = plain_graph(boxes_files)
    folder = tmp_path_factory.mktemp("layout") / "page"
    write_web(
        folder, graph, header, title="Cells of three shapes under a microscope", threshold=0.5
    )
    return folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 400, 1280])
def test_nothing_overlaps_and_every_word_can_be_read(folder, window, width, scheme):
    with window.screen(width, scheme), served(folder) as (address, _):
        window.open(f"{address}/index.html?backend=wasm")
        assert window.wait("document.body.dataset.state") == "ready"
        boxes = window.value(BOXES)
        for left, _, right, _ in boxes.values():
            assert 0 <= left < right <= width
        # No bar to scroll sideways by.
        assert window.value("document.documentElement.scrollWidth") <= width
        for one, other in itertools.combinations(boxes.values(), 2):
            beside = one[2] <= other[0] or other[2] <= one[0]
            assert beside or one[3] <= other[1] or other[3] <= one[1]
        background = window.value(COLORS)[0][1]
        assert (sum(background) < 384) == (scheme == "dark")
        assert all(contrast(*pair) >= READABLE for pair in window.value(COLORS))
        window.value("document.getElementById('status').className = 'error'")
        assert all(contrast(*pair) >= READABLE for pair in window.value(COLORS))


@pytest.mark.parametrize("pixels", [400, 4000])
def test_captions_on_a_phone_have_letters_of_twelve_pixels_whatever_the_picture(
    folder, window, pixels
):
    script = """(async () => {
        const { draw } = await import("./draw.mjs");
        const canvas = document.getElementById("canvas");
        const image = { width: %d, height: 300, data: new Uint8Array(%d) };
        draw(canvas, image, [{ box: [100, 100, 200, 200], score: 1, label: 0, mask: null }], [], 0);
        const letters = Number.parseFloat(canvas.getContext("2d").font);
        return letters * canvas.clientWidth / image.width;
    })()"""
    with window.screen(400), served(folder) as (address, _):
        window.open(f"{address}/index.html?backend=wasm")
        assert window.wait("document.body.dataset.state") == "ready"
        assert 11.9 <= window.value(script % (pixels, 4 * 300 * pixels)) <= 16
