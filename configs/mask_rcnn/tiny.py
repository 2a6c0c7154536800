"""Mask R-CNN, tiny ResNet-10, 64 x 64 pixels: for tests and for trying things out.

    python -m rcnn_jax.main --config=configs/mask_rcnn/tiny.py --workdir=out/tiny_masks/run

The data:

    from rcnn_jax.data.synthetic import write_coco
    write_coco("out/tiny_masks", seed=0, train_count=8, val_count=4, height=64, width=64)
"""

from ml_collections import ConfigDict

from rcnn_jax.spec import default_config


def get_config() -> ConfigDict:
    """Returns the config; what is not set here has its default."""
    config = default_config("mask_rcnn")

    # The smallest thing that still is a Mask R-CNN: 64 x 64 pixels, ResNet-10 with an eighth of the
    # channels, two epochs. Tests use it.
    config.seed = 123
    config.train_batch_size = 2
    config.eval_batch_size = 2
    config.num_epochs = 2
    config.num_steps_per_eval = 4
    config.warmup_steps = 2
    config.warmup_learning_rate = 0.001
    config.init_learning_rate = 0.01
    config.learning_rate_steps = (100, 200)
    config.learning_rate_decay_levels = (0.1, 0.01)
    config.clip_norm = 10.0

    config.data_config.image_size = (64, 64)
    config.data_config.allow_small = True
    config.data_config.augment_input_data = True
    config.data_config.eval_samples = 4
    config.data_config.coco_train_image_dir = "out/tiny_masks/images"
    config.data_config.coco_train_json = "out/tiny_masks/instances_train.json"
    config.data_config.coco_val_image_dir = "out/tiny_masks/images"
    config.data_config.val_json_file = "out/tiny_masks/instances_val.json"
    config.data_config.num_classes = 4
    config.data_config.max_num_instances = 16
    config.data_config.n_workers = 1
    config.data_config.prefetch_buffer_size = 1

    config.maskrcnn_config.arch = "resnet"
    config.maskrcnn_config.nlayers = 10
    config.maskrcnn_config.freeze_bn = False
    config.maskrcnn_config.freeze_blocks = ()
    config.maskrcnn_config.gt_mask_size = 28
    # Anchors.
    config.maskrcnn_config.min_level = 2
    config.maskrcnn_config.max_level = 6
    config.maskrcnn_config.num_scales = 1
    config.maskrcnn_config.aspect_ratios = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))
    config.maskrcnn_config.anchor_scale = 4
    # Region proposal network.
    config.maskrcnn_config.rpn_positive_overlap = 0.7
    config.maskrcnn_config.rpn_negative_overlap = 0.3
    config.maskrcnn_config.rpn_batch_size_per_im = 32
    config.maskrcnn_config.rpn_fg_fraction = 0.5
    config.maskrcnn_config.rpn_min_size = 0.0
    config.maskrcnn_config.train_rpn_pre_nms_topn = 50
    config.maskrcnn_config.train_rpn_post_nms_topn = 32
    config.maskrcnn_config.train_rpn_nms_threshold = 0.7
    # Rois that train the heads.
    config.maskrcnn_config.batch_size_per_im = 16
    config.maskrcnn_config.fg_fraction = 0.25
    config.maskrcnn_config.fg_thresh = 0.5
    config.maskrcnn_config.bg_thresh_hi = 0.5
    config.maskrcnn_config.bg_thresh_lo = 0.0
    # Heads.
    config.maskrcnn_config.fast_rcnn_mlp_head_dim = 32
    config.maskrcnn_config.bbox_reg_weights = (10.0, 10.0, 5.0, 5.0)
    config.maskrcnn_config.include_mask = True
    config.maskrcnn_config.mrcnn_resolution = 8
    # Test.
    config.maskrcnn_config.test_rpn_pre_nms_topn = 50
    config.maskrcnn_config.test_rpn_post_nms_topn = 16
    config.maskrcnn_config.test_rpn_nms_thresh = 0.7
    config.maskrcnn_config.test_nms = 0.5
    config.maskrcnn_config.test_detections_per_image = 8
    config.maskrcnn_config.channel_plan = {
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
        "conv5-mask": 16,
        "l2": 16,
        "l3": 16,
        "l4": 16,
        "l5": 16,
        "mask-conv-l0": 16,
        "mask-conv-l1": 16,
        "mask-conv-l2": 16,
        "mask-conv-l3": 16,
        "post_hoc_d2": 16,
        "post_hoc_d3": 16,
        "post_hoc_d4": 16,
        "post_hoc_d5": 16,
        "rpn": 16,
    }
    return config
