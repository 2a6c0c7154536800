"""Torch functions over peer_kernels.cpp, compiled on first use with the C++ compiler at hand."""

# torch is installed in the environment of the peers only.
# pyright: reportMissingImports=false

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import PeerUnavailableError

SOURCE = Path(__file__).with_suffix(".cpp")
# As fast as the machine allows: a peer is not to be slower than its own library would be.
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-pthread", "-shared", "-fPIC")


@functools.cache
def library() -> ctypes.CDLL:
    """Compiles and loads the kernels.

    Raises:
      PeerUnavailableError: there is no C++ compiler, or it fails.
    """
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise PeerUnavailableError(
            "torchvision's own library does not load and no C++ compiler is there to replace it"
        )
    # The file may go once it is loaded; the mapping stays.
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "peer_kernels.so"
        done = subprocess.run(
            [compiler, *_FLAGS, str(SOURCE), "-o", str(target)], capture_output=True, text=True
        )
        if done.returncode:
            raise PeerUnavailableError(f"{SOURCE.name} does not compile: {done.stderr[-300:]}")
        return ctypes.CDLL(str(target))


def nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Returns i64[k], the boxes f32[n 4] that greedy suppression keeps, best first."""
    order = torch.argsort(scores, descending=True, stable=True)
    ranked = boxes[order].contiguous().float()
    keep = torch.empty(len(ranked), dtype=torch.bool)
    library().nms(
        _pointer(ranked), ctypes.c_int64(len(ranked)), ctypes.c_float(threshold), _pointer(keep)
    )
    return order[keep]


def roi_align(
    features: torch.Tensor,
    boxes: Any,
    output_size: Any,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> torch.Tensor:
    """Does as `torchvision.ops.roi_align`."""
    if not isinstance(boxes, torch.Tensor):
        parts = [
            torch.cat([torch.full_like(part[:, :1], float(i)), part], dim=1)
            for i, part in enumerate(boxes)
        ]
        boxes = torch.cat(parts)
    side = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    settings = (spatial_scale, side[0], side[1], sampling_ratio, aligned)
    return _RoiAlign.apply(features, boxes.detach(), settings)


class _RoiAlign(torch.autograd.Function):
    """Forward and backward kernel as one differentiable function; boxes get no gradient."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, boxes: torch.Tensor, settings: tuple) -> Any:
        ctx.dtype, ctx.shape, ctx.settings = features.dtype, features.shape, settings
        # Autocast hands over bfloat16; positions and sums are float32, as in torchvision's
        # operator.
        features, boxes = features.contiguous().float(), boxes.contiguous().float()
        # The features are not needed: the gradient of a linear crop depends on the boxes alone.
        ctx.save_for_backward(boxes)
        crops = torch.empty(len(boxes), features.shape[1], settings[1], settings[2])
        _call(library().roi_align_forward, features, boxes, ctx.shape, settings, crops)
        return crops

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        (boxes,) = ctx.saved_tensors
        features = torch.zeros(ctx.shape)
        gradient = gradient.contiguous().float()
        _call(library().roi_align_backward, gradient, boxes, ctx.shape, ctx.settings, features)
        return features.to(ctx.dtype), None, None


def _call(
    kernel: Any,
    source: torch.Tensor,
    boxes: torch.Tensor,
    shape: tuple[int, ...],
    settings: tuple,
    target: torch.Tensor,
) -> None:
    scale, *numbers = settings
    kernel(
        _pointer(source),
        _pointer(boxes),
        *(ctypes.c_int64(n) for n in (len(boxes), *shape[1:])),
        ctypes.c_float(scale),
        *(ctypes.c_int(int(n)) for n in numbers),
        _pointer(target),
        ctypes.c_int(torch.get_num_threads()),
    )


def _pointer(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
