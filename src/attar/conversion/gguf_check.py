"""Reading a GGUF file back, and comparing it with the model that it was written from."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import torch
from gguf import GGUFReader
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.checkpoint.gguf import ROPE_FACTORS
from attar.conversion.gguf import ROUNDING, Entry, restored, stored_form
from attar.conversion.gguf_shape import Quantize, Shape
from attar.errors import CompatibilityError, DataError
from attar.models import computing, damage_of, inference, positions_of

#: largest relative difference of logits, `|a - b| / |a|`: wrong names or rows give about 1.4, and
#: 8 bits move the logits of a model that was cut hard and not healed by 0.2
_LOGITS = {"f32": 1e-3, "f16": 0.05, "bf16": 0.3, "q8_0": 0.6, "q4_0": 0.9}
#: tokens of each row of the batch that is compared, and their text
_TOKENS = 32
_TEXT = (
    "The river rises in the mountains and reaches the sea after four hundred miles. In spring, "
    "when the snow melts, it carries more water than in all other months together. Towns on its "
    "banks have built walls against floods since the Middle Ages, and the oldest still stand."
)


def verify(
    path: Path,
    model: PreTrainedModel,
    *,
    batch: Tensor,
    logits: Tensor,
    shape: Shape,
    entries: list[Entry],
    quantize: Quantize,
) -> dict[str, float]:
    """Read a file back, replace the model's weights by those of the file, and compare the logits
    before and after.

    Args:
        path: the file.
        model: the model that it was written from; holds the weights of the file afterwards.
        batch: from `batch_of`.
        logits: from `logits_of`, of the model before.
        shape: from `shape_of`.
        entries: from `entries_of`.
        quantize: the type of most matrices.

    Returns:
        `positions` that were compared, `same_token`, the share of them with the same most likely
        next token, `largest_difference` of a logit, and `relative_difference` of all logits.

    Raises:
        CompatibilityError: the file holds another model.
    """
    weights = dict(model.named_parameters())
    for entry, stored, declared in _read(path, entries, shape):
        weight = weights[entry.source]
        expected = stored_form(weight, entry.name, shape=shape).cpu()
        error = float((expected - stored).norm())
        if not error <= ROUNDING[entry.kind] * float(expected.norm()):
            raise _mismatch(f"{entry.name} differs")
        weight.data.copy_(restored(stored, entry.name, shape=declared))
    after = logits_of(model, batch)
    relative = float((after - logits).norm() / logits.norm().clamp(min=1e-30))
    if not relative <= _LOGITS[quantize]:
        raise _mismatch(f"its logits differ by {relative:.2g} (relative)")
    return {
        "positions": logits.shape[0] * logits.shape[1],
        "same_token": float((after.argmax(-1) == logits.argmax(-1)).float().mean()),
        "largest_difference": float((after - logits).abs().max()),
        "relative_difference": relative,
    }


def _mismatch(what: str) -> CompatibilityError:
    return CompatibilityError(
        f"this model cannot be written as GGUF: the file was read back, and {what}; nothing was "
        "kept"
    )


def _read(path: Path, entries: list[Entry], shape: Shape) -> Iterator[tuple[Entry, Tensor, Shape]]:
    """Each tensor of a file in float32, with the shape that the file itself declares."""
    reader = GGUFReader(path)
    arch = reader.fields["general.architecture"].contents()
    there = {tensor.name: tensor for tensor in reader.tensors}
    if arch != shape.form.arch or set(there) - {ROPE_FACTORS} != {entry.name for entry in entries}:
        raise _mismatch("the list of its tensors differs")
    counts = {}
    for name in ("head_count", "head_count_kv"):
        value = reader.fields[f"{arch}.attention.{name}"].contents()
        counts[name] = tuple(value if isinstance(value, list) else [value] * len(shape.heads))
    declared = replace(shape, heads=counts["head_count"], kv_heads=counts["head_count_kv"])
    for entry in entries:
        tensor = there[entry.name]
        array = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        yield entry, torch.from_numpy(array.reshape(entry.shape).copy()), declared


def batch_of(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Tensor:
    """Two rows of ids of plain text, `(2, S)`: on random ids the next token means little."""
    length = min(_TOKENS, positions_of(model) or _TOKENS)
    ids: Any = tokenizer(_TEXT, add_special_tokens=False, verbose=False)["input_ids"]
    rows = (ids * (2 * length))[: 2 * length]
    return torch.tensor(rows, device=model.device).view(2, length)


def logits_of(model: PreTrainedModel, batch: Tensor) -> Tensor:
    """`(2, S, V)`, float32.

    Raises:
        DataError: a logit is not finite.
    """
    with computing(model), inference(model):
        logits = model(input_ids=batch).logits.float().cpu()
        if not bool(torch.isfinite(logits).all()):
            raise DataError(f"cannot export {model.name_or_path or 'this'}: {damage_of(model)}")
    return logits
