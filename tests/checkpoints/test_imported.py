"""Import by value: every array of a bundle is the array of the checkpoint, turned by NumPy alone."""

import re

import numpy as np
import pytest

from rcnn_jax.checkpoints.bundle import Bundle
from rcnn_jax.checkpoints.detectron2_names import from_detectron2
from rcnn_jax.checkpoints.imported import ImportOptions, import_checkpoint
from rcnn_jax.checkpoints.layout import read_layout
from rcnn_jax.checkpoints.published import PUBLISHED
from rcnn_jax.checkpoints.state import stored_experiment, with_weights
from rcnn_jax.errors import CheckpointError, UsageError
from tests.checkpoints import fake_checkpoints as fake
from tests.checkpoints import torch_opcodes

OIHW = (2, 3, 1, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("imported")


@pytest.fixture(scope="module")
def newer(folder):
    """A v2 of torchvision and its bundle."""
    arrays = fake.torchvision(4, version=2)
    return arrays, import_checkpoint(fake.write_safetensors(folder / "v2.safetensors", arrays))


@pytest.fixture(scope="module")
def zoo(folder):
    """A model of detectron2 and its bundle."""
    arrays = fake.detectron2(3)
    return arrays, import_checkpoint(fake.write_pickle(folder / "model_final.pkl", arrays))


def refusal(path, **options) -> str:
    with pytest.raises((CheckpointError, UsageError)) as caught:
        import_checkpoint(path, ImportOptions(**options))
    return str(caught.value).replace(str(path.parent), "")


def hwc_rows(array):
    """[out, 256*49] flattened C, H, W -> [7*7*256, out]."""
    return array.reshape(-1, 256, 7, 7).transpose(2, 3, 1, 0).reshape(-1, array.shape[0])


def y_first(array):
    """The last axis holds (dx, dy, dw, dh) for every class."""
    return array.reshape(*array.shape[:-1], -1, 4)[..., [1, 0, 3, 2]].reshape(array.shape)


def test_every_array_of_torchvision_v2_has_its_place(newer):
    theirs, bundle = newer
    ours = bundle.arrays
    assert isinstance(bundle, Bundle) and len(ours) == len(theirs)
    heads = "roi_heads"
    expected = {
        "params/conv1/kernel": theirs["backbone.body.conv1.weight"].transpose(OIHW),
        "batch_stats/block_3a_bn_2/moving_variance": theirs[
            "backbone.body.layer3.0.bn2.running_var"
        ],
        "params/block_2a_conv_shortcut/kernel": theirs[
            "backbone.body.layer2.0.downsample.0.weight"
        ].transpose(OIHW),
        "params/l4/kernel": theirs["backbone.fpn.inner_blocks.2.0.weight"].transpose(OIHW),
        "params/l4_bn/gamma": theirs["backbone.fpn.inner_blocks.2.1.weight"],
        "batch_stats/post_hoc_d5_bn/moving_mean": theirs[
            "backbone.fpn.layer_blocks.3.1.running_mean"
        ],
        "params/rpn-conv-l1/kernel": theirs["rpn.head.conv.1.0.weight"].transpose(OIHW),
        "params/rpn-box/bias": y_first(theirs["rpn.head.bbox_pred.bias"]),
        "params/box-conv-l3/kernel": theirs[f"{heads}.box_head.3.0.weight"].transpose(OIHW),
        "params/box-conv-l0_bn/beta": theirs[f"{heads}.box_head.0.1.bias"],
        "params/fc6/kernel": hwc_rows(theirs[f"{heads}.box_head.5.weight"]),
        "params/class-predict/bias": np.roll(theirs[f"{heads}.box_predictor.cls_score.bias"], -1),
        "params/box-predict/bias": np.roll(
            y_first(theirs[f"{heads}.box_predictor.bbox_pred.bias"]), -4
        ),
        "params/mask-conv-l2_bn/gamma": theirs[f"{heads}.mask_head.2.1.weight"],
        "params/conv5-mask/kernel": theirs[f"{heads}.mask_predictor.conv5_mask.weight"].transpose(
            2, 3, 0, 1
        ),
        "params/mask_fcn_logits/bias": np.roll(
            theirs[f"{heads}.mask_predictor.mask_fcn_logits.bias"], -1
        ),
    }
    for name, array in expected.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def test_every_array_of_detectron2_has_its_place(zoo):
    theirs, bundle = zoo
    ours = bundle.arrays
    assert len(ours) == len(theirs)
    expected = {
        "params/conv1/kernel": theirs["backbone.bottom_up.stem.conv1.weight"].transpose(OIHW),
        "params/bn_conv1/gamma": theirs["backbone.bottom_up.stem.conv1.norm.weight"],
        "batch_stats/block_4a_bn_shortcut/moving_mean": theirs[
            "backbone.bottom_up.res5.0.shortcut.norm.running_mean"
        ],
        "params/l2/bias": theirs["backbone.fpn_lateral2.bias"],
        "params/post_hoc_d3/kernel": theirs["backbone.fpn_output3.weight"].transpose(OIHW),
        "params/rpn-class/bias": theirs["proposal_generator.rpn_head.objectness_logits.bias"],
        "params/fc6/kernel": hwc_rows(theirs["roi_heads.box_head.fc1.weight"]),
        "params/fc7/kernel": theirs["roi_heads.box_head.fc2.weight"].T,
        "params/class-predict/bias": theirs["roi_heads.box_predictor.cls_score.bias"],
        "params/box-predict/bias": np.concatenate(
            [y_first(theirs["roi_heads.box_predictor.bbox_pred.bias"]), np.zeros(4)]
        ),
        "params/mask_fcn_logits/bias": np.append(theirs["roi_heads.mask_head.predictor.bias"], 0.0),
        "params/conv5-mask/kernel": theirs["roi_heads.mask_head.deconv.weight"].transpose(
            2, 3, 0, 1
        ),
    }
    for name, array in expected.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def test_a_bundle_says_what_its_source_takes_for_granted(newer, zoo):
    task = stored_experiment(newer[1], "it").task
    assert (task.model.rpn_depth, task.model.box_convs) == (2, 4)
    assert task.model.fpn_norm == task.model.head_norm == "bn" and not task.model.options.freeze_bn
    assert not task.settings.roi_aligned and task.settings.roi_samples == 2
    assert task.pixels.channel_order == "rgb" and task.model.convention.stride_on == "middle"
    experiment = stored_experiment(zoo[1], "it")
    task, test = experiment.task, experiment.inference
    assert task.settings.roi_aligned and task.settings.roi_samples == 0
    assert task.pixels.channel_order == "bgr" and task.pixels.mean == (103.53, 116.28, 123.675)
    assert task.pixels.std == (1.0, 1.0, 1.0) and task.model.convention.stride_on == "first"
    assert dict(task.settings.cell_sizes)[3][1] == (64.0, 64.0)
    assert test.detections.score_threshold == 0.05
    assert (experiment.geometry.short_side, experiment.geometry.long_side) == (800, 1333)


def test_a_bundle_is_whole_and_holds_no_path(newer):
    experiment, variables = with_weights(stored_experiment(newer[1], "it"), newer[1], "it")
    assert set(variables) == {"params", "batch_stats"}
    assert experiment.category_ids == (1, 2, 3, 4) and "/" not in newer[1].header["spec"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_every_protocol_are_the_same_model(folder, zoo, protocol):
    path = fake.write_pickle(folder / f"p{protocol}.pkl", zoo[0], protocol)
    arrays = import_checkpoint(path).arrays
    assert arrays.keys() == zoo[1].arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, zoo[1].arrays[name])


@pytest.mark.parametrize("stream", [False, True])
def test_the_checkpoint_of_a_training_with_detectron2_is_the_same_model(folder, zoo, stream):
    """Older ones hold anchors and pixels too; every one holds counters and an optimizer."""
    buffers = {
        "pixel_mean": np.zeros((3, 1, 1), np.float32),
        "proposal_generator.anchor_generator.cell_anchors.0": np.zeros((3, 4), np.float32),
    }
    program, storages = torch_opcodes.saved({**zoo[0], **buffers})
    text = torch_opcodes.text
    program = (
        b"}(" + text("iteration") + torch_opcodes.number(269999) + text("model") + program + b"u"
    )
    path = folder / f"model_final_{stream}.pth"
    if stream:
        path.write_bytes(torch_opcodes.stream(program, storages))
    else:
        torch_opcodes.write_archive(path, program, storages)
    arrays = import_checkpoint(path).arrays
    assert arrays.keys() == zoo[1].arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, zoo[1].arrays[name])


@pytest.mark.parametrize("stream", [False, True])
def test_files_of_torch_old_and_new_are_the_same_model(folder, newer, stream):
    path = fake.write_torch(folder / f"stream_{stream}.pth", newer[0], stream=stream)
    arrays = import_checkpoint(path).arrays
    assert arrays.keys() == newer[1].arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, newer[1].arrays[name])


def test_a_faster_rcnn_becomes_the_network_without_masks(folder):
    path = fake.write_safetensors(folder / "boxes.safetensors", fake.torchvision(90, masks=False))
    bundle = import_checkpoint(path)
    assert (
        "include_mask: False" in bundle.header["spec"]
        or "include_mask: false" in bundle.header["spec"]
    )
    assert bundle.header["class_names"][:3] == ["person", "bicycle", "car"]
    assert bundle.header["category_ids"][11:13] == [0, 13]  # 12 is unused


def test_an_epsilon_of_zero_moves_into_gamma(folder):
    arrays = fake.torchvision(2, masks=False)
    path = fake.write_safetensors(folder / "eps.safetensors", arrays)
    bundle = import_checkpoint(path, ImportOptions(bn_eps=0.0))
    gamma, variance = (
        bundle.arrays["params/bn_conv1/gamma"],
        arrays["backbone.body.bn1.running_var"],
    )
    np.testing.assert_allclose(
        gamma / np.sqrt(variance + 1e-5),
        arrays["backbone.body.bn1.weight"] / np.sqrt(variance),
        rtol=1e-6,
    )


def test_names_of_classes_come_from_a_file(folder):
    path = fake.write_safetensors(folder / "named.safetensors", fake.torchvision(2, masks=False))
    names = folder / "names.txt"
    names.write_text("helmet\nhead\n\n")
    bundle = import_checkpoint(path, ImportOptions(classes=names))
    assert bundle.header["class_names"] == ["helmet", "head"]
    names.write_text("background\nhelmet\nhead\n")
    assert refusal(path, classes=names).endswith(
        "has 3 names, /named.safetensors has 2 classes; background has no line"
    )
    names.write_text("head\nhead\n")
    assert "has 'head' twice" in refusal(path, classes=names)


def test_what_does_not_fit_is_refused_by_the_first_layer(folder, tmp_path):
    arrays = fake.torchvision(2)
    spec = tmp_path / "spec.txt"
    path = fake.write_safetensors(folder / "whole.safetensors", arrays)
    spec.write_text(import_checkpoint(path).header["spec"])
    assert import_checkpoint(path, ImportOptions(spec=spec)).arrays
    text = spec.read_text()
    spec.write_text(text.replace("nlayers: 10", "nlayers: 18"))
    assert (
        "block_1b_conv_1 is not in the file, the first layer of the network that differs"
        in refusal(path, spec=spec)
    )
    spec.write_text(text.replace("num_classes: 3", "num_classes: 4"))
    assert "the spec says num_classes: 4" in refusal(path, spec=spec)
    less = {n: a for n, a in arrays.items() if "layer4.0.conv2" not in n}
    path = fake.write_safetensors(folder / "less.safetensors", less)
    assert "block_4a_conv_2 is not in the file" in refusal(path)
    more = {**arrays, "roi_heads.keypoint_head.0.weight": np.zeros((4, 4, 3, 3), np.float32)}
    path = fake.write_safetensors(folder / "more.safetensors", more)
    assert "'roi_heads.keypoint_head.0' is the first of 1" in refusal(path)
    broken = {**arrays, "rpn.head.cls_logits.bias": np.full(3, np.nan, np.float32)}
    path = fake.write_safetensors(folder / "nan.safetensors", broken)
    assert "rpn-class/bias holds numbers that are not finite" in refusal(path)


def test_other_networks_and_files_are_refused(folder, tmp_path):
    path = fake.write_safetensors(
        folder / "c.safetensors", {"fc.weight": np.zeros((2, 3), np.float32)}
    )
    assert "it has no layer 'conv1'" in refusal(path)
    anchors = {
        **fake.torchvision(2),
        "rpn.head.cls_logits.weight": np.zeros((9, 256, 1, 1), np.float32),
    }
    path = fake.write_safetensors(folder / "a.safetensors", anchors)
    assert "rpn-class has 9 anchors a cell" in refusal(path)
    with pytest.raises(UsageError, match="is imported from .pth"):
        import_checkpoint(tmp_path / "model.onnx")
    path = fake.write_safetensors(folder / "t.safetensors", fake.torchvision(2))
    assert "is for detectron2" in refusal(path, config=tmp_path / "c.yaml")
    path = fake.write_pickle(folder / "d.pkl", fake.detectron2(2))
    assert "always has 1e-5" in refusal(path, bn_eps=0.0)


def test_the_names_of_the_first_published_detectors_are_the_same_model(folder):
    """They have version 1 of every block, and the form of torch before 1.6."""
    arrays = fake.torchvision(2)
    old = {}
    for name, array in arrays.items():
        name = re.sub(r"((inner|layer)_blocks\.\d)\.0\.", r"\1.", name)
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        name = re.sub(
            r"mask_head\.(\d)\.0\.", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}.", name
        )
        old[name] = array
    assert len(old.keys() - arrays.keys()) == 2 * (4 + 4 + 1 + 4)
    newer, older = (
        import_checkpoint(fake.write_torch(folder / f"{name}.pth", named, stream=True)).arrays
        for name, named in (("newer", arrays), ("older", old))
    )
    assert newer.keys() == older.keys()
    for name, array in newer.items():
        np.testing.assert_array_equal(older[name], array)


def test_a_published_file_is_known_by_its_name_wherever_it_lies(folder):
    row = PUBLISHED["coco/faster_rcnn_resnet50_fpn"]
    name = row.url.rpartition("/")[2]
    path = fake.write_safetensors(folder / "x.safetensors", fake.torchvision(2, masks=False))
    published = ImportOptions(published=row)
    ours = import_checkpoint(path, published).arrays["params/bn_conv1/gamma"]
    assert name.startswith("fasterrcnn_resnet50_fpn_coco-") and row.bn_eps == 0.0
    assert not np.array_equal(ours, import_checkpoint(path).arrays["params/bn_conv1/gamma"])


@pytest.mark.long
def test_a_resnet_101_is_known_by_its_units(folder):
    theirs = fake.detectron2(2, masks=False, bottlenecks=(3, 4, 23, 3))
    bundle = import_checkpoint(fake.write_pickle(folder / "r101.pkl", theirs))
    task = stored_experiment(bundle, "it").task
    assert task.model.arch == "resnet:101" and len(bundle.arrays) == len(theirs)
    last = "backbone.bottom_up.res4.22.conv2"
    ours = bundle.arrays
    np.testing.assert_array_equal(
        ours["params/block_3w_conv_2/kernel"], theirs[f"{last}.weight"].transpose(OIHW)
    )
    np.testing.assert_array_equal(
        ours["batch_stats/block_3w_bn_2/moving_variance"], theirs[f"{last}.norm.running_var"]
    )
    shorter = {name: array for name, array in theirs.items() if ".res4.22." not in name}
    with pytest.raises(CheckpointError, match="3, 4, 22, 3 bottlenecks"):
        read_layout(from_detectron2(shorter), "shorter.pkl")
