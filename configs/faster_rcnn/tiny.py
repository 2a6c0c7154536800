"""Faster R-CNN, tiny ResNet-10, 96 x 96 pixels: for tests and for trying things out.

    python -m rcnn_jax.main --config=configs/faster_rcnn/tiny.py --workdir=out/tiny/run

The data:

    from rcnn_jax.data.synthetic import write_kitti
    write_kitti("out/tiny/train", seed=0, count=8, height=96, width=96)
    write_kitti("out/tiny/val", seed=1, count=4, height=96, width=96)
"""

from ml_collections import ConfigDict

from rcnn_jax.spec import default_block, default_config


def get_config() -> ConfigDict:
    """Returns the config; what is not set here has its default."""
    config = default_config("faster_rcnn")

    # The smallest thing that still is a Faster R-CNN: 96 x 96 pixels, ResNet-10 with an eighth of the
    # channels, two epochs. Tests use it; on two cores it takes seconds.
    config.random_seed = 42
    config.verbose = True

    config.model_config.input_image_config.image_type = "RGB"
    config.model_config.input_image_config.image_channel_order = "bgr"
    config.model_config.input_image_config.size_height_width.enabled = True
    config.model_config.input_image_config.size_height_width.height = 96
    config.model_config.input_image_config.size_height_width.width = 96
    config.model_config.input_image_config.image_channel_mean = {
        "b": 103.939,
        "g": 116.779,
        "r": 123.68,
    }
    config.model_config.input_image_config.image_scaling_factor = 1.0
    config.model_config.input_image_config.max_objects_num_per_image = 100
    config.model_config.input_image_config.allow_small = True
    config.model_config.arch = "resnet:10"
    config.model_config.anchor_box_config.scale = (16.0, 32.0)
    config.model_config.anchor_box_config.ratio = (1.0,)
    config.model_config.roi_mini_batch = 16
    config.model_config.freeze_bn = False
    config.model_config.roi_pooling_config.pool_size = 3
    config.model_config.roi_pooling_config.pool_size_2x = False
    config.model_config.all_projections = True
    config.model_config.use_pooling = False
    config.model_config.channel_plan = {
        "block_1a_conv_1": 8,
        "block_1a_conv_2": 8,
        "block_1a_conv_shortcut": 8,
        "block_2a_conv_1": 16,
        "block_2a_conv_2": 16,
        "block_2a_conv_shortcut": 16,
        "block_3a_conv_1": 32,
        "block_3a_conv_2": 32,
        "block_3a_conv_shortcut": 32,
        "block_4a_conv_1": 64,
        "block_4a_conv_2": 64,
        "block_4a_conv_shortcut": 64,
        "conv1": 8,
        "rpn_conv1": 32,
    }

    data_source = default_block("faster_rcnn", "dataset_config.data_sources")
    data_source.kitti_directory_path = "out/tiny/train"
    data_source.kitti_image_dir_name = "images"
    data_source.kitti_label_dir_name = "labels"
    config.dataset_config.data_sources.append(data_source)
    config.dataset_config.validation_data_source.enabled = True
    config.dataset_config.validation_data_source.kitti_directory_path = "out/tiny/val"
    config.dataset_config.validation_data_source.kitti_image_dir_name = "images"
    config.dataset_config.validation_data_source.kitti_label_dir_name = "labels"
    config.dataset_config.image_extension = "png"
    config.dataset_config.target_class_mapping = {"disc": "disc", "rod": "rod", "star": "star"}

    config.augmentation_config.preprocessing.output_image_width = 96
    config.augmentation_config.preprocessing.output_image_height = 96
    config.augmentation_config.preprocessing.output_image_channel = 3
    config.augmentation_config.spatial_augmentation.hflip_probability = 0.5

    config.training_config.enable_augmentation = True
    config.training_config.visualizer.enabled = True
    config.training_config.batch_size_per_gpu = 2
    config.training_config.num_epochs = 2
    config.training_config.rpn_min_overlap = 0.3
    config.training_config.rpn_max_overlap = 0.7
    config.training_config.classifier_min_overlap = 0.0
    config.training_config.classifier_max_overlap = 0.5
    config.training_config.rpn_mini_batch = 32
    config.training_config.rpn_pre_nms_top_N = 64
    config.training_config.rpn_nms_max_boxes = 32
    config.training_config.rpn_nms_overlap_threshold = 0.7
    config.training_config.regularizer.type = "L2"
    config.training_config.regularizer.weight = 0.0001
    config.training_config.optimizer.sgd.enabled = True
    config.training_config.optimizer.sgd.momentum = 0.9
    config.training_config.optimizer.sgd.nesterov = False
    config.training_config.learning_rate.soft_start.enabled = True
    config.training_config.learning_rate.soft_start.base_lr = 0.01
    config.training_config.learning_rate.soft_start.start_lr = 0.001
    config.training_config.learning_rate.soft_start.soft_start = 0.1
    config.training_config.learning_rate.soft_start.annealing_points = (0.8, 0.9)
    config.training_config.learning_rate.soft_start.annealing_divider = 10.0
    config.training_config.clip_norm = 10.0

    config.inference_config.images_dir = "out/tiny/val/images"
    config.inference_config.detection_image_output_dir = "out/tiny/inference/images"
    config.inference_config.labels_dump_dir = "out/tiny/inference/labels"
    config.inference_config.rpn_pre_nms_top_N = 64
    config.inference_config.rpn_nms_max_boxes = 16
    config.inference_config.rpn_nms_overlap_threshold = 0.7
    config.inference_config.classifier_nms_max_boxes = 100
    config.inference_config.classifier_nms_overlap_threshold = 0.3
    config.inference_config.object_confidence_thres = 0.0001

    config.evaluation_config.batch_size = 2
    config.evaluation_config.gt_matching_iou_threshold = 0.5
    config.evaluation_config.rpn_pre_nms_top_N = 64
    config.evaluation_config.rpn_nms_max_boxes = 16
    config.evaluation_config.rpn_nms_overlap_threshold = 0.7
    config.evaluation_config.classifier_nms_max_boxes = 100
    config.evaluation_config.classifier_nms_overlap_threshold = 0.3
    config.evaluation_config.object_confidence_thres = 0.0001
    return config
