"""The field table of Faster R-CNN: message `Experiment`, prediction and evaluation.

Defaults of numbers and texts are the documented ones, or the value of the documented sample where a
run cannot do without. An absent boolean of the original is false, as the original read it.
Source: docs/reference/specs.md, "Faster R-CNN: top level" and "Faster R-CNN: inference and
evaluation", and specs of TLT 3.0.
"""

from rcnn_jax.spec.schema import (
    AT_LEAST_ONE,
    OPEN_UNIT,
    POSITIVE_UNIT,
    Field,
    Message,
    block,
    boolean,
    count,
    real,
    string,
)
from rcnn_jax.spec.tables.dataset_config import AUGMENTATION_CONFIG, DATASET_CONFIG
from rcnn_jax.spec.tables.faster_rcnn_model import MODEL_CONFIG
from rcnn_jax.spec.tables.faster_rcnn_training import TRAINING_CONFIG
from rcnn_jax.spec.tables.shared_training import RECIPE, TEST_TIME_VIEWS

ETLT_MODEL = Message(
    "EtltModel",
    "An exported model; it runs in ONNX Runtime, without an engine.",
    (
        string("model", 1, None, "The .etlt or .onnx file."),
        string("calibration_cache", 2, None, "Calibration cache: an fp32 model runs as int8."),
    ),
)

TRT_BACKEND = Message(
    "TrtBackend",
    "Runs an engine or an exported model instead of the bundle.",
    (
        string("trt_engine", 1, None, "The engine.", oneof="trt_model"),
        block(
            "etlt_model",
            2,
            ETLT_MODEL,
            "The exported model.",
            optional=True,
            oneof="trt_model",
        ),
        string("calibration_cache", 3, None, "As in etlt_model; an engine holds its scales."),
        string(
            "trt_data_type",
            4,
            None,
            "Precision: fp32, fp16 or int8.",
            no_effect="the precision is in the engine or graph; an fp32 etlt_model runs as int8 with "
            "its calibration_cache",
        ),
        count(
            "max_workspace_size_MB",
            5,
            None,
            "Memory for building an engine.",
            no_effect="no engine is built here: --max_workspace_size of export and converter",
        ),
    ),
)


def _test_fields(numbers: tuple[int, ...]) -> tuple[Field, ...]:
    """Rows shared by inference and evaluation, whose numbers differ."""
    pre, post, rpn_nms, score, boxes, nms = numbers
    return (
        count("rpn_pre_nms_top_N", pre, 6000, "Candidates before NMS.", allowed=AT_LEAST_ONE),
        count("rpn_nms_max_boxes", post, 300, "Proposals after NMS.", allowed=AT_LEAST_ONE),
        real("rpn_nms_overlap_threshold", rpn_nms, 0.7, "IoU of the RPN's NMS.", allowed=OPEN_UNIT),
        real("object_confidence_thres", score, 1e-4, "Smallest score.", allowed=OPEN_UNIT),
        count("classifier_nms_max_boxes", boxes, 100, "Most detections.", allowed=AT_LEAST_ONE),
        real(
            "classifier_nms_overlap_threshold", nms, 0.3, "IoU of the final NMS.", allowed=OPEN_UNIT
        ),
        TEST_TIME_VIEWS,
    )


INFERENCE_CONFIG = Message(
    "InferenceConfig",
    "Prediction; its thresholds also go into exported graphs.",
    (
        string("images_dir", 1, None, "Folder of images."),
        string("model", 2, None, "Model to run."),
        real(
            "bbox_visualize_threshold", 5, 0.6, "Smallest score that is drawn.", allowed=OPEN_UNIT
        ),
        *_test_fields((10, 7, 8, 16, 9, 6)),
        string("detection_image_output_dir", 11, None, "Folder for annotated images."),
        boolean("bbox_caption_on", 12, False, "Class and score are written into the image."),
        string("labels_dump_dir", 13, None, "Folder for KITTI label files."),
        block("trt_inference", 14, TRT_BACKEND, "TensorRT backend.", optional=True),
        count("batch_size", 15, 1, "Images per step.", allowed=AT_LEAST_ONE),
        count(
            "nms_score_bits",
            17,
            None,
            "Bits of the scores in the TensorRT NMS plugin.",
            no_effect="exported graphs hold no plugin; scores keep all their bits",
        ),
    ),
)

IOU_RANGE = Message(
    "IouThresholdRange",
    "IoU thresholds from start up to, but without, end.",
    (
        real("start", 1, 0.5, "First threshold.", allowed=OPEN_UNIT),
        real("end", 2, 1.0, "Excluded end.", allowed=POSITIVE_UNIT),
        real("step", 3, 0.05, "Distance.", allowed=OPEN_UNIT),
    ),
)

EVALUATION_CONFIG = Message(
    "EvaluationConfig",
    "Evaluation of the network.",
    (
        string("model", 3, None, "Model to evaluate."),
        *_test_fields((12, 6, 7, 11, 8, 9)),
        boolean(
            "use_voc07_11point_metric",
            13,
            False,
            "Average precision of VOC 2007 at 11 recalls instead of the area under the curve.",
            # The manual has both spellings.
            aliases=("use_voc_11_point_metric",),
        ),
        count(
            "validation_period_during_training",
            15,
            1,
            "Epochs between validations.",
            allowed=AT_LEAST_ONE,
        ),
        count("batch_size", 16, 1, "Images per step.", allowed=AT_LEAST_ONE),
        block("trt_evaluation", 17, TRT_BACKEND, "TensorRT backend.", optional=True),
        block(
            "gt_matching_iou_threshold_range",
            18,
            IOU_RANGE,
            "Several thresholds, averaged.",
            optional=True,
            oneof="iou_threshold_config",
        ),
        real(
            "gt_matching_iou_threshold",
            19,
            0.5,
            "Smallest IoU of a match.",
            allowed=OPEN_UNIT,
            oneof="iou_threshold_config",
        ),
        boolean("visualize_pr_curve", 20, False, "Draws the precision-recall curve."),
        string(
            "labels_dump_dir",
            21,
            None,
            "Folder for KITTI label files.",
            no_effect="inference writes label files (inference_config.labels_dump_dir), evaluate "
            "writes metrics",
        ),
    ),
)

EXPERIMENT = Message(
    "Experiment",
    "A Faster R-CNN experiment.",
    (
        count("random_seed", 1, 42, "Seed of all randomness."),
        boolean(
            "verbose",
            2,
            False,
            "More log lines.",
            no_effect="every line is always logged",
            silent=True,
        ),
        block("model_config", 3, MODEL_CONFIG, "The network."),
        block("training_config", 4, TRAINING_CONFIG, "Training."),
        block("dataset_config", 5, DATASET_CONFIG, "Images and labels."),
        string(
            "enc_key", 6, None, "Key of encrypted models; -k and RCNN_JAX_KEY win.", secret=True
        ),
        block("augmentation_config", 7, AUGMENTATION_CONFIG, "Geometry and random changes."),
        block("inference_config", 8, INFERENCE_CONFIG, "Prediction."),
        block("evaluation_config", 9, EVALUATION_CONFIG, "Evaluation."),
        *RECIPE,
    ),
)
