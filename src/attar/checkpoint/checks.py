"""What was written is what was measured: read it again and compare."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.checkpoint.loading import load
from attar.errors import CompatibilityError, DataError
from attar.models import inference, positions_of

#: tokens of the one row that both models read
TOKENS = 16
#: relative differences that kernels may make in float32; narrower types round more
ROUNDING = 1e-4


def require_same(folder: Path, written: PreTrainedModel, *, model: PreTrainedModel) -> None:
    """Load a checkpoint and compare it with the model in memory: every weight, and what comes out
    for a short text.

    Args:
        folder: what was written.
        written: the model that was written, whose weights must have stayed as they are.
        model: the one that was measured, whose outputs must have; mostly the same.

    Raises:
        CompatibilityError: it cannot be loaded, or is another model.
    """
    try:
        again = load(folder, trust_remote_code=written.is_remote_code())
    except DataError as error:
        raise _refusal(
            f"what was written does not load again ({error.__cause__ or error})"
        ) from None
    stored = written.state_dict()
    for name, tensor in again.state_dict().items():
        if name not in stored or not _equal(stored[name], tensor):
            raise _refusal(f"loaded again, its {name} differs")
    again.load_state_dict(stored, strict=False, assign=True)  # which frees the second copy
    for name, gap in _gaps(model, again.to(model.device)).items():  # pyright: ignore[reportArgumentType]
        if gap > max(ROUNDING, 16 * torch.finfo(model.dtype).eps):
            raise _refusal(f"loaded again, its {name} differ by {gap:.2g} of their size")


def _refusal(found: str) -> CompatibilityError:
    return CompatibilityError(
        f"this model cannot be saved for transformers, whose classes do not build it from its "
        f"config.json: {found}; nothing was kept, so cut or change the model otherwise"
    )


def _equal(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two tensors hold the same values, in the type that was read; NaN equals NaN."""
    same = ours.shape == theirs.shape
    return same and torch.allclose(ours.to(theirs), theirs, rtol=0, atol=0, equal_nan=True)


def _gaps(model: PreTrainedModel, again: PreTrainedModel) -> dict[str, float]:
    """The relative difference of each output for one row of tokens, `|a - b| / |a|`."""
    vocabulary = len(model.get_input_embeddings().weight)  # pyright: ignore[reportArgumentType]
    length = min(TOKENS, positions_of(model) or TOKENS)
    ids = (torch.arange(length, device=model.device) * 7919 % vocabulary)[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        head: Any = model.get_output_embeddings()  # whose vocabulary may be another
        inputs["decoder_input_ids"] = ids if head is None else ids % len(head.weight)
    with inference(model), inference(again):
        first, second = (m(**inputs, return_dict=True) for m in (model, again))
    gaps = {}
    for name in first.keys() & second.keys():
        if isinstance(first[name], Tensor):
            a, b = (out[name].double().nan_to_num(0, 0, 0) for out in (first, second))
            gaps[name] = float((a - b).norm() / a.norm().clamp(min=1e-30))
    return gaps
