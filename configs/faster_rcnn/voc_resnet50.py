"""Faster R-CNN, ResNet-50, Pascal VOC 07+12, short side 600 pixels.

python -m rcnn_jax.main --config=configs/faster_rcnn/voc_resnet50.py --workdir=out/voc_resnet50
"""

from ml_collections import ConfigDict

from rcnn_jax.spec import default_block, default_config


def get_config() -> ConfigDict:
    """Returns the config; what is not set here has its default."""
    config = default_config("faster_rcnn")

    # Pascal VOC 07+12 with ResNet-50: images keep their aspect ratio, the short side is 600 pixels.
    # Records come from VOC labels turned into KITTI text.
    config.random_seed = 42
    config.verbose = True

    config.model_config.input_image_config.image_type = "RGB"
    config.model_config.input_image_config.image_channel_order = "bgr"
    config.model_config.input_image_config.size_min.enabled = True
    config.model_config.input_image_config.size_min.min = 600
    config.model_config.input_image_config.image_channel_mean = {
        "b": 103.939,
        "g": 116.779,
        "r": 123.68,
    }
    config.model_config.input_image_config.image_scaling_factor = 1.0
    config.model_config.input_image_config.max_objects_num_per_image = 100
    config.model_config.arch = "resnet:50"
    config.model_config.anchor_box_config.scale = (64.0, 128.0, 256.0, 512.0)
    config.model_config.anchor_box_config.ratio = (1.0, 0.5, 2.0)
    config.model_config.roi_mini_batch = 256
    config.model_config.freeze_bn = True
    config.model_config.freeze_blocks = (0, 1)
    config.model_config.roi_pooling_config.pool_size = 7
    config.model_config.roi_pooling_config.pool_size_2x = True
    config.model_config.all_projections = False
    config.model_config.use_pooling = True

    data_source = default_block("faster_rcnn", "dataset_config.data_sources")
    data_source.tfrecords_path = "data/voc/tfrecords/trainval*"
    data_source.image_directory_path = "data/voc/trainval"
    config.dataset_config.data_sources.append(data_source)
    config.dataset_config.validation_data_source.enabled = True
    config.dataset_config.validation_data_source.tfrecords_path = "data/voc/tfrecords/test*"
    config.dataset_config.validation_data_source.image_directory_path = "data/voc/test"
    config.dataset_config.image_extension = "jpg"
    config.dataset_config.target_class_mapping = {
        "aeroplane": "aeroplane",
        "bicycle": "bicycle",
        "bird": "bird",
        "boat": "boat",
        "bottle": "bottle",
        "bus": "bus",
        "car": "car",
        "cat": "cat",
        "chair": "chair",
        "cow": "cow",
        "diningtable": "diningtable",
        "dog": "dog",
        "horse": "horse",
        "motorbike": "motorbike",
        "person": "person",
        "pottedplant": "pottedplant",
        "sheep": "sheep",
        "sofa": "sofa",
        "train": "train",
        "tvmonitor": "tvmonitor",
    }

    config.augmentation_config.preprocessing.output_image_min = 600
    config.augmentation_config.preprocessing.output_image_max = 1000
    config.augmentation_config.preprocessing.output_image_channel = 3
    config.augmentation_config.spatial_augmentation.hflip_probability = 0.5

    config.training_config.enable_augmentation = True
    config.training_config.visualizer.enabled = True
    config.training_config.batch_size_per_gpu = 1
    config.training_config.num_epochs = 16
    config.training_config.pretrained_weights = "data/pretrained/resnet50.hdf5"
    config.training_config.output_model = "out/voc_resnet50/model.tlt"
    config.training_config.rpn_min_overlap = 0.3
    config.training_config.rpn_max_overlap = 0.7
    config.training_config.classifier_min_overlap = 0.0
    config.training_config.classifier_max_overlap = 0.5
    config.training_config.rpn_mini_batch = 256
    config.training_config.rpn_pre_nms_top_N = 12000
    config.training_config.rpn_nms_max_boxes = 2000
    config.training_config.rpn_nms_overlap_threshold = 0.7
    config.training_config.regularizer.type = "L2"
    config.training_config.regularizer.weight = 0.0001
    config.training_config.optimizer.sgd.enabled = True
    config.training_config.optimizer.sgd.momentum = 0.9
    config.training_config.optimizer.sgd.nesterov = False
    config.training_config.learning_rate.soft_start.enabled = True
    config.training_config.learning_rate.soft_start.base_lr = 0.001
    config.training_config.learning_rate.soft_start.start_lr = 0.0001
    config.training_config.learning_rate.soft_start.soft_start = 0.05
    config.training_config.learning_rate.soft_start.annealing_points = (0.7, 0.9)
    config.training_config.learning_rate.soft_start.annealing_divider = 10.0

    config.inference_config.images_dir = "data/voc/test/images"
    config.inference_config.model = "out/voc_resnet50/best.tlt"
    config.inference_config.detection_image_output_dir = "out/voc_resnet50/inference/images"
    config.inference_config.labels_dump_dir = "out/voc_resnet50/inference/labels"
    config.inference_config.rpn_pre_nms_top_N = 6000
    config.inference_config.rpn_nms_max_boxes = 300
    config.inference_config.rpn_nms_overlap_threshold = 0.7
    config.inference_config.classifier_nms_max_boxes = 100
    config.inference_config.classifier_nms_overlap_threshold = 0.3
    config.inference_config.object_confidence_thres = 0.0001

    config.evaluation_config.model = "out/voc_resnet50/best.tlt"
    config.evaluation_config.use_voc07_11point_metric = True
    config.evaluation_config.gt_matching_iou_threshold = 0.5
    config.evaluation_config.rpn_pre_nms_top_N = 6000
    config.evaluation_config.rpn_nms_max_boxes = 300
    config.evaluation_config.rpn_nms_overlap_threshold = 0.7
    config.evaluation_config.classifier_nms_max_boxes = 100
    config.evaluation_config.classifier_nms_overlap_threshold = 0.3
    config.evaluation_config.object_confidence_thres = 0.0001
    return config
