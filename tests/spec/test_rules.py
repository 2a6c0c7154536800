"""Rules over several fields, each one broken on its own, in otherwise valid specs."""

import pytest

from rcnn_jax.errors import SpecError
from rcnn_jax.spec import parse_spec
from tests.spec.samples import CONVERT, FASTER, MASK

SIZE = "size_height_width { height: 256 width: 320 }"
RATE = "soft_start { base_lr: 0.02 start_lr: 0.002 soft_start: 0.1 }"
SOURCE = 'tfrecords_path: "records/*"\n    image_directory_path: "images"'


def broken(text: str) -> str:
    with pytest.raises(SpecError) as error:
        parse_spec(text, "s")
    (line,) = str(error.value).split("\n")
    return line


FASTER_CASES = [
    (
        "dataset_config {",
        "dataset_config { tfds_name: 'voc/2012'",
        "dataset_config.tfds_name excludes data_sources, validation_",
    ),
    (
        "dataset_config {",
        "dataset_config { tfds_data_dir: 'sets'",
        "dataset_config.tfds_data_dir needs tfds_name",
    ),
    (SIZE, "", "model_config.input_image_config needs one of size_min, size_height_width"),
    (SIZE, "size_min { }", "size_min.min must be given"),
    (SIZE, "size_min { min: 64 }", "size_min.min = 64 is below 128 pixels"),
    (
        SIZE,
        f"{SIZE} image_type: GRAY_SCALE image_channel_mean {{ key: 'l' value: 117 }}",
        "image_channel_order = 'bgr' does not fit image_type GRAY_SCALE, which needs 'l'",
    ),
    (
        SIZE,
        f"{SIZE} image_channel_mean {{ key: 'r' value: 117 }}",
        "image_channel_mean has the keys r; image_type RGB needs exactly r, g, b",
    ),
    (
        "output_image_width: 320",
        "output_image_width: 321",
        "output_image_width = 321 is not the model's width 320",
    ),
    (
        "output_image_width: 320",
        "output_image_channel: 1",
        "output_image_channel = 1, but image_type RGB has 3",
    ),
    (
        "output_image_width: 320",
        "output_image_min: 300",
        "output_image_min = 300 belongs to size_min",
    ),
    (
        "output_image_width: 320",
        "crop_left: 5 crop_right: 5",
        "crop_left = 5 is not below crop_right = 5",
    ),
    (
        "preprocessing {",
        "spatial_augmentation { zoom_min: 1.5 } preprocessing {",
        "spatial_augmentation.zoom_min = 1.5 is above zoom_max = 1.0",
    ),
    (
        "preprocessing {",
        "spatial_augmentation { scale_jitter_min: 1.5 } preprocessing {",
        "spatial_augmentation.scale_jitter_min = 1.5 is above scale_jitter_max = 1.0",
    ),
    (
        "preprocessing {",
        "mosaic_probability: 1.5 preprocessing {",
        "augmentation_config.mosaic_probability = 1.5 is not in [0, 1]",
    ),
    (
        "preprocessing {",
        "mosaic_off: -0.1 preprocessing {",
        "augmentation_config.mosaic_off = -0.1 is not in [0, 1]",
    ),
    (
        "dataset_config {",
        "dataset_config { tile_overlap: 1",
        "dataset_config.tile_overlap = 1.0 is not in [0, 1)",
    ),
    (
        "dataset_config {",
        "dataset_config { repeat_factor_threshold: 2",
        "dataset_config.repeat_factor_threshold = 2.0 is not in [0, 1]",
    ),
    (
        'arch: "resnet:18"',
        'arch: "resnet:18" freeze_blocks: 0 freeze_blocks: 4',
        "model_config.freeze_blocks[1] = 4: resnet:18 has the blocks 0 to 3",
    ),
    (
        'arch: "resnet:18"',
        'arch: "vgg:16" freeze_blocks: 0',
        "model_config.freeze_blocks[0] = 0: vgg:16 has the blocks 1 to 5",
    ),
    ('arch: "resnet:18"', "rpn_stride: 8", "model_config.rpn_stride = 8 is not 16"),
    (
        "rpn_min_overlap: 0.3",
        "classifier_min_overlap: 0.5",
        "classifier_min_overlap = 0.5 is not below classifier_max_overlap = 0.5",
    ),
    (
        "rpn_min_overlap: 0.3",
        "rpn_pre_nms_top_N: 2000",
        "training_config.rpn_nms_max_boxes = 2000 is not below rpn_pre_nms_top_N = 2000",
    ),
    (
        "rpn_min_overlap: 0.3",
        "classifier_regr_std { key: 'x' value: 1 }",
        "classifier_regr_std has the keys x; it needs exactly x, y, w, h",
    ),
    (
        "rpn_min_overlap: 0.3",
        "regularizer { type: L2 weight: 0 }",
        "regularizer.weight = 0, but L2 needs more (or NO_REG)",
    ),
    (
        "rpn_min_overlap: 0.3",
        "early_stopping { monitor: 'loss' }",
        "early_stopping.patience must be given",
    ),
    (RATE, "", "training_config.learning_rate needs one of soft_start, step, cosine"),
    (RATE, RATE.replace("0.002", "0.2"), "start_lr = 0.2 is above base_lr = 0.02"),
    (
        RATE,
        RATE.replace("soft_start: 0.1", "annealing_points: [0.5, 0.5]"),
        "annealing_points[1] = 0.5 is not above the point before it, 0.5",
    ),
    (
        RATE,
        RATE.replace("0.1", "0.8"),
        "soft_start.soft_start = 0.8 is not below the first annealing point 0.8",
    ),
    (RATE, "cosine { end_lr: 1 }", "cosine.end_lr = 1.0 is above base_lr = 0.02"),
    (RATE, "step { step_size: 0 }", "step.step_size = 0.0 is not in (0, 100]"),
    (
        'value: "car"',
        'value: "Background"',
        "target_class_mapping.Car uses the reserved class 'background'",
    ),
    (
        'value: "car"',
        'value: " "',
        "target_class_mapping.Car = ' ': a label and its class need names",
    ),
    ('key: "Car"', 'key: ""', "target_class_mapping. = 'car': a label and its class need names"),
    (
        'value: "car" }',
        'value: "car" } target_class_mapping { key: "car" value: "auto" }',
        "target_class_mapping.car = 'auto', but the same label in other case is 'car'",
    ),
    (
        'target_class_mapping { key: "Car" value: "car" }',
        "",
        "dataset_config.target_class_mapping must be given",
    ),
    (SOURCE, "", "data_sources[0] needs either tfrecords_path or kitti_directory_path"),
    (
        SOURCE,
        "tfrecords_path: 'x'",
        "data_sources[0] needs image_directory_path, the folder of the records' images",
    ),
    (
        "validation_fold: 0",
        "validation_data_source { }",
        "validation_data_source needs either tfrecords_path or kitti_directory_path",
    ),
]


@pytest.mark.parametrize(("old", "new", "sentence"), FASTER_CASES)
def test_a_broken_rule_of_faster_rcnn_is_reported(old: str, new: str, sentence: str) -> None:
    assert old in FASTER
    assert sentence in broken(FASTER.replace(old, new))


def test_an_iou_range_must_rise() -> None:
    text = FASTER + (
        "evaluation_config { gt_matching_iou_threshold_range { start: 0.9 end: 0.5 step: 0.1 } }"
    )
    assert broken(text).endswith(".start = 0.9 is not below end = 0.5")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("total_steps: 100", "", "total_steps or num_epochs must be given"),
        ("num_classes: 4", "", "data_config.num_classes must be given"),
        ("num_classes: 4", "num_classes: 1", "data_config.num_classes = 1 is not in [2, inf)"),
        ("(256, 320)", "(256, 300)", "= (256, 300): 300 is not a multiple of 2^max_level = 64"),
        ("(256, 320)", "(64, 320)", "= (64, 320): 64 is below 128 pixels"),
        (
            "total_steps: 100",
            "total_steps: 100 learning_rate_steps: '[1, 2]'",
            "learning_rate_decay_levels has 3 items, but learning_rate_steps has 2",
        ),
        (
            "total_steps: 100",
            "total_steps: 100 learning_rate_steps: '[1, 3, 2]'",
            "learning_rate_steps = [1, 3, 2] does not rise: 2 follows 3",
        ),
        (
            "total_steps: 100",
            "total_steps: 100 skip_checkpoint_variables: '('",
            "skip_checkpoint_variables = '(' is no regular expression",
        ),
        (
            "num_classes: 4",
            "num_classes: 4 training_file_pattern: 'a' tfds_name: 'b'",
            "data_config.tfds_name and training_file_pattern exclude each other",
        ),
        (
            "num_classes: 4",
            "num_classes: 4 tfds_name: 'a' val_json_file: 'b'",
            "data_config.val_json_file and tfds_name exclude each other",
        ),
        (
            "num_classes: 4",
            "num_classes: 4 tfds_data_dir: 'a'",
            "data_config.tfds_data_dir needs tfds_name",
        ),
        (
            "num_classes: 4",
            "num_classes: 4 multi_scale_min: 0",
            "data_config.multi_scale_min = 0.0 is not in (0, 1]",
        ),
        (
            "num_classes: 4",
            "num_classes: 4 coco_train_json: 'a'",
            "data_config.coco_train_json and coco_train_image_dir go together",
        ),
        (
            "num_classes: 4",
            "num_classes: 4 coco_val_image_dir: 'a'",
            "data_config.coco_val_image_dir needs val_json_file",
        ),
        (
            "num_classes: 4",
            "num_classes: 4 scale_jitter_min: 2",
            "scale_jitter_min = 2.0 is above scale_jitter_max = 1.0",
        ),
        (
            "num_classes: 4",
            "num_classes: 4 copy_paste_probability: -1",
            "data_config.copy_paste_probability = -1.0 is not in [0, 1]",
        ),
        (
            "nlayers: 18",
            "rpn_negative_overlap: 0.8",
            "rpn_negative_overlap = 0.8 is above rpn_positive_overlap = 0.7",
        ),
        ("nlayers: 18", "mrcnn_resolution: 30", "mrcnn_resolution = 30 is not a multiple of 4"),
        ("nlayers: 18", "freeze_blocks: '[0, 4]'", "freeze_blocks = '[0, 4]': 4 is not in [0, 3]"),
        ("nlayers: 18", "aspect_ratios: '[]'", "maskrcnn_config.aspect_ratios must be given"),
        ("nlayers: 18", "max_level: 4000000000", "max_level = 4000000000 is not in [5, 10]"),
    ],
)
def test_a_broken_rule_of_mask_rcnn_is_reported(old: str, new: str, sentence: str) -> None:
    assert old in MASK
    with pytest.raises(SpecError) as error:
        parse_spec(MASK.replace(old, new), "s", task="train")
    assert sentence in str(error.value)


def test_small_inputs_need_the_extension() -> None:
    small = FASTER.replace("height: 256", "height: 64").replace("_height: 256", "_height: 64")
    allowed = small.replace("input_image_config {", "input_image_config { allow_small: true")
    assert parse_spec(allowed).config.model_config.input_image_config.size_height_width.height == 64
    text = MASK.replace("256, 320", "64, 64").replace(
        "num_classes", "allow_small: true num_classes"
    )
    assert parse_spec(text).config.data_config.image_size == (64, 64)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image_directory_path: 'x'", "kitti_config or coco_config must be given"),
        (CONVERT.replace("{", "{ num_partitions: 3"), "mode 'random' makes 2"),
        (
            CONVERT.replace("{", "{ partition_mode: 'sequence'"),
            "kitti_sequence_to_frames_file must be given for partition_mode 'sequence'",
        ),
        (
            CONVERT.replace('  root_directory_path: "kitti"\n', ""),
            "root_directory_path must be given",
        ),
        (
            "coco_config { root_directory_path: 'a' img_dir_names: ['b', 'c'] "
            "annotation_files: 'd' }",
            "coco_config.annotation_files has 1 entries, but num_partitions = 2",
        ),
        (
            CONVERT + "sample_modifier_config { dominant_target_classes: 'car' }",
            "dominant_target_classes[0] = 'car' is no value of source_to_target_class_mapping",
        ),
    ],
)
def test_a_broken_rule_of_a_conversion_is_reported(text: str, sentence: str) -> None:
    assert sentence in broken(text)


def test_tiles_and_a_crop_exclude_each_other() -> None:
    text = FASTER.replace("dataset_config {", "dataset_config { tile_size: 200", 1)
    parse_spec(text, "s", task="train")
    cut = text.replace("output_image_width: 320", "crop_right: 200 crop_bottom: 200", 1)
    with pytest.raises(SpecError, match="dataset_config.tile_size and the crop of .* exclude"):
        parse_spec(cut, "s", task="train")
