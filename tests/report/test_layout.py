"""All report pages in a browser, on a desk and on a phone, light and dark.

Nothing is wider than the window, no two texts of a chart lie on each other, every word can be read.
"""

import json
from dataclasses import replace

import pytest

from rcnn_jax.data.layouts.detect import read_collection
from rcnn_jax.diagnose import pages as doctor_pages
from rcnn_jax.diagnose import records
from rcnn_jax.diagnose.dataset import examine
from rcnn_jax.evaluate import compare, pages
from rcnn_jax.evaluate.hypotheses import Diagnosis
from rcnn_jax.evaluate.hypotheses import Trial as Hypothesis
from rcnn_jax.evaluate.suspicions import Suspicion
from rcnn_jax.report import charts
from rcnn_jax.report.page import Beside, Chart, Section, Table, html
from rcnn_jax.sweep import report as sweep_report
from rcnn_jax.sweep.definition import read_definition
from rcnn_jax.sweep.trial import Trial, folder_of
from rcnn_jax.train.metrics_page import write_metrics_page
from rcnn_jax.train.run_folder import METRICS_FILE, METRICS_PAGE
from tests.browser.contrast import READABLE, contrast, over
from tests.browser.driver import browser, served
from tests.data.layouts.folders import kitti_line, picture, text
from tests.e2e.tiny import write_tiny
from tests.evaluate import example

# What users call their classes, files and fields.
LONG = ("erythrocyte_with_inclusion_bodies", "white blood cell", "platelet")
DEEP = "microscope_2/2026-03-14_blood_smears_of_ward_7/exported_by_annotation_tool"

# [[words, colour, layers behind it, lowest first]] of what a person reads, each combination once.
COLORS = """(() => {
    const rgba = (color, opacity = 1) => {
        const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
        return [r, g, b, a * opacity];
    };
    const drawn = new Map([...document.querySelectorAll("svg")].map((svg) => [
        svg,
        [...svg.querySelectorAll("rect")].map((rect) => {
            const style = getComputedStyle(rect);
            return [rect.getBoundingClientRect(), rgba(style.fill, Number(style.fillOpacity))];
        }),
    ]));
    const behind = (element, box) => {
        const layers = [];
        for (let at = element; at; at = at.parentElement) {
            if (at.closest("svg") && at.tagName !== "svg") continue;
            const layer = rgba(getComputedStyle(at).backgroundColor);
            if (layer[3] > 0) layers.unshift(layer);
        }
        // Drawings have no background: what was drawn before the text lies behind it.
        const x = (box.left + box.right) / 2, y = (box.top + box.bottom) / 2;
        for (const [{ left, right, top, bottom }, color] of drawn.get(element.closest("svg")) ?? [])
            if (left <= x && x <= right && top <= y && y <= bottom) layers.push(color);
        return layers;
    };
    const found = new Map();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const words = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
        const range = document.createRange();
        range.selectNode(walker.currentNode);
        const box = range.getBoundingClientRect();
        if (!words || !box.width) continue;
        const style = getComputedStyle(element);
        const color = rgba(element.closest("svg") ? style.fill : style.color);
        const layers = behind(element, box);
        found.set(JSON.stringify([color, layers]), [words, color, layers]);
    }
    return [...found.values()];
})()"""

# Per drawing: [its title, [left, top, right, bottom], [[words, size of letters, corners]]], in pixels.
DRAWINGS = """[...document.querySelectorAll("svg")].map((svg) => {
    const { left, top, right, bottom } = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map((text) => {
        const { x, y, width, height } = text.getBBox(), matrix = text.getScreenCTM();
        const corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height]];
        const letters = Number.parseFloat(getComputedStyle(text).fontSize);
        return [text.textContent, letters * Math.hypot(matrix.a, matrix.b), corners.map(([x, y]) => {
            const point = new DOMPoint(x, y).matrixTransform(matrix);
            return [point.x, point.y];
        })];
    });
    return [svg.getAttribute("aria-label"), [left, top, right, bottom], texts];
})"""
LETTERS = 8.0
"""Least size of letters in a drawing that was made small for a phone, in pixels."""
TOUCH = 1.0
"""Pixels that the boxes of two texts may share: they have room for accents, which is mostly empty."""


def doctor_page(root):
    folder = root / DEEP
    rows = "".join(kitti_line(LONG[0], 2 + 3 * n, 4, 12 + 3 * n, 20) for n in range(12))
    bad = kitti_line("platelet", 70, 5, 90, 20) + kitti_line("platelets", 1, 1, 59, 5) + "cell 1\n"
    for split in ("train", "val"):
        for number in range(3):
            stem = f"{split}_slide_17_field_of_view_{number}"
            picture(folder / split / "images" / f"{stem}.png")
            text(folder / split / "labels" / f"{stem}.txt", rows + bad * (number == 0))
    collection = read_collection(folder)
    diagnosis = examine(str(folder), records.of_collection(collection), problems=[])
    doubts = [
        Suspicion(image=0, label=0, cause="class", strength=0.98, box=(4, 2, 20, 12), proposed=1),
        Suspicion(image=1, label=None, cause="missing", strength=0.4, box=(4, 2, 9, 9), proposed=0),
    ]
    return doctor_pages.page(replace(diagnosis, suspicions=doubts, class_names=LONG))


def evaluation_page(root):
    del root
    pytest.importorskip("hotcoco", reason="the extra `report` is not installed")
    from rcnn_jax.evaluate.analysis import analyse

    evaluation = replace(example.coco(), class_names=LONG)
    trial = Hypothesis(cause="x and y of the labels are swapped", advice="Correct it", ap50=0.9)
    return pages.page(
        analyse(evaluation),
        example.Pictures(evaluation),
        title=f"Evaluation of {DEEP}/best.tlt",
        subtitle=f"{DEEP}/spec.txt, 24 images",
        diagnosis=Diagnosis(ap50=0.0, agnostic=0.0, images=3, trials=(trial,)),
    )


def comparison_page(root):
    del root
    pytest.importorskip("hotcoco", reason="the extra `report` is not installed")
    from rcnn_jax.evaluate.analysis import analyse

    results = []
    for noise in (9.0, 1.0):
        evaluation = replace(example.voc(noise=noise), class_names=LONG)
        names = [f"{DEEP}/{number}.png" for number in range(len(evaluation.images))]
        model = f"{DEEP}/noise_{noise}/best.tlt"
        fields = pages.record(analyse(evaluation), model=model, spec="spec.txt", names=names)
        results.append(compare.result_of(json.loads(json.dumps(fields)), "a.json"))
    return compare.page(compare.compare(*results))


def sweep_page(root):
    write_tiny(root, images=4)
    weight = "training_config.regularizer.weight"
    rate = "training_config.learning_rate.soft_start.base_lr"
    (root / "sweep_of_regularisers.py").write_text(
        'from rcnn_jax.sweep import Float\nSPEC = "spec.txt"\nSPACE = {\n'
        f'    "{weight}": Float(0.0, 0.5),\n    "{rate}": Float(2e-3, 0.1, log=True),\n}}\n'
        'OBJECTIVE = {"mAP": "max", "latency_ms": "min"}\n'
        'CONSTRAINTS = ["parameters <= 5000000"]\n'
    )
    definition = read_definition(root / "sweep_of_regularisers.py")
    trials = []
    for number in range(12):
        values = {"mAP": 0.3 + 0.04 * number, "latency_ms": 9.1 + number, "parameters": 4.1e6}
        overrides = {weight: 0.041 * number, rate: 2.123e-3 * 1.3**number}
        failed = number == 5
        reason = f"{folder_of(root, number)}/spec.txt: the loss is not finite at step 120"
        trials.append(
            Trial(
                number=number,
                overrides=overrides,
                state="failed" if failed else "pruned" if number == 7 else "done",
                values={} if failed else values,
                reason=reason * failed,
                seconds=613.0,
            )
        )
        rows = [
            {"step": 1000 * step, "kind": "evaluate", "mAP": values["mAP"] * (1 - 0.5**step)}
            for step in range(1, 8)
        ]
        content = "".join(json.dumps(row) + "\n" for row in rows)
        text(folder_of(root, number) / "metrics.jsonl", content)
        text(folder_of(root, number) / "log.txt", f"{'=' * 120}\nerror: {reason}\n")
    return sweep_report.page(root, trials, definition)


def metrics_page(root):
    names = ("loss", "rpn_class_loss", "rpn_box_loss", "roi_class_loss", "roi_box_loss")
    rows = [
        {"step": step, "epoch": 1 + step // 6000, "kind": "train", "learning_rate": 2.5e-5 * step}
        | {name: 1e6 / (step + 1) for name in names}
        for step in range(0, 120_000, 500)
    ]
    rows += [
        {"step": step, "epoch": step // 6000, "kind": "evaluate", "mAP": 1 - 6000 / step}
        | {f"AP of {name}": 0.1 + step / 240_000 for name in LONG}
        | {f"AP{level}": step / 150_000 for level in (50, 75)}
        for step in range(6000, 120_001, 6000)
    ]
    text(root / METRICS_FILE, "".join(json.dumps(row) + "\n" for row in rows))
    write_metrics_page(root, "mAP", "Step 120,000, epoch 20 of 20", finished=True)
    return (root / METRICS_PAGE).read_text()


def charts_page(root):
    """Charts at their limits: many classes, long names, wide and tiny numbers, many points."""
    del root
    many = [f"{LONG[number % 3]} {number}" for number in range(18)]
    counts = [[1100 if a == b else (7 * a + 3 * b) % 900 for b in range(18)] for a in range(18)]
    matrix = Chart(charts.matrix(counts, many, many, "object \\ found as"))
    drawings = [
        Chart(charts.matrix([[1]], ["a"], ["a"], "object \\ found as")),
        Chart(charts.bars({name: 10.0**n for n, name in enumerate(many[:9])}, " images")),
        Chart(
            charts.bars(
                {name: 0.5 for name in many[:3]},
                spans={name: charts.Span(0.2, 0.5, 1.0) for name in many[:3]},
            )
        ),
        Chart(charts.histogram([3, 1] * 6, [10.0**n / 7 for n in range(13)], "pixels")),
        Chart(charts.lines({name: [(0, 1e-7), (2e6, 3e-7)] for name in many[:9]}, "step", "rate")),
        Chart(charts.lines({"": [(1, -2e6), (3, 4e7)]}, "step", "loss", marks=[(3, 4e7, "best")])),
    ]
    wide = Table(
        [f"column {number}" for number in range(20)], [["words of a cell"] * 20], "A caption"
    )
    return html("Charts", DEEP, [Section("Limits", [matrix, *drawings, Beside(drawings), wide])])


PAGES = {
    "doctor": doctor_page,
    "evaluate": evaluation_page,
    "compare": comparison_page,
    "sweep": sweep_page,
    "metrics": metrics_page,
    "charts": charts_page,
}


@pytest.fixture(scope="module")
def window():
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    with served(folder) as (address, _):
        yield folder, address


@pytest.fixture(scope="module", params=PAGES)
def page(request, address, window, tmp_path_factory):
    del window  # asked for, so that nothing is made where there is no browser
    folder, root = address
    name = f"{request.param}.html"
    (folder / name).write_text(PAGES[request.param](tmp_path_factory.mktemp(request.param)))
    return f"{root}/{name}"


def overlap(one, other):
    """Pixels by which two rectangles lie over each other; names of columns are turned."""
    least = float("inf")
    for corners in (one, other):
        for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
            length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5 or 1.0
            along = ((y1 - y2) / length, (x2 - x1) / length)
            a, b = ([x * along[0] + y * along[1] for x, y in shape] for shape in (one, other))
            least = min(least, min(max(a), max(b)) - max(min(a), min(b)))
    return least


def faults_of(window, width):
    """What is wrong with the page in the window, in words."""
    faults = []
    wide = window.value("document.documentElement.scrollWidth")
    if wide > width:
        faults.append(f"the page is {wide} pixels wide")
    for title, (left, top, right, bottom), texts in window.value(DRAWINGS):
        for number, (words, letters, corners) in enumerate(texts):
            if letters < LETTERS:
                faults.append(f"{title}: {words!r} has letters of {letters:.1f} pixels")
            xs, ys = zip(*corners, strict=True)
            if min(xs) < left - TOUCH or max(xs) > right + TOUCH:
                faults.append(f"{title}: {words!r} is cut at a side")
            if min(ys) < top - TOUCH or max(ys) > bottom + TOUCH:
                faults.append(f"{title}: {words!r} is cut above or below")
            faults += [
                f"{title}: {words!r} lies on {others!r}"
                for others, _, other in texts[:number]
                if overlap(corners, other) > TOUCH
            ]
    for words, (*color, opacity), layers in window.value(COLORS):
        background = over(layers)
        ratio = contrast(over([(*background, 1), (*color, opacity)]), background)
        if ratio < READABLE:
            faults.append(f"{words!r} has a contrast of {ratio:.2f}: {color} on {background}")
    return faults


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_overflows_or_overlaps_and_every_word_can_be_read(window, page, width, scheme):
    with window.screen(width, scheme):
        window.open(page)
        # Folded sections too.
        window.value("document.querySelectorAll('details').forEach((part) => (part.open = true))")
        color = window.value("getComputedStyle(document.body).backgroundColor")
        assert (color == "rgb(255, 255, 255)") == (scheme == "light")
        faults = faults_of(window, width)
    assert not faults, "\n".join(faults)
