"""Trains a small detector with and without each ingredient of a recipe, and writes what each is worth.

    python -m experiments.recipes.run OUTPUT_FOLDER                        everything: hours
    python -m experiments.recipes.run OUTPUT_FOLDER --only adamw,tta_flip --seeds 0 --steps 100
    python -m experiments.recipes.run OUTPUT_FOLDER --table docs/recipes.md    the table of what is there

A row is an ingredient on a set with a seed. Rows that are finished are not repeated and one that was
stopped goes on with its training, so the command can be given again at any time. An ingredient whose
fields this version does not know is passed over.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.recipes.ingredients import BASE, INGREDIENTS
from rcnn_jax import api
from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.errors import SpecError
from rcnn_jax.kinds import Kind
from rcnn_jax.report.page import Table
from rcnn_jax.spec.load import parse_spec
from rcnn_jax.sweep.executors import PROGRAM

HERE = Path(__file__).parent
BEGIN, END = "<!-- table of experiments/recipes/run.py -->", "<!-- end of the table -->"


@dataclass(frozen=True)
class DataSet:
    """A set and the detector that is trained on it.

    Attributes:
      kind: of the detector.
      images: that train; Faster R-CNN counts its length in passes over them.
      batch: of the spec.
      metrics: {heading: name in metrics.jsonl}, the first one judges.
      source: data that `init` converts for it first; empty for none.
    """

    kind: Kind
    images: int
    batch: int
    metrics: dict[str, str]
    source: str = ""

    @property
    def judge(self) -> str:
        """The metric that says which weights are best."""
        return next(iter(self.metrics.values()))

    def length(self, steps: int, seed: int) -> str:
        """Returns the fields of length and seed: one validation, at the end."""
        if self.kind == "mask_rcnn":
            return f"seed: {seed} total_steps: {steps} num_steps_per_eval: {steps}"
        epochs = max(round(steps * self.batch / self.images), 1)
        return (
            f"random_seed: {seed} training_config {{ num_epochs: {epochs} }} "
            f"evaluation_config {{ validation_period_during_training: {epochs} }}"
        )


SETS = {
    "bccd": DataSet("faster_rcnn", 205, 2, {"AP": "mAP", "AP50": "mAP@0.50"}),
    "bccd_pyramid": DataSet(
        "mask_rcnn", 205, 2, {"AP": "AP", "AP50": "AP50"}, source="data/bccd_kitti"
    ),
    "nuclei": DataSet(
        "mask_rcnn", 354, 2, {"mask AP": "mask_AP", "AP": "AP", "mask AP50": "mask_AP50"}
    ),
}


@dataclass(frozen=True)
class Row:
    """One measurement: an ingredient on a set with a seed."""

    ingredient: str
    data: str
    seed: int
    folder: Path

    @property
    def result(self) -> Path:
        """The file that makes the row finished."""
        return self.folder / "result.json"

    @property
    def output(self) -> Path:
        """The folder of all results: OUTPUT/SET/INGREDIENT/SEED is that of the row."""
        return self.folder.parents[2]

    def spec(self, steps: int) -> str | None:
        """Returns the text of the spec; None where this version has no such field.

        Raises:
          SpecError: the base alone is wrong.
        """
        own = SETS[self.data]
        text = INGREDIENTS[self.ingredient].text(own.kind)
        if text is None:
            return None
        for percent in (80, 90):
            text = text.replace(f"STEPS{percent}", str(steps * percent // 100))
        lines = (HERE / f"{self.data}.txt").read_text().splitlines()
        lines = [line.replace("OUTPUT", str(self.output)) for line in lines]
        if INGREDIENTS[self.ingredient].plain:
            lines = [line for line in lines if not line.endswith("# recipe")]
        base = "\n".join([*lines, own.length(steps, self.seed), ""])
        # Behind the base: a period of validations that the ingredient asks for wins.
        try:
            config = parse_spec(
                base + text, f"{self.data} with {self.ingredient}", own.kind, "train"
            )
        except SpecError as error:
            if not INGREDIENTS[self.ingredient].plain:
                parse_spec(base, self.data, own.kind, "train")
            # Aloud: a field that this version lacks and one that is misspelt here look the same.
            print(f"passed over: {str(error).splitlines()[0]}", file=sys.stderr)
            return None
        # As comments: a recipe that has changed since is another row. Not the whole spec, which changes
        # with every field that a version adds.
        notes = [line for note in config.notes for line in note.splitlines()]
        return "\n".join([base + text, *(f"# {line}" for line in notes), ""])


def rows(args: argparse.Namespace) -> Iterable[Row]:
    """Yields the rows that are asked for, seed by seed: a stopped experiment has whole columns."""
    names = args.only.split(",") if args.only else list(INGREDIENTS)
    unknown = sorted(set(names) - INGREDIENTS.keys()) + sorted(set(args.sets) - SETS.keys())
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; known: {', '.join((*INGREDIENTS, *SETS))}")
    # Gains are against the base, so it comes first whatever else is asked for.
    names = list(dict.fromkeys((BASE, *names)))
    for seed in args.seeds:
        for data in args.sets:
            for name in names:
                yield Row(name, data, seed, args.output / data / name / f"seed-{seed}")


def convert(source: str, output: Path) -> None:
    """Lets `init` write the labels of a source as COCO, into OUTPUT/coco_data."""
    spec = output / "coco.txt"
    # Written last: without it a stopped `init` may have left a part of the labels.
    if source and not spec.exists():
        output.mkdir(parents=True, exist_ok=True)
        words = ["init", source, "-o", str(spec), "--weights", "none", "--overwrite"]
        subprocess.run([*PROGRAM, *words], check=True)


def measure(row: Row, steps: int) -> None:
    """Makes a row, where it is not made yet and this version has its fields.

    A loss that is no longer finite is a result too.

    Raises:
      SystemExit: its training failed otherwise, or its folder was made with another length.
    """
    text = row.spec(steps)
    if text is None:
        return
    spec = row.folder / "row.txt"
    if spec.exists() and spec.read_text() != text:
        sys.exit(f"{row.folder}: was measured with another spec; remove it, or name another folder")
    if row.result.exists():
        return
    convert(SETS[row.data].source, row.output)
    row.folder.mkdir(parents=True, exist_ok=True)
    write_file(spec, [text.encode()])
    kind, began = SETS[row.data].kind, time.monotonic()
    if INGREDIENTS[row.ingredient].trains:
        words = [kind, "train", "-e", str(spec), "-d", str(row.folder), "--gpus", "1"]
        print("rcnn-jax", *words, file=sys.stderr, flush=True)
        with (row.folder / "log.txt").open("a") as log:
            # Most ingredients leave the compiled step as it is: half a minute of each row.
            cache = {"JAX_COMPILATION_CACHE_DIR": str(row.output / "compiled")}
            code = subprocess.run(
                [*PROGRAM, *words], stdout=log, stderr=log, check=False, env=os.environ | cache
            ).returncode
        result = _trained(row) if code == 0 else _diverged(row)
        if result is None:
            sys.exit(f"failed with {code}: see {row.folder / 'log.txt'}")
    else:
        model = row.folder.parent.parent / BASE / row.folder.name / "best.tlt"
        metrics = api.evaluate(model, spec, workdir=row.folder)
        result = {"metrics": metrics, "steps": 0}
    result |= {"seconds": round(time.monotonic() - began, 1)}
    write_file(row.result, [json.dumps(result, indent=2).encode()])


def _trained(row: Row) -> dict[str, Any]:
    """Returns the result of a run that has ended."""
    lines = map(json.loads, (row.folder / "metrics.jsonl").read_text().splitlines())
    done = [line for line in lines if line["kind"] == "evaluate"]
    best = max(done, key=lambda line: line[SETS[row.data].judge] or 0.0)
    # Its last step is that of the run: `best` may be of an earlier one where it stopped early.
    return {"metrics": best, "steps": done[-1]["step"]}


def _diverged(row: Row) -> dict[str, Any] | None:
    """Returns the result of a run whose loss was no longer finite; None where it failed otherwise."""
    step = re.search(r"step (\d+): the loss is not finite", (row.folder / "log.txt").read_text())
    return None if step is None else {"metrics": None, "steps": int(step[1])}


def table(output: Path) -> str:
    """Returns the table of all finished rows as Markdown."""
    lines = []
    for data, own in SETS.items():
        # Gains are against the base: one that diverged has none to offer.
        base = {
            seed: result
            for seed, result in _results(output / data / BASE).items()
            if result["metrics"] is not None
        }
        for name in INGREDIENTS:
            made = _results(output / data / name)
            both = sorted(base.keys() & made.keys())
            if not both:
                continue
            ended = [seed for seed in both if made[seed]["metrics"] is not None]
            cells = [_cell(metric, ended, made, base, name) for metric in own.metrics.values()]
            if lost := len(both) - len(ended):
                which = "" if lost == len(both) else f"{lost} of {len(both)} "
                cells[0] = f"{which}diverged{cells[0] and '; '}{cells[0]}"
            steps = round(statistics.mean(made[seed]["steps"] for seed in ended or both))
            first, second, *_ = cells
            lines.append([data, name, str(len(both)), first, second, str(steps or "-")])
    headings = ["Set", "Ingredient", "Seeds", "AP (masks' on nuclei)", "AP50 (box AP on nuclei)"]
    return Table([*headings, "Steps"], lines).markdown()


def _results(folder: Path) -> dict[str, Any]:
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/result.json")}


def _cell(
    metric: str, seeds: list[str], made: dict[str, Any], base: dict[str, Any], name: str
) -> str:
    """Returns the mean of a metric in points, and the mean of its gains with their deviation."""
    if not seeds:
        return ""
    values = [100 * made[seed]["metrics"][metric] for seed in seeds]
    mean = f"{statistics.mean(values):.1f}"
    if name == BASE:
        return mean
    gains = [
        value - 100 * base[seed]["metrics"][metric]
        for seed, value in zip(seeds, values, strict=True)
    ]
    spread = f" ± {statistics.stdev(gains):.1f}" if len(gains) > 1 else ""
    return f"{mean} ({statistics.mean(gains):+.1f}{spread})"


def main() -> None:
    """Makes the rows that the command line asks for, and prints or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("output", type=Path, metavar="OUTPUT_FOLDER")
    parser.add_argument("--only", help=f"ingredients, with commas: {', '.join(INGREDIENTS)}")
    parser.add_argument("--sets", type=lambda text: text.split(","), default=list(SETS))
    parser.add_argument(
        "--seeds", type=lambda text: [int(each) for each in text.split(",")], default=[0, 1, 2]
    )
    parser.add_argument("--steps", type=int, default=450, help="length of a training (450)")
    parser.add_argument(
        "--table", type=Path, metavar="FILE.md", help="train nothing, write the table there"
    )
    args = parser.parse_args()
    if args.table is None:
        for row in rows(args):
            measure(row, args.steps)
        print(table(args.output))
        return
    text = args.table.read_text()
    head, begun, rest = text.partition(BEGIN)
    _, ended, tail = rest.partition(END)
    if not begun or not ended:
        sys.exit(f"{args.table}: has no lines {BEGIN} and {END}")
    write_file(args.table, [f"{head}{BEGIN}\n\n{table(args.output)}\n\n{END}{tail}".encode()])


if __name__ == "__main__":
    main()
