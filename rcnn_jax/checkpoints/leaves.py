"""Pytrees as flat dictionaries of named host arrays, and back.

A name is the path of the leaf joined by `/`: `params/conv1/kernel`, `opt_state/0/trace/fc1/bias`.
Typed PRNG keys are stored as their data; the template has the kind of key to restore.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.errors import CheckpointError

SEPARATOR = "/"
_SHOWN = 5


def flatten(tree: Any, group: str = "") -> dict[str, np.ndarray]:
    """Returns {name: array} of all leaves, in the order of the tree.

    Law: `unflatten(flatten(tree), tree)` equals `tree` bit for bit, dtypes included.

    Args:
      tree: any pytree of arrays on host or device; None counts as no leaf.
      group: put before every name, for example `params`.

    Raises:
      ValueError: two leaves have the same name.
    """
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    # One device_get for all leaves: transfers overlap.
    host = jax.device_get([_plain(leaf) for _, leaf in paths])
    arrays = {}
    for (path, _), leaf in zip(paths, host, strict=True):
        name = _name(path, group)
        if name in arrays:
            raise ValueError(f"two leaves are called '{name}'")
        arrays[name] = np.asarray(leaf, order="C")
    return arrays


def unflatten(arrays: Mapping[str, np.ndarray], template: Any, group: str = "") -> Any:
    """Returns a pytree of the structure of `template` with leaves from `arrays`.

    Args:
      arrays: {name: array}; names outside `group` are ignored.
      template: pytree of arrays or `jax.ShapeDtypeStruct`s; structure, shapes and dtypes count.
      group: as given to `flatten`.

    Raises:
      CheckpointError: leaves are missing, left over, or of another shape or dtype. The message
        lists the first few of each kind.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(template)
    wanted = {_name(path, group): leaf for path, leaf in paths}
    stored = {name: array for name, array in arrays.items() if _is_in(name, group)}
    # All are gathered before anything is converted: one missing leaf says little, the pattern of
    # many tells another architecture from another optimizer.
    problems = [f"{name} is missing" for name in wanted if name not in stored]
    problems += [f"{name} is not expected" for name in stored if name not in wanted]
    for name, leaf in wanted.items():
        if name in stored and _kind(leaf) != _kind(stored[name]):
            problems.append(f"{name} is {_text(_kind(stored[name]))}, not {_text(_kind(leaf))}")
    if problems:
        shown = "; ".join(problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise CheckpointError(f"the stored arrays do not fit: {shown}{more}")
    leaves = [_typed(stored[name], leaf) for name, leaf in wanted.items()]
    return jax.tree_util.tree_unflatten(structure, leaves)


def nest(arrays: Mapping[str, np.ndarray], group: str) -> dict[str, Any]:
    """Returns the leaves of one group as nested dictionaries.

    Example:
      >>> nest({"params/fc1/bias": 1, "opt_state/0": 2}, "params")
      {'fc1': {'bias': 1}}
    """
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        if _is_in(name, group):
            *folders, leaf = name.removeprefix(group + SEPARATOR).split(SEPARATOR)
            node = tree
            for folder in folders:
                node = node.setdefault(folder, {})
            node[leaf] = array
    return tree


def _name(path: tuple, group: str) -> str:
    name = jax.tree_util.keystr(path, simple=True, separator=SEPARATOR)
    return SEPARATOR.join(part for part in (group, name) if part)


def _is_in(name: str, group: str) -> bool:
    return not group or name == group or name.startswith(group + SEPARATOR)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _typed(array: np.ndarray, leaf: Any) -> Any:
    """Wraps the data of a key where the template holds a typed key."""
    if not _is_key(leaf):
        return array
    return jax.random.wrap_key_data(
        jnp.asarray(array), impl=jax.random.key_impl(jnp.empty((), leaf.dtype))
    )


def _kind(leaf: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of a leaf as it is stored."""
    if _is_key(leaf):
        # Shape and dtype of the stored numbers, without making any: the template may be abstract.
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    elif not hasattr(leaf, "dtype"):
        leaf = np.asarray(leaf)
    return tuple(leaf.shape), np.dtype(leaf.dtype)


def _text(kind: tuple[tuple[int, ...], np.dtype]) -> str:
    shape, dtype = kind
    return f"{dtype}{list(shape)}"
