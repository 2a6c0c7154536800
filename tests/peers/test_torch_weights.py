"""State dicts of real classifiers, saved by torch and as .safetensors, fill our backbones.

torchvision belongs to the peers environment; timm is compared where it happens to be installed
(`pip install --no-deps timm` is enough).
"""

import jax
import numpy as np
import pytest
import safetensors.numpy

from rcnn_jax.checkpoints.imported import import_checkpoint
from rcnn_jax.checkpoints.pretrained import apply_weights, load_weights
from rcnn_jax.models import BackboneOptions, FasterRcnn
from tests.checkpoints import fake_checkpoints as fake
from tests.models.tiny import variable_shapes

pytestmark = pytest.mark.peers

TORCHVISION = {
    "resnet:50": "resnet50",
    "vgg:16": "vgg16_bn",
    "vgg16": "vgg16",
    "googlenet": "googlenet",
    "mobilenet_v2": "mobilenet_v2",
    "efficientnet:b0": "efficientnet_b0",
    "efficientnet:b1": "efficientnet_b1",
}
TIMM = {
    "resnet:50": "resnet50",
    "vgg:16": "vgg16_bn",
    "mobilenet_v1": "mobilenetv1_100",
    "mobilenet_v2": "mobilenetv2_100",
    "efficientnet:b4": "efficientnet_b4",
    "darknet:53": "darknet53",
}


def loaded_into(arch, state, tmp_path, suffix):
    """What becomes of the layers of the backbone."""
    torch = pytest.importorskip("torch")
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.numpy.save_file({n: t.numpy() for n, t in state.items()}, path)
    else:
        # The form of torch before 1.6, in which the older files of torchvision are published.
        older = suffix == ".stream.pth"
        torch.save(state, path, _use_new_zipfile_serialization=not older)
    options = BackboneOptions(use_pooling=True, all_projections=False)
    shapes = variable_shapes(FasterRcnn(arch, 3, 9, options=options))
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    backbone = [n for n in empty["params"] if not n.startswith(("rpn_", "dense_"))]
    weights = load_weights(path)
    loaded = apply_weights(
        empty["params"], empty.get("batch_stats", {}), weights, expected=backbone
    )
    missing = [r.layer for r in loaded.rows if r.status == "No" and r.layer in backbone]
    return loaded, missing


@pytest.mark.parametrize("suffix", [".pth", ".stream.pth", ".safetensors"])
@pytest.mark.parametrize("arch", TORCHVISION)
def test_classifiers_of_torchvision_fill_the_backbone(arch, suffix, tmp_path):
    pytest.importorskip("torch")
    from benchmarks.torchvision_peer import import_torchvision

    make = getattr(import_torchvision().models, TORCHVISION[arch])
    model = make(init_weights=False) if arch == "googlenet" else make()
    loaded, missing = loaded_into(arch, model.state_dict(), tmp_path, suffix)
    if arch == "googlenet":  # torchvision has 3 x 3 kernels where the paper has 5 x 5
        assert len(missing) == 9 and all(name.endswith("_5x5") for name in missing)
        assert loaded.coverage > 0.9
    else:
        assert missing == [] and loaded.coverage == 1.0


@pytest.mark.parametrize("arch", TIMM)
def test_classifiers_of_timm_fill_the_backbone(arch, tmp_path):
    timm = pytest.importorskip("timm")
    model = timm.create_model(TIMM[arch], pretrained=False)
    loaded, missing = loaded_into(arch, model.state_dict(), tmp_path, ".pth")
    assert missing == [] and loaded.coverage == 1.0


def test_a_checkpoint_of_detectron2s_trainer_is_the_model_in_it(tmp_path):
    torch = pytest.importorskip("torch")
    arrays = fake.detectron2(3)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    kernel = torch.nn.Parameter(torch.zeros(3, 2))
    optimizer = torch.optim.SGD([kernel], lr=0.1, momentum=0.9)
    kernel.sum().backward()
    optimizer.step()
    path = tmp_path / "model_final.pth"
    content = {"model": tensors, "optimizer": optimizer.state_dict(), "iteration": 269_999}
    content["scheduler"] = {"base_lrs": [0.1], "last_epoch": 270_000}
    torch.save(content, path)
    imported = import_checkpoint(path).arrays
    wanted = import_checkpoint(fake.write_pickle(tmp_path / "model_final.pkl", arrays)).arrays
    assert imported.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(imported[name], array, err_msg=name)
