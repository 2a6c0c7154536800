"""Layout of a run folder: which files belong to which run, by the name of its model.

The original's specs keep a first model and the one retrained from it in one folder, as
`resnet18.tlt` and `resnet18_retrain.tlt`. Models of all runs lie side by side, their names differ.
Everything else of the first run of a folder lies there too; that of further ones in `runs/<name>/`:

    DIR/resnet18.epoch80.tlt          DIR/resnet18_retrain.epoch120.tlt
    DIR/best.tlt                      DIR/runs/resnet18_retrain/best.tlt
    DIR/checkpoints/                  DIR/runs/resnet18_retrain/checkpoints/
    DIR/metrics.jsonl ...             DIR/runs/resnet18_retrain/metrics.jsonl ...

`config.json` says whose the files beside it are.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcnn_jax.checkpoints import names
from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.checkpoints.state import versions
from rcnn_jax.errors import SpecError, UsageError
from rcnn_jax.kinds import Kind
from rcnn_jax.processes import sweep
from rcnn_jax.tasks.experiment import SpecRecord
from rcnn_jax.tasks.families import family
from rcnn_jax.text_file import read_text

RUNS = "runs"
METRICS_FILE = "metrics.jsonl"
METRICS_PAGE = "metrics.html"
TRACKER_IDS = "trackers.json"
"""{tracker: id of its run}; a resumed run goes on in the same one."""
TENSORBOARD_FOLDER = "tensorboard"
EVAL_FOLDER = "eval"
CHECKPOINTS = "checkpoints"
CONFIG_FILE = "config.json"
SPEC_FILE = "spec.txt"


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Attributes:
      root: the folder that the user named; models are written here.
      folder: everything else is written here.
      kind: which detector.
      name: of the models, without number and suffix.
    """

    root: Path
    folder: Path
    kind: Kind
    name: str

    @property
    def best(self) -> Path:
        """The best model of the run."""
        return self.folder / names.BEST

    def model(self, step: int, epoch: int) -> Path:
        """Returns the model file of so many steps, which are so many epochs."""
        if family(self.kind).model_unit == "step":
            return names.step_bundle(self.root, step)
        return names.epoch_bundle(self.root / self.name, epoch)

    def models(self) -> Iterator[tuple[Path, names.Progress]]:
        """Yields the model files of the run but `best`, with the progress in their names."""
        unit = family(self.kind).model_unit
        for path in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            progress = names.parse(path)
            if (
                progress
                and (progress.stem, progress.unit) == (self.name, unit)
                # `parse` reads the names of every generation. Those that this program does not
                # write are files of the user, and `clear` deletes whatever is yielded here.
                and path == self.model(progress.count, progress.count)
            ):
                yield path, progress

    def all_models(self) -> list[Path]:
        """Returns all model files of the run."""
        return [*(path for path, _ in self.models()), *[self.best][: self.best.is_file()]]

    def sweep(self) -> list[Path]:
        """Deletes unfinished files of killed processes; returns them."""
        folders = dict.fromkeys((self.root, self.folder, self.folder / EVAL_FOLDER))
        (self.folder / f"{METRICS_FILE}.partial").unlink(missing_ok=True)  # of earlier releases
        return [path for folder in folders for path in sweep(folder)]

    def clear(self, step: int, epoch: int, keep: Set[Path], *, same_run: bool) -> None:
        """Deletes the run from a step on; other runs of the folder keep their files.

        Checkpoints are not touched: `CheckpointStore.clear`.

        Args:
          step: steps that the run which begins anew has taken, 0 mostly.
          epoch: epochs of those steps.
          keep: files that the spec names as input; never deleted.
          same_run: what begins is the run that is here, at an earlier step; its lines up to there stay.
        """
        kept = {path.resolve() for path in keep}
        reached = step if family(self.kind).model_unit == "step" else epoch
        gone = [path for path, progress in self.models() if progress.count > reached]
        # It may be of a step that is taken back; the end of the run leaves a new one.
        gone += [self.best] if self.best.exists() else []
        gone = [path for path in gone if path.resolve() not in kept]
        for path in gone:
            path.unlink()
        reports = self.folder / EVAL_FOLDER
        if reports.is_dir():
            stems = {path.stem for path in gone}
            for path in reports.iterdir():
                stem = path.stem.removesuffix("_PR_curve")
                number = stem.removeprefix("step-")
                later = number != stem and number.isdigit() and int(number) > step
                if later or stem in stems:
                    path.unlink()
        # The same run at an earlier step keeps its lines: `writers.JsonLines` cuts them at that
        # step.
        if not same_run or not step:
            for name in (METRICS_FILE, METRICS_PAGE, TRACKER_IDS):
                (self.folder / name).unlink(missing_ok=True)
            events = self.folder / TENSORBOARD_FOLDER
            if events.is_symlink():  # the folder may lie elsewhere, the link is the user's
                for path in events.glob("events.out.tfevents.*"):
                    path.unlink()
            else:
                shutil.rmtree(events, ignore_errors=True)


def run_folder(root: Path, kind: Kind, fields: Mapping[str, Any]) -> RunFolder:
    """Returns where the run of a spec lies, or will lie.

    Args:
      root: the folder of results.
      kind: which detector.
      fields: of the spec, by name; they name the run, see `Family.model_name`.

    Raises:
      UsageError: the name of the models is none.
    """
    name = family(kind).model_name(fields)
    owner = _owner(root)
    folder = root if owner in (None, (kind, name)) else root / RUNS / name
    return RunFolder(root, folder, kind, name)


def write_spec(folder: Path, kind: Kind, spec: SpecRecord) -> None:
    """Writes config.json, and the spec that gives the same run again."""
    document = {"kind": kind, "config": spec.fields, "versions": versions()}
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    write_file(folder / CONFIG_FILE, [text.encode()])
    write_file(folder / SPEC_FILE, [spec.text.encode()])


def recorded_spec(root: Path, kind: Kind, fields: Any) -> str | None:
    """Returns the text of the spec that a run in a folder has begun with; None where nothing goes on.

    Args:
      root: the folder of results.
      kind: which detector.
      fields: of the spec, a mapping or a config.
    """
    folder = run_folder(root, kind, fields).folder
    if not _has_steps(folder / CHECKPOINTS):
        return None
    try:
        return read_text(folder / SPEC_FILE, "spec of the run", SpecError)
    except SpecError:  # the fingerprint of its checkpoints still speaks for the run
        return None


def _owner(root: Path) -> tuple[str, str] | None:
    """Returns kind and name of the run in the folder itself; None where there is none."""
    # A config.json alone owns nothing. It is written before all other files and outlives `clear`; a
    # run that failed early or was cleared must not drive the next one into `runs/`.
    if not any((root / name).exists() for name in (METRICS_FILE, names.BEST)) and not _has_steps(
        root / CHECKPOINTS
    ):
        return None
    try:
        document = json.loads((root / CONFIG_FILE).read_text(encoding="utf-8"))
        kind = document["kind"]
        return kind, family(kind).model_name(document["config"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError):
        # A config that cannot be read names nobody. The folder counts as free, and the fingerprint
        # in its checkpoints still refuses a run of other settings.
        return None


def _has_steps(checkpoints: Path) -> bool:
    return checkpoints.is_dir() and any(path.name.isdigit() for path in checkpoints.iterdir())
