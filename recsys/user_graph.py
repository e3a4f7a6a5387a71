"""`UserTower.forward` as an ONNX graph; that the two agree is proven at every export."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from recsys.graph_builder import GraphBuilder, floats
from recsys.model.towers import BIAS_SHARE, FIRST_GAP, LAST_KNOT, SHORTEST_USER, UserTower

INPUTS = ("history", "events", "gaps", "mask")
OUTPUT = "user"


def user_graph(tower: UserTower, dim: int) -> onnx.ModelProto:
    """The signature that docs/architecture.md gives `user_tower.onnx`.

    Args:
        tower: In evaluation mode, on the CPU.
        dim: Of its item vectors.
    """
    graph = GraphBuilder()
    pooled = _pooled(graph, tower)
    length = graph.add("ReduceL2", pooled, graph.constant([1], np.int64), keepdims=1)
    not_zero = graph.add("Max", length, graph.constant(SHORTEST_USER))
    users = graph.add("Div", pooled, not_zero, called="" if tower.item_bias else OUTPUT)
    if tower.item_bias:
        _with_constant(graph, users)
    pairs = ("batch", "length")
    inputs = [
        floats("history", *pairs, dim),
        helper.make_tensor_value_info("events", onnx.TensorProto.INT64, list(pairs)),
        floats("gaps", *pairs),
        helper.make_tensor_value_info("mask", onnx.TensorProto.BOOL, list(pairs)),
    ]
    return graph.built(inputs, floats(OUTPUT, "batch", dim), "user_tower")


def _pooled(graph: GraphBuilder, tower: UserTower) -> str:
    """The weighted sum of the history, (batch, dim)."""
    one = graph.constant(1.0)
    hours = graph.add("Div", graph.add("Max", "gaps", graph.constant(0.0)), graph.constant(FIRST_GAP))
    log = graph.add("Mul", graph.add("Log", graph.add("Add", one, hours)), graph.constant(1 / np.log(2)))
    knot = graph.add("Min", log, graph.constant(LAST_KNOT))
    below = graph.add("Floor", knot)
    share = graph.add("Sub", knot, below)
    place = graph.add("Cast", below, to=onnx.TensorProto.INT64)
    knots = graph.constant(tower.gap_bias.detach().numpy())
    above = graph.add("Add", place, graph.constant(1, np.int64))
    gap_bias = graph.add(
        "Add",
        graph.add("Mul", graph.add("Gather", knots, place), graph.add("Sub", one, share)),
        graph.add("Mul", graph.add("Gather", knots, above), share),
    )
    length = graph.add("Shape", "events", start=1, end=2)
    zero = graph.constant([0], np.int64)
    lag_bias = graph.add("Slice", graph.constant(tower.lag_bias.detach().numpy()), zero, length)
    event_bias = graph.add("Gather", graph.constant(tower.event_bias.detach().numpy()), "events")
    total = graph.add("Add", graph.add("Add", lag_bias, event_bias), gap_bias)
    known = graph.add("Cast", "mask", to=onnx.TensorProto.FLOAT)
    weights = graph.add("Mul", graph.add("Exp", total), known)
    axis = graph.constant([1], np.int64)
    sums = graph.add("MatMul", graph.add("Unsqueeze", weights, axis), "history")
    return graph.add("Squeeze", sums, axis)


def _with_constant(graph: GraphBuilder, users: str) -> None:
    """`UserTower.finish` where items have a bias: the last coordinate is a constant of whoever is known."""
    axis = graph.constant([1], np.int64)
    known = graph.add("ReduceMax", graph.add("Cast", "mask", to=onnx.TensorProto.FLOAT), axis, keepdims=1)
    ends = [graph.constant([end], np.int64) for end in (0, -1)]
    head = graph.add("Slice", users, *ends, axis)
    graph.add(
        "Concat",
        graph.add("Mul", head, graph.constant((1 - BIAS_SHARE) ** 0.5)),
        graph.add("Mul", known, graph.constant(BIAS_SHARE**0.5)),
        axis=1, called=OUTPUT,
    )  # fmt: skip
