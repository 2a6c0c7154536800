"""Nodes that replace one node of a finished ONNX graph, under a prefix of their own.

A Loop body of ONNX reads tensors of the graph around it by name. Constants that a body reads are
initializers of the body: passes over a finished graph, ours and those of other tools, drop an initializer
that no node of the outer graph names.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Nodes:
    """A list of nodes that grows, with the constants they read.

    Attributes:
      prefix: begins every name that is made.
      nodes: in the order of computation.
      constants: initializers; equal arrays share one.
    """

    def __init__(self, prefix: str):
        """Begins an empty list."""
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def split(self, op: str, *inputs: str, count: int, **attributes: Any) -> list[str]:
        """Adds a node of several outputs; returns their names."""
        # Numbered from 0 for each replaced node, so names do not depend on what else the graph
        # holds.
        base = f"{self.prefix}/{op}_{len(self.nodes)}"
        names = [f"{base}:{i}" for i in range(count)] if count > 1 else [base]
        self.nodes.append(helper.make_node(op, inputs, names, name=base, **attributes))
        return names

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node of one output; returns its name."""
        return self.split(op, *inputs, count=1, **attributes)[0]

    def constant(self, array: np.ndarray) -> str:
        """Returns the name of an initializer with this content."""
        array = np.asarray(array, order="C")
        # With the type: equal bytes of f32 and i64 are other constants.
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._names:
            self._names[key] = f"{self.prefix}/const_{len(self.constants)}"
            self.constants.append(numpy_helper.from_array(array, self._names[key]))
        return self._names[key]

    def number(self, value: float) -> str:
        """Returns an f32 scalar."""
        return self.constant(np.asarray(value, np.float32))

    def integers(self, *values: int) -> str:
        """Returns i64[n]."""
        return self.constant(np.asarray(values, np.int64))

    def as_float(self, name: str) -> str:
        """Returns a tensor as float32."""
        return self.add("Cast", name, to=TensorProto.FLOAT)

    def result(self, name: str, output: str, note: str = "") -> None:
        """Gives the last tensor the name that the rest of the graph reads.

        Args:
          name: what the last node made.
          output: of the node that is replaced.
          note: documentation of the node.
        """
        last = self.nodes[-1]
        # A result that is not last would be renamed under the feet of the nodes that read it.
        if list(last.output) != [name]:
            raise ValueError(f"{name} is not the result of the last node")
        last.output[0] = last.name = output
        last.doc_string = note
