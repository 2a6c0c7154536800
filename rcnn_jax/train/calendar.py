"""Milestones of a run in steps: ends of epochs, validations, model files, the end of the run."""

from dataclasses import dataclass

from rcnn_jax.settings.training import QatSettings, RunSettings


@dataclass(frozen=True, kw_only=True)
class Milestones:
    """The milestones of a run; a period of 0 never comes.

    Attributes:
      steps_per_epoch: steps of an epoch.
      total_steps: length of the run.
      evaluate_every: steps between validations.
      save_every: steps between model files.
      quantised_from: steps after which ranges are calibrated; 0 where that is not within the run.
      since: step that validations and model files are counted from.
    """

    steps_per_epoch: int
    total_steps: int
    evaluate_every: int
    save_every: int
    quantised_from: int = 0
    since: int = 0

    @classmethod
    def of(
        cls, run: RunSettings, steps_per_epoch: int, qat: QatSettings | None = None
    ) -> "Milestones":
        """Returns the milestones of run settings for a data set of so many steps per epoch."""
        # Specs of Faster R-CNN count in epochs, those of Mask R-CNN in steps; the unused one is 0.
        # From here on there are steps only, for a resumed run knows nothing else.
        total_steps = run.total_steps or run.num_epochs * steps_per_epoch
        return cls(
            steps_per_epoch=steps_per_epoch,
            total_steps=total_steps,
            quantised_from=0 if qat is None else qat.first_step(steps_per_epoch, total_steps),
            evaluate_every=run.evaluate_steps or run.evaluate_epochs * steps_per_epoch,
            save_every=run.save_steps or run.save_epochs * steps_per_epoch,
        )

    @property
    def num_epochs(self) -> int:
        """Epochs of the run, the last one perhaps not whole."""
        return -(-self.total_steps // self.steps_per_epoch)

    def epoch(self, step: int) -> int:
        """Returns the 1-based epoch that ends at or holds the given number of steps taken."""
        return max(1, -(-step // self.steps_per_epoch))

    def next(self, step: int) -> int:
        """Returns the first milestone after the given number of steps taken."""
        since = self.since
        periods = (
            (self.steps_per_epoch, 0),
            (self.evaluate_every, since),
            (self.save_every, since),
        )
        # Multiples of the period, not steps since the last milestone: a run that is resumed in
        # between meets the same ones.
        begins = (self.quantised_from,) if step < self.quantised_from else ()
        multiples = (first + ((step - first) // p + 1) * p for p, first in periods if p)
        return min(self.total_steps, *begins, *multiples)

    def ends_epoch(self, step: int) -> bool:
        """Tells whether an epoch, or the run, is over after so many steps."""
        return step % self.steps_per_epoch == 0 or step == self.total_steps

    def evaluates(self, step: int) -> bool:
        """Tells whether a validation is due after so many steps; the end of a run always has one."""
        return bool(self.evaluate_every) and (
            (step - self.since) % self.evaluate_every == 0 or step == self.total_steps
        )

    def saves(self, step: int) -> bool:
        """Tells whether a model file is due after so many steps; the end of a run always has one."""
        return step == self.total_steps or bool(
            self.save_every and (step - self.since) % self.save_every == 0
        )
