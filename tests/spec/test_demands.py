"""Demands of tasks on a spec: only what they use."""

import pytest

from rcnn_jax.errors import SpecError
from rcnn_jax.spec import TaskName, parse_spec
from rcnn_jax.spec.demands import TASKS, unserved
from tests.spec.samples import FASTER, MASK

DEPLOYED_FASTER = """\
model_config {
  input_image_config { size_height_width { height: 544 width: 960 } }
}
dataset_config {
  target_class_mapping { key: "automobile" value: "car" }
  validation_data_source { image_directory_path: "/data/images" }
}
inference_config { batch_size: 8 images_dir: "/data/images" }
evaluation_config { batch_size: 8 gt_matching_iou_threshold: 0.5 }
"""
DEPLOYED_MASK = """\
eval_batch_size: 8
data_config {
  image_size: "(576, 960)"
  eval_samples: 500
  val_json_file: "/data/valid.json"
  num_classes: 2
}
maskrcnn_config { include_mask: True test_nms: 0.5 }
"""
"""The blocks that NVIDIA's own specs for deployment have."""


def complaint(text: str, task: TaskName | None) -> str:
    with pytest.raises(SpecError) as error:
        parse_spec(text, "s", task=task)
    return str(error.value)


@pytest.mark.parametrize("task", ["inference", "export"])
@pytest.mark.parametrize("text", [DEPLOYED_FASTER, DEPLOYED_MASK])
def test_a_spec_without_schedule_and_data_runs_and_exports(text: str, task: TaskName) -> None:
    parse_spec(text, task=task)


def test_a_mask_rcnn_spec_without_schedule_is_evaluated() -> None:
    parse_spec(DEPLOYED_MASK, task="evaluate")


def test_training_asks_for_a_schedule_and_an_optimizer() -> None:
    assert complaint(DEPLOYED_MASK, "train") == "s: total_steps or num_epochs must be given"
    lines = complaint(DEPLOYED_FASTER, "train").splitlines()
    assert lines == [
        "s: training_config.learning_rate needs one of soft_start, step, cosine",
        "s: training_config.optimizer needs one of sgd, adam, rmsprop, adamw",
        "s:6:3: dataset_config.validation_data_source needs either tfrecords_path or "
        "kitti_directory_path",
    ]


def test_evaluation_asks_for_a_whole_validation_source() -> None:
    assert "validation_data_source needs either tfrecords_path" in complaint(
        DEPLOYED_FASTER, "evaluate"
    )


def test_what_training_alone_reads_is_not_asked_of_other_tasks() -> None:
    text = FASTER.replace("rpn_min_overlap: 0.3", "rpn_min_overlap: 0.9")
    assert "rpn_min_overlap = 0.9 is not below" in complaint(text, "train")
    for task in ("evaluate", "inference", "export"):
        parse_spec(text, task=task)


def test_a_spec_that_means_to_train_is_checked_for_training() -> None:
    assert "needs one of sgd, adam, rmsprop, adamw" in complaint(
        FASTER.replace("optimizer { sgd { momentum: 0.9 } }", ""), None
    )
    steps = MASK.replace("total_steps: 100", 'total_steps: 9 learning_rate_steps: "[9]"')
    assert "learning_rate_decay_levels has 3 items" in complaint(steps, None)


@pytest.mark.parametrize(
    ("text", "served"),
    [
        (FASTER, TASKS),
        (FASTER.replace("validation_fold: 0", ""), ("train", "inference", "export")),
        (DEPLOYED_FASTER, ("inference", "export")),
        (DEPLOYED_MASK, ("inference", "export")),
        (
            DEPLOYED_MASK.replace("eval_samples", 'validation_file_pattern: "v*" eval_samples'),
            ("evaluate", "inference", "export"),
        ),
        (MASK, ("inference", "export")),
    ],
)
def test_the_tasks_that_a_spec_serves_are_known(text: str, served: tuple[TaskName, ...]) -> None:
    spec = parse_spec(text)
    lacking = unserved(spec.config, spec.kind)
    assert tuple(task for task in TASKS if task not in lacking) == served


def test_quantisation_aware_training_is_for_every_task() -> None:
    text = FASTER.replace(
        "training_config {", "training_config {\n  enable_qat: True qat_start: 0.8"
    )
    for task in TASKS:
        assert parse_spec(text, task=task).config.training_config.qat_start == 0.8
    assert unserved(parse_spec(text).config, "faster_rcnn") == {}


def test_a_conversion_serves_no_task_of_a_detector() -> None:
    text = 'coco_config { root_directory_path: "r" img_dir_names: "a" annotation_files: "a.json" '
    spec = parse_spec(f"{text} num_partitions: 1 }}")
    assert unserved(spec.config, spec.kind) == {}
