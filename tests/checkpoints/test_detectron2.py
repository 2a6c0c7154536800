"""The config of detectron2 as data, and what it changes."""

import pytest

from rcnn_jax.checkpoints.detectron2 import DEFAULTS, detectron2_settings, read_config
from rcnn_jax.checkpoints.imported import model_spec
from rcnn_jax.checkpoints.layout import Layout
from rcnn_jax.errors import CheckpointError

LAYOUT = Layout(
    depth=50,
    classes=3,
    masks=True,
    anchors_per_cell=3,
    head_width=1024,
    box_crop=7,
    rpn_convs=1,
    box_convs=0,
    fpn_norm=False,
    head_norm=False,
)
TORCHVISION_BACKBONE = """
MODEL:
  PIXEL_MEAN: [123.675, 116.28, 103.53]
  PIXEL_STD: [58.395, 57.12, 57.375]
  RESNETS:
    STRIDE_IN_1X1: false
  ROI_HEADS:
    NUM_CLASSES: 3
INPUT:
  FORMAT: RGB
"""


def settings(tmp_path, text: str):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return detectron2_settings(LAYOUT, read_config(path), "config.yaml")


def refusal(tmp_path, text: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        settings(tmp_path, text)
    return str(caught.value).replace(str(tmp_path) + "/", "")


def test_without_a_config_the_values_of_the_zoo_are_taken_and_told():
    granted = detectron2_settings(LAYOUT, None, "it")
    assert (
        granted.network["pixel_order"] == '"bgr"'
        and granted.network["bottleneck_stride"] == '"1x1"'
    )
    assert granted.network["roi_sampling_ratio"] == "0"
    assert (
        granted.notes[0].startswith("taken from the model zoo") and "--config" in granted.notes[0]
    )


def test_a_backbone_of_torchvision_has_other_pixels_and_strides(tmp_path):
    granted = settings(tmp_path, TORCHVISION_BACKBONE)
    assert (
        granted.network["pixel_order"] == '"rgb"'
        and granted.network["bottleneck_stride"] == '"3x3"'
    )
    assert granted.network["pixel_mean"] == '"[123.675, 116.28, 103.53]"'
    assert granted.network["pixel_std"] == '"[58.395, 57.12, 57.375]"'
    assert granted.notes[0].startswith("from the config: pixels RGB")
    assert "does not name" in granted.notes[1]


def test_tags_of_python_objects_are_data(tmp_path):
    text = """
MODEL: !!python/object/new:detectron2.config.config.CfgNode
  dictitems:
    PIXEL_STD: !!python/tuple [2.0, 2.0, 2.0]
    RESNETS: !!python/object/apply:os.system ["touch /tmp/never"]
  state: {}
X: !!python/name:os.system ''
"""
    granted = settings(tmp_path, text)
    assert granted.network["pixel_std"] == '"[2.0, 2.0, 2.0]"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MODEL: {ROI_HEADS: {NUM_CLASSES: 80}}", "NUM_CLASSES is 80, expected the 3 of the file"),
        (
            "MODEL: {ROI_BOX_HEAD: {POOLER_TYPE: ROIAlign}}",
            "POOLER_TYPE is 'ROIAlign', expected 'ROIAlignV2'",
        ),
        ("MODEL: {RESNETS: {NUM_GROUPS: 32}}", "NUM_GROUPS is 32, expected 1"),
        (
            "MODEL: {ANCHOR_GENERATOR: {SIZES: [[32, 64]]}}",
            "SIZES is [[32, 64]], expected one size",
        ),
        (
            "MODEL: {ANCHOR_GENERATOR: {SIZES: [[30], [60], [120], [240], [480]]}}",
            "expected one size",
        ),
        ("MODEL: {PIXEL_STD: [0, x, 1]}", "PIXEL_STD is [0, 'x', 1], expected 3 numbers"),
        ("MODEL: {PIXEL_MEAN: 3}", "PIXEL_MEAN is 3, expected 3 numbers"),
        ("MODEL: {META_ARCHITECTURE: RetinaNet}", "META_ARCHITECTURE is 'RetinaNet'"),
        ("INPUT: 3", "is no config of detectron2"),
        ("MODEL: [", "config.yaml:1: is not readable as YAML"),
        ("- a", "is no config of detectron2"),
        ("MODEL: {ROI_MASK_HEAD: {POOLER_SAMPLING_RATIO: 2}}", "expected 0 as in"),
        ("MODEL: {a: &x [1, 1], PIXEL_MEAN: [*x, *x]}", "expected 3 numbers"),
    ],
)
def test_what_this_network_cannot_be_is_refused_by_the_entry(tmp_path, text, message):
    assert message in refusal(tmp_path, text)


def test_a_few_lines_do_not_stand_for_gigabytes(tmp_path):
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    assert "expected 3 numbers" in refusal(tmp_path, bomb + "MODEL: {PIXEL_MEAN: *a29}\n")
    merge = "b0: &b0 {x: 1}\n"
    merge += "".join(
        f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}'] * 9)}]}}\n" for n in range(1, 30)
    )
    assert "could not determine a constructor" in refusal(
        tmp_path, merge + "MODEL: {MASK_ON: true}\n"
    )


def test_every_entry_that_is_read_has_a_default():
    assert all(name.split(".")[0] in ("MODEL", "INPUT", "TEST") for name in DEFAULTS)


@pytest.mark.parametrize("tag", ["bool maybe", "int ''", "timestamp soon", "float x", "binary é"])
def test_a_value_that_is_not_what_its_tag_says_is_one_message(tmp_path, tag):
    message = refusal(tmp_path, f"MODEL: {{ROI_HEADS: {{NUM_CLASSES: !!{tag}}}}}")
    assert message.startswith("config.yaml") and "is not readable as YAML" in message


def test_aliases_of_aliases_are_shown_in_a_line(tmp_path):
    lines = ["a0: &a0 [1]"] + [
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 20)
    ]
    message = refusal(tmp_path, "\n".join([*lines, "MODEL: {PIXEL_MEAN: *a19}"]))
    assert "MODEL.PIXEL_MEAN is [[" in message and len(message) < 500


@pytest.mark.parametrize("entry", ["PIXEL_MEAN", "PIXEL_STD"])
def test_a_number_of_hundreds_of_digits_is_one_message(tmp_path, entry):
    message = refusal(tmp_path, f"MODEL: {{{entry}: [1, 2, 1{'0' * 400}]}}")
    assert f"MODEL.{entry} is [1, 2, 1000" in message and "numbers" in message


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("MIN_SIZE_TEST: 100", "data_config.short_side = 100"),
        ("MAX_SIZE_TEST: 99999", "image_size"),
    ],
)
def test_a_size_that_no_spec_has_is_refused_by_the_name_of_the_config(tmp_path, entry, message):
    path = tmp_path / "config.yaml"
    path.write_text(f"MODEL: {{MASK_ON: true}}\nINPUT: {{{entry}}}\n")
    granted = detectron2_settings(LAYOUT, read_config(path), str(path))
    with pytest.raises(CheckpointError) as caught:
        model_spec(LAYOUT, granted, str(path))
    assert str(caught.value).startswith(f"{path}: the model cannot be built: ")
    assert message in str(caught.value)
