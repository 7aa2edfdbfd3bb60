"""Plain decoding of many prompts at once, each with random numbers of its own.

What a prompt becomes depends on its seed alone (but for rounding), and so not on its neighbours in
the batch, as training on generated text needs: a resumed run, or one that splits its batches
otherwise, sees the same texts.
"""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.decode.cache import cached
from attar.decode.distributions import Uniforms, draw
from attar.errors import ConfigError, TrainingDivergedError
from attar.models import inference, rotation_changes


def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    seeds: Sequence[int],
    temperature: float = 1.0,
    stops: Collection[int] = (),
) -> list[list[int]]:
    """Continue each prompt, from the whole distribution of the model.

    Args:
        model: a decoder; or an encoder-decoder, which reads the prompts with its encoder.
        prompts: token ids, at least one each.
        max_new_tokens: of a prompt, at most.
        seeds: of the random numbers of each prompt.
        temperature: 0 takes the likeliest token.
        stops: tokens after which a text ends; they belong to it.

    Returns:
        The new tokens of each prompt.

    Raises:
        ConfigError: the rotary embeddings of the model may change within a text.
        TrainingDivergedError: the model gives no numbers, as one whose training diverged.
    """
    texts = [list(row) for row in starts(model, prompts)]
    lengths = [len(text) for text in texts]
    longest = max(lengths) + max_new_tokens
    if rotation_changes(model, prompt=min(lengths), length=longest):
        raise ConfigError(
            f"the rotary embeddings of {model.config.model_type} change with the length of a text, "
            f"and may do so within these, of {min(lengths)} to {longest} tokens; lower "
            "max_new_tokens"
        )
    uniforms = Uniforms([torch.Generator().manual_seed(seed) for seed in seeds])
    active = list(range(len(texts)))
    with inference(model):
        reader = cached(model, len(texts), **encoded(model, prompts))
        for left in reversed(range(max_new_tokens)):
            logits = reader.score([texts[r] for r in active], counts=[1] * len(active))[:, -1]
            tokens = _next(logits.float(), uniforms, temperature=temperature)
            going = []
            for i, (row, token) in enumerate(zip(active, tokens.tolist(), strict=True)):
                texts[row].append(token)
                if token not in stops:
                    going.append(i)
            if not (going and left):
                break
            if len(going) < len(active):
                active = [active[i] for i in going]
                reader.select(going)
                uniforms.select(going)
    return [text[length:] for text, length in zip(texts, lengths, strict=True)]


def _next(logits: Tensor, uniforms: Uniforms, *, temperature: float) -> Tensor:
    """The next token of each row, `(B,)`, from logits `(B, V)`."""
    if torch.isnan(logits).any():
        raise TrainingDivergedError(
            "no text can be drawn from a model whose logits are not numbers; if it is in "
            "training, lower learning_rate or raise warmup_steps"
        )
    if not temperature:
        return logits.argmax(-1)
    numbers = uniforms.take([1] * len(logits))[:, 0].to(logits.device)
    return draw((logits / temperature).softmax(-1), numbers)


def starts(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """What the decoder begins with: the prompts, or where an encoder reads them one start token."""
    if not model.config.is_encoder_decoder:
        return [list(prompt) for prompt in prompts]
    return [[int(model.config.decoder_start_token_id)] for _ in prompts]


def encoded(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> dict[str, Any]:
    """What every pass of an encoder-decoder is given besides tokens: its reading of the prompts."""
    if not model.config.is_encoder_decoder:
        return {}
    longest = max(map(len, prompts))
    gaps = [[0] * (longest - len(prompt)) for prompt in prompts]
    ids = [[*prompt, *gap] for prompt, gap in zip(prompts, gaps, strict=True)]
    mask = [[*[1] * len(prompt), *gap] for prompt, gap in zip(prompts, gaps, strict=True)]
    device = model.device
    return read_source(
        model, torch.tensor(ids, device=device), mask=torch.tensor(mask, device=device)
    )


def read_source(model: PreTrainedModel, ids: Tensor, *, mask: Tensor | None) -> dict[str, Any]:
    """The same from `input_ids` and `attention_mask`, both (B, S)."""
    coder: Any = model
    read = coder.get_encoder()(input_ids=ids, attention_mask=mask, return_dict=True)
    inputs = {"encoder_outputs": read, "attention_mask": mask}
    return {name: value for name, value in inputs.items() if value is not None}
