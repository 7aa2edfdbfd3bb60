"""Weights of an ONNX graph in eight or sixteen bits.

Eight bits (`int8`) are dynamic quantisation as onnxruntime has it: a linear layer's weight has one
scale for each output, its input is quantised when it is computed, by its own largest and smallest
value, and whole numbers are multiplied. The rows of an embedding table that are looked up are
multiplied by one scale for each column. The operators are those that onnxruntime itself fuses such
a graph to; it is therefore for onnxruntime alone.

Weights use 7 of the 8 bits, -63 to 63: processors without VNNI add two products of an input (up
to 255) and a weight in 16 bits, and cut off what is larger, so that answers would depend on the
processor.
"""

import numpy as np
from onnx import NodeProto, TensorProto, helper

from attar.conversion.onnx_graph import MICROSOFT, Graph, attributes, linears

#: largest whole number of a weight of a linear layer, and of one that is only looked up
_LEVELS, _TABLE_LEVELS = 63, 127
#: smallest scale, that of float16
_LEAST = 2.0**-24
#: values from which on a constant is a weight
_FEW = 64


def to_int8(graph: Graph) -> None:
    """Linear layers and embedding tables in eight bits, other constants in float16."""
    _fuse_norms(graph)
    _linears(graph)
    _tables(graph)
    to_float16(graph)


def to_float16(graph: Graph) -> None:
    """Store all float constants in float16; everything is computed in float32.

    Vectors are one constant that is cut up when the file is loaded: a name and a type for each of
    them would take as many bytes as some of them have.
    """
    graph.sweep()
    floats = {
        name: values
        for name in graph.constants
        if (values := graph.values(name)) is not None and values.dtype == np.float32
    }
    vectors = {name: values for name, values in floats.items() if values.ndim == 1}
    head: list[NodeProto] = []
    if len(vectors) > 1:
        parts = list(vectors.values())
        cast = _stored(graph, np.concatenate(parts), nodes=head)
        widths = graph.add(np.array([len(part) for part in parts]))
        head.append(helper.make_node("Split", [cast, widths], list(vectors), axis=0))
        for name in vectors:
            del graph.constants[name]
    for name, values in floats.items():
        if name not in vectors and values.size >= _FEW:
            _stored(graph, values, nodes=head, name=name)
    graph.nodes = head + graph.nodes


def _stored(graph: Graph, values: np.ndarray, *, nodes: list[NodeProto], name: str = "") -> str:
    """Store a constant in float16, and cast it; in float32 where it holds values beyond."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        return name or graph.add(values)
    graph.constants.pop(name, None)
    name = name or graph.name()
    nodes.append(helper.make_node("Cast", [graph.add(half)], [name], to=TensorProto.FLOAT))
    return name


def _rounded(weight: np.ndarray, *, axis: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers, and the scale of each slice along the other axis, which float16 holds."""
    largest = np.abs(weight).max(axis=axis)
    with np.errstate(over="ignore"):
        scale = np.maximum(largest / levels, _LEAST).astype(np.float16).astype(np.float32)
    if not np.isfinite(scale).all():
        scale = largest / levels
    whole = np.rint(weight / np.expand_dims(scale, axis)).clip(-levels, levels)
    return whole.astype(np.int8), scale


def _linears(graph: Graph) -> None:
    changes: list[tuple[NodeProto, list[NodeProto]]] = []
    for nodes, weight, bias in linears(graph):
        if weight.size < _FEW:
            continue
        whole, scale = _rounded(weight, axis=0, levels=_LEVELS)
        inputs = [nodes[0].input[0], graph.add(whole), graph.add(scale), "", bias]
        new = helper.make_node(
            "DynamicQuantizeMatMul",
            inputs if bias else inputs[:3],
            list(nodes[-1].output),
            domain=MICROSOFT,
        )
        changes += [(node, []) for node in nodes[:-1]]
        changes.append((nodes[-1], [new]))
    graph.replace(changes)


def _tables(graph: Graph) -> None:
    changes: list[tuple[NodeProto, list[NodeProto]]] = []
    stored: dict[str, tuple[str, str]] = {}
    for node in graph.nodes:
        table = graph.values(node.input[0]) if node.op_type == "Gather" else None
        axes = len(graph.shape(node.output[0]))
        if (
            table is None
            or (table.ndim, table.dtype) != (2, np.float32)
            or table.size < _FEW
            or attributes(node).get("axis", 0) != 0
            or axes < 2
        ):
            continue
        if node.input[0] not in stored:
            whole, scale = _rounded(table, axis=0, levels=_TABLE_LEVELS)
            stored[node.input[0]] = graph.add(whole), graph.add(scale)
        whole, scale = stored[node.input[0]]
        rows = graph.name()
        new = [
            helper.make_node("Gather", [whole, node.input[1]], [rows]),
            helper.make_node("DequantizeLinear", [rows, scale], list(node.output), axis=axes - 1),
        ]
        changes.append((node, new))
    graph.replace(changes)


def _fuse_norms(graph: Graph) -> None:
    """One operator for a norm of a sum of two values of one shape."""
    makers, readers = graph.makers(), graph.readers()
    changes: list[tuple[NodeProto, list[NodeProto]]] = []
    for node in graph.nodes:
        if node.op_type != "LayerNormalization" or len(node.output) > 1:
            continue
        given = {"axis": -1, "epsilon": 1e-5} | attributes(node)
        total = makers.get(node.input[0])
        if total is None or total.op_type != "Add" or len(readers[total.output[0]]) > 1:
            continue
        shapes = [graph.shape(name) for name in total.input]
        if shapes[0] != shapes[1] or len(shapes[0]) != 3 or given["axis"] not in (-1, 2):
            continue
        new = helper.make_node(
            "SkipLayerNormalization",
            [*total.input, *node.input[1:]],
            list(node.output),
            domain=MICROSOFT,
            epsilon=given["epsilon"],
        )
        changes += [(total, []), (node, [new])]
    graph.replace(changes)
