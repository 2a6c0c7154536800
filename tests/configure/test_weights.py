"""Weights to start from: the name tells the backbone, the format tells the pixels."""

import numpy as np
import pytest

from rcnn_jax.checkpoints.bundle import write_bundle
from rcnn_jax.checkpoints.imported import ImportOptions, import_checkpoint
from rcnn_jax.checkpoints.published import fetch_published, find
from rcnn_jax.configure.weights import (
    _CLASSIFIERS,
    CAFFE,
    IMAGENET,
    SYMMETRIC,
    is_folded,
    published_start,
    start_of,
)
from rcnn_jax.errors import CheckpointError, UsageError
from rcnn_jax.spec.defaults import default_config
from rcnn_jax.spec.load import parse_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.families import family
from tests.checkpoints import fake_checkpoints as fake
from tests.checkpoints.mirror import mirror, publish


@pytest.mark.parametrize(
    ("name", "arch", "pixels", "convention"),
    [
        ("resnet18-f37072fd.pth", "resnet:18", IMAGENET, "torchvision"),
        ("maskrcnn_resnet50_fpn_coco-bf2d0c1e.safetensors", "resnet:50", IMAGENET, "torchvision"),
        ("resnet_10.hdf5", "resnet:10", CAFFE, "tao"),
        ("mobilenet_v2_1.0_224_imagenet.npz", "mobilenet_v2", SYMMETRIC, "tao"),
        ("efficientnet_b3.h5", "efficientnet:b3", SYMMETRIC, "tao"),
        ("vgg16.keras", "vgg:16", CAFFE, "tao"),
    ],
)
def test_a_file_tells_what_it_is(tmp_path, name, arch, pixels, convention):
    (tmp_path / name).touch()
    start = start_of(str(tmp_path / name), "")
    assert (start.path, start.arch) == (str(tmp_path / name), arch)
    assert (start.pixels, start.convention) == (pixels, convention)


def test_a_name_that_tells_nothing_needs_the_flag(tmp_path):
    (tmp_path / "best.npz").touch()
    with pytest.raises(UsageError, match="does not tell which backbone"):
        start_of(str(tmp_path / "best.npz"), "")
    assert start_of(str(tmp_path / "best.npz"), "resnet:34").arch == "resnet:34"


def test_without_weights_training_begins_at_chance():
    start = start_of("none", "")
    assert (start.path, start.arch, start.pixels) == ("", "resnet:18", None)
    assert start_of("none", "resnet:34").arch == "resnet:34"


def test_folded_batch_norm_is_told_from_its_statistics(tmp_path):
    def write(name, mean, gamma):
        leaves = {
            "params/conv1/kernel": np.ones((3, 3, 3, 4)),
            "params/bn_conv1/gamma": np.full(4, gamma),
            "params/bn_conv1/beta": np.zeros(4),
            "batch_stats/bn_conv1/moving_mean": np.full(4, mean),
            "batch_stats/bn_conv1/moving_variance": np.ones(4),
        }
        np.savez(
            tmp_path / name, **{key: value.astype(np.float32) for key, value in leaves.items()}
        )
        return tmp_path / name

    assert is_folded(write("folded.npz", 0.0, 1.0))
    assert not is_folded(write("whole.npz", 0.3, 1.0))
    assert not is_folded(write("scaled.npz", 0.0, 0.7))


def test_the_newer_architecture_of_a_published_detector_is_written_into_the_spec():
    newer = start_of("coco/mask_rcnn_resnet50_fpn_v2", "")
    assert newer.network == {
        "rpn_conv_depth": "2",
        "box_head": '"4conv1fc"',
        "fpn_norm": '"bn"',
        "head_norm": '"bn"',
    }
    assert start_of("coco/mask_rcnn_resnet50_fpn", "").network == {}
    assert start_of("imagenet/resnet50_v2", "").network == {}


@pytest.mark.parametrize("source", ["torchvision", "detectron2"])
def test_an_imported_model_hands_on_what_its_weights_need(tmp_path, source):
    path = tmp_path / "w.safetensors"
    if source == "torchvision":
        fake.write_safetensors(path, fake.torchvision(2, version=2))
        options = ImportOptions()
    else:
        fake.write_safetensors(path, fake.detectron2(2))
        (tmp_path / "c.yaml").write_text("MODEL: {PIXEL_STD: [57.375, 57.12, 58.395]}")
        options = ImportOptions(config=tmp_path / "c.yaml")
    bundle = import_checkpoint(path, options)
    write_bundle(tmp_path / "model.tlt", bundle)
    start = start_of(str(tmp_path / "model.tlt"), "")
    assert (start.arch, start.convention) == ("resnet:10", source)
    network = "".join(f"  {name}: {value}\n" for name, value in start.network.items())
    ours, theirs = (
        build_experiment(
            parse_spec(text, "spec", "mask_rcnn", "inference").config, "mask_rcnn"
        ).task
        for text in (
            f"maskrcnn_config {{ nlayers: 10 convention: {source!r}\n{network} }} "
            "data_config { num_classes: 3 }",
            bundle.header["spec"],
        )
    )
    assert ours.pixels == theirs.pixels and ours.settings.roi_samples == theirs.settings.roi_samples
    layers = [
        (m.rpn_depth, m.box_convs, m.fpn_norm, m.head_norm, m.convention)
        for m in (ours.model, theirs.model)
    ]
    assert layers[0] == layers[1]


def test_published_weights_are_named_in_the_spec_and_fetched_by_training():
    start = start_of("imagenet/resnet50", "")
    assert (start.path, start.arch) == ("imagenet/resnet50", "resnet:50")
    assert (start.pixels, start.convention) == (IMAGENET, "torchvision")
    assert start_of("imagenet/mobilenet_v2", "").pixels == IMAGENET
    with pytest.raises(CheckpointError, match="did you mean imagenet/resnet50"):
        start_of("imagenet/resnet51", "")
    with pytest.raises(UsageError, match="weights import coco/mask_rcnn_R_50_FPN_3x"):
        start_of("coco/mask_rcnn_R_50_FPN_3x", "")


@pytest.fixture
def site(monkeypatch, tmp_path):
    with mirror(monkeypatch, str(tmp_path / "cache")) as server:
        yield server


@pytest.mark.parametrize(
    ("arch", "detectors", "masks", "name"),
    [
        ("resnet:18", False, False, "imagenet/resnet18"),
        ("resnet:18", True, True, "imagenet/resnet18"),
        ("resnet:50", False, False, "imagenet/resnet50"),
        ("resnet:50", True, False, "coco/faster_rcnn_resnet50_fpn_v2"),
        ("resnet:50", True, True, "coco/mask_rcnn_resnet50_fpn_v2"),
        ("vgg:16", False, False, "imagenet/vgg16_bn"),
        ("vgg16", False, False, "imagenet/vgg16"),
    ],
)
def test_the_best_published_weights_of_a_network_are_named_and_not_fetched(
    site, monkeypatch, tmp_path, arch, detectors, masks, name
):
    publish(monkeypatch, site, name, b"weights", suffix=".pth")
    start = published_start(arch, detectors=detectors, masks=masks)
    assert (start.path, start.arch) == (name, arch)
    assert (start.pixels, start.convention) == (IMAGENET, "torchvision")
    assert bool(start.network) == name.endswith("fpn_v2")
    assert start.sentence.endswith("published weights, training fetches them")
    assert [wanted for _, wanted, _ in site.asked] == ["bytes=0-0"]
    assert not (tmp_path / "cache").exists()


def test_published_weights_in_the_cache_need_no_network(site, monkeypatch):
    publish(monkeypatch, site, "imagenet/resnet18", b"weights")
    fetch_published(find("imagenet/resnet18"))
    site.asked.clear()
    monkeypatch.setenv("RCNN_JAX_OFFLINE", "1")
    start = published_start("resnet:18", detectors=False, masks=False)
    assert (start.path, start.sentence) == (
        "imagenet/resnet18",
        "from imagenet/resnet18 (resnet:18), published weights, in the cache",
    )
    assert site.asked == []


def test_where_published_weights_cannot_be_had_the_sentence_says_why(site, monkeypatch):
    def sentence(arch="resnet:18"):
        start = published_start(arch, detectors=False, masks=False)
        assert (start.path, start.arch, start.pixels) == ("", arch, None)
        return start.sentence

    assert "from random weights: imagenet/resnet18 cannot be fetched: the server answered 404" in (
        sentence()
    )
    assert "`rcnn-jax weights fetch imagenet/resnet18` where there is a network" in sentence()
    site.page = True
    assert "a login stands between" in sentence()
    assert "no published ones are of resnet:10" in sentence("resnet:10")
    monkeypatch.setenv("RCNN_JAX_WEIGHTS_MIRROR", "ftp://mirror")
    assert "expected an http or https address" in sentence()
    monkeypatch.setenv("RCNN_JAX_OFFLINE", "1")
    assert "the network is not to be used" in sentence()


@pytest.mark.parametrize(("arch", "name"), _CLASSIFIERS.items())
def test_a_published_classifier_is_of_the_backbone_that_takes_it(arch, name):
    assert not find(name).is_detector
    assert start_of(name, "").arch.replace(":", "") == arch.replace(":", "")


def test_only_a_whole_detector_says_how_wide_the_network_is(tmp_path):
    assert start_of("none", "").widths is None
    (tmp_path / "resnet_18.npz").touch()
    assert start_of(str(tmp_path / "resnet_18.npz"), "").widths is None
    assert start_of("imagenet/resnet18", "").widths is None
    assert start_of("coco/faster_rcnn_resnet50_fpn", "").widths == {}


def test_the_widths_of_a_model_of_ours_go_into_the_next_spec(tmp_path):
    config = default_config("mask_rcnn")
    config.maskrcnn_config.nlayers = 10
    config.maskrcnn_config.fast_rcnn_mlp_head_dim = 256
    config.maskrcnn_config.channel_plan = {"l2": 64, "post_hoc_d2": 96}
    inherited = family("mask_rcnn").draft().inherited(config)
    assert inherited.widths == {"l2": 64, "post_hoc_d2": 96, "fast_rcnn_mlp_head_dim": 256}


def test_a_start_from_a_cascade_is_a_cascade():
    config = default_config("mask_rcnn")
    assert "cascade_ious" not in family("mask_rcnn").draft().inherited(config).network
    config.maskrcnn_config.cascade_ious = [0.5, 0.6, 0.7]
    inherited = family("mask_rcnn").draft().inherited(config)
    assert inherited.network["cascade_ious"] == "[0.5, 0.6, 0.7]"
