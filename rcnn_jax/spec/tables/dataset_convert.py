"""The field table of `dataset_convert`: message `DatasetExportConfig`.

Source: docs/reference/datasets.md, "Conversion spec".
"""

from rcnn_jax.spec.schema import (
    AT_LEAST_ONE,
    NON_NEGATIVE,
    Choice,
    Field,
    Interval,
    Message,
    block,
    count,
    mapping,
    real,
    string,
)

KITTI = Message(
    "KITTIConfig",
    "A folder of images and KITTI labels.",
    (
        string("root_directory_path", 1, None, "The folder.", required=True, reads="folder"),
        string("image_dir_name", 2, None, "Sub-folder of the images.", required=True),
        string("label_dir_name", 3, None, "Sub-folder of the labels.", required=True),
        string("point_clouds_dir", 4, None, "Sub-folder of point clouds, named in the records."),
        string("calibrations_dir", 5, None, "Sub-folder of calibrations, put into the records."),
        string(
            "kitti_sequence_to_frames_file",
            6,
            None,
            "JSON file, relative to the root: sequence -> frame stems; for mode `sequence`.",
        ),
        # With the dot here and without it in the training spec, as in the original.
        string("image_extension", 7, ".png", "Ending of the image files, with the dot."),
        count("num_partitions", 8, 2, "Folds.", allowed=NON_NEGATIVE),
        # 0 is protobuf's absence, and a fold needs a file.
        count("num_shards", 9, 10, "Files per fold; 0 counts as 1."),
        string(
            "partition_mode",
            10,
            "random",
            "`random` splits images, `sequence` whole sequences.",
            allowed=Choice(("random", "sequence")),
        ),
        real(
            "val_split",
            11,
            14.0,
            "Mode `random`: percent of the images in the validation fold 0.",
            allowed=Interval(0, 100, open_high=True),
        ),
    ),
)


def _list(name: str, number: int, doc: str) -> Field:
    return Field(
        name=name,
        number=number,
        kind="string",
        repeated=True,
        default=(),
        doc=doc,
        required=True,
    )


COCO = Message(
    "COCOConfig",
    "Folders of images with COCO annotations, one partition each.",
    (
        string("root_directory_path", 1, None, "The folder.", required=True, reads="folder"),
        _list("img_dir_names", 2, "Image folder of each partition."),
        _list("annotation_files", 3, "Annotation file of each partition."),
        count("num_partitions", 4, 2, "Partitions.", allowed=AT_LEAST_ONE),
        Field(
            name="num_shards",
            number=5,
            kind="uint32",
            repeated=True,
            default=(10,),
            doc="Files per partition: one number, or one for each.",
        ),
    ),
)

SAMPLE_MODIFIER = Message(
    "SampleModifierConfig",
    "Drops or repeats training images.",
    (
        Field(
            name="filter_samples_containing_only",
            number=1,
            kind="string",
            repeated=True,
            default=(),
            doc="Images of nothing but this class are dropped.",
        ),
        Field(
            name="dominant_target_classes",
            number=2,
            kind="string",
            repeated=True,
            default=(),
            doc="Frequent classes.",
        ),
        mapping(
            "minimum_target_class_imbalance",
            3,
            "double",
            {},
            "Rare class -> factor: images with more of it than factor times a frequent one repeat.",
            allowed=NON_NEGATIVE,
        ),
        count("num_duplicates", 4, 0, "How often such an image repeats."),
        count("max_training_samples", 5, 0, "Most training images; 0 for no limit."),
        mapping(
            "source_to_target_class_mapping",
            6,
            "string",
            {},
            "Label -> class, for this section only.",
        ),
    ),
)

DATASET_EXPORT_CONFIG = Message(
    "DatasetExportConfig",
    "A conversion of labelled images to TFRecords.",
    (
        block("coco_config", 1, COCO, "COCO.", optional=True, oneof="convert_config_type"),
        block("kitti_config", 2, KITTI, "KITTI.", optional=True, oneof="convert_config_type"),
        block("sample_modifier_config", 5, SAMPLE_MODIFIER, "Balancing.", optional=True),
        string(
            "image_directory_path",
            6,
            None,
            "Root of the images.",
            no_effect="records name images relative to the training spec's image_directory_path",
            silent=True,
        ),
        mapping(
            "target_class_mapping",
            7,
            "string",
            {},
            "Label -> class.",
            no_effect="records keep the labels; the training spec maps them",
            silent=True,
        ),
    ),
)
