"""Resumable checkpoints of a run: `checkpoints/<step>/`, one Orbax checkpoint each.

Saving is synchronous and atomic. Orbax writes under a temporary name and renames; a step that is
replaced or deleted is renamed first. Invariant: at any moment every folder named by a bare number is
whole. A killed run leaves only names that the next `CheckpointStore` cleans up:

    <step>.orbax-checkpoint-tmp*   half written: deleted; `<step>.unfinished` likewise
    <step>.deleted                 half deleted: deleted
    <step>.replaced                an older save of the same step: restored if the newer one is
                                   missing, else deleted

A run with a key has encrypted steps instead (`encrypted_step.py`), by the same rules.

The manifest of a step holds the SHA-256 of every leaf and of the run state; a step that
fails its check is skipped with a warning.
"""

import contextlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging

from rcnn_jax.checkpoints import encrypted_step
from rcnn_jax.checkpoints.atomic import FULL, require_space, sync_folder
from rcnn_jax.checkpoints.container import HINT, KeyMistakeError
from rcnn_jax.checkpoints.leaves import flatten, unflatten
from rcnn_jax.checkpoints.manifest import elements, json_digest, leaf_record
from rcnn_jax.errors import CheckpointError
from rcnn_jax.hosts.team import team

Opened = TypeVar("Opened")
_LOG = logging.getLogger(__name__)
_LEFTOVER = re.compile(
    r"^(?P<step>\d+)\.(?P<why>deleted|replaced|unfinished|orbax-checkpoint-tmp.*)$"
)


class CheckpointStore:
    """The checkpoints of one run, newest and best.

    In a run of several processes every process makes the same calls with the same values.

    Attributes:
      directory: the folder of the steps.
      keep: how many of the newest steps stay; the best stays in addition.
      key: encrypts every saved step; None saves plain ones.
    """

    def __init__(self, directory: Path | str, keep: int = 2, key: str | None = None):
        """Creates the folder and cleans up after killed runs.

        Args:
          directory: made when missing.
          keep: at least 1.
          key: see `CheckpointStore`; encrypted steps are read with it, plain ones without.
        """
        if keep < 1:
            raise ValueError(f"keep must be at least 1, found {keep}")
        self.directory = Path(directory).resolve()
        self.keep = keep
        self.key = key or None
        if jax.process_index() == 0:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._clean_up()
        _wait_for_all("store opened")
        with _quiet():
            # Synchronous: `save` deletes older steps when it is done, and must not while the new one is
            # still on its way to the disk.
            # Every process reads for itself and the chief writes for all: Orbax need not make them meet.
            here = jax.process_index()
            alone = ocp.options.MultiprocessingOptions(
                primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"alone_{here}"
            )
            self._orbax = ocp.Checkpointer(
                ocp.CompositeCheckpointHandler(
                    composite_options=ocp.CompositeOptions(multiprocessing_options=alone),
                    state=ocp.PyTreeCheckpointHandler(multiprocessing_options=alone),
                    manifest=ocp.JsonCheckpointHandler(multiprocessing_options=alone),
                ),
                multiprocessing_options=alone,
            )

    def all_steps(self) -> list[int]:
        """Returns the steps that are stored, ascending."""
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdigit())

    def save(self, step: int, state: Any, run_state: dict[str, Any], is_best: bool = False) -> None:
        """Stores a step, then deletes the steps beyond `keep`.

        Args:
          step: steps taken, >= 0; a stored step of the same number is replaced.
          state: pytree of arrays, one copy of each, on host or device.
          run_state: JSON values.
          is_best: this is the best step so far; it stays until a better one is saved.

        Raises:
          CheckpointError: the disk has too little room; earlier steps are untouched.
        """
        if jax.process_index() == 0:
            self._save(step, state, run_state, is_best)
        _wait_for_all(f"step {step} saved")

    def _save(self, step: int, state: Any, run_state: dict[str, Any], is_best: bool) -> None:
        arrays = flatten(state)
        needed = sum(array.nbytes for array in arrays.values())
        manifest = {
            "step": step,
            "is_best": is_best,
            "leaves": {name: leaf_record(array) for name, array in arrays.items()},
            "run_state": run_state,
            "run_state_sha256": json_digest(run_state),
        }
        # Before the older save is renamed: what is stored stays as it is when there is no room.
        require_space(self.directory, needed, f"checkpoint of step {step}")
        final = self.directory / str(step)
        replaced = final.with_name(f"{step}.replaced")
        # Renamed, not deleted: a run killed during the save below still has this step. Milestones save
        # a step twice, before validation and after it.
        if final.exists():
            final.rename(replaced)
        try:
            if self.key is None:
                self._save_plain(final, manifest, arrays)
            else:
                _save_encrypted(final, manifest, arrays, self.key)
        except Exception as error:
            self._clean_up()  # restores the older save of this step
            if not _is_full_disk(error):
                raise
            raise CheckpointError(
                f"checkpoint of step {step}: the disk of {self.directory} is full: {needed:,} bytes "
                "are needed; free some space. Earlier checkpoints are whole"
            ) from error
        # After the new step is whole, in this order: at any moment the disk holds one whole save of the
        # step, and the newest steps beside it.
        _delete(replaced)
        self._delete_surplus()

    def _save_plain(
        self, final: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> None:
        # Orbax stores no empty arrays; the manifest knows their shape and dtype.
        stored = {name: array for name, array in arrays.items() if array.size}
        with _quiet():
            self._orbax.save(
                final,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(stored), manifest=ocp.args.JsonSave(manifest)
                ),
            )

    def restore(self, template: Any) -> tuple[Any, dict[str, Any]] | None:
        """Restores (state, run state) of the newest whole step; None in an empty store.

        Leaves are host arrays, bit for bit what was saved; typed PRNG keys are typed again.

        Args:
          template: a pytree of the structure, shapes and dtypes saved, as arrays or
            `jax.ShapeDtypeStruct`s.

        Raises:
          CheckpointError: no stored step is whole, the newest whole step is of another model, or it
            is encrypted with another key than that of the store.
        """
        damaged = []
        for step in reversed(self.all_steps()):
            if damaged:
                _LOG.warning("going back to the checkpoint of step %d", step)
            try:
                arrays, run_state = self._read(step)
            except _DamagedError as error:
                damaged.append(f"step {step}: {error}")
                _LOG.warning(
                    "%s: the checkpoint of step %d is damaged: %s", self.directory, step, error
                )
                continue
            # Another model is no damage: an older step would not fit either, and going back to it
            # silently would lose steps.
            try:
                return unflatten(arrays, template), run_state
            except CheckpointError as error:
                raise CheckpointError(
                    f"{self.directory}: the checkpoint of step {step} is not of this model: "
                    f"{error}. Use the spec it was trained with, another workdir, "
                    "or --fresh to start anew"
                ) from error
        if damaged:
            raise CheckpointError(
                f"{self.directory}: no checkpoint is whole ({'; '.join(damaged)}). "
                "Give --fresh to start anew"
            )
        return None

    def clear(self) -> None:
        """Deletes every step: the run starts anew."""
        if jax.process_index() == 0:
            for step in self.all_steps():
                _delete(self.directory / str(step))
        _wait_for_all("store cleared")

    def latest_run_state(self) -> dict[str, Any] | None:
        """Returns the run state of the newest step with a readable one, or None.

        Reads no arrays and needs no template: settings can be compared before a model is built.

        Raises:
          KeyMistakeError: the step is encrypted, and there is no key or another one.
        """
        for step in reversed(self.all_steps()):
            with contextlib.suppress(_DamagedError):
                return self._read_manifest(step)["run_state"]
        return None

    def encrypt_plain_steps(self) -> list[int]:
        """Encrypts plain steps, which releases before encrypted steps wrote for every run.

        Returns:
          Those steps; a damaged step stays as it is. Without a key none.
        """
        if self.key is None:
            return []
        encrypted = []
        for step in self.all_steps():
            folder = self._folder(step)
            if encrypted_step.is_encrypted(folder):
                continue
            with contextlib.suppress(_DamagedError):
                arrays, _ = self._read(step)
                manifest = self._read_manifest(step)
                _wait_for_all(f"step {step} read")
                if jax.process_index() == 0:
                    replaced = folder.with_name(f"{step}.replaced")
                    # As in `save`: after a kill the plain step is restored.
                    folder.rename(replaced)
                    _save_encrypted(folder, manifest, arrays, self.key)
                    _delete(replaced)
                encrypted.append(step)
        return encrypted

    def _folder(self, step: int) -> Path:
        return self.directory / str(step)

    def _read_manifest(self, step: int) -> dict[str, Any]:
        if encrypted_step.is_encrypted(self._folder(step)):
            return _opened(encrypted_step.read_manifest, self._folder(step), self.key)
        # Read without Orbax, whose reader waits for all processes: deleting is done by one alone.
        path = self.directory / str(step) / "manifest" / "metadata"
        try:
            manifest = json.loads(path.read_text())
            whole = json_digest(manifest["run_state"]) == manifest["run_state_sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _DamagedError(f"its manifest cannot be read ({_first_line(error)})") from error
        if not whole:
            raise _DamagedError("its run state fails its SHA-256 check")
        return manifest

    def _read(self, step: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Reads and checks the arrays and run state of one step."""
        if encrypted_step.is_encrypted(self._folder(step)):
            manifest, arrays = _opened(encrypted_step.read, self._folder(step), self.key)
        else:
            manifest = self._read_manifest(step)
            arrays = self._read_plain(step, manifest)
        for name, leaf in manifest["leaves"].items():
            if leaf_record(arrays[name]) != leaf:
                raise _DamagedError(f"its leaf {name} fails its SHA-256 check")
        return arrays, manifest["run_state"]

    def _read_plain(self, step: int, manifest: dict[str, Any]) -> dict[str, np.ndarray]:
        try:
            leaves = {name: leaf for name, leaf in manifest["leaves"].items() if elements(leaf)}
            how = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in leaves}
            with _quiet():
                arrays = self._orbax.restore(
                    self.directory / str(step),
                    args=ocp.args.Composite(state=ocp.args.PyTreeRestore(how, restore_args=how)),
                ).state
            return {
                name: arrays[name] if elements(leaf) else np.empty(leaf["shape"], leaf["dtype"])
                for name, leaf in manifest["leaves"].items()
            }
        except Exception as error:  # a damaged folder makes Orbax raise any exception
            raise _DamagedError(f"its arrays cannot be read ({_first_line(error)})") from error

    def _delete_surplus(self) -> None:
        """Keeps the newest `keep` steps and the best one."""
        # Manifests are read, with their SHA-256 checks, only when something may be deleted.
        older = self.all_steps()[: -self.keep]
        if not older:
            return
        best = max((step for step in self.all_steps() if self._is_best(step)), default=None)
        for step in older:
            if step != best:
                _delete(self.directory / str(step))

    def _is_best(self, step: int) -> bool:
        try:
            return self._read_manifest(step)["is_best"]
        except _DamagedError:
            return False

    def _clean_up(self) -> None:
        for path in sorted(self.directory.iterdir()):
            match = _LEFTOVER.match(path.name)
            if match is None:
                continue
            final = path.with_name(match["step"])
            # The kill came between the rename and the new save. With both there the newer one is
            # whole: it gets its bare number by a rename at its end.
            if match["why"] == "replaced" and not final.exists():
                path.rename(final)
            else:
                shutil.rmtree(path, ignore_errors=True)


def _delete(path: Path) -> None:
    """Deletes a folder; a kill in between leaves no bare number."""
    # Deleting a folder takes many calls; the rename before it is one.
    doomed = path.with_suffix(".deleted")
    shutil.rmtree(doomed, ignore_errors=True)
    if path.exists():
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _save_encrypted(
    final: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray], key: str
) -> None:
    unfinished = final.with_name(f"{final.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        encrypted_step.write(unfinished, manifest, arrays, key)
        unfinished.rename(final)
        sync_folder(final.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _opened(read: Callable[[Path, str | None], Opened], folder: Path, key: str | None) -> Opened:
    """Applies `read` to an encrypted step; a wrong key is no damage."""
    try:
        return read(folder, key)
    except KeyMistakeError as error:
        raise KeyMistakeError(
            f"{folder.parent}: the run there is encrypted, and "
            f"{'another key was given' if key else 'no key was given'}; give the key it was started "
            f"with {HINT}, or choose another folder for the results"
        ) from error
    except (CheckpointError, OSError, ValueError, KeyError, TypeError) as error:
        raise _DamagedError(f"it cannot be opened ({_first_line(error)})") from error


class _DamagedError(Exception):
    """A stored step cannot be used; the next older one may be."""


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__


def _is_full_disk(error: Exception) -> bool:
    """Returns whether an error is a full disk; Orbax passes on text only."""
    text = str(error)
    return getattr(error, "errno", None) in FULL or any(os.strerror(code) in text for code in FULL)


def _wait_for_all(what: str) -> None:
    """Barrier of all processes; nothing in a run of one."""
    team().wait(what)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the log of Orbax, which names every file, but for errors."""
    before = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    try:
        yield
    finally:
        absl_logging.set_verbosity(before)
