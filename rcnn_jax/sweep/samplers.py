"""Samplers of trials: lists, grids and random values of our own; search and pruning by Optuna.

A sampler numbers the trials. Its state is a pure function of the number, or Optuna's journal in the
folder of the sweep, which several machines may append to and `optuna-dashboard` reads.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from rcnn_jax.errors import UsageError
from rcnn_jax.optional import require
from rcnn_jax.sweep.definition import Definition
from rcnn_jax.sweep.space import Choice, Distribution, Float, Overrides, grid, random
from rcnn_jax.sweep.trial import ENDED, Trial

SamplerName = Literal["list", "grid", "random", "tpe", "cmaes"]
PrunerName = Literal["none", "median", "hyperband"]
JOURNAL = "optuna.journal"

# Fewer than Optuna's five: a sweep of detectors has a dozen trials, not hundreds.
_STARTUP = 4  # trials whose whole curves the median is made of before it judges


class Sampler(Protocol):
    """Chooses trials and learns from them."""

    def ask(self) -> tuple[int, Overrides] | None:
        """Returns number and overrides of a new trial; None when all have been tried."""
        ...

    def tell(self, trial: Trial) -> None:
        """Takes a trial that has ended."""
        ...

    def hopeless(self, number: int, validation: int, value: float) -> bool:
        """Takes a validation of a running trial; returns whether it is to be ended."""
        ...


class Counted:
    """Trials that follow from their number alone: a list, a grid, random values."""

    def __init__(self, definition: Definition, name: SamplerName, seed: int, known: int):
        """Takes the number of trials that exist already."""
        self._next = known
        self._seed = seed
        self._space = definition.space
        self._listed = _listed(definition, name)

    def ask(self) -> tuple[int, Overrides] | None:
        """Returns the next of the list, or new random values."""
        number = self._next
        if self._listed is not None and number >= len(self._listed):
            return None
        self._next += 1
        if self._listed is not None:
            return number, dict(self._listed[number])
        # By number, not from a running generator: several machines draw in any order and get the
        # same.
        return number, random(self._space, self._seed, number)

    def tell(self, trial: Trial) -> None:
        """Learns nothing."""

    def hopeless(self, number: int, validation: int, value: float) -> bool:
        """Never ends a trial."""
        return False


class Searched:
    """Trials that Optuna chooses, and ends early where a pruner says so."""

    def __init__(
        self,
        definition: Definition,
        root: Path,
        name: SamplerName,
        pruner: PrunerName,
        seed: int,
        known: Sequence[Trial],
    ):
        """Opens the journal of the sweep, or begins it.

        Args:
          definition: what is searched.
          root: folder of the sweep.
          name: of the sampler.
          pruner: ends trials early.
          seed: of the sampler.
          known: trials that exist already.

        Raises:
          MissingDependencyError: Optuna is not installed.
          UsageError: the sampler or the pruner takes one objective, and there are several.
        """
        optuna: Any = require("optuna", extra="sweep", purpose=f"--sampler {name} and --prune")
        # Its lines about every trial would break the table that the loop redraws.
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna = optuna
        self._definition = definition
        self._distributions = {
            field: distribution_of(optuna, each) for field, each in definition.space.items()
        }
        # Of several objectives no single value says that a trial is hopeless; Optuna's pruners
        # refuse too.
        directions = [f"{each}imize" for each in definition.objectives.values()]
        if len(directions) > 1 and pruner != "none":
            raise UsageError("--prune: a sweep with several objectives cannot end trials early")
        if len(directions) > 1 and name == "cmaes":
            raise UsageError(
                f"--sampler cmaes: takes one objective, {definition.path} has {len(directions)}; use "
                "--sampler tpe, or turn all but one into CONSTRAINTS"
            )
        # Seeded by the number of known trials too: a restarted sampler would draw its first trials anew.
        self._study = optuna.create_study(
            study_name="sweep",
            directions=directions,
            storage=optuna.storages.JournalStorage(
                optuna.storages.journal.JournalFileBackend(str(root / JOURNAL))
            ),
            sampler=_sampler(optuna, name, seed + len(known)),
            pruner=_pruner(optuna, pruner),
            load_if_exists=True,
        )
        self._listed = _listed(definition, name)
        numbered = {trial.number: trial for trial in known}
        self._next = max(numbered, default=-1) + 1
        # Without copies, as below: a copy of all trials for each question is quadratic in a long
        # sweep.
        for trial in self._study.get_trials(deepcopy=False):
            # A kill between Optuna's record and ours leaves a trial that nobody works on. That of a list
            # is asked for again: the list has no other of its number.
            left = trial.number not in numbered and not trial.state.is_finished()
            if left and self._listed is None:
                self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        # Trials of a start that needed no Optuna: their numbers are taken, and their values are worth
        # knowing.
        for number in range(self._next):
            each = numbered.get(number)
            self._enter(number, each and each.overrides)
            if each is not None and each.state in ENDED:
                self.tell(each)

    def ask(self) -> tuple[int, Overrides] | None:
        """Returns the next of the list, or the values that the sampler proposes."""
        if self._listed is not None:
            number = self._next
            if number >= len(self._listed):
                return None
            self._next += 1
            # Optuna knows it too, so that its pruner judges by the numbers of ours. Its own grid would be
            # shuffled anew by the next start, and has no end outside of `Study.optimize`.
            self._enter(number, self._listed[number])
            return number, dict(self._listed[number])
        trial = self._study.ask(self._distributions)
        space = self._definition.space
        return trial.number, {
            field: _value(space[field], value) for field, value in trial.params.items()
        }

    def _enter(self, number: int, overrides: Overrides | None) -> None:
        """Adds the next trial to the journal, unless it is there; a failed one where nobody knows it."""
        if number < len(self._study.get_trials(deepcopy=False)):
            return
        trials = self._optuna.trial
        if overrides is None:
            self._study.add_trial(trials.create_trial(state=trials.TrialState.FAIL))
            return
        space = self._definition.space
        self._study.add_trial(
            trials.create_trial(
                state=trials.TrialState.RUNNING,
                params={field: stored(space[field], overrides[field]) for field in space},
                distributions=self._distributions,
            )
        )

    def tell(self, trial: Trial) -> None:
        """Hands the values to the study; what failed or was pruned too."""
        states = self._optuna.trial.TrialState
        frozen = self._frozen(trial.number)
        if frozen.state.is_finished():  # told before a kill
            return
        if trial.state == "done":
            open_trial = self._open(frozen)
            # Trials that failed or were pruned have none: they count as within all bounds.
            for each in self._definition.constraints:
                violation = each.violation(trial.values.get(each.name, float("inf")))
                open_trial.set_constraint(str(each), violation)
            values = [trial.values[name] for name in self._definition.objectives]
            self._study.tell(trial.number, values)
        else:
            state = states.PRUNED if trial.state == "pruned" else states.FAIL
            self._study.tell(trial.number, state=state)

    def hopeless(self, number: int, validation: int, value: float) -> bool:
        """Asks the pruner."""
        frozen = self._frozen(number)
        # A failed trial that is repeated has ended for Optuna, which takes no more reports of it.
        if len(self._definition.objectives) > 1 or frozen.state.is_finished():
            return False
        trial = self._open(frozen)
        trial.report(value, validation)
        return trial.should_prune()

    def _frozen(self, number: int) -> Any:
        return self._study.get_trials(deepcopy=False)[number]

    def _open(self, frozen: Any) -> Any:
        return self._optuna.trial.Trial(self._study, frozen._trial_id)


def make_sampler(
    definition: Definition,
    root: Path,
    name: SamplerName,
    pruner: PrunerName,
    seed: int,
    known: Sequence[Trial],
) -> Sampler:
    """Returns the sampler of a sweep; Optuna is opened only where it is needed.

    Raises:
      UsageError: the sampler does not go with the definition.
      MissingDependencyError: Optuna is needed and not installed.
    """
    # A list with another sampler would be tried in part, which nobody means.
    if (name == "list") != (definition.listed is not None):
        raise UsageError(
            f"--sampler {name}: {definition.path} "
            + ("lists its trials" if definition.listed is not None else "has no function trials()")
        )
    if pruner == "none" and name in ("list", "grid", "random"):
        return Counted(definition, name, seed, max((t.number + 1 for t in known), default=0))
    return Searched(definition, root, name, pruner, seed, known)


def distribution_of(optuna: Any, each: Distribution) -> Any:
    """Returns a distribution as Optuna writes it."""
    distributions = optuna.distributions
    if isinstance(each, Choice):
        # By their spelling: Optuna stores plain values only, a choice may be a tuple.
        return distributions.CategoricalDistribution([repr(value) for value in each.values])
    if isinstance(each, Float):
        return distributions.FloatDistribution(each.low, each.high, log=each.log)
    return distributions.IntDistribution(each.low, each.high, log=each.log)


def _listed(definition: Definition, name: SamplerName) -> Sequence[Overrides] | None:
    """Returns all trials in their order; None where values are drawn or searched."""
    return list(grid(definition.space)) if name == "grid" else definition.listed


def stored(each: Distribution, value: Any) -> Any:
    """Returns a value of a trial as Optuna stores it."""
    if isinstance(each, Choice):
        # A tuple is a list in the record of a trial.
        written = json.dumps(value)
        return next(repr(own) for own in each.values if json.dumps(own) == written)
    return value


def _value(each: Distribution, written: Any) -> Any:
    if isinstance(each, Choice):
        # By spelling back to the value itself: eval() of a journal would run what others wrote into
        # it.
        return next(value for value in each.values if repr(value) == written)
    return written


def _sampler(optuna: Any, name: SamplerName, seed: int) -> Any:
    samplers = optuna.samplers
    match name:
        case "tpe":
            return samplers.TPESampler(seed=seed)
        case "cmaes":
            require("cmaes", extra="sweep", purpose="--sampler cmaes")
            return samplers.CmaEsSampler(seed=seed)
        case _:
            return samplers.RandomSampler(seed=seed)


def _pruner(optuna: Any, name: PrunerName) -> Any:
    match name:
        case "median":
            # Counted in validations; the first one of a run says little.
            return optuna.pruners.MedianPruner(n_startup_trials=_STARTUP, n_warmup_steps=2)
        case "hyperband":
            return optuna.pruners.HyperbandPruner()
        case _:
            return optuna.pruners.NopPruner()
