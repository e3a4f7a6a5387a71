"""One ONNX graph for the ranker, whatever its form: a network, trees, or both mixed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from torch import nn

from recsys.graph_builder import GraphBuilder, floats
from recsys.model.ranker import Ranker

SCORE = "score"


def network_graph(model: Ranker) -> onnx.ModelProto:
    """`features` (n, num_features) to `score` (n,)."""
    graph = GraphBuilder()
    _network(graph, model, SCORE)
    return _built(graph, len(model.mean))


def trees_graph(booster: Any) -> onnx.ModelProto:
    """The same inputs and output over a LightGBM booster, its ensemble as onnxmltools converts it."""
    graph = GraphBuilder()
    _trees(graph, booster, SCORE)
    return _built(graph, booster.num_feature())


def mixed_graph(model: Ranker, booster: Any, share: float, spreads: tuple[float, float]) -> onnx.ModelProto:
    """(1 - share) times the network's score plus share times the trees', each over its own spread."""
    graph = GraphBuilder()
    parts = (_network(graph, model), _trees(graph, booster))
    weights = [weight / spread for weight, spread in zip((1 - share, share), spreads, strict=True)]
    weighed = [graph.add("Mul", part, graph.constant(w)) for part, w in zip(parts, weights, strict=True)]
    graph.add("Add", *weighed, called=SCORE)
    return _built(graph, booster.num_feature())


def _network(graph: GraphBuilder, model: Ranker, called: str = "") -> str:
    """`Ranker.forward`, with dropout left out."""
    low, high, mean, scale = (
        graph.constant(one.numpy()) for one in (model.low, model.high, model.mean, model.scale)
    )
    clipped = graph.add("Min", graph.add("Max", "features", low), high)
    x = graph.add("Div", graph.add("Sub", clipped, mean), scale)
    linear, hidden = _layer(graph, model.linear, x), x
    for layer in model.network:
        if isinstance(layer, nn.Linear):
            hidden = _layer(graph, layer, hidden)
        elif isinstance(layer, nn.ReLU):
            hidden = graph.add("Relu", hidden)
        else:
            assert isinstance(layer, nn.Dropout), "which does nothing in evaluation"
    return _flat(graph, graph.add("Add", linear, hidden), called)


def _layer(graph: GraphBuilder, layer: nn.Linear, x: str) -> str:
    weights = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    return graph.add("Gemm", x, *(graph.constant(one.detach().numpy()) for one in weights), transB=1)


def _trees(graph: GraphBuilder, booster: Any, called: str = "") -> str:
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    width = booster.num_feature()
    converted = convert_lightgbm(
        booster, initial_types=[("features", FloatTensorType([None, width]))], target_opset=15, zipmap=False
    )
    node: onnx.NodeProto
    (node,) = [one for one in converted.graph.node if one.op_type == "TreeEnsembleRegressor"]
    node.input[0], node.output[0] = "features", "trees"
    graph.nodes.append(node)
    return _flat(graph, "trees", called)


def _flat(graph: GraphBuilder, column: str, called: str) -> str:
    return graph.add("Reshape", column, graph.constant([-1], np.int64), called=called)


def _built(graph: GraphBuilder, num_features: int) -> onnx.ModelProto:
    return graph.built([floats("features", "rows", num_features)], floats(SCORE, "rows"), "ranker")
