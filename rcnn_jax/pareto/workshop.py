"""Makes candidates: runs commands one after the other, each once, and measures what they leave.

MODEL --prune--> pruned.tlt --train--> best.tlt [--train with QAT--> best.tlt] --export--> model.onnx
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.errors import TrainingError, UsageError
from rcnn_jax.evaluate import results
from rcnn_jax.evaluate.command import evaluate
from rcnn_jax.kinds import Kind
from rcnn_jax.pareto.candidate import Candidate, Result, read_result, write_result
from rcnn_jax.reporter import SILENT, Reporter
from rcnn_jax.runtime.graph import OpenGraph, open_graph
from rcnn_jax.runtime.latency import Runtime, latencies
from rcnn_jax.runtime.open import experiment_of
from rcnn_jax.spec.render import render
from rcnn_jax.sweep.executors import Local
from rcnn_jax.sweep.measure import parameters
from rcnn_jax.sweep.trial import INTERRUPTED, reason_of
from rcnn_jax.tasks.families import family
from rcnn_jax.tasks.retraining import PRUNED, QUANTISED, Recipe, Retraining

_WAIT = 0.5
_FLOAT = "the float model"


class TimeUp(Exception):  # noqa: N818  (no error: the search is told to stop)
    """The budget of the search is used up."""


class _Failed(Exception):  # noqa: N818
    """A command of a candidate failed; the text is its reason."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Workshop:
    """Workshop of a search: makes and measures candidates in a folder.

    Attributes:
      kind: of the model.
      model: the file that is compressed.
      config: of its spec, for data and training.
      root: folder of the search.
      target: what runs the exported files.
      metric: by its name in evaluations, or None for the main one of the spec.
      key: of encrypted files; commands inherit it from the environment.
      deadline: time.monotonic at which the search stops.
      reporter: told of every step and its result.
      executor: runs commands.
    """

    kind: Kind
    model: Path
    config: ConfigDict
    root: Path
    target: Runtime
    metric: str | None
    key: str | None = field(repr=False)
    deadline: float
    reporter: Reporter
    executor: Local

    def measure(self, candidate: Candidate) -> Result:
        """Returns the measurements of a candidate, from its folder where it is there already.

        Raises:
          TimeUp: there is no time to begin or to end it; what was begun goes on with the next start.
        """
        folder = self._folder(candidate)
        known = read_result(folder)
        if known is not None:
            return known
        self._look_at_the_clock()
        self.reporter.console.print(f"{candidate} ...", markup=False, highlight=False)
        try:
            result = self._made(candidate)
        except _Failed as error:
            result = Result(candidate=candidate, reason=str(error))
        write_result(folder, result)
        return result

    def graph_file(self, candidate: Candidate) -> Path:
        """Returns the exported file of a candidate; that of an encrypted model is encrypted."""
        suffix = ".etlt" if self.key else ".onnx"
        return self._folder(candidate) / f"model{suffix}"

    def model_file(self, candidate: Candidate) -> Path:
        """Returns the model file that a candidate is exported from."""
        if candidate.precision == "int8 QAT":
            return self._trained(f"keep-{candidate.keep:g}-qat")
        return self.model if candidate.keep == 1 else self._trained(f"keep-{candidate.keep:g}")

    def _folder(self, candidate: Candidate) -> Path:
        return self.root / "candidates" / candidate.name

    def _trained(self, name: str) -> Path:
        return self.root / "models" / name / "best.tlt"

    def _made(self, candidate: Candidate) -> Result:
        keep, name = candidate.keep, f"keep-{candidate.keep:g}"
        if keep < 1:
            self._prune_and_train(keep, name)
        if candidate.precision == "int8 QAT":
            start = self.model if keep == 1 else self._trained(name)
            self._train(f"{name}-qat", start, QUANTISED, qat=True)
        self._export(candidate)
        self._look_at_the_clock()
        return self._measured(candidate)

    def _prune_and_train(self, keep: float, name: str) -> None:
        # Not in the folder of the training, whose own models may have any name.
        folder = self.root / "pruned" / name
        pruned = folder / "pruned.tlt"
        if not pruned.exists():
            arguments = ["-m", str(self.model), "-o", str(pruned), "--keep-params", f"{keep:g}"]
            self._run(folder, ["prune", *arguments])
        self._train(name, pruned, PRUNED)

    def _train(self, name: str, start: Path, recipe: Recipe, *, qat: bool = False) -> None:
        folder = self.root / "models" / name
        if (folder / "finished").exists():
            return
        plan = Retraining(model=start, recipe=recipe, qat=qat, teacher=self.model)
        spec = folder / "retrain.txt"
        config = family(self.kind).retrain(self.config, plan)
        write_file(spec, [render(config, self.kind).encode()])
        self._run(folder, ["train", "-e", str(spec), "-d", str(folder)])
        if not self._trained(name).exists():
            raise _Failed("training wrote no best.tlt: does the spec validate at its end?")
        write_file(folder / "finished", [b""])

    def _export(self, candidate: Candidate) -> None:
        output, folder = self.graph_file(candidate), self._folder(candidate)
        if output.exists():
            return
        spec = folder / "spec.txt"
        write_file(spec, [render(self.config, self.kind).encode()])
        arguments = ["-e", str(spec), "-m", str(self.model_file(candidate)), "-o", str(output)]
        if candidate.precision != "fp32":
            cache = str(folder / "cal.bin")
            arguments += ["--data_type", "int8", "--cal_cache_file", cache]
        if candidate.precision == "int8":
            # The export keeps the worst layers in float while detections differ; whether what remains is
            # too much is for the metric to say.
            arguments.append("--accept-loss")
        self._run(folder, ["export", *arguments])

    def _measured(self, candidate: Candidate) -> Result:
        graph = self._open(candidate)
        contents = {str(candidate): graph.model.SerializeToString()}
        baseline = Candidate(1.0, "fp32")
        if candidate != baseline:
            contents[_FLOAT] = self._open(baseline).model.SerializeToString()
        seconds = latencies(contents, self.target)
        quiet = SILENT
        experiment = experiment_of(graph, self.config, self.kind, own_classes=False, reporter=quiet)
        report = evaluate(experiment, graph, workdir=self._folder(candidate), reporter=quiet)
        numbers = results.numbers(report)
        metric = self.metric or experiment.metrics.main_metric
        if metric not in numbers:
            raise UsageError(f"--metric {metric}: evaluation has {', '.join(sorted(numbers))}")
        return Result(
            candidate=candidate,
            metric=numbers[metric],
            latency=seconds[str(candidate)] / seconds.get(_FLOAT, seconds[str(candidate)]),
            parameters=int(parameters(self.model_file(candidate), self.key)),
            size=len(contents[str(candidate)]),
        )

    def _open(self, candidate: Candidate) -> OpenGraph:
        return open_graph(self.graph_file(candidate), self.key, runtime=self.target)

    def _run(self, folder: Path, arguments: Sequence[str]) -> None:
        """Runs a command of the detector to its end.

        Raises:
          TimeUp: it was stopped; training has saved its state.
          TrainingError: somebody else stopped it.
          _Failed: it ended with an error.
        """
        (job,) = self.executor.start([(folder, [self.kind, *arguments])])
        while (code := self.executor.poll(job)) is None:
            if time.monotonic() >= self.deadline:
                self.executor.close()
                raise TimeUp
            time.sleep(_WAIT)
        if code in INTERRUPTED:
            raise TrainingError(
                f"{folder}: {arguments[0]} was interrupted (exit code {code}): the same command goes on"
            )
        if code:
            raise _Failed(f"{arguments[0]}: {reason_of(folder, code)}")

    def _look_at_the_clock(self) -> None:
        if time.monotonic() >= self.deadline:
            raise TimeUp


def check_model(path: Path) -> None:
    """Refuses what cannot be compressed.

    Raises:
      UsageError: it is an exported file.
    """
    if path.suffix in (".onnx", ".etlt", ".engine", ".trt", ".plan"):
        raise UsageError(f"MODEL {path}: expected a trained model (.tlt), found an exported one")
