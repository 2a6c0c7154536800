"""Compresses a Faster R-CNN of blood cells or a Mask R-CNN of nuclei, and prints what each step costs.

    python experiments/compression/run.py bccd OUTPUT_FOLDER
    python experiments/compression/run.py nuclei OUTPUT_FOLDER

Every number is of the exported graph: average precision on all validation images and latency in ONNX
Runtime, latency in OpenVINO where it is installed. Agreement is that of the detections of a QAT graph
with those of the network that rounds in JAX, as the check of the export wrote it down. A step whose file
exists is not repeated, so a stopped experiment goes on with the same command.
"""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rcnn_jax.kinds import Kind
from rcnn_jax.report.page import Table
from rcnn_jax.runtime.latency import latencies
from rcnn_jax.runtime.openvino import is_installed
from rcnn_jax.spec.load import load_spec
from rcnn_jax.spec.render import render
from rcnn_jax.sweep.executors import PROGRAM
from rcnn_jax.tasks.families import family
from rcnn_jax.tasks.retraining import PRUNED, QUANTISED, Retraining

KINDS: dict[str, Kind] = {"bccd": "faster_rcnn", "nuclei": "mask_rcnn"}
KEPT = 0.2
"""Of the parameters, by pruning."""
METRICS = {
    "faster_rcnn": {"AP50": "mAP@0.50", "AP": "mAP"},
    "mask_rcnn": {"AP50": "AP50", "AP": "AP", "mask AP50": "mask_AP50", "mask AP": "mask_AP"},
}


@dataclass(frozen=True)
class Row:
    """A line of the table: a model, exported in a precision."""

    title: str
    model: Path
    precision: str


@dataclass(frozen=True)
class Chain:
    """The steps of one experiment in one folder; each returns its file and makes it if it is absent."""

    kind: Kind
    spec: Path
    folder: Path

    def trained(self) -> Path:
        """Trains the baseline."""
        return self._train("float", self.spec)

    def pruned(self, model: Path) -> Path:
        """Prunes a model."""
        output = self.folder / "pruned.tlt"
        self._run(output, "prune", "-m", model, "-o", output, "--keep-params", KEPT)
        return output

    def retrained(self, name: str, plan: Retraining) -> Path:
        """Retrains a model."""
        config = load_spec(self.spec, self.kind, "train").config
        config = family(self.kind).retrain(config, plan)
        spec = self.folder / f"{name}.txt"
        spec.write_text(render(config, self.kind))
        return self._train(name, spec)

    def exported(self, row: Row) -> Path:
        """Exports a row."""
        output = self._graph(row)
        cache = output.with_suffix(".cal.bin")
        words = ["-m", row.model, "-o", output, "--data_type", row.precision]
        self._run(output, "export", "-e", self.spec, *words, "--cal_cache_file", cache)
        return output

    def metrics(self, row: Row) -> dict[str, float]:
        """Evaluates the graph of a row in ONNX Runtime on all validation images."""
        graph = self._graph(row)
        folder = self.folder / "metrics" / graph.stem
        status = folder / "status.json"
        words = ["-m", graph, "-r", folder, "--runtime", "onnxruntime"]
        if not any(folder.glob("eval/*.json")):
            self._run(None, "evaluate", "-e", self.spec, *words)
        lines = [json.loads(line) for line in status.read_text().splitlines()]
        values = [line["kpi"] for line in lines if line.get("kpi")][-1]
        percent = 1 if self.kind == "mask_rcnn" else 100  # COCO's are percent in status.json
        return {name: percent * float(values[key]) for name, key in METRICS[self.kind].items()}

    def agreement(self, row: Row) -> str:
        """Returns how well the graph of a row agrees with the fake-quantised network, 1 for equal."""
        # Of other int8 rows the check compares the graph with a network that does not round.
        if not row.title.endswith("QAT"):
            return "-"
        check = self._graph(row).with_suffix(".onnx.check.json")
        return f"{json.loads(check.read_text())['agreement']['share']:.3f}"

    def sizes(self, model: Path) -> dict[str, float]:
        """Returns parameters and FLOP of a model, as a dry run of pruning counts them."""
        folder = self.folder / "sizes" / model.parent.name / model.stem
        report = folder / f"{model.stem}.pruning.json"
        self._run(report, "prune", "-m", model, "--dry-run", "-r", folder)
        return json.loads(report.read_text())["before"]

    def _graph(self, row: Row) -> Path:
        return self.folder / f"{row.title.replace(' ', '_').replace(',', '')}.onnx"

    def _train(self, name: str, spec: Path) -> Path:
        folder = self.folder / name
        output = folder / "best.tlt"
        self._run(folder / "finished", "train", "-e", spec, "-d", folder)
        (folder / "finished").touch()
        return output

    def _run(self, output: Path | None, task: str, *words: Any) -> None:
        """Runs a command unless its output exists; stops the experiment where it fails."""
        if output is not None and output.exists():
            return
        line = [self.kind, task, *map(str, words)]
        print("rcnn-jax", *line, file=sys.stderr, flush=True)
        with (self.folder / "log.txt").open("a") as log:
            code = subprocess.run([*PROGRAM, *line], stdout=log, stderr=log, check=False).returncode
        if code:
            sys.exit(f"failed with {code}: see {self.folder / 'log.txt'}")


def compress(name: str, folder: Path) -> str:
    """Runs an experiment; returns its table as Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    chain = Chain(KINDS[name], Path(__file__).with_name(f"{name}.txt"), folder)
    baseline = chain.trained()
    pruned = chain.pruned(baseline)
    again = Retraining(model=pruned, recipe=PRUNED)
    retrained = chain.retrained("retrained", again)
    taught = chain.retrained("taught", replace(again, teacher=baseline))
    rounded = Retraining(model=baseline, recipe=QUANTISED, qat=True)
    aware = chain.retrained("qat", rounded)
    both = chain.retrained("pruned_qat", replace(rounded, model=retrained))
    rows = (
        Row("float", baseline, "fp32"),
        Row("pruned, not retrained", pruned, "fp32"),
        Row("pruned", retrained, "fp32"),
        Row("pruned, teacher", taught, "fp32"),
        Row("int8 PTQ", baseline, "int8"),
        Row("int8 QAT", aware, "int8"),
        Row("pruned, int8 PTQ", retrained, "int8"),
        Row("pruned, int8 QAT", both, "int8"),
    )
    graphs = {row.title: chain.exported(row) for row in rows}
    metrics = {row.title: chain.metrics(row) for row in rows}
    contents = {title: path.read_bytes() for title, path in graphs.items()}
    times = {"ONNX Runtime": latencies(contents, "onnxruntime")}
    if is_installed():
        times["OpenVINO"] = latencies(contents, "openvino")
    headings = ["Model", *METRICS[chain.kind], "Agreement", "Parameters", "GFLOP", "ONNX MB"]
    headings += [f"Latency, {runtime}" for runtime in times]
    lines = []
    for row in rows:
        size = chain.sizes(row.model)
        relative = [timed[row.title] / timed["float"] for timed in times.values()]
        lines.append(
            [
                row.title,
                *(f"{value:.2f}" for value in metrics[row.title].values()),
                chain.agreement(row),
                f"{size['parameters']:,}",
                f"{size['flops'] / 1e9:.2f}",
                f"{len(contents[row.title]) / 1e6:.1f}",
                *(f"{value:.2f}" for value in relative),
            ]
        )
    return Table(headings, lines).markdown()


if __name__ == "__main__":
    print(compress(sys.argv[1], Path(sys.argv[2])))
