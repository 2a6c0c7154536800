"""The doctor: one pass over a data set, all checks, one value.

records -> scans -> observations + counts = Diagnosis -> page, JSON, exit code, repair
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rcnn_jax.data.findings import Finding
from rcnn_jax.data.layouts.collection import Problem
from rcnn_jax.diagnose import checks, kinds
from rcnn_jax.diagnose.checks import Example, Observation, Observations, Target
from rcnn_jax.diagnose.exif import drawn_as_shown
from rcnn_jax.diagnose.labels import observe
from rcnn_jax.diagnose.records import Record
from rcnn_jax.diagnose.scan import Scan, Track, scan_all
from rcnn_jax.evaluate.suspicions import Suspicion
from rcnn_jax.tasks.experiment import Experiment

_KINDS = {None: kinds.UNREADABLE_LABEL, "image": kinds.NO_IMAGE, "labels": kinds.NO_LABELS}
"""{what a part of an annotation lacks: the finding}."""

EXIT = {"note": 0, "warning": 1, "error": 2}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Diagnosis of a data set.

    Attributes:
      title: what was looked at.
      records: its images.
      scans: of the images, in the same order.
      shown: indices of the images that are labelled as EXIF shows them.
      observations: most severe first.
      choices: what was decided in reading it, as sentences.
      objects: class name -> split -> number of objects that are learnt.
      sides: f32[n 2], (height, width) of them in pixels of their image.
      suspicions: labels that a model contradicts, most suspicious first; empty without a model.
      class_names: of the model that was asked.
    """

    title: str
    records: Sequence[Record]
    scans: Sequence[Scan]
    shown: frozenset[int]
    observations: Sequence[Observation]
    choices: Sequence[str]
    objects: dict[str, Counter[str]]
    sides: np.ndarray
    suspicions: Sequence[Suspicion] = ()
    class_names: Sequence[str] = ()

    @property
    def exit_code(self) -> int:
        """0 with notes at most, 1 with a warning, 2 with an error."""
        return max((EXIT[seen.kind.severity] for seen in self.observations), default=0)


def examine(
    title: str,
    records: Sequence[Record],
    *,
    problems: Sequence[Problem] = (),
    choices: Sequence[str] = (),
    findings: Sequence[Finding] = (),
    categories: Mapping[str, Sequence[int]] | None = None,
    target: Target | None = None,
    threads: int = 2,
    track: Track = lambda items, total, label: iter(items),
) -> Diagnosis:
    """Looks at every image once and runs all checks.

    Args:
      title: what is looked at.
      records: the images with their labels.
      problems: labels that could not be read.
      choices: what was decided in reading them.
      findings: of the readers of a spec, which leave out what cannot be learnt.
      categories: file -> category ids that it defines; None where classes have names alone.
      target: canvas and anchors of a spec; None leaves those checks out.
      threads: that decode images.
      track: shows progress.
    """
    seen = Observations()
    for problem in problems:
        seen.add(_KINDS[problem.lacks], Example(problem.where, problem.what))
    for finding in findings:
        # Kinds with a row alone are for the table of a conversion.
        if finding.kind.sentence:
            name = finding.where if finding.kind.by_name else ""
            seen.add(finding.kind, Example(finding.where), name=name, count=finding.count)
    scans = scan_all(records, threads, track)
    shown = drawn_as_shown(records, scans)
    checks.check_images(records, scans, shown, seen)
    checks.check_labels(records, scans, shown, seen)
    checks.check_balance(records, seen)
    checks.check_copies(records, scans, seen)
    for where, ids in (categories or {}).items():
        checks.check_categories(where, ids, seen)
    if target is not None:
        checks.check_canvas(records, scans, target, seen)
    objects: dict[str, Counter[str]] = {}
    sides = []
    for record in records:
        for obj in record.objects:
            if not obj.crowd:
                objects.setdefault(obj.name, Counter())[record.split] += 1
                y1, x1, y2, x2 = obj.box
                sides.append((y2 - y1, x2 - x1))
    return Diagnosis(
        title=title,
        records=records,
        scans=scans,
        shown=shown,
        observations=seen.all(),
        choices=choices,
        objects=dict(sorted(objects.items())),
        sides=np.array(sides, np.float32).reshape(-1, 2),
    )


def with_suspicions(
    diagnosis: Diagnosis, suspicions: Sequence[Suspicion], names: Sequence[str]
) -> Diagnosis:
    """Returns a diagnosis with the labels that a model contradicts.

    Args:
      diagnosis: of the data alone.
      suspicions: most suspicious first.
      names: classes of the model.
    """
    seen = observe(suspicions, diagnosis.records, names).all()
    order = sorted(EXIT, key=lambda severity: -EXIT[severity])
    observations = [*diagnosis.observations, *seen]
    return replace(
        diagnosis,
        observations=sorted(observations, key=lambda one: order.index(one.kind.severity)),
        suspicions=tuple(suspicions),
        class_names=tuple(names),
    )


def target_of(experiment: Experiment) -> Target:
    """Returns the requirements of an experiment on its data."""
    settings = experiment.task.settings
    return Target(
        geometry=experiment.geometry,
        cells={2**level: sizes for level, sizes in settings.cell_sizes},
        max_objects=experiment.train_gt.max_objects,
        tiling=experiment.tiling,
    )
