"""Log lines and tables of a run, character for character where the original fixed them."""

from rich.console import Console

from rcnn_jax.tasks.families import FASTER_RCNN, MASK_RCNN
from rcnn_jax.train import tables

PARAMETERS = [
    ("conv1/kernel", (7, 7, 3, 64), False),
    ("bn_conv1/gamma", (64,), True),
    ("block_1a_conv_1/kernel", (1, 1, 64, 64), True),
    ("rpn-class/bias", (3,), True),
]
METRICS = {
    "loss": 2.5,
    "rpn_class": 0.125,
    "rpn_box": 0.25,
    "class": 0.5,
    "box": 1.0,
    "mask": 0.625,
    "learning_rate": 0.02,
}


def test_the_mask_rcnn_line_is_the_originals_with_the_mask_loss():
    assert tables.step_line(MASK_RCNN.log, 40, 2, 8, METRICS) == (
        "Global step 40 (epoch 2/8): total loss: 2.50000 (rpn score loss: 0.12500 rpn box loss: "
        "0.25000 fast_rcnn class loss: 0.50000 fast_rcnn box loss: 1.00000 mask loss: 0.62500) "
        "learning rate: 0.02000"
    )


def test_the_faster_rcnn_epoch_line_names_losses_as_keras_did():
    line = tables.epoch_line(FASTER_RCNN.log, 1, 3, METRICS, 90.0)
    assert line == (
        "Epoch 1/3: loss: 2.50000 (rpn_out_class_loss: 0.12500 rpn_out_regress_loss: 0.25000 "
        "dense_class_td_loss: 0.50000 dense_regress_td_loss: 1.00000) learning rate: 0.02000 "
        "Time taken: 0:01:30 ETA: 0:03:00"
    )


def test_a_loss_term_without_a_name_is_still_printed():
    line = tables.step_line(MASK_RCNN.log, 1, 1, 1, {**METRICS, "l2": 0.1})
    assert "mask loss: 0.62500 l2 loss: 0.10000)" in line


def test_trainable_variables_are_numbered_without_the_frozen_ones():
    rows = tables.trainable_variables(PARAMETERS)
    assert rows[0] == "[MaskRCNN] INFO    : ================ TRAINABLE VARIABLES =================="
    assert rows[1] == f"[MaskRCNN] INFO    : [#0001] bn_conv1/gamma:0{' ' * 44} => (64,)"
    assert [row[20:29] for row in rows[1:]] == [" [#0001] ", " [#0002] ", " [#0003] "]


def test_counts_join_a_layer_with_its_batch_norm_and_a_block_with_its_layers():
    assert tables.parameter_counts(PARAMETERS) == {
        "conv1": (64, 9408),
        "block_1": (4096, 0),
        "rpn-class": (3, 0),
    }


def test_the_table_ends_with_the_sums():
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(tables.parameter_table(PARAMETERS))
    last = [line for line in console.export_text().splitlines() if "total" in line][-1]
    assert last.split("│")[1:-1] == [" total     ", "     4,163 ", "  9,408 ", " 13,571 "]
