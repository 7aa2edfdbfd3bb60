"""A graph that was made smaller computes the same, and in eight bits nearly so."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from attar.conversion.onnx_graph import Graph, parts_of, slim
from attar.conversion.onnx_quantise import to_float16, to_int8

RNG = np.random.default_rng(0)
HEADS, SIZE, WIDTH, ROWS = 2, 8, 16, 20


def matrix(*shape: int) -> np.ndarray:
    return (0.3 * RNG.standard_normal(shape)).astype(np.float32)


def encoder(*, perm: tuple[int, ...] = (0, 2, 1, 3), types: int = 1) -> ModelProto:
    """Embeddings, attention and norm as torch traces them, with names and notes."""
    constants: dict[str, Any] = {
        "words": matrix(ROWS, WIDTH),
        "types": matrix(types, WIDTH),
        "shape": np.array([0, 0, HEADS, SIZE]),
        "flat": np.array([0, 0, WIDTH]),
        "zero": np.array(0),
        **{f"{name}.weight": matrix(WIDTH, WIDTH) for name in "qkvo"},
        **{f"{name}.bias": matrix(WIDTH) for name in "qkvo"},
        "gain": 1 + matrix(WIDTH),
        "shift": matrix(WIDTH),
    }

    def linear(source: str, name: str) -> list[Any]:
        return [
            helper.make_node("MatMul", [source, f"{name}.weight"], [f"{name}.product"]),
            helper.make_node("Add", [f"{name}.product", f"{name}.bias"], [name]),
        ]

    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["word"], axis=0),
        helper.make_node("Mul", ["input_ids", "zero"], ["type_ids"]),
        helper.make_node("Gather", ["types", "type_ids"], ["type"], axis=0),
        helper.make_node("Add", ["word", "type"], ["embedding"]),
    ]
    for name in "qkv":
        nodes += linear("embedding", name)
        nodes.append(helper.make_node("Reshape", [name, "shape"], [f"{name}.cut"], allowzero=0))
        nodes.append(helper.make_node("Transpose", [f"{name}.cut"], [f"{name}.heads"], perm=perm))
    nodes.append(
        helper.make_node(
            "Attention", [f"{name}.heads" for name in "qkv"], ["mixed"], is_causal=0, softcap=0.0
        )
    )
    nodes.append(helper.make_node("Transpose", ["mixed"], ["turned"], perm=perm))
    nodes.append(helper.make_node("Reshape", ["turned", "flat"], ["joined"], allowzero=0))
    nodes += linear("joined", "o")
    nodes.append(helper.make_node("Add", ["o", "embedding"], ["sum"]))
    nodes.append(
        helper.make_node("LayerNormalization", ["sum", "gain", "shift"], ["hidden"], epsilon=1e-5)
    )
    for i, node in enumerate(nodes):
        node.name, node.doc_string = f"node {i}", "from a line of code " * 50
    three, four = ["B", "T", WIDTH], ["B", HEADS, "T", SIZE]
    shapes = dict.fromkeys(("word", "type", "embedding", "o", "joined"), three)
    shapes |= {f"{name}.heads": four for name in "qkv"}
    graph = helper.make_graph(
        nodes,
        "traced",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "T"])],
        [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, three)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
        value_info=[
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def answer(model: ModelProto | Path, ids: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    given = model.SerializeToString() if isinstance(model, ModelProto) else model
    session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input_ids": ids})[0])


IDS = RNG.integers(0, ROWS, (3, 5))


def kinds(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_a_slim_graph_computes_the_same(tmp_path: Path) -> None:
    model, path = encoder(), tmp_path / "model.onnx"
    graph = Graph(model)
    slim(graph)
    graph.write(path)
    np.testing.assert_allclose(answer(path, IDS), answer(model, IDS), atol=1e-6)
    # one product for query, key and value; no look-up of the only type; heads cut by attention
    whole = ["Gather", "Add", "MatMul", "Add", "Split", "Attention", "MatMul", "Add", "Add"]
    assert kinds(path) == [*whole, "LayerNormalization"]
    parts, bare = parts_of(path), onnx.load(path)
    assert sum(parts.values()) == path.stat().st_size
    assert parts["matrices"] == 4 * (ROWS * WIDTH + 4 * WIDTH * WIDTH)
    assert parts["vectors"] == 4 * WIDTH * (4 + 2 + 1)
    assert parts["graph"] < 900 < len(model.SerializeToString()) - sum(parts.values())
    assert not any(node.name or node.doc_string for node in bare.graph.node)
    assert [value.name for value in bare.graph.input] == ["input_ids"]
    given = {node.op_type: [each.name for each in node.attribute] for node in bare.graph.node}
    assert sorted(given["Attention"]) == ["kv_num_heads", "q_num_heads"]  # no defaults
    assert (given["Split"], given["LayerNormalization"]) == (["axis"], [])


def test_what_does_not_fit_stays(tmp_path: Path) -> None:
    """Two types of tokens are looked up, and heads in another order are left alone."""
    other = (0, 1, 2, 3)
    for changes in ({"types": 2}, {"perm": other}):
        model, path = encoder(**changes), tmp_path / "model.onnx"  # pyright: ignore[reportArgumentType]
        graph = Graph(model)
        slim(graph)
        graph.write(path)
        np.testing.assert_allclose(answer(path, IDS), answer(model, IDS), atol=1e-6)
        assert kinds(path).count("Gather") == changes.get("types", 1)
        assert kinds(path).count("Reshape") == (4 if "perm" in changes else 0)


def test_weights_in_eight_bits(tmp_path: Path) -> None:
    model, path = encoder(), tmp_path / "model.onnx"
    graph = Graph(model)
    slim(graph)
    to_int8(graph)
    graph.write(path)
    exact, rounded = answer(model, IDS), answer(path, IDS)
    error = np.linalg.norm(exact - rounded) / np.linalg.norm(exact)
    assert 0 < error < 0.03
    parts = parts_of(path)
    assert parts["matrices"] == ROWS * WIDTH + 4 * WIDTH * WIDTH
    # biases, norms, and one scale for each output and each column, in two bytes each
    assert parts["vectors"] == 2 * WIDTH * (4 + 2 + 1 + 4 + 1)
    assert kinds(path).count("DynamicQuantizeMatMul") == 2
    assert "SkipLayerNormalization" in kinds(path)
    stored = [numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer]
    products = [each for each in stored if each.dtype == np.int8 and each.shape[0] == WIDTH]
    # what processors without VNNI add up in 16 bits: two products of an input and a weight
    assert max(int(np.abs(each.astype(int)).max()) for each in products) * 255 * 2 < 2**15
    assert np.abs(products[0].astype(int)).max(axis=0).min() >= 62  # a scale for each output


def test_two_bytes_for_each_weight(tmp_path: Path) -> None:
    model, path = encoder(), tmp_path / "model.onnx"
    graph = Graph(model)
    slim(graph)
    to_float16(graph)
    graph.write(path)
    np.testing.assert_allclose(answer(path, IDS), answer(model, IDS), atol=5e-3)
    weights = sum(each.size for each in map(numpy_helper.to_array, model.graph.initializer))
    whole = parts_of(path)
    counts = 4 + 3 + 1  # of shapes
    assert whole["matrices"] + whole["vectors"] == 2 * (weights - counts)
    assert kinds(path).count("Split") == 2  # of vectors, and of query, key and value


@given(st.sampled_from(["words", "q.weight", "gain", "o.bias"]), st.sampled_from([1e5, 1e30, 1e-9]))
def test_values_that_float16_cannot_hold(name: str, scale: float) -> None:
    """They stay in float32, or have a scale that holds them."""
    model = encoder()
    tensor = next(each for each in model.graph.initializer if each.name == name)
    values = numpy_helper.to_array(tensor) * np.float32(scale)
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    exact = answer(model, IDS)
    for change in (to_int8, to_float16):
        graph = Graph(ModelProto.FromString(model.SerializeToString()))
        slim(graph)
        change(graph)
        found = answer(graph.model(), IDS)
        assert np.isfinite(found).all() == np.isfinite(exact).all()


@pytest.mark.parametrize("count", [1, 60, 3000])
def test_names_are_short_and_differ(count: int, tmp_path: Path) -> None:
    names = [f"a long name of value {i}" for i in range(count)]
    nodes = [
        helper.make_node("Neg", [a], [b]) for a, b in zip(["a", *names], [*names, "b"], strict=True)
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "ab"]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    small = Graph(model).model()
    made = [name for node in small.graph.node for name in node.output]
    assert len(set(made)) == count + 1
    assert max(map(len, made)) <= (2 if count < 2000 else 3)
    assert (small.graph.input[0].name, small.graph.output[0].name) == ("a", "b")
