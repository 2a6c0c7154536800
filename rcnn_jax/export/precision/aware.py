"""Fake quantisation as the exported graph has it: plan, ranges, and the scales of a trained model.

    float experiment -> FP32 graph -> placement of Q/DQ -> rounded inputs of layers and sums -> QuantPlan
    calibrated tensors -> ranges of those inputs -> training -> scales of the same tensors

The graph says which tensor an input reads; layers and sums of the network are found by the scope that
their nodes were emitted in. So training rounds where `insert_qdq` rounds, by construction.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import onnx

from rcnn_jax.compress.qat import (
    COLLECTION,
    Quantiser,
    Ranges,
    Site,
    ranges_of,
)
from rcnn_jax.errors import ExportError
from rcnn_jax.export.build import Built, build
from rcnn_jax.export.contracts import make_header
from rcnn_jax.export.precision.calibration import observe, scales_of, with_fused
from rcnn_jax.export.precision.calibration_data import CalibrationSettings, calibration_batches
from rcnn_jax.export.precision.model_view import ModelView
from rcnn_jax.export.precision.placement import place, tied_scales
from rcnn_jax.models.quant import QuantPlan, leaf_name
from rcnn_jax.models.variables import initial_variables
from rcnn_jax.reporter import Reporter
from rcnn_jax.runtime.header import Header
from rcnn_jax.settings.training import QatSettings
from rcnn_jax.tasks.experiment import Experiment
from rcnn_jax.tasks.task import Variables


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundedGraph:
    """The FP32 graph of a float experiment, and what int8 rounds in it.

    Attributes:
      model: the graph.
      header: of the graph.
      tensors: {rounded input of the network: the tensor it reads}.
    """

    model: onnx.ModelProto
    header: Header
    tensors: Mapping[Site, str]

    @property
    def plan(self) -> QuantPlan:
        """The rounded inputs by module."""
        inputs = defaultdict(list)
        for name, index in self.tensors:
            inputs[name].append(index)
        return QuantPlan.of({name: tuple(ids) for name, ids in inputs.items()})


def plan_of(experiment: Experiment) -> QuantPlan:
    """Returns the inputs that the int8 graph of an experiment rounds.

    Where Q/DQ go depends on shapes and operators alone, so the graph is made of made-up weights.

    Raises:
      ExportError: the graph cannot be made, has nothing to quantise, or rounds something that the
        network has no place for.
      SpecError: the input has no fixed size.
    """
    shapes = jax.eval_shape(experiment.task.init, jax.random.key(0))
    random = np.random.default_rng(0)  # different ones: equal constants would become one tensor
    made_up = jax.tree.map(lambda a: random.uniform(0.5, 1.5, a.shape).astype(a.dtype), shapes)
    plan = rounded_graph(experiment, made_up).plan
    if not plan.sites:
        raise ExportError("the ONNX graph has no layer to quantise")
    rounding = experiment.task.model.clone(quant=plan)
    channels = experiment.task.pixels.channels
    placed = jax.eval_shape(
        lambda key: initial_variables(rounding, key, channels), jax.random.key(0)
    )
    placed = placed.get(COLLECTION, {})
    present = {(name, leaf) for name, leaves in placed.items() for leaf in leaves}
    wanted = {(name, leaf_name(i)) for name, ids in plan.sites for i in ids}
    lacking = sorted(wanted - present)
    if lacking:
        raise ExportError(f"the network cannot round {lacking[0][1]} of '{lacking[0][0]}'")
    return plan


def rounded_graph(experiment: Experiment, variables: Variables) -> RoundedGraph:
    """Returns the FP32 graph of a float experiment, and what int8 rounds in it."""
    header = make_header(experiment, "plain", None)
    built = build(experiment, variables, header)
    return RoundedGraph(model=built.model, header=header, tensors=rounded_inputs(built))


def rounded_inputs(built: Built) -> dict[Site, str]:
    """Returns {rounded input of the network: the tensor of the graph that it reads}.

    Raises:
      ExportError: of a layer that runs several times, int8 takes some runs only: it has one kernel.
    """
    view = ModelView(built.model)
    placement = place(view)
    calls: dict[str, list[str]] = defaultdict(list)
    for node in view.model.graph.node:
        if view.is_layer(node):
            calls[built.scopes[node.output[0]]].append(node.output[0])
    tensors: dict[Site, str] = {}
    for tensor, readers in placement.readers.items():
        for node, index in readers:
            scope = built.scopes[node]
            # A layer reads one activation, and its calls are told apart; a sum reads two in one call.
            number = calls[scope].index(node) if scope in calls else index
            tensors[scope, number] = tensor
    for layer, runs in calls.items():
        rounded = [(layer, i) in tensors for i in range(len(runs))]
        if any(rounded) and not all(rounded):
            raise ExportError(f"layer '{layer}' runs {len(runs)} times, not always in int8")
    return tensors


def calibrated_ranges(
    experiment: Experiment, variables: Variables, settings: QatSettings, reporter: Reporter
) -> Ranges:
    """Returns the scale of every rounded input, calibrated as `export --data_type int8` does it.

    Args:
      experiment: in float, with training images.
      variables: of it.
      settings: images and method.
      reporter: console.

    Raises:
      ExportError: an activation is not finite.
      DataError: the training images cannot be read.
    """
    graph = rounded_graph(experiment, variables)
    chosen = CalibrationSettings(
        cache_file=Path(),
        batches=settings.batches,
        batch_size=settings.batch_size,
        method=settings.method,
    )
    batches = calibration_batches(experiment, graph.header, chosen, reporter)
    seen = reporter.track(batches, settings.batches, "calibrate")
    scales = scales_of(observe(graph.model, seen), settings.method)
    scales = tied_scales(place(ModelView(graph.model)), scales)
    return {site: scales[tensor] for site, tensor in graph.tensors.items()}


def trained_scales(built: Built, variables: Variables, plan: QuantPlan) -> dict[str, float]:
    """Returns {tensor of the FP32 graph: scale} of a model trained with fake quantisation.

    Args:
      built: the graph of the float network.
      variables: with the collection `quant`.
      plan: the rounded inputs, from the model file.

    Raises:
      ExportError: Q/DQ would go elsewhere than where the model was trained with them.
    """
    tensors = rounded_inputs(built)
    ranges = ranges_of(variables, plan)
    different = sorted(tensors.keys() ^ ranges.keys())
    if different:
        name, index = different[0]
        raise ExportError(
            f"the model was trained with other rounded inputs than this release would round: "
            f"{len(different)} differ, the first is input {index} of '{name}'; calibrate it after "
            "training with --force_ptq, or train it again"
        )
    scales = {tensor: ranges[site] for site, tensor in tensors.items()}
    return with_fused(built.model, scales)


QUANTISER = Quantiser(plan=plan_of, ranges=calibrated_ranges)
"""What `train` places and calibrates fake quantisation with."""
