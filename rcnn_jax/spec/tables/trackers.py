"""The field tables of TensorBoard and of experiment trackers, shared by both detectors."""

from rcnn_jax.spec.schema import Field, Message, block, boolean, count, enum, string

# Read with all their fields, because specs of TAO carry them; the keys among them are secrets all
# the same.
WANDB_OFF = "no Weights & Biases client is bundled; metrics.jsonl holds the same numbers"
CLEARML_OFF = "no ClearML client is bundled; metrics.jsonl holds the same numbers"


def _tags(number: int, reason: str) -> Field:
    return Field(
        name="tags",
        number=number,
        kind="string",
        repeated=True,
        default=(),
        doc="Tags of the run.",
        no_effect=reason,
    )


WANDB = Message(
    "WandBConfig",
    "Weights & Biases.",
    (
        boolean("enabled", 1, False, "Switches it on.", no_effect=WANDB_OFF),
        string("key", 2, None, "Access key.", no_effect=WANDB_OFF, secret=True),
        string("project", 3, None, "Project.", no_effect=WANDB_OFF),
        string("entity", 4, None, "Team or user.", no_effect=WANDB_OFF),
        boolean("reinit", 5, False, "Several runs in one process.", no_effect=WANDB_OFF),
        string("name", 6, None, "Name of the run.", no_effect=WANDB_OFF),
        _tags(7, WANDB_OFF),
        string("wandb_dir", 8, None, "Local folder.", no_effect=WANDB_OFF),
        string("notes", 9, None, "Notes of the run.", no_effect=WANDB_OFF),
        enum("mode", 10, ("ONLINE", "OFFLINE", "DISABLED"), "How to send.", no_effect=WANDB_OFF),
    ),
)

CLEARML = Message(
    "ClearMLConfig",
    "ClearML.",
    (
        string("project", 1, None, "Project.", no_effect=CLEARML_OFF),
        string("task", 2, None, "Task.", no_effect=CLEARML_OFF),
        _tags(3, CLEARML_OFF),
        boolean("reuse_last_task_id", 4, False, "Reuse the task.", no_effect=CLEARML_OFF),
        boolean("continue_last_task", 5, False, "Continue the task.", no_effect=CLEARML_OFF),
        boolean("deferred_init", 6, False, "Connect in the background.", no_effect=CLEARML_OFF),
    ),
)

VISUALIZER = Message(
    "VisualizerConfig",
    "TensorBoard and trackers.",
    (
        boolean("enabled", 1, False, "Writes TensorBoard files."),
        count("num_images", 2, 3, "Augmented training images shown."),
        boolean("weight_histograms", 3, False, "Histograms of the weights."),
        block("wandb_config", 4, WANDB, "Weights & Biases.", no_effect=WANDB_OFF),
        block("clearml_config", 5, CLEARML, "ClearML.", optional=True, no_effect=CLEARML_OFF),
    ),
)
