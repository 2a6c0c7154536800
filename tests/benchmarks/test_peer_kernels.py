"""What stands in for torchvision's kernels agrees with this project's operations."""

import warnings

import numpy as np
import pytest

from rcnn_jax.ops.nms import nms
from rcnn_jax.ops.roi_align import roi_align

pytestmark = pytest.mark.peers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch's own imports are not ours to mend
    torch = pytest.importorskip(
        "torch", reason="torch is not installed; the environment of the peers has it"
    )

from benchmarks import ops, peer_kernels  # noqa: E402
from benchmarks.options import Options  # noqa: E402
from benchmarks.suite import load_suite  # noqa: E402


def test_nms_keeps_the_same_boxes_in_the_same_order():
    boxes, scores = (array[0] for array in ops.clustered_boxes(1, 300))
    ours, valid = nms(boxes, scores, np.ones(300, bool), threshold=0.5, max_keep=300)
    theirs = peer_kernels.nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.5)
    assert theirs.tolist() == np.asarray(ours)[np.asarray(valid)].tolist()


def test_roi_align_and_its_gradient_agree():
    import jax

    rng = np.random.default_rng(0)
    features = rng.standard_normal((2, 20, 30, 3)).astype(np.float32)
    low = rng.uniform(0, 60, (2, 5, 2))
    boxes = np.concatenate([low, low + rng.uniform(4, 20, low.shape)], -1).astype(np.float32)
    gradient = rng.standard_normal((2, 5, 4, 4, 3)).astype(np.float32)
    crops, back = jax.vjp(lambda maps: roi_align({2: maps}, boxes, output_size=4), features)

    theirs = torch.from_numpy(np.moveaxis(features, -1, 1).copy()).requires_grad_()
    rois = [torch.from_numpy(part[:, [1, 0, 3, 2]].copy()) for part in boxes]
    their_crops = peer_kernels.roi_align(theirs, rois, 4, 0.25, 2, True)
    their_crops.backward(torch.from_numpy(np.moveaxis(gradient.reshape(10, 4, 4, 3), -1, 1).copy()))

    ours = np.moveaxis(np.asarray(crops).reshape(10, 4, 4, 3), -1, 1)
    np.testing.assert_allclose(their_crops.detach().numpy(), ours, atol=1e-5)
    our_gradient = np.moveaxis(np.asarray(back(gradient)[0]), -1, 1)
    np.testing.assert_allclose(theirs.grad.numpy(), our_gradient, atol=1e-5)


def test_operations_have_a_ratio_to_their_peer():
    benchmarks = [case.run() for case in load_suite("ops", Options(size="tiny"))]
    compared = {one.name.split()[0] for one in benchmarks if one.ratios}
    assert {"roi_align", "top_k"} <= compared
