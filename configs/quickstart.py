"""The example of `make quickstart` as a config.

python -m rcnn_jax.main --config=configs/quickstart.py --workdir=out/quickstart/run
"""

from ml_collections import ConfigDict

from rcnn_jax.spec import default_block, default_config


def get_config() -> ConfigDict:
    """Returns the config; what is not set here has its default."""
    config = default_config("faster_rcnn")

    # The example of `make quickstart`: made-up cells of three shapes, 320 x 240 pixels, ResNet-10.
    # Records come from configs/dataset_convert/quickstart.txt.
    config.random_seed = 42
    config.verbose = True

    config.model_config.input_image_config.image_type = "RGB"
    config.model_config.input_image_config.image_channel_order = "bgr"
    config.model_config.input_image_config.size_height_width.enabled = True
    config.model_config.input_image_config.size_height_width.height = 256
    config.model_config.input_image_config.size_height_width.width = 336
    config.model_config.input_image_config.image_channel_mean = {
        "b": 103.939,
        "g": 116.779,
        "r": 123.68,
    }
    config.model_config.input_image_config.image_scaling_factor = 1.0
    config.model_config.input_image_config.max_objects_num_per_image = 100
    config.model_config.arch = "resnet:10"
    config.model_config.anchor_box_config.scale = (28.0, 45.0, 75.0)
    config.model_config.anchor_box_config.ratio = (1.0, 0.4, 2.5)
    config.model_config.roi_mini_batch = 32
    config.model_config.freeze_bn = False
    config.model_config.roi_pooling_config.pool_size = 4
    config.model_config.roi_pooling_config.pool_size_2x = True
    config.model_config.all_projections = False
    config.model_config.use_pooling = False
    config.model_config.channel_plan = {
        "block_1a_conv_1": 32,
        "block_1a_conv_2": 32,
        "block_1a_conv_shortcut": 32,
        "block_2a_conv_1": 64,
        "block_2a_conv_2": 64,
        "block_2a_conv_shortcut": 64,
        "block_3a_conv_1": 128,
        "block_3a_conv_2": 128,
        "block_3a_conv_shortcut": 128,
        "block_4a_conv_1": 256,
        "block_4a_conv_2": 256,
        "block_4a_conv_shortcut": 256,
        "conv1": 32,
        "rpn_conv1": 256,
    }

    data_source = default_block("faster_rcnn", "dataset_config.data_sources")
    data_source.tfrecords_path = "out/quickstart/records/cells*"
    data_source.image_directory_path = "out/quickstart/data"
    config.dataset_config.data_sources.append(data_source)
    config.dataset_config.image_extension = "png"
    config.dataset_config.target_class_mapping = {"disc": "disc", "rod": "rod", "star": "star"}
    config.dataset_config.validation_fold = 0

    config.augmentation_config.preprocessing.output_image_width = 336
    config.augmentation_config.preprocessing.output_image_height = 256
    config.augmentation_config.preprocessing.output_image_channel = 3
    config.augmentation_config.preprocessing.enable_auto_resize = True
    config.augmentation_config.spatial_augmentation.hflip_probability = 0.5
    config.augmentation_config.spatial_augmentation.vflip_probability = 0.5

    config.training_config.enable_augmentation = True
    config.training_config.visualizer.enabled = True
    config.training_config.batch_size_per_gpu = 2
    config.training_config.num_epochs = 14
    config.training_config.rpn_min_overlap = 0.3
    config.training_config.rpn_max_overlap = 0.6
    config.training_config.gt_as_roi = True
    config.training_config.classifier_min_overlap = 0.0
    config.training_config.classifier_max_overlap = 0.5
    config.training_config.rpn_mini_batch = 128
    config.training_config.rpn_pre_nms_top_N = 1000
    config.training_config.rpn_nms_max_boxes = 150
    config.training_config.rpn_nms_overlap_threshold = 0.7
    config.training_config.regularizer.type = "L2"
    config.training_config.regularizer.weight = 0.0001
    config.training_config.optimizer.sgd.enabled = True
    config.training_config.optimizer.sgd.momentum = 0.9
    config.training_config.optimizer.sgd.nesterov = True
    config.training_config.learning_rate.cosine.enabled = True
    config.training_config.learning_rate.cosine.base_lr = 0.02
    config.training_config.learning_rate.cosine.start_lr = 0.002
    config.training_config.learning_rate.cosine.soft_start = 0.05
    config.training_config.learning_rate.cosine.end_lr = 0.0
    config.training_config.ema_decay = 0.99
    config.training_config.clip_norm = 10.0
    config.training_config.outside_anchors = "auto"

    config.inference_config.images_dir = "out/quickstart/new/images"
    config.inference_config.detection_image_output_dir = "out/quickstart/inference/images"
    config.inference_config.labels_dump_dir = "out/quickstart/inference/labels"
    config.inference_config.bbox_visualize_threshold = 0.5
    config.inference_config.bbox_caption_on = True
    config.inference_config.rpn_pre_nms_top_N = 1000
    config.inference_config.rpn_nms_max_boxes = 64
    config.inference_config.rpn_nms_overlap_threshold = 0.7
    config.inference_config.classifier_nms_max_boxes = 100
    config.inference_config.classifier_nms_overlap_threshold = 0.3
    config.inference_config.object_confidence_thres = 0.01

    config.evaluation_config.batch_size = 8
    config.evaluation_config.validation_period_during_training = 7
    config.evaluation_config.gt_matching_iou_threshold = 0.5
    config.evaluation_config.rpn_pre_nms_top_N = 1000
    config.evaluation_config.rpn_nms_max_boxes = 64
    config.evaluation_config.rpn_nms_overlap_threshold = 0.7
    config.evaluation_config.classifier_nms_max_boxes = 100
    config.evaluation_config.classifier_nms_overlap_threshold = 0.3
    config.evaluation_config.object_confidence_thres = 0.01
    return config
