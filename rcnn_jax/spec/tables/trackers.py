"""The field tables of TensorBoard and of experiment trackers, shared by both detectors."""

from dataclasses import replace

from rcnn_jax.spec.schema import Field, Message, block, boolean, count, enum, string

_TAGS = Field(
    name="tags",
    number=0,
    kind="string",
    repeated=True,
    default=(),
    doc="Tags of the run.",
)

WANDB = Message(
    "WandBConfig",
    "Weights & Biases; the extra `wandb`. Without the package the run says so and goes on.",
    (
        boolean("enabled", 1, False, "Switches it on."),
        string("key", 2, None, "Access key; else that of `wandb login`.", secret=True),
        string("project", 3, None, "Project."),
        string("entity", 4, None, "Team or user."),
        boolean("reinit", 5, False, "Ends an earlier run of the same process."),
        string("name", 6, None, "Name of the run."),
        replace(_TAGS, number=7),
        string("wandb_dir", 8, None, "Local folder; the run's own where it is absent."),
        string("notes", 9, None, "Notes of the run."),
        enum("mode", 10, ("ONLINE", "OFFLINE", "DISABLED"), "How to send."),
    ),
)

CLEARML = Message(
    "ClearMLConfig",
    "ClearML; the extra `clearml`. Without the package the run says so and goes on.",
    (
        string("project", 1, None, "Project."),
        string("task", 2, None, "Task; the folder's name where it is absent."),
        replace(_TAGS, number=3),
        boolean("reuse_last_task_id", 4, False, "Reuse the task."),
        boolean("continue_last_task", 5, False, "Continue the task."),
        boolean("deferred_init", 6, False, "Connect in the background."),
    ),
)

MLFLOW = Message(
    "MLflowConfig",
    "MLflow; the extra `mlflow`. Without the package the run says so and goes on.",
    (
        string(
            "tracking_uri",
            1,
            None,
            "Server, or folder; MLFLOW_TRACKING_URI where it is absent, which may hold a password.",
        ),
        string("experiment", 2, None, "Experiment; `rcnn_jax` where it is absent."),
        string("name", 3, None, "Name of the run; the folder's where it is absent."),
    ),
)

VISUALIZER = Message(
    "VisualizerConfig",
    "TensorBoard and trackers.",
    (
        boolean("enabled", 1, False, "Writes TensorBoard files."),
        count("num_images", 2, 3, "Augmented training images shown."),
        boolean("weight_histograms", 3, False, "Histograms of the weights."),
        block("wandb_config", 4, WANDB, "Weights & Biases."),
        block("clearml_config", 5, CLEARML, "ClearML.", optional=True),
        block("mlflow_config", 1000, MLFLOW, "MLflow.", optional=True),
    ),
)
