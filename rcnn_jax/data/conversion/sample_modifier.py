"""Sample modifier: leaves out, duplicates and caps training samples during conversion.

Source: docs/reference/datasets.md, "Sample modifier".
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from rcnn_jax.errors import SpecError

Sample = TypeVar("Sample")


@dataclass(frozen=True, kw_only=True)
class SampleModifier:
    """Changes of the samples of training partitions; the defaults change nothing.

    Class names are compared in lower case, as in the records.
    Deviation: the original compares text with bytes and so never finds a mapped class.

    Attributes:
      filter_samples_containing_only: target classes; a sample all of whose mapped objects are
        of one of them is left out.
      dominant_target_classes: target classes that are frequent anyway.
      minimum_target_class_imbalance: target class -> factor, 1.0 where absent.
      num_duplicates: copies added to a sample in which some other class is more frequent than a
        dominant class times the factor of that other class.
      max_training_samples: cap over all training partitions, divided equally; 0 for none.
      source_to_target_class_mapping: class of the labels -> target class; others do not count.

    Raises:
      SpecError: a named target class is no target of the mapping, or a number is negative.
    """

    filter_samples_containing_only: tuple[str, ...] = ()
    dominant_target_classes: tuple[str, ...] = ()
    minimum_target_class_imbalance: Mapping[str, float] = field(default_factory=dict)
    num_duplicates: int = 0
    max_training_samples: int = 0
    source_to_target_class_mapping: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        targets = {name.lower() for name in self.source_to_target_class_mapping.values()}
        for name in ("filter_samples_containing_only", "dominant_target_classes"):
            unknown = [value for value in getattr(self, name) if value.lower() not in targets]
            if unknown:
                raise SpecError(
                    f"sample_modifier_config.{name}: '{unknown[0]}' is not a target class of "
                    f"source_to_target_class_mapping; its targets are: "
                    f"{', '.join(sorted(targets)) or 'none'}."
                )
        for name in ("num_duplicates", "max_training_samples"):
            if getattr(self, name) < 0:
                raise SpecError(
                    f"sample_modifier_config.{name} = {getattr(self, name)} is negative."
                )

    def apply(
        self,
        samples: Iterable[Sample],
        class_names: Callable[[Sample], Sequence[str]],
        training_partitions: int,
    ) -> Iterator[Sample]:
        """Yields the samples of one training partition after all changes, copies in a row.

        Args:
          samples: of the partition.
          class_names: returns the class of every object of a sample.
          training_partitions: number of partitions under `max_training_samples`.
        """
        # The cap counts copies, and comes last: `islice` also stops reading samples beyond it.
        changed = (sample for item in samples for sample in [item] * self.copies(class_names(item)))
        cap = self.max_training_samples // max(training_partitions, 1)
        return islice(changed, cap) if self.max_training_samples else changed

    def copies(self, class_names: Sequence[str]) -> int:
        """Returns how often a sample with these object classes is written: 0, 1 or more."""
        mapping = {
            source.lower(): target.lower()
            for source, target in self.source_to_target_class_mapping.items()
        }
        counts = Counter(mapping[name.lower()] for name in class_names if name.lower() in mapping)
        # One mapped class alone: objects without a target class do not save a sample.
        if len(counts) == 1 and next(iter(counts)) in _lower(self.filter_samples_containing_only):
            return 0
        dominant = _lower(self.dominant_target_classes)
        factors = {k.lower(): v for k, v in self.minimum_target_class_imbalance.items()}
        imbalanced = any(
            counts[rare] > counts[frequent] * factors.get(rare, 1.0)
            # Classes of this sample only: one that it lacks cannot be more frequent.
            for rare in counts.keys() - dominant
            for frequent in dominant
        )
        return 1 + self.num_duplicates if imbalanced else 1


def _lower(names: Iterable[str]) -> set[str]:
    return {name.lower() for name in names}
