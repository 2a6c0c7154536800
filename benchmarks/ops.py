"""The operations that dominate a detector besides convolutions: NMS, RoIAlign, top-k.

Sizes and reference times: docs/reference/performance.md, "Reference times of operations".
On a CPU no operation should be slower than that table, whose noise is up to a factor of two.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import lax

from benchmarks.case import Case, effort
from benchmarks.jax_side import jitted
from benchmarks.measure import OURS, PeerUnavailableError, Side, compare
from benchmarks.options import Options
from benchmarks.results import Aim, Benchmark, Reference, SideResult
from benchmarks.torchvision_peer import (
    SUBSTITUTED,
    import_torch,
    import_torchvision,
    own_kernels,
    to_torch,
    torch_device,
    torch_side,
)
from rcnn_jax.ops.nms import batched_nms
from rcnn_jax.ops.roi_align import assign_levels, roi_align

PEER = "torchvision"
# That of an RPN, where suppression sees most boxes.
THRESHOLD = 0.7
LEVELS = (2, 3, 4, 5)


@dataclass(frozen=True, kw_only=True)
class NmsSize:
    """Rows of n boxes of which k are kept; milliseconds are of the table, tile 256."""

    rows: int
    n: int
    k: int
    milliseconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class RoiSize:
    """Crops of one image; milliseconds forward and backward are ranges of the table, row (a1)."""

    height: int
    width: int
    channels: int
    rois: int
    side: int
    forward: tuple[float, float] | None = None
    backward: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class TopKSize:
    """Rows of n scores of which the best k are found."""

    rows: int
    n: int
    k: int
    milliseconds: float | None = None


TABLE_NMS = (
    NmsSize(rows=2, n=1000, k=300, milliseconds=0.7),
    NmsSize(rows=2, n=2000, k=1000, milliseconds=2.4),
    NmsSize(rows=2, n=12000, k=1000, milliseconds=5.1),
    NmsSize(rows=10, n=2000, k=1000, milliseconds=16.0),
)
TABLE_ROI = (
    RoiSize(
        height=832, width=1344, channels=256, rois=512, side=7,
        forward=(150.0, 560.0), backward=(130.0, 140.0),
    ),
    RoiSize(
        height=832, width=1344, channels=256, rois=128, side=14,
        forward=(156.0, 156.0), backward=(132.0, 132.0),
    ),
)  # fmt: skip
TABLE_TOP_K = (TopKSize(rows=2, n=209_664, k=2000, milliseconds=2.2),)

TINY_NMS = (NmsSize(rows=2, n=60, k=10),)
TINY_ROI = (RoiSize(height=64, width=64, channels=4, rois=6, side=3),)
TINY_TOP_K = (TopKSize(rows=2, n=200, k=20),)


def cases(options: Options) -> list[Case]:
    """Returns one case per operation and size."""
    tiny = options.size == "tiny"
    sizes_nms, sizes_roi, sizes_top_k = (
        (TINY_NMS, TINY_ROI, TINY_TOP_K) if tiny else (TABLE_NMS, TABLE_ROI, TABLE_TOP_K)
    )
    rows = []
    for size in sizes_nms:
        name = f"nms {size.rows} x {size.n} -> {size.k}"
        rows.append(_case(name, _nms, size, options))
    for size in sizes_roi:
        name = f"roi_align {size.rois} rois {size.side}x{size.side}"
        rows.append(_case(f"{name} forward", _roi_forward, size, options))
        rows.append(_case(f"{name} backward", _roi_backward, size, options))
    for size in sizes_top_k:
        name = f"top_k {size.rows} x {size.n} -> {size.k}"
        rows.append(_case(name, _top_k, size, options))
    return rows


def clustered_boxes(rows: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns boxes f32[rows n 4] in clusters, as an RPN makes them, and scores with ties."""
    rng = np.random.default_rng(0)
    # Twenty candidates per object, as anchors of neighbouring cells regress to one box: suppression
    # of boxes that do not overlap would end after one round.
    clusters = max(1, n // 20)
    middle = rng.uniform(0, 800, (rows, clusters, 2))
    side = np.exp(rng.uniform(np.log(16), np.log(400), (rows, clusters, 2)))
    of = rng.integers(0, clusters, (rows, n))
    row = np.arange(rows)[:, None]
    center = middle[row, of] + rng.normal(0, 0.1, (rows, n, 2)) * side[row, of]
    half = 0.5 * side[row, of] * np.exp(rng.normal(0, 0.15, (rows, n, 2)))
    boxes = np.concatenate([center - half, center + half], axis=-1).astype(np.float32)
    # Rounded: ties are where implementations differ.
    return boxes, rng.uniform(0, 1, (rows, n)).round(2).astype(np.float32)


def random_rois(size: RoiSize) -> np.ndarray:
    """Returns boxes f32[1 r 4] inside the image, sides evenly spread on a log scale."""
    rng = np.random.default_rng(0)
    canvas = np.array((size.height, size.width), np.float64)
    side = np.exp(rng.uniform(np.log(8), np.log(canvas), (size.rois, 2)))
    corner = rng.uniform(0, 1, (size.rois, 2)) * (canvas - side)
    return np.concatenate([corner, corner + side], axis=-1)[None].astype(np.float32)


def _case(name: str, measure: Callable[..., Benchmark], size: Any, options: Options) -> Case:
    return Case(name, lambda: measure(name, size, options))


def _benchmark(
    name: str,
    parameters: dict[str, Any],
    ours: Callable[[], Side],
    peer: Callable[[], Side],
    milliseconds: tuple[float, float] | None,
    options: Options,
) -> Benchmark:
    makers = {OURS: ours, PEER: peer} if options.peers else {OURS: ours}
    sides, notes = compare(makers, effort(options))
    if sides[1:] and name.startswith("roi_align") and not own_kernels():
        notes = (*notes, SUBSTITUTED)
    reference = None
    if milliseconds is not None:
        low, high = milliseconds
        reference = Reference(
            low=low / 1e3,
            high=high / 1e3,
            source='docs/reference/performance.md, "Reference times of operations"',
        )
    return Benchmark(
        name=name,
        parameters=parameters,
        sides=sides,
        reference=reference,
        aims=_aims(name, sides[0], reference),
        notes=notes,
    )


def _aims(name: str, ours: SideResult, reference: Reference | None) -> tuple[Aim, ...]:
    """The table was measured on a CPU and says nothing about other devices."""
    if reference is None or jax.local_devices()[0].platform != "cpu":
        return ()
    return (
        Aim(
            what=f"{name}: time",
            value=ours.median * 1e3,
            relation="at most",
            limit=reference.high * 1e3,
            unit="ms",
        ),
    )


def _nms(name: str, size: NmsSize, options: Options) -> Benchmark:
    boxes, scores = clustered_boxes(size.rows, size.n)
    valid = np.ones_like(scores, bool)

    def ours() -> Side:
        def run(boxes: Any, scores: Any, valid: Any) -> Any:
            return batched_nms(boxes, scores, valid, threshold=THRESHOLD, max_keep=size.k)

        return jitted(run, boxes, scores, valid)

    def peer() -> Side:
        torchvision = import_torchvision()
        # The substitute for NMS is ours, and a race against oneself is none.
        if not own_kernels():
            raise PeerUnavailableError("torchvision's own kernels do not load here")
        device = torch_device()
        their_boxes, their_scores = to_torch(boxes, device), to_torch(scores, device)
        nms = torchvision.ops.nms
        return torch_side(
            lambda: [
                nms(row, score, THRESHOLD)[: size.k]
                for row, score in zip(their_boxes, their_scores, strict=True)
            ],
            device,
        )

    return _benchmark(
        name,
        {"rows": size.rows, "boxes": size.n, "kept": size.k, "threshold": THRESHOLD},
        ours,
        peer,
        _range(size.milliseconds),
        options,
    )


def _roi_forward(name: str, size: RoiSize, options: Options) -> Benchmark:
    boxes = random_rois(size)

    def ours() -> Side:
        return jitted(lambda features, boxes: _crops(features, boxes, size), _pyramid(size), boxes)

    def peer() -> Side:
        pooler, features, their_boxes, device = _their_pooler(size, boxes)
        shapes = [(size.height, size.width)]
        return torch_side(lambda: pooler(features, their_boxes, shapes), device)

    return _benchmark(name, _roi_parameters(size), ours, peer, size.forward, options)


def _roi_backward(name: str, size: RoiSize, options: Options) -> Benchmark:
    boxes = random_rois(size)
    shape = (1, size.rois, size.side, size.side, size.channels)
    gradient = np.random.default_rng(1).standard_normal(shape, np.float32)

    def ours() -> Side:
        def run(features: Any, boxes: Any, gradient: Any) -> Any:
            _, back = jax.vjp(lambda maps: _crops(maps, boxes, size), features)
            return back(gradient)  # the forward pass is dead code here and is not timed

        return jitted(run, _pyramid(size), boxes, gradient)

    def peer() -> Side:
        torch = import_torch()
        pooler, features, their_boxes, device = _their_pooler(size, boxes)
        # The forward pass of the peer is outside of the timed call as well; retain_graph lets it be
        # reused.
        leaves = [feature.requires_grad_() for feature in features.values()]
        crops = pooler(features, their_boxes, [(size.height, size.width)])
        their_gradient = to_torch(np.moveaxis(gradient[0], -1, 1), device)
        return torch_side(
            lambda: torch.autograd.grad(
                crops, leaves, their_gradient, retain_graph=True, allow_unused=True
            ),
            device,
        )

    return _benchmark(name, _roi_parameters(size), ours, peer, size.backward, options)


def _top_k(name: str, size: TopKSize, options: Options) -> Benchmark:
    scores = np.random.default_rng(0).standard_normal((size.rows, size.n), np.float32)

    def peer() -> Side:
        torch, device = import_torch(), torch_device()
        theirs = to_torch(scores, device)
        return torch_side(lambda: torch.topk(theirs, size.k), device)

    return _benchmark(
        name,
        {"rows": size.rows, "scores": size.n, "kept": size.k},
        lambda: jitted(lambda rows: lax.top_k(rows, size.k), scores),
        peer,
        _range(size.milliseconds),
        options,
    )


def _crops(features: Any, boxes: Any, size: RoiSize) -> Any:
    level = assign_levels(boxes, LEVELS[0], LEVELS[-1])
    return roi_align(features, boxes, output_size=size.side, level=level)


def _pyramid(size: RoiSize) -> dict[int, np.ndarray]:
    """Returns features {level: f32[1 h w c]}, unit normal."""
    rng = np.random.default_rng(2)
    return {
        level: rng.standard_normal(
            (1, size.height >> level, size.width >> level, size.channels), np.float32
        )
        for level in LEVELS
    }


def _their_pooler(size: RoiSize, boxes: np.ndarray) -> tuple[Any, dict[str, Any], list[Any], Any]:
    torchvision = import_torchvision()
    device = torch_device()
    features = {
        str(level): to_torch(np.moveaxis(feature, -1, 1), device)
        for level, feature in _pyramid(size).items()
    }
    pooler = torchvision.ops.MultiScaleRoIAlign(list(features), size.side, sampling_ratio=2)
    their_boxes = to_torch(boxes[0][:, [1, 0, 3, 2]], device)  # (x1, y1, x2, y2)
    return pooler, features, [their_boxes], device


def _roi_parameters(size: RoiSize) -> dict[str, Any]:
    return {
        "canvas": f"{size.height}x{size.width}",
        "levels": f"{LEVELS[0]}-{LEVELS[-1]}",
        "channels": size.channels,
        "rois": size.rois,
        "side": size.side,
        "samples": 2,
    }


def _range(milliseconds: float | None) -> tuple[float, float] | None:
    return None if milliseconds is None else (milliseconds, milliseconds)
