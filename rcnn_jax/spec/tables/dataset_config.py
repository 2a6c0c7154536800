"""The field tables of the data sections of Faster R-CNN, the same as those of DetectNet_v2.

Source: docs/reference/specs.md, "Faster R-CNN: data" and "Faster R-CNN: augmentation".
"""

from rcnn_jax.spec.schema import (
    NON_NEGATIVE,
    POSITIVE,
    POSITIVE_UNIT,
    UNIT,
    Choice,
    Message,
    block,
    boolean,
    count,
    enum,
    mapping,
    real,
    string,
)
from rcnn_jax.spec.tables.shared_data import COMPOSITES, REPEATS, TILES

# The original's loaders differ in how they balance sources. One plan of the whole set is what makes
# a run resumable at any batch.
LOADER_OFF = "there is one loader: every source is read and shuffled as one set"

DATA_SOURCE = Message(
    "DataSource",
    "Records with their images, or a KITTI folder read directly.",
    (
        string("tfrecords_path", 1, None, "Pattern of TFRecord files.", reads="glob"),
        string(
            "image_directory_path", 2, None, "Folder the records' frames lie in.", reads="folder"
        ),
        real(
            "source_weight",
            3,
            1.0,
            "Weight of the source when sampling.",
            allowed=NON_NEGATIVE,
            no_effect=LOADER_OFF,
            silent=True,
        ),
        string(
            "kitti_directory_path",
            1000,
            None,
            "KITTI folder, holding images and labels, read without records.",
            reads="folder",
        ),
        string(
            "kitti_split_file",
            1001,
            None,
            "Text file of image stems, one per line; all images without it.",
            reads="file",
        ),
        string("kitti_image_dir_name", 1002, "image_2", "Sub-folder of the images."),
        string("kitti_label_dir_name", 1003, "label_2", "Sub-folder of the labels."),
    ),
)

DATASET_CONFIG = Message(
    "DatasetConfig",
    "Images and labels.",
    (
        block("data_sources", 1, DATA_SOURCE, "Training data.", repeated=True),
        string(
            "image_extension",
            2,
            "png",
            "Ending of the image files, without a dot.",
            allowed=Choice(("png", "jpg", "jpeg", "PNG", "JPG", "JPEG")),
        ),
        mapping(
            "target_class_mapping",
            3,
            "string",
            {},
            "Label in the data -> class to learn; other labels are dropped.",
            required=True,
        ),
        count(
            "validation_fold",
            4,
            None,
            "Fold of the records that validates.",
            oneof="dataset_split_type",
        ),
        block(
            "validation_data_source",
            5,
            DATA_SOURCE,
            "Validation data.",
            optional=True,
            oneof="dataset_split_type",
        ),
        enum(
            "dataloader_mode",
            6,
            ("MULTISOURCE", "LEGACY", "DEFAULT"),
            "Generation of the loader.",
            no_effect=LOADER_OFF,
        ),
        enum(
            "sampling_mode",
            7,
            ("USER_DEFINED", "PROPORTIONAL", "UNIFORM"),
            "How sources are mixed.",
            no_effect=LOADER_OFF,
        ),
        string(
            "tfds_name",
            1000,
            None,
            "Prepared data set of TensorFlow Datasets, for example coco/2017 or voc/2012, instead "
            "of data sources; target_class_mapping names its labels.",
        ),
        string("tfds_data_dir", 1001, None, "Folder of TensorFlow Datasets.", reads="folder"),
        string("tfds_train_split", 1002, "train", "Split of tfds_name to train on."),
        string(
            "tfds_val_split", 1003, "validation", "Split of tfds_name to validate on; '' for none."
        ),
        REPEATS,
        *TILES,
    ),
)

PREPROCESSING = Message(
    "Preprocessing",
    "From the image file to the network input.",
    (
        count(
            "output_image_width",
            1,
            None,
            "Width; must equal the model's; 0 for the model's.",
            only_checked=True,
        ),
        count(
            "output_image_height",
            2,
            None,
            "Height; must equal the model's; 0 for the model's.",
            only_checked=True,
        ),
        count("crop_left", 4, None, "Left edge of a crop, in pixels."),
        count("crop_top", 5, None, "Top edge of a crop."),
        count("crop_right", 6, None, "Right edge of a crop; 0 for none."),
        count("crop_bottom", 7, None, "Bottom edge of a crop; 0 for none."),
        real(
            "min_bbox_width",
            8,
            1.0,
            "Boxes with a side below the larger of this, min_bbox_height and 1 pixel are dropped.",
            allowed=NON_NEGATIVE,
        ),
        real("min_bbox_height", 9, 1.0, "See min_bbox_width.", allowed=NON_NEGATIVE),
        real(
            "scale_width",
            10,
            0.0,
            "Width to scale to before a crop; 0: none.",
            allowed=NON_NEGATIVE,
        ),
        real(
            "scale_height",
            11,
            0.0,
            "Height to scale to before a crop; 0: none.",
            allowed=NON_NEGATIVE,
        ),
        count(
            "output_image_channel",
            13,
            None,
            "Channels; must equal the model's.",
            only_checked=True,
        ),
        count("output_image_min", 14, None, "Dynamic shape: length of the shorter side."),
        count("output_image_max", 15, None, "Dynamic shape: most length of the longer side."),
        boolean("enable_auto_resize", 16, False, "Images are stretched to the network input."),
    ),
)

SPATIAL_AUGMENTATION = Message(
    "SpatialAugmentation",
    "Random geometry.",
    (
        real("hflip_probability", 1, 0.0, "Probability of a left-right flip.", allowed=UNIT),
        real("vflip_probability", 2, 0.0, "Probability of an upside-down flip.", allowed=UNIT),
        real("zoom_min", 3, 1.0, "Smallest magnification.", allowed=POSITIVE),
        real("zoom_max", 4, 1.0, "Largest magnification.", allowed=POSITIVE),
        real("translate_max_x", 5, 0.0, "Largest shift in pixels.", allowed=NON_NEGATIVE),
        real("translate_max_y", 6, 0.0, "Largest shift in pixels.", allowed=NON_NEGATIVE),
        real(
            # Degrees, as the original reads it in spite of the name: specs are written accordingly.
            "rotate_rad_max",
            7,
            0.0,
            "Largest angle, in degrees in spite of its name.",
            allowed=NON_NEGATIVE,
        ),
        real("rotate_probability", 8, 1.0, "Probability of a rotation.", allowed=UNIT),
        # As in Mask R-CNN, under the same names. Times zoom rather than instead of it: a recipe that
        # sets the one does not contradict a spec that has the other.
        real(
            "scale_jitter_min",
            1220,
            1.0,
            "Smallest random magnification; multiplies zoom_min.",
            allowed=POSITIVE,
        ),
        real(
            "scale_jitter_max",
            1221,
            1.0,
            "Largest random magnification; multiplies zoom_max.",
            allowed=POSITIVE,
        ),
        real(
            "multi_scale_min",
            1222,
            1.0,
            "Smallest random size of the whole image, as a fraction of the one that fills the canvas.",
            allowed=POSITIVE_UNIT,
        ),
    ),
)

COLOR_AUGMENTATION = Message(
    "ColorAugmentation",
    "Random colours, on the 0..1 scale.",
    (
        real("color_shift_stddev", 1, 0.0, "Deviation of the brightness.", allowed=NON_NEGATIVE),
        real("hue_rotation_max", 2, 0.0, "Largest hue rotation in degrees.", allowed=NON_NEGATIVE),
        real("saturation_shift_max", 3, 0.0, "Largest change of saturation.", allowed=NON_NEGATIVE),
        real("contrast_scale_max", 5, 0.0, "Largest change of contrast.", allowed=NON_NEGATIVE),
        real("contrast_center", 8, 0.5, "Grey value that contrast leaves alone.", allowed=UNIT),
    ),
)

AUGMENTATION_CONFIG = Message(
    "AugmentationConfig",
    "Geometry of the input and random changes.",
    (
        block("preprocessing", 1, PREPROCESSING, "From file to network input."),
        block("spatial_augmentation", 2, SPATIAL_AUGMENTATION, "Random geometry."),
        block("color_augmentation", 3, COLOR_AUGMENTATION, "Random colours."),
        *COMPOSITES,
    ),
)
