"""Faster R-CNN, ResNet-18, blood cells from a KITTI folder.

python -m rcnn_jax.main --config=configs/faster_rcnn/bccd_resnet18.py --workdir=out/bccd_resnet18
"""

from ml_collections import ConfigDict

from rcnn_jax.spec import default_block, default_config


def get_config() -> ConfigDict:
    """Returns the config; what is not set here has its default."""
    config = default_config("faster_rcnn")

    # Blood cells (BCCD, 364 images) with ResNet-18, from a KITTI folder without records.
    # data/bccd_kitti holds images/, labels/ and the lists of stems train.txt, val.txt.
    config.random_seed = 42
    config.verbose = True

    config.model_config.input_image_config.image_type = "RGB"
    config.model_config.input_image_config.image_channel_order = "bgr"
    config.model_config.input_image_config.size_height_width.enabled = True
    config.model_config.input_image_config.size_height_width.height = 480
    config.model_config.input_image_config.size_height_width.width = 640
    config.model_config.input_image_config.image_channel_mean = {
        "b": 103.939,
        "g": 116.779,
        "r": 123.68,
    }
    config.model_config.input_image_config.image_scaling_factor = 1.0
    config.model_config.input_image_config.max_objects_num_per_image = 100
    config.model_config.arch = "resnet:18"
    config.model_config.anchor_box_config.scale = (32.0, 64.0, 128.0, 256.0)
    config.model_config.anchor_box_config.ratio = (1.0, 0.5, 2.0)
    config.model_config.roi_mini_batch = 128
    config.model_config.freeze_bn = False
    config.model_config.roi_pooling_config.pool_size = 7
    config.model_config.roi_pooling_config.pool_size_2x = False
    config.model_config.all_projections = True
    config.model_config.use_pooling = False

    data_source = default_block("faster_rcnn", "dataset_config.data_sources")
    data_source.kitti_directory_path = "data/bccd_kitti"
    data_source.kitti_image_dir_name = "images"
    data_source.kitti_label_dir_name = "labels"
    data_source.kitti_split_file = "data/bccd_kitti/train.txt"
    config.dataset_config.data_sources.append(data_source)
    config.dataset_config.validation_data_source.enabled = True
    config.dataset_config.validation_data_source.kitti_directory_path = "data/bccd_kitti"
    config.dataset_config.validation_data_source.kitti_image_dir_name = "images"
    config.dataset_config.validation_data_source.kitti_label_dir_name = "labels"
    config.dataset_config.validation_data_source.kitti_split_file = "data/bccd_kitti/val.txt"
    config.dataset_config.image_extension = "jpg"
    config.dataset_config.target_class_mapping = {
        "platelets": "platelets",
        "rbc": "rbc",
        "wbc": "wbc",
    }

    config.augmentation_config.preprocessing.output_image_width = 640
    config.augmentation_config.preprocessing.output_image_height = 480
    config.augmentation_config.preprocessing.output_image_channel = 3
    config.augmentation_config.spatial_augmentation.hflip_probability = 0.5
    config.augmentation_config.spatial_augmentation.vflip_probability = 0.5
    config.augmentation_config.spatial_augmentation.zoom_min = 0.9
    config.augmentation_config.spatial_augmentation.zoom_max = 1.2
    config.augmentation_config.color_augmentation.color_shift_stddev = 0.05
    config.augmentation_config.color_augmentation.contrast_scale_max = 0.1
    config.augmentation_config.color_augmentation.contrast_center = 0.5

    config.training_config.enable_augmentation = True
    config.training_config.visualizer.enabled = True
    config.training_config.batch_size_per_gpu = 8
    config.training_config.num_epochs = 40
    config.training_config.output_model = "out/bccd_resnet18/model.tlt"
    config.training_config.rpn_min_overlap = 0.3
    config.training_config.rpn_max_overlap = 0.7
    config.training_config.classifier_min_overlap = 0.0
    config.training_config.classifier_max_overlap = 0.5
    config.training_config.rpn_mini_batch = 256
    config.training_config.rpn_pre_nms_top_N = 6000
    config.training_config.rpn_nms_max_boxes = 1000
    config.training_config.rpn_nms_overlap_threshold = 0.7
    config.training_config.regularizer.type = "L2"
    config.training_config.regularizer.weight = 0.0001
    config.training_config.optimizer.sgd.enabled = True
    config.training_config.optimizer.sgd.momentum = 0.9
    config.training_config.optimizer.sgd.nesterov = False
    config.training_config.learning_rate.soft_start.enabled = True
    config.training_config.learning_rate.soft_start.base_lr = 0.01
    config.training_config.learning_rate.soft_start.start_lr = 0.0005
    config.training_config.learning_rate.soft_start.soft_start = 0.1
    config.training_config.learning_rate.soft_start.annealing_points = (0.8, 0.9)
    config.training_config.learning_rate.soft_start.annealing_divider = 10.0
    config.training_config.clip_norm = 10.0

    config.inference_config.images_dir = "data/bccd_kitti/images"
    config.inference_config.model = "out/bccd_resnet18/best.tlt"
    config.inference_config.detection_image_output_dir = "out/bccd_resnet18/inference/images"
    config.inference_config.labels_dump_dir = "out/bccd_resnet18/inference/labels"
    config.inference_config.rpn_pre_nms_top_N = 6000
    config.inference_config.rpn_nms_max_boxes = 300
    config.inference_config.rpn_nms_overlap_threshold = 0.7
    config.inference_config.classifier_nms_max_boxes = 100
    config.inference_config.classifier_nms_overlap_threshold = 0.3
    config.inference_config.object_confidence_thres = 0.0001

    config.evaluation_config.model = "out/bccd_resnet18/best.tlt"
    config.evaluation_config.batch_size = 4
    config.evaluation_config.validation_period_during_training = 5
    config.evaluation_config.gt_matching_iou_threshold = 0.5
    config.evaluation_config.rpn_pre_nms_top_N = 6000
    config.evaluation_config.rpn_nms_max_boxes = 300
    config.evaluation_config.rpn_nms_overlap_threshold = 0.7
    config.evaluation_config.classifier_nms_max_boxes = 100
    config.evaluation_config.classifier_nms_overlap_threshold = 0.3
    config.evaluation_config.object_confidence_thres = 0.0001
    return config
