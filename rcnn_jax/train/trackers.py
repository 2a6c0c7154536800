"""Writers for experiment trackers: Weights & Biases, ClearML, MLflow.

    Record --- Tracker ---> Client: one of three small classes over the tracker's own package

A tracker is somebody else's server, and no run ends because that is away: the first error of a client
is noted and switches its tracker off; metrics.jsonl has all numbers. A package that is not installed does
the same, because specs of TAO carry these blocks whether a tracker is there or not.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.errors import MissingDependencyError
from rcnn_jax.optional import require
from rcnn_jax.reporter import Reporter
from rcnn_jax.settings.training import TrackerName, TrackerSettings
from rcnn_jax.tasks.families import LogFormat
from rcnn_jax.train.run_folder import TRACKER_IDS
from rcnn_jax.train.writers import MetricWriter, Record, tagged


class Client(Protocol):
    """An open run of a tracker."""

    @property
    def id(self) -> str:
        """Name of the run at the tracker, by which it is opened again."""
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Sends finite numbers of a step."""
        ...

    def finish(self) -> None:
        """Ends the run of the tracker."""
        ...


class Tracker(MetricWriter):
    """Sends every number to a tracker under the names that TensorBoard shows."""

    def __init__(
        self,
        settings: TrackerSettings,
        folder: Path,
        log_format: LogFormat,
        spec: Mapping[str, Any],
        reporter: Reporter,
    ):
        """Takes what the client is opened with; nothing is sent before `start`.

        Args:
          settings: which tracker, and its options.
          folder: of the run; holds the ids of earlier calls.
          log_format: names of the loss terms.
          spec: fields of the spec without keys, shown by the tracker.
          reporter: told once when the tracker cannot be used.
        """
        self._settings = settings
        self._folder = folder
        self._names = log_format.status_terms
        self._spec = spec
        self._reporter = reporter
        self._client: Client | None = None

    def start(self) -> None:
        """Opens the run at the tracker, or the one of an earlier call."""
        name = self._settings.name
        earlier = _ids(self._folder)
        try:
            with self._off_after_an_error():
                self._client = CLIENTS[name](
                    self._settings.options, self._folder, earlier.get(name), self._spec
                )
                ids = {**earlier, name: self._client.id}
                if ids != earlier:
                    write_file(self._folder / TRACKER_IDS, [json.dumps(ids, indent=2).encode()])
        except MissingDependencyError as error:
            self._reporter.note(f"{error}. The run goes on; metrics.jsonl has the same numbers")

    def write(self, record: Record) -> None:
        """Sends the numbers of a record."""
        if self._client is None:
            return
        with self._off_after_an_error():
            self._client.log(record.step, tagged(record, self._names))

    def close(self) -> None:
        """Ends the run at the tracker."""
        client, self._client = self._client, None
        if client is not None:
            with self._off_after_an_error():
                client.finish()

    @contextlib.contextmanager
    def _off_after_an_error(self) -> Iterator[None]:
        try:
            yield
        except (MissingDependencyError, KeyboardInterrupt):
            raise
        except Exception as error:
            # Of any type: each client has its own for a refused key, an absent server, a full disk. Its
            # text is cut, and the key of the spec is taken out of it.
            self._client = None
            text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            for secret in self._settings.secrets:
                text = text.replace(secret, "***")
            self._reporter.note(
                f"{TITLES[self._settings.name]} is switched off for this run: {text}. The run goes on; "
                "metrics.jsonl has the same numbers"
            )


class WandbClient:
    """A run of Weights & Biases."""

    def __init__(
        self, options: Mapping[str, Any], folder: Path, run: str | None, spec: Mapping[str, Any]
    ):
        """Opens the run; see `Client`."""
        wandb = require("wandb", extra="wandb", purpose="wandb_config")
        settings = {
            # The console belongs to the progress bar; wandb would wrap stdout and copy every redraw.
            "console": "off",
            "silent": True,
            # Handed over and not logged in with: a login writes the key into ~/.netrc.
            **({"api_key": options["key"]} if options.get("key") else {}),
        }
        self._run = wandb.init(
            project=options.get("project"),
            entity=options.get("entity"),
            name=options.get("name"),
            tags=options.get("tags") or None,
            notes=options.get("notes"),
            dir=options.get("wandb_dir") or str(folder),
            mode=(options.get("mode") or "ONLINE").lower(),
            reinit="finish_previous" if options.get("reinit") else None,
            id=run,
            resume="allow",
            config=dict(spec),
            settings=wandb.Settings(**settings),
        )

    @property
    def id(self) -> str:
        """Id of the run."""
        return self._run.id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds numbers to the row of a step."""
        self._run.log(dict(values), step=step)

    def finish(self) -> None:
        """Sends what is left."""
        self._run.finish()


class ClearmlClient:
    """A task of ClearML."""

    def __init__(
        self, options: Mapping[str, Any], folder: Path, run: str | None, spec: Mapping[str, Any]
    ):
        """Opens the task; see `Client`."""
        clearml = require("clearml", extra="clearml", purpose="clearml_config")
        self._task = clearml.Task.init(
            project_name=options.get("project"),
            task_name=options.get("task") or folder.name,
            tags=list(options.get("tags") or ()) or None,
            reuse_last_task_id=run or bool(options.get("reuse_last_task_id")),
            # The id of this run's own task wins over "the last one", which may be another run's.
            continue_last_task=run or bool(options.get("continue_last_task")),
            deferred_init=bool(options.get("deferred_init")),
            # Of its own accord ClearML would copy arguments, TensorBoard files and every print.
            auto_connect_arg_parser=False,
            auto_connect_frameworks=False,
            auto_connect_streams=False,
            auto_resource_monitoring=False,
        )
        self._task.connect_configuration(dict(spec), name="spec")

    @property
    def id(self) -> str:
        """Id of the task."""
        return str(self._task.id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a point to the curve of every number."""
        logger = self._task.get_logger()
        for name, value in values.items():
            title, _, series = name.partition("/")
            logger.report_scalar(title, series, value, step)

    def finish(self) -> None:
        """Sends what is left."""
        self._task.close()


_MOST_PARAMS, _MOST_LETTERS = 100, 500
"""Limits of MLflow: parameters of one call, letters of a value (of its older servers)."""


class MlflowClient:
    """A run of MLflow."""

    def __init__(
        self, options: Mapping[str, Any], folder: Path, run: str | None, spec: Mapping[str, Any]
    ):
        """Opens the run; see `Client`."""
        mlflow = require("mlflow", extra="mlflow", purpose="mlflow_config")
        # The client and not the module's functions, whose "active run" is global to the process.
        self._client = mlflow.MlflowClient(tracking_uri=options.get("tracking_uri"))
        self._metric = mlflow.entities.Metric
        if run is None:
            name = options.get("experiment") or "rcnn_jax"
            experiment = self._client.get_experiment_by_name(name)
            number = (
                self._client.create_experiment(name)
                if experiment is None
                else experiment.experiment_id
            )
            title = options.get("name") or folder.name
            run = self._client.create_run(number, run_name=title).info.run_id
            # As parameters, which its tables compare; a file would go to `mlruns` in the current folder.
            rows = [
                mlflow.entities.Param(name, str(value)[:_MOST_LETTERS])
                for name, value in flat(spec).items()
            ]
            for first in range(0, len(rows), _MOST_PARAMS):
                self._client.log_batch(run, params=rows[first : first + _MOST_PARAMS])
        else:
            self._client.update_run(run, status="RUNNING")
        self._id = str(run)

    @property
    def id(self) -> str:
        """Id of the run."""
        return self._id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a point to the curve of every number."""
        now = int(time.time() * 1000)
        points = [self._metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=points)

    def finish(self) -> None:
        """Marks the run as over."""
        self._client.set_terminated(self._id)


CLIENTS: Mapping[
    TrackerName, Callable[[Mapping[str, Any], Path, str | None, Mapping[str, Any]], Client]
] = {"wandb": WandbClient, "clearml": ClearmlClient, "mlflow": MlflowClient}
TITLES: Mapping[TrackerName, str] = {
    "wandb": "Weights & Biases",
    "clearml": "ClearML",
    "mlflow": "MLflow",
}


def flat(fields: Mapping[str, Any], parents: str = "") -> dict[str, Any]:
    """Returns {dotted name: value} of nested fields; those that have a value."""
    rows: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            rows |= flat(value, f"{parents}{name}.")
        elif value is not None:
            rows[parents + name] = value
    return rows


def _ids(folder: Path) -> dict[str, str]:
    try:
        ids = json.loads((folder / TRACKER_IDS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(ids, dict):
        return {}
    return {name: str(value) for name, value in ids.items()}
