"""One ONNX graph for the ranker, whatever its form: a network, trees, or both mixed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from recsys.export import OPSET, dynamic, write_graph
from recsys.model.ranker import Ranker
from recsys.types import Floats

_TREES = "ai.onnx.ml"


def network_graph(model: Ranker, features: Floats) -> onnx.ModelProto:
    """`features` (n, num_features) to `score` (n,); `features` are an example of two rows or more."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ranker.onnx"
        sample = torch.from_numpy(np.ascontiguousarray(features))
        write_graph(model, (sample,), path, names=("features",), output="score", axes={0: dynamic("rows")})
        return onnx.load(path)


def trees_graph(booster: Any) -> onnx.ModelProto:
    """The same inputs and output over a LightGBM booster, its ensemble as onnxmltools converts it."""
    ensemble = _ensemble(booster)
    nodes = [ensemble, helper.make_node("Reshape", ["trees", "flat"], ["score"])]
    return _model(helper.make_graph(nodes, "ranker", [_features(booster)], [_score()], [_flat()]))


def mixed_graph(network: onnx.ModelProto, booster: Any, share: float, spreads: tuple[float, float]) -> Any:
    """(1 - share) times the network's score plus share times the trees', each over its own spread."""
    graph = onnx.GraphProto()
    graph.CopyFrom(network.graph)
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == "score":
                node.output[place] = "network"
    weights = [
        numpy_helper.from_array(np.array([weight / spread], np.float32), name)
        for weight, spread, name in zip(
            (1 - share, share), spreads, ("network_weight", "trees_weight"), strict=True
        )
    ]
    graph.node.extend(
        [
            _ensemble(booster),
            helper.make_node("Reshape", ["trees", "flat"], ["trees_flat"]),
            helper.make_node("Mul", ["network", "network_weight"], ["network_part"]),
            helper.make_node("Mul", ["trees_flat", "trees_weight"], ["trees_part"]),
            helper.make_node("Add", ["network_part", "trees_part"], ["score"]),
        ]
    )
    graph.initializer.extend([*weights, _flat()])
    return _model(graph, network)


def _ensemble(booster: Any) -> onnx.NodeProto:
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    width = booster.num_feature()
    converted = convert_lightgbm(
        booster, initial_types=[("features", FloatTensorType([None, width]))], target_opset=15, zipmap=False
    )
    node: onnx.NodeProto
    (node,) = [one for one in converted.graph.node if one.op_type == "TreeEnsembleRegressor"]
    node.input[0], node.output[0] = "features", "trees"
    return node


def _model(graph: onnx.GraphProto, like: onnx.ModelProto | None = None) -> onnx.ModelProto:
    opsets = [helper.make_opsetid(one.domain, one.version) for one in like.opset_import] if like else []
    opsets = opsets or [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=[*opsets, helper.make_opsetid(_TREES, 1)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def _features(booster: Any) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["rows", booster.num_feature()])


def _score() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, ["rows"])


def _flat() -> onnx.TensorProto:
    return numpy_helper.from_array(np.array([-1], np.int64), "flat")
