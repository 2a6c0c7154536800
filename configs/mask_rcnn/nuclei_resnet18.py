"""Mask R-CNN, ResNet-18, nuclei from COCO annotations.

python -m rcnn_jax.main --config=configs/mask_rcnn/nuclei_resnet18.py --workdir=out/nuclei_resnet18
"""

from ml_collections import ConfigDict

from rcnn_jax.spec import default_config


def get_config() -> ConfigDict:
    """Returns the config; what is not set here has its default."""
    config = default_config("mask_rcnn")

    # Nuclei in fluorescence (444 images) with ResNet-18, from COCO annotations without records.
    # Nuclei are some 13 pixels wide, so anchors are small, and there are up to 131 in an image.
    config.seed = 123
    config.train_batch_size = 4
    config.eval_batch_size = 4
    config.num_epochs = 40
    config.num_steps_per_eval = 445
    config.momentum = 0.9
    config.l2_weight_decay = 0.0001
    config.warmup_steps = 300
    config.warmup_learning_rate = 0.0001
    config.init_learning_rate = 0.01
    config.learning_rate_steps = (2500, 3200)
    config.learning_rate_decay_levels = (0.1, 0.01)
    config.clip_norm = 10.0

    config.data_config.image_size = (384, 384)
    config.data_config.augment_input_data = True
    config.data_config.vflip_probability = 0.5
    config.data_config.scale_jitter_min = 0.8
    config.data_config.scale_jitter_max = 1.25
    config.data_config.eval_samples = 90
    config.data_config.coco_train_image_dir = "data/nuclei_coco/images"
    config.data_config.coco_train_json = "data/nuclei_coco/instances_train.json"
    config.data_config.coco_val_image_dir = "data/nuclei_coco/images"
    config.data_config.val_json_file = "data/nuclei_coco/instances_val.json"
    config.data_config.num_classes = 2
    config.data_config.skip_crowd_during_training = True
    config.data_config.max_num_instances = 200
    config.data_config.n_workers = 2

    config.maskrcnn_config.arch = "resnet"
    config.maskrcnn_config.nlayers = 18
    config.maskrcnn_config.freeze_bn = False
    config.maskrcnn_config.freeze_blocks = ()
    config.maskrcnn_config.gt_mask_size = 56
    # Anchors.
    config.maskrcnn_config.min_level = 2
    config.maskrcnn_config.max_level = 6
    config.maskrcnn_config.num_scales = 1
    config.maskrcnn_config.aspect_ratios = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))
    config.maskrcnn_config.anchor_scale = 4
    # Region proposal network.
    config.maskrcnn_config.rpn_positive_overlap = 0.7
    config.maskrcnn_config.rpn_negative_overlap = 0.3
    config.maskrcnn_config.rpn_batch_size_per_im = 256
    config.maskrcnn_config.rpn_fg_fraction = 0.5
    config.maskrcnn_config.rpn_min_size = 0.0
    config.maskrcnn_config.train_rpn_pre_nms_topn = 2000
    config.maskrcnn_config.train_rpn_post_nms_topn = 1000
    config.maskrcnn_config.train_rpn_nms_threshold = 0.7
    # Rois that train the heads.
    config.maskrcnn_config.batch_size_per_im = 256
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
    config.maskrcnn_config.test_detections_per_image = 200
    return config
