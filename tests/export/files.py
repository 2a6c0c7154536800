"""Files of both detectors that nobody trained: spec, bundle, and a graph written without checks."""

from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np

from rcnn_jax.checkpoints.bundle import Bundle, write_bundle
from rcnn_jax.checkpoints.leaves import flatten
from rcnn_jax.checkpoints.state import model_header
from rcnn_jax.export.contracts import make_header, outputs_of
from rcnn_jax.export.lowering.dense import NCHW
from rcnn_jax.export.lowering.jaxpr_onnx import trace
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.families import family
from tests.e2e import tiny as tiny_boxes
from tests.e2e import tiny_mask
from tests.export.tiny import lively_variables


def make_files(root: Path, kind: str) -> SimpleNamespace:
    """Returns root, kind, spec, model (.tlt), graph (.onnx), experiment, variables."""
    spec = (
        tiny_boxes.write_tiny(root, images=3)
        if kind == "faster_rcnn"
        else tiny_mask.write_tiny(root)
    )
    config = load_spec(spec, kind).config
    experiment = build_experiment(config, kind)
    variables = jax.tree.map(np.asarray, lively_variables(experiment, predictors=0.3))
    arrays = {k: v for name, tree in variables.items() for k, v in flatten(tree, name).items()}
    model = root / "model.tlt"
    write_bundle(model, Bundle(kind, model_header(experiment), arrays), None)
    header = make_header(experiment, "tao", None)
    shape = (None, *header.canvas, 3)
    graph = trace(outputs_of(experiment, variables, "tao"), family(kind).input_name, shape, NCHW)
    path = root / "model.onnx"
    path.write_bytes(graph.to_model("detector", header.to_metadata()).SerializeToString())
    return SimpleNamespace(
        root=root,
        kind=kind,
        spec=spec,
        model=model,
        graph=path,
        experiment=experiment,
        variables=variables,
        images=root / "data" / "images",
    )
