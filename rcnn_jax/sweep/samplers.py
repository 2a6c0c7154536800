"""Samplers of trials: lists, grids and random values of our own; search and pruning by Optuna.

A sampler numbers the trials. Its state is a pure function of the number, or Optuna's journal in the
folder of the sweep, which several machines may append to and `optuna-dashboard` reads.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from rcnn_jax.errors import UsageError
from rcnn_jax.optional import require
from rcnn_jax.sweep.definition import Definition
from rcnn_jax.sweep.space import Choice, Distribution, Float, Overrides, grid, random
from rcnn_jax.sweep.trial import Trial

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
        self._listed: Sequence[Overrides] | None = definition.listed
        if name == "grid":
            self._listed = list(grid(definition.space))

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
        # Seeded by the number of known trials too: a restarted sampler would draw its first trials anew.
        self._study = optuna.create_study(
            study_name="sweep",
            directions=directions,
            storage=optuna.storages.JournalStorage(
                optuna.storages.journal.JournalFileBackend(str(root / JOURNAL))
            ),
            sampler=_sampler(optuna, name, definition, seed + len(known)),
            pruner=_pruner(optuna, pruner),
            load_if_exists=True,
        )
        numbers = {trial.number for trial in known}
        # Without copies, as below: a copy of all trials for each question is quadratic in a long
        # sweep.
        for trial in self._study.get_trials(deepcopy=False):
            # A kill between Optuna's record and ours leaves a trial that nobody works on.
            if trial.number not in numbers and not trial.state.is_finished():
                self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)

    def ask(self) -> tuple[int, Overrides] | None:
        """Returns the values that the sampler proposes."""
        listed = self._definition.listed
        # A list is numbered by Optuna too, so that its pruner knows the trials by the numbers of
        # ours.
        trial = self._study.ask(self._distributions)
        if listed is not None:
            if trial.number >= len(listed):
                self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
                return None
            return trial.number, dict(listed[trial.number])
        space = self._definition.space
        return trial.number, {
            field: _value(space[field], value) for field, value in trial.params.items()
        }

    def tell(self, trial: Trial) -> None:
        """Hands the values to the study; what failed or was pruned too."""
        states = self._optuna.trial.TrialState
        frozen = self._frozen(trial.number)
        if frozen.state.is_finished():  # told before a kill
            return
        if trial.state == "done":
            violations = [
                each.violation(trial.values.get(each.name, float("inf")))
                for each in self._definition.constraints
            ]
            self._open(frozen).set_user_attr("constraints", violations)
            values = [trial.values[name] for name in self._definition.objectives]
            self._study.tell(trial.number, values)
        else:
            state = states.PRUNED if trial.state == "pruned" else states.FAIL
            self._study.tell(trial.number, state=state)

    def hopeless(self, number: int, validation: int, value: float) -> bool:
        """Asks the pruner."""
        if len(self._definition.objectives) > 1:
            return False
        trial = self._open(self._frozen(number))
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


def _value(each: Distribution, stored: Any) -> Any:
    if isinstance(each, Choice):
        # By spelling back to the value itself: eval() of a journal would run what others wrote into
        # it.
        return next(value for value in each.values if repr(value) == stored)
    return stored


def _sampler(optuna: Any, name: SamplerName, definition: Definition, seed: int) -> Any:
    samplers = optuna.samplers

    def constraints(trial: Any) -> Sequence[float]:
        # Trials that failed or were pruned have none: they count as within all bounds.
        return trial.user_attrs.get("constraints", [0.0] * len(definition.constraints))

    match name:
        case "tpe":
            bounds = constraints if definition.constraints else None
            return samplers.TPESampler(seed=seed, constraints_func=bounds)
        case "cmaes":
            require("cmaes", extra="sweep", purpose="--sampler cmaes")
            return samplers.CmaEsSampler(seed=seed)
        case "grid":
            space = {
                field: [repr(v) for v in each.values] if isinstance(each, Choice) else each.grid()
                for field, each in definition.space.items()
            }
            return samplers.GridSampler(space, seed=seed)
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
