"""The graph of an ONNX file: read, made smaller without another result, and written.

What torch traces of an encoder is one node for each operation of each module, with names and the
lines of source code that each came from: 100 kB and more a layer. Here heads are split and joined
by the attention itself, linear layers that read the same input become one, and nothing is kept that
does not compute.
"""

from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, defs, helper, numpy_helper
from onnx.helper import get_attribute_value

#: domain of the operators of onnxruntime itself
MICROSOFT = "com.microsoft"
#: one protobuf message ends at 2 GB
ONE_FILE = 1_500_000_000
_HEADS = (0, 2, 1, 3)  # (B, T, heads, size) to (B, heads, T, size), and back
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Graph:
    """A model file whose nodes and constants can be replaced.

    Attributes:
        nodes: in the order in which they are computed.
        constants: tensors that are stored in the file, by name.
    """

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.constants: dict[str, TensorProto] = {t.name: t for t in model.graph.initializer}
        self.inputs = [value.name for value in model.graph.input]
        self.outputs = [value.name for value in model.graph.output]
        self._shapes = {
            value.name: tuple(d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim)
            for value in (*model.graph.value_info, *model.graph.input)
        }
        self._fresh = (f"_{letters}" for letters in _short())

    @classmethod
    def read(cls, path: Path) -> "Graph":
        """The graph of a file, with its weights."""
        return cls(onnx.load(path))

    def shape(self, name: str) -> tuple[int | str, ...]:
        """Sizes of a value as they were traced, numbers or names; empty where unknown."""
        return self._shapes.get(name, ())

    def values(self, name: str) -> np.ndarray | None:
        """The values of a constant; None where it is computed."""
        found = self.constants.get(name)
        return None if found is None else numpy_helper.to_array(found)

    def add(self, values: np.ndarray) -> str:
        """The name of a new constant."""
        name = self.name()
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def name(self) -> str:
        """The name of a new value."""
        return next(self._fresh)

    def makers(self) -> dict[str, NodeProto]:
        """The node that computes each value."""
        return {name: node for node in self.nodes for name in node.output}

    def readers(self) -> dict[str, list[NodeProto]]:
        """The nodes that read each value; an output of the model is read by one more."""
        found: dict[str, list[NodeProto]] = {}
        for node in (*self.nodes, NodeProto(input=self.outputs)):
            for name in dict.fromkeys(node.input):
                found.setdefault(name, []).append(node)
        return found

    def replace(self, changes: Iterable[tuple[NodeProto, list[NodeProto]]]) -> None:
        """Put other nodes, or none, where some are."""
        new = {id(old): nodes for old, nodes in changes}
        self.nodes = [one for node in self.nodes for one in new.get(id(node), [node])]

    def model(self) -> ModelProto:
        """The whole without what is never computed or read, under short names."""
        self.sweep()
        names = _short()
        short = {name: name for name in (*self.inputs, *self.outputs)} | {"": ""}
        for node in self.nodes:
            for one in (*node.input, *node.output):
                if one not in short:
                    short[one] = next(name for name in names if name not in short)
        version = {each.domain: each.version for each in self._model.opset_import}
        domains = sorted({node.domain for node in self.nodes})
        graph = helper.make_graph(
            [_bare(node, short, version.get(node.domain, 1)) for node in self.nodes],
            "g",
            [_plain(value) for value in self._model.graph.input],
            [_plain(value) for value in self._model.graph.output],
            [_renamed(tensor, short[name]) for name, tensor in self.constants.items()],
        )
        opsets = [helper.make_opsetid(domain, version.get(domain, 1)) for domain in domains]
        model = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = self._model.ir_version
        model.producer_name = ""
        return model

    def write(self, path: Path) -> None:
        """Write `model`, with its weights beside it where they are too many for one file."""
        model, beside = self.model(), path.with_name(f"{path.name}.data")
        path.unlink(missing_ok=True)
        beside.unlink(missing_ok=True)
        heavy = sum(len(tensor.raw_data) for tensor in self.constants.values()) > ONE_FILE
        onnx.save(model, path, save_as_external_data=heavy, location=beside.name)

    def sweep(self) -> None:
        """Drop nodes and constants that no output depends on."""
        needed, kept = set(self.outputs), []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(node)
        self.nodes = kept[::-1]
        self.constants = {n: tensor for n, tensor in self.constants.items() if n in needed}


def parts_of(path: Path) -> dict[str, int]:
    """Where the bytes of a file are.

    Returns:
        Bytes of `matrices`, of `vectors` (biases, norms, scales: constants with fewer than two
        axes) and of the `graph`: everything that is no value of either. They sum up to the file.
    """
    model, found = onnx.load(path), {"matrices": 0, "vectors": 0}
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.INT64:
            found["matrices" if len(tensor.dims) > 1 else "vectors"] += len(tensor.raw_data)
    whole = sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))
    return found | {"graph": whole - sum(found.values())}


def slim(graph: Graph) -> None:
    """Fewer nodes that compute the same."""
    _drop_lone_rows(graph)
    _fold_heads(graph)
    _join_linears(graph)


def attributes(node: NodeProto) -> dict[str, object]:
    """The attributes of a node by name."""
    return {each.name: get_attribute_value(each) for each in node.attribute}


def linears(graph: Graph) -> Iterator[tuple[list[NodeProto], np.ndarray, str]]:
    """Linear layers: their nodes, weight `(inputs, outputs)` and the name of the bias, empty where
    there is none."""
    readers = graph.readers()
    for node in graph.nodes:
        weight = graph.values(node.input[1]) if node.op_type in ("MatMul", "Gemm") else None
        if weight is None or weight.ndim != 2 or weight.dtype != np.float32:
            continue
        if node.op_type == "Gemm":
            given = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | attributes(node)
            bias = node.input[2] if len(node.input) > 2 else ""
            plain = (given["alpha"], given["beta"], given["transA"]) == (1.0, 1.0, 0)
            if plain and _is_vector(
                graph, bias, most=(1, weight.shape[0 if given["transB"] else 1])
            ):
                yield [node], weight.T if given["transB"] else weight, bias
            continue
        after = readers.get(node.output[0], [])
        if len(after) == 1 and after[0].op_type == "Add":
            other = [name for name in after[0].input if name != node.output[0]]
            if (
                other
                and other[0] in graph.constants
                and _is_vector(graph, other[0], most=weight.shape)
            ):
                yield [node, after[0]], weight, other[0]
                continue
        yield [node], weight, ""


def _is_vector(graph: Graph, name: str, *, most: tuple[int, ...]) -> bool:
    """Whether a bias is absent, or a constant with one value for each output."""
    if not name:
        return True
    values = graph.values(name)
    return values is not None and values.shape == most[1:]


def _drop_lone_rows(graph: Graph) -> None:
    """A look-up in a table of one row, as of the types of tokens in RoBERTa, is that row."""
    readers = graph.readers()
    changes: list[tuple[NodeProto, list[NodeProto]]] = []
    for node in graph.nodes:
        table = graph.values(node.input[0]) if node.op_type == "Gather" else None
        if table is None or table.ndim != 2 or len(table) != 1 or attributes(node).get("axis", 0):
            continue
        shape, after = graph.shape(node.output[0]), readers.get(node.output[0], [])
        others = [[name for name in each.input if name != node.output[0]] for each in after]
        if not shape or not all(
            each.op_type == "Add" and len(names) == 1 and graph.shape(names[0]) == shape
            for each, names in zip(after, others, strict=True)
        ):
            continue
        row = graph.add(table[0])
        changes += [
            (each, [helper.make_node("Add", [names[0], row], list(each.output))])
            for each, names in zip(after, others, strict=True)
        ]
        changes.append((node, []))
    graph.replace(changes)


def _fold_heads(graph: Graph) -> None:
    """Attention that splits its inputs into heads, and joins them, by itself."""
    makers, readers = graph.makers(), graph.readers()

    def split(name: str) -> str | None:
        """What was split into heads."""
        turned = makers.get(name)
        if turned is None or turned.op_type != "Transpose" or not _turns(turned):
            return None
        cut = makers.get(turned.input[0])
        return cut.input[0] if cut is not None and cut.op_type == "Reshape" else None

    changes: list[tuple[NodeProto, list[NodeProto]]] = []
    for node in graph.nodes:
        if node.op_type != "Attention" or node.domain or len(node.input) > 4:
            continue
        heads = [graph.shape(name)[1:2] for name in node.input[:2]]
        sources = [split(name) for name in node.input[:3]]
        turned = readers.get(node.output[0], [])
        joined = readers.get(turned[0].output[0], []) if len(turned) == 1 else []
        if (
            None in sources
            or not all(len(n) == 1 and isinstance(n[0], int) for n in heads)
            or len(joined) != 1
            or (turned[0].op_type, joined[0].op_type) != ("Transpose", "Reshape")
            or not _turns(turned[0])
            or len(graph.shape(joined[0].output[0])) != 3
        ):
            continue
        whole = NodeProto()
        whole.CopyFrom(node)
        whole.input[:3] = [name or "" for name in sources]
        whole.output[:] = joined[0].output
        counts = zip(("q_num_heads", "kv_num_heads"), heads, strict=True)
        whole.attribute.extend(helper.make_attribute(name, n[0]) for name, n in counts)
        changes += [(node, []), (turned[0], []), (joined[0], [whole])]
    graph.replace(changes)


def _turns(node: NodeProto) -> bool:
    return tuple(attributes(node).get("perm", ())) == _HEADS  # pyright: ignore[reportArgumentType]


def _join_linears(graph: Graph) -> None:
    """One product for the linear layers that read the same input, as query, key and value do."""
    groups: dict[tuple[str, bool], list[tuple[list[NodeProto], np.ndarray, str]]] = {}
    for found in linears(graph):
        node = found[0][0]
        if node.op_type == "MatMul":
            groups.setdefault((node.input[0], bool(found[2])), []).append(found)
    changes: list[tuple[NodeProto, list[NodeProto]]] = []
    for (source, has_bias), group in groups.items():
        if len(group) == 1:
            continue
        weight = graph.add(np.concatenate([weight for _, weight, _ in group], axis=1))
        product, whole = graph.name(), graph.name()
        new = [helper.make_node("MatMul", [source, weight], [product])]
        if has_bias:
            biases = [numpy_helper.to_array(graph.constants[name]) for _, _, name in group]
            new.append(
                helper.make_node("Add", [product, graph.add(np.concatenate(biases))], [whole])
            )
        widths = graph.add(np.array([weight.shape[1] for _, weight, _ in group]))
        outputs = [nodes[-1].output[0] for nodes, _, _ in group]
        new.append(helper.make_node("Split", [new[-1].output[0], widths], outputs, axis=-1))
        first, *others = [node for nodes, _, _ in group for node in nodes]
        changes += [(first, new), *((node, []) for node in others)]
    graph.replace(changes)


def _short() -> Iterator[str]:
    """a, b, ..., aa, ab, ..."""
    for length in count(1):
        for index in range(len(_LETTERS) ** length):
            letters = []
            for _ in range(length):
                index, letter = divmod(index, len(_LETTERS))
                letters.append(_LETTERS[letter])
            yield "".join(reversed(letters))


def _bare(node: NodeProto, names: dict[str, str], version: int) -> NodeProto:
    """The node without its name, its notes, and attributes that have their default value."""
    new = NodeProto(op_type=node.op_type, domain=node.domain)
    new.input.extend(names[name] for name in node.input)
    new.output.extend(names[name] for name in node.output)
    known = {} if node.domain else defs.get_schema(node.op_type, version, "").attributes
    for each in node.attribute:
        default = known[each.name].default_value if each.name in known else None
        value = get_attribute_value(each)
        if default is None or not default.name or get_attribute_value(default) != value:
            new.attribute.append(helper.make_attribute(each.name, value))
    return new


def _plain(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """An input or output without notes."""
    new = onnx.ValueInfoProto(name=value.name)
    new.type.CopyFrom(value.type)
    return new


def _renamed(tensor: TensorProto, name: str) -> TensorProto:
    new = TensorProto()
    if tensor.data_type == TensorProto.INT64:  # a byte or two for each, not eight
        values = numpy_helper.to_array(tensor)
        return helper.make_tensor(name, TensorProto.INT64, values.shape, values.ravel().tolist())
    new.CopyFrom(tensor)
    new.ClearField("doc_string")
    del new.metadata_props[:]
    new.name = name
    return new
