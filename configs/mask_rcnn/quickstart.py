"""Mask R-CNN, narrow ResNet-10, made-up cells: second half of `make quickstart`, which makes the data.

python -m rcnn_jax.main --config=configs/mask_rcnn/quickstart.py --workdir=out/quickstart/masks/run
"""

from ml_collections import ConfigDict

from rcnn_jax.spec import default_config


def get_config() -> ConfigDict:
    """Returns the config; what is not set here has its default."""
    config = default_config("mask_rcnn")

    # The second half of `make quickstart`: the cells of the first, with their masks, from TFRecords that
    # `mask_rcnn dataset_convert` makes of COCO annotations. 320 x 240 pixels, narrow ResNet-10.
    config.seed = 123
    config.train_batch_size = 4
    config.eval_batch_size = 4
    config.num_epochs = 22
    config.num_steps_per_eval = 704
    config.warmup_steps = 40
    config.warmup_learning_rate = 0.001
    config.init_learning_rate = 0.02
    config.learning_rate_schedule = "cosine"
    config.learning_rate_steps = ()
    config.learning_rate_decay_levels = ()
    config.ema_decay = 0.99
    config.clip_norm = 10.0

    config.data_config.image_size = (192, 256)
    config.data_config.augment_input_data = True
    config.data_config.eval_samples = 64
    config.data_config.training_file_pattern = "out/quickstart/masks/records/train*.tfrecord"
    config.data_config.validation_file_pattern = "out/quickstart/masks/records/val*.tfrecord"
    config.data_config.val_json_file = "out/quickstart/masks/data/instances_val.json"
    config.data_config.num_classes = 4
    config.data_config.max_num_instances = 20
    config.data_config.n_workers = 2

    config.maskrcnn_config.arch = "resnet"
    config.maskrcnn_config.nlayers = 10
    config.maskrcnn_config.freeze_bn = False
    config.maskrcnn_config.freeze_blocks = ()
    config.maskrcnn_config.gt_mask_size = 56
    # Anchors of 24 to 96 pixels: no cell is smaller, and level 2 would take half of the step.
    config.maskrcnn_config.min_level = 3
    config.maskrcnn_config.max_level = 5
    config.maskrcnn_config.num_scales = 1
    config.maskrcnn_config.aspect_ratios = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))
    config.maskrcnn_config.anchor_scale = 3
    # Region proposal network.
    config.maskrcnn_config.rpn_positive_overlap = 0.7
    config.maskrcnn_config.rpn_negative_overlap = 0.3
    config.maskrcnn_config.rpn_batch_size_per_im = 128
    config.maskrcnn_config.rpn_fg_fraction = 0.5
    config.maskrcnn_config.rpn_min_size = 0.0
    config.maskrcnn_config.train_rpn_pre_nms_topn = 300
    config.maskrcnn_config.train_rpn_post_nms_topn = 100
    config.maskrcnn_config.train_rpn_nms_threshold = 0.7
    # Rois that train the heads.
    config.maskrcnn_config.batch_size_per_im = 32
    config.maskrcnn_config.fg_fraction = 0.25
    config.maskrcnn_config.fg_thresh = 0.5
    config.maskrcnn_config.bg_thresh_hi = 0.5
    config.maskrcnn_config.bg_thresh_lo = 0.0
    # Heads.
    config.maskrcnn_config.fast_rcnn_mlp_head_dim = 128
    config.maskrcnn_config.bbox_reg_weights = (10.0, 10.0, 5.0, 5.0)
    config.maskrcnn_config.include_mask = True
    config.maskrcnn_config.mrcnn_resolution = 28
    # Test.
    config.maskrcnn_config.test_rpn_pre_nms_topn = 200
    config.maskrcnn_config.test_rpn_post_nms_topn = 100
    config.maskrcnn_config.test_rpn_nms_thresh = 0.7
    config.maskrcnn_config.test_nms = 0.5
    config.maskrcnn_config.test_detections_per_image = 50
    config.maskrcnn_config.channel_plan = {
        "block_1a_conv_1": 16,
        "block_1a_conv_2": 16,
        "block_1a_conv_shortcut": 16,
        "block_2a_conv_1": 32,
        "block_2a_conv_2": 32,
        "block_2a_conv_shortcut": 32,
        "block_3a_conv_1": 64,
        "block_3a_conv_2": 64,
        "block_3a_conv_shortcut": 64,
        "block_4a_conv_1": 128,
        "block_4a_conv_2": 128,
        "block_4a_conv_shortcut": 128,
        "conv1": 16,
        "conv5-mask": 32,
        "l3": 48,
        "l4": 48,
        "l5": 48,
        "mask-conv-l0": 32,
        "mask-conv-l1": 32,
        "mask-conv-l2": 32,
        "mask-conv-l3": 32,
        "post_hoc_d3": 48,
        "post_hoc_d4": 48,
        "post_hoc_d5": 48,
        "rpn": 48,
    }
    return config
