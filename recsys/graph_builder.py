"""ONNX graphs written op by op: for models of a few operations, in milliseconds and without a tracer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 20
IR_VERSION = 10
_OPERATORS = {"": OPSET, "ai.onnx.ml": 1}
"""Versions of the operator sets: the standard one, and the one that tree ensembles are in."""


class GraphBuilder:
    """Nodes and constants of one graph, in the order in which they are named.

    Every method that adds something returns the name of what it adds, for the next one to read.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """A weight or a number; arrays are copied."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def add(self, op: str, *inputs: str, called: str = "", **attributes: Any) -> str:
        """One operator of the standard set, over names; `called` names what it gives."""
        name = called or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def built(
        self,
        inputs: Sequence[onnx.ValueInfoProto],
        output: onnx.ValueInfoProto,
        name: str,
    ) -> onnx.ModelProto:
        """The whole graph, checked."""
        graph = helper.make_graph(self.nodes, name, list(inputs), [output], self.constants)
        domains = sorted({node.domain for node in self.nodes})
        sets = [helper.make_opsetid(domain, _OPERATORS[domain]) for domain in domains]
        model = helper.make_model(graph, opset_imports=sets, ir_version=IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        return model


def floats(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    """A float32 input or output; axes that vary have a name instead of a size."""
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(shape))
