"""Teacher forcing: what a model says of texts that are there already, in one pass."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.decode.cache import takes_positions
from attar.decode.sampling import starts

Ids = Sequence[int]

_INPUTS = ("input_ids", "attention_mask", "position_ids", "decoder_input_ids")


def batch_of(
    model: PreTrainedModel, *, prompts: Sequence[Ids], completions: Sequence[Ids]
) -> dict[str, Tensor]:
    """Prompts and what follows them, B of each, for `answers`.

    A decoder's prompts are padded in front and completions behind, so that all completions begin in
    one column; an encoder-decoder reads the prompts with its encoder.

    Returns:
        `mask`, true where a completion has a token, (B, C); and the inputs of a forward pass.
    """
    after, mask = padded(completions, behind=True)
    begun = starts(model, prompts)
    if model.config.is_encoder_decoder:
        ids, known = padded(prompts, behind=True)
        decoder = torch.cat([torch.tensor(begun, device="cpu"), after], 1)
        inputs = {"input_ids": ids, "attention_mask": known.long(), "decoder_input_ids": decoder}
    else:
        before, known = padded(begun, behind=False)
        whole = torch.cat([known, mask], 1)
        inputs = {
            "input_ids": torch.cat([before, after], 1),
            "attention_mask": whole.long(),
            "position_ids": (whole.cumsum(1) - 1).clamp_min(0),
        }
    return inputs | {"mask": mask}


def answers(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Logits of a model for each token of the completions, (B, C, V); where `mask` is false they
    mean nothing."""
    count = batch["mask"].shape[1]
    coder: Any = model
    inputs: dict[str, Any] = {name: batch[name] for name in _INPUTS if name in batch}
    if not takes_positions(coder):
        inputs.pop("position_ids", None)
    # An id that the model does not have is read as another, as in decoding.
    most = coder.config.get_text_config(decoder=True).vocab_size - 1
    for name in ("input_ids", "decoder_input_ids"):
        if name in inputs:
            inputs[name] = inputs[name].clamp_max(most)
    if coder._supports_logits_to_keep():
        inputs["logits_to_keep"] = count + 1  # those of the prompt would take most of the memory
    return coder(**inputs, use_cache=False).logits[:, -count - 1 : -1]


def padded(rows: Sequence[Ids], *, behind: bool, padding: int = 0) -> tuple[Tensor, Tensor]:
    """Ids and whether they are, both (B, T), on the processor."""
    longest = max(map(len, rows))
    gaps = [longest - len(row) for row in rows]
    filled, known = [], []
    for row, gap in zip(rows, gaps, strict=True):
        missing, there = [padding] * gap, [True] * len(row)
        filled.append([*row, *missing] if behind else [*missing, *row])
        known.append([*there, *[False] * gap] if behind else [*[False] * gap, *there])
    ids = torch.tensor(filled, dtype=torch.long, device="cpu")
    return ids, torch.tensor(known, dtype=torch.bool, device="cpu")
