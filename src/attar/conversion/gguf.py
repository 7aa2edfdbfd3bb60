"""A decoder as a GGUF file for llama.cpp, tensor by tensor, and back.

What the format's documentation does not say, and tests in llama.cpp itself showed: its
architectures `llama`, `deci`, `granite` and `smollm3` rotate neighbouring channels of a head, where
transformers rotates its two halves, so the rows of queries and keys are permuted within each head;
the norms of Gemma are stored with the 1 that its class adds to them; tensors of one dimension are
read in float32.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFWriter, LlamaFileType
from torch import Tensor
from transformers import PreTrainedModel

from attar.checkpoint.gguf import ROPE_FACTORS
from attar.conversion.gguf_shape import Quantize, Shape
from attar.errors import CompatibilityError, ResourceError

_FILE_TYPES: Mapping[str, LlamaFileType] = {
    "f32": LlamaFileType.ALL_F32,
    "f16": LlamaFileType.MOSTLY_F16,
    "bf16": LlamaFileType.MOSTLY_BF16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
    "q4_0": LlamaFileType.MOSTLY_Q4_0,
}
#: quantisation steps from zero to the largest weight of a block
_STEPS = {Kind.Q8_0: 127, Kind.Q4_0: 8}
#: largest relative error of a tensor, `|a - b| / |a|`, that rounding to a type can make
ROUNDING = {Kind.F32: 1e-6, Kind.F16: 2e-3, Kind.BF16: 1e-2, Kind.Q8_0: 0.03, Kind.Q4_0: 0.25}
_EMBEDDINGS = ("token_embd.weight", "output.weight")
_BYTES = np.dtype(np.uint8)
_HEADS = re.compile(r"blk\.(\d+)\.attn_([qk])\.")


@dataclass(frozen=True)
class Entry:
    """A tensor as it goes into the file."""

    name: str  # in the file
    source: str  # of the parameter in the model
    kind: Kind
    shape: tuple[int, ...]

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape with bytes, not weights, along the last axis."""
        return gguf.quant_shape_to_byte_shape(self.shape, self.kind)

    @property
    def bytes(self) -> int:
        """Its size in the file."""
        return math.prod(self.stored_shape)


def entries_of(model: PreTrainedModel, shape: Shape, *, quantize: Quantize) -> list[Entry]:
    """Name and type of every tensor of the file. A matrix whose row length or values do not suit
    the type is kept in float16, and one with values beyond float16 in float32.

    Raises:
        CompatibilityError: llama.cpp's architecture lacks one of the parameters.
    """
    arch = next(n for n, name in gguf.MODEL_ARCH_NAMES.items() if name == shape.form.arch)
    names = gguf.get_tensor_name_map(arch, len(shape.heads))
    entries = []
    for source, weight in model.named_parameters():
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise CompatibilityError(
                f"cannot write {source} as GGUF: llama.cpp's architecture {shape.form.arch} has "
                "no such tensor"
            )
        kind = _kind(name, weight, quantize)
        entries.append(Entry(name, source, kind, tuple(weight.shape)))
    return entries


def _kind(name: str, weight: Tensor, quantize: Quantize) -> Kind:
    if weight.dim() == 1:
        return Kind.F32
    kind = Kind[quantize.upper()]
    if kind is Kind.Q4_0 and name in _EMBEDDINGS:  # where four bits cost most
        kind = Kind.Q8_0
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    if kind in _STEPS and (weight.shape[-1] % block or not _fits_half(_scales(weight, kind))):
        kind = Kind.F16
    if kind is Kind.F16 and not _fits_half(weight.detach()):
        kind = Kind.F32
    return kind


def _scales(weight: Tensor, kind: Kind) -> Tensor:
    """The scale of each block, which is stored in float16."""
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    return weight.detach().abs().unflatten(-1, (-1, block)).amax(-1) / _STEPS[kind]


def _fits_half(numbers: Tensor) -> bool:
    """Whether float16 holds them up to rounding: none is too large, and not all are too small."""
    numbers = numbers.float()
    error = float((numbers.half().float() - numbers).norm())
    return error <= ROUNDING[Kind.F16] * float(numbers.norm())


def coarser(entries: list[Entry], quantize: Quantize) -> dict[str, list[str]]:
    """Names of the matrices that are not stored in the type that was asked for, by their type."""
    kept: dict[str, list[str]] = {}
    for entry in entries:
        wanted = Kind[quantize.upper()]
        if len(entry.shape) > 1 and entry.kind is not wanted and entry.name not in _EMBEDDINGS:
            kept.setdefault(entry.kind.name, []).append(entry.name)
    return kept


def write(
    path: Path,
    model: PreTrainedModel,
    *,
    shape: Shape,
    entries: list[Entry],
    metadata: Mapping[str, Any],
    quantize: Quantize,
) -> None:
    """Write the file, with one tensor at a time in memory.

    Args:
        path: a new file.
        model: the source of the weights.
        shape: from `shape_of`.
        entries: from `entries_of`.
        metadata: what else the file says, by key: name, licence, tokenizer (`vocabulary_of`).
        quantize: the type of most matrices.

    Raises:
        ResourceError: the disk is full.
    """
    writer = GGUFWriter(path, shape.form.arch)
    try:
        writer.add_file_type(_FILE_TYPES[quantize])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for key, value in shape.values.items():
            _add(writer, f"{shape.form.arch}.{key}", value)
        for key, value in metadata.items():
            _add(writer, key, value)
        factors = shape.rope_factors
        extra = [] if factors is None else [Entry(ROPE_FACTORS, "", Kind.F32, tuple(factors.shape))]
        for entry in [*extra, *entries]:
            stored = entry.stored_shape
            writer.add_tensor_info(entry.name, stored, _BYTES, entry.bytes, raw_dtype=entry.kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors.numpy())
        weights = dict(model.named_parameters())
        for entry in entries:
            array = stored_form(weights[entry.source], entry.name, shape=shape).cpu().numpy()
            writer.write_tensor_data(gguf.quants.quantize(array, entry.kind))
    except OSError as error:  # NumPy says how much it wrote, but not why it stopped
        raise ResourceError(
            f"writing {path.name!r} stopped ({error}); make room on the disk and try again"
        ) from error
    finally:
        writer.close()


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        if not 0 <= value < 2**32:
            raise CompatibilityError(
                f"a GGUF file holds whole numbers below 2**32, and {key} of this model is {value}; "
                "correct its config.json"
            )
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


# ------------------------------------------------------------------------------------- the weights


def stored_form(weight: Tensor, name: str, *, shape: Shape) -> Tensor:
    """A parameter as the file stores it, in float32."""
    weight = weight.detach().float()
    if name.endswith("norm.weight"):
        weight = weight + shape.form.norm_offset
    if heads := _rotated(name, shape):
        weight = weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(weight.shape)
    return (weight * _scale(name, shape)).contiguous()


def restored(stored: Tensor, name: str, *, shape: Shape) -> Tensor:
    """The parameter that a tensor of the file was made from: the inverse of `stored_form`."""
    weight = stored / _scale(name, shape)
    if heads := _rotated(name, shape):
        weight = weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(weight.shape)
    if name.endswith("norm.weight"):
        weight = weight - shape.form.norm_offset
    return weight


def _rotated(name: str, shape: Shape) -> int | None:
    """The number of heads in a tensor whose rows are permuted; None: they are not."""
    match = _HEADS.match(name) if shape.form.pairs else None
    if match is None:
        return None
    return (shape.heads if match[2] == "q" else shape.kv_heads)[int(match[1])]


def _scale(name: str, shape: Shape) -> float:
    """The factor by which a tensor is multiplied, so that queries come out scaled."""
    scaled = "attn_q_norm." if shape.form.arch == "gemma3" else "attn_q."
    return shape.query_scale if scaled in name else 1.0
