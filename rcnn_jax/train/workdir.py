"""What a run writes down about itself before it starts: config.json and spec.txt, without keys."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from rcnn_jax.checkpoints.atomic import write_file
from rcnn_jax.checkpoints.state import versions
from rcnn_jax.kinds import Kind
from rcnn_jax.spec.render import redact, render


def write_config(config: ConfigDict, kind: Kind, workdir: Path) -> None:
    """Writes the resolved config as config.json and as a spec that gives the same run again."""
    shown = redact(config)
    document = {"kind": kind, "config": json.loads(shown.to_json()), "versions": versions()}
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    write_file(workdir / "config.json", [text.encode()])
    write_file(workdir / "spec.txt", [render(shown, kind).encode()])
