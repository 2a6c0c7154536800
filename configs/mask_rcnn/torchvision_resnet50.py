"""Mask R-CNN, ResNet-50, COCO 2017, from a checkpoint of torchvision.

python -m rcnn_jax.main --config=configs/mask_rcnn/torchvision_resnet50.py --workdir=out/torchvision
"""

from ml_collections import ConfigDict

from rcnn_jax.spec import default_config


def get_config() -> ConfigDict:
    """Returns the config; what is not set here has its default."""
    config = default_config("mask_rcnn")

    # COCO 2017 from a Mask R-CNN that torchvision trained: docs/torchvision.md.
    # The file is a state dict of maskrcnn_resnet50_fpn; records come from `mask_rcnn dataset_convert`.
    config.seed = 123
    config.use_amp = False
    config.checkpoint = "data/pretrained/maskrcnn_resnet50_fpn.safetensors"
    config.train_batch_size = 2
    config.eval_batch_size = 4
    config.total_steps = 20000
    config.num_steps_per_eval = 10000
    config.momentum = 0.9
    config.l2_weight_decay = 0.0001
    config.l1_weight_decay = 0.0
    config.warmup_steps = 1000
    config.warmup_learning_rate = 1e-05
    config.init_learning_rate = 0.002
    config.learning_rate_steps = (12000, 16000)
    config.learning_rate_decay_levels = (0.1, 0.01)

    config.data_config.image_size = (832, 1344)
    config.data_config.augment_input_data = True
    config.data_config.eval_samples = 5000
    config.data_config.training_file_pattern = "data/coco/tfrecords/train*.tfrecord"
    config.data_config.validation_file_pattern = "data/coco/tfrecords/val*.tfrecord"
    config.data_config.val_json_file = "data/coco/annotations/instances_val2017.json"
    config.data_config.num_classes = 91
    config.data_config.skip_crowd_during_training = True
    config.data_config.max_num_instances = 200

    config.maskrcnn_config.arch = "resnet"
    config.maskrcnn_config.nlayers = 50
    config.maskrcnn_config.convention = "torchvision"
    config.maskrcnn_config.freeze_bn = True
    config.maskrcnn_config.freeze_blocks = (0, 1)
    config.maskrcnn_config.gt_mask_size = 112
    # Anchors of 32 to 512 pixels, height / width 0.5, 1, 2.
    config.maskrcnn_config.min_level = 2
    config.maskrcnn_config.max_level = 6
    config.maskrcnn_config.num_scales = 1
    config.maskrcnn_config.aspect_ratios = (
        (1.41421356, 0.70710678),
        (1.0, 1.0),
        (0.70710678, 1.41421356),
    )
    config.maskrcnn_config.anchor_scale = 8
    # Region proposal network.
    config.maskrcnn_config.rpn_positive_overlap = 0.7
    config.maskrcnn_config.rpn_negative_overlap = 0.3
    config.maskrcnn_config.rpn_batch_size_per_im = 256
    config.maskrcnn_config.rpn_fg_fraction = 0.5
    config.maskrcnn_config.rpn_min_size = 0.001
    config.maskrcnn_config.train_rpn_pre_nms_topn = 2000
    config.maskrcnn_config.train_rpn_post_nms_topn = 1000
    config.maskrcnn_config.train_rpn_nms_threshold = 0.7
    # Rois that train the heads.
    config.maskrcnn_config.batch_size_per_im = 512
    config.maskrcnn_config.fg_fraction = 0.25
    config.maskrcnn_config.fg_thresh = 0.5
    config.maskrcnn_config.bg_thresh_hi = 0.5
    config.maskrcnn_config.bg_thresh_lo = 0.0
    # Heads.
    config.maskrcnn_config.fast_rcnn_mlp_head_dim = 1024
    config.maskrcnn_config.bbox_reg_weights = (10.0, 10.0, 5.0, 5.0)
    config.maskrcnn_config.include_mask = True
    config.maskrcnn_config.mrcnn_resolution = 28
    # Test.
    config.maskrcnn_config.test_rpn_pre_nms_topn = 1000
    config.maskrcnn_config.test_rpn_post_nms_topn = 1000
    config.maskrcnn_config.test_rpn_nms_thresh = 0.7
    config.maskrcnn_config.test_nms = 0.5
    config.maskrcnn_config.test_detections_per_image = 100
    return config
