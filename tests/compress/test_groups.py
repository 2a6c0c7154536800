"""Groups of a tiny residual network: what is decided together, what is kept, what a cut leaves."""

import jax
import numpy as np
import pytest

from rcnn_jax.compress.groups import (
    Group,
    find_groups,
    flat,
    kept_leaves,
    kernel_of,
    shapes_of,
    variables_from,
)
from rcnn_jax.errors import UsageError
from rcnn_jax.models.heads import PREDICTORS
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from tests.e2e.tiny import write_tiny
from tests.models.tiny import random_variables


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    spec = write_tiny(tmp_path_factory.mktemp("data"), images=2)
    return build_experiment(load_spec(spec).config, "faster_rcnn")


@pytest.fixture(scope="module")
def network(experiment):
    return find_groups(experiment)


def group_of(network, layer):
    (group,) = [group for group in network.groups if layer in group.layers]
    return group


def test_every_filter_of_every_layer_is_in_one_decision(network):
    for layer, width in network.widths.items():
        rows = [g.filters[layer].ravel() for g in network.groups if layer in g.layers]
        assert sorted(np.concatenate(rows).tolist()) == list(range(width)), layer


def test_layers_that_are_added_are_one_group_in_the_order_in_which_they_run(network):
    joined = [group for group in network.groups if len(group.layers) > 1]
    assert joined  # the shortcuts of residual blocks
    order = list(network.widths)
    for group in joined:
        assert [*group.layers] == sorted(group.layers, key=order.index)
        assert {network.widths[layer] for layer in group.layers} == {len(group.classes)}


def test_predictors_and_excluded_layers_keep_their_filters_and_say_why(experiment, network):
    for layer in PREDICTORS:
        if layer in network.widths:
            assert group_of(network, layer).pin.reason == "classes or anchors"
    free = next(group.layers[0] for group in network.groups if group.pin is None)
    group = group_of(find_groups(experiment, [free]), free)
    assert group.pin.reason == "excluded by -el"


def test_a_mistyped_layer_is_named_with_the_nearest(experiment, network):
    layer = next(iter(network.widths))
    with pytest.raises(UsageError, match=f"-el {layer}x: .* did you mean .*{layer}"):
        find_groups(experiment, [f"{layer}x"])


def test_what_is_kept_is_taken_from_every_leaf_that_has_the_channels(experiment, network):
    variables = jax.tree.map(np.asarray, random_variables(experiment.task.model, seed=1))
    arrays = flat(variables)
    group = next(g for g in network.groups if g.pin is None and len(g.classes) > 2)
    kept = np.ones(network.count, bool)
    kept[group.classes[1]] = False
    smaller = kept_leaves(network.channels, arrays, kept)
    for layer in group.layers:
        kernel = kernel_of(layer)
        left = np.delete(np.arange(network.widths[layer]), group.filters[layer][1])
        assert smaller[kernel].shape[-1] == len(left)
    shrunk = {name for name in arrays if smaller[name].shape != arrays[name].shape}
    # Those that read the channels and the norms between lose them too; all others keep every bit.
    assert shrunk > {kernel_of(layer) for layer in group.layers}
    assert all(np.array_equal(smaller[name], arrays[name]) for name in set(arrays) - shrunk)


def test_names_of_leaves_and_variables_are_two_forms_of_one_thing(experiment):
    variables = jax.tree.map(np.asarray, random_variables(experiment.task.model, seed=1))
    leaves = flat(variables)
    again = variables_from(leaves)
    assert jax.tree.structure(again) == jax.tree.structure(dict(variables))
    assert {name: leaf.shape for name, leaf in shapes_of(variables).items()} == {
        name: leaf.shape for name, leaf in leaves.items()
    }


def test_a_unit_is_the_most_filters_that_a_decision_takes_from_a_layer():
    filters = {"a": np.zeros((4, 1), np.int32), "b": np.zeros((4, 3), np.int32)}
    group = Group(
        layers=("a", "b"), classes=np.arange(4, dtype=np.int32), filters=filters, pin=None
    )
    assert group.unit == 3
