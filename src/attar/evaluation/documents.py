"""How likely a causal language model finds documents, or the assistant's words in conversations."""

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.data.chats import ANSWERED, is_chat
from attar.data.packing import Conversations, keeps_apart
from attar.data.passages import evenly
from attar.errors import require
from attar.evaluation.likelihood import (
    Score,
    require_finite,
    require_fit,
    require_no_foresight,
    score,
    token_losses,
    window_length,
)
from attar.models import computing, inference, require_decoder
from attar.runtime import Bar


def score_documents(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    documents: Dataset,
    context: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
    eval_tokens: int | None = None,
) -> Score:
    """`attar.evaluation.likelihood.score` of text, or of the assistant's tokens in conversations.

    Conversations are scored whole, each by itself; those that are longer than the context are
    truncated. `stride` has no effect on them.

    Args:
        model: any transformers causal LM; its training mode is restored.
        tokenizer: the model's tokenizer.
        documents: what `attar.data.chats.load_documents` gives.
        context: inputs per window; None takes the model's positions, at most 2048.
        stride: new tokens per window of text; None means `context`.
        batch_size: windows per model call.
        eval_tokens: score at most this many tokens, in passages or conversations spread evenly
            over all.

    Raises:
        CompatibilityError: the model is no causal LM, or the tokenizer has more ids than the model.
        ConfigError: an option does not suit the model.
        DataError: there is nothing to score, or the loss is not finite.
    """
    if not is_chat(documents):
        return score(
            model,
            tokenizer,
            documents=documents,
            context=context,
            stride=stride,
            batch_size=batch_size,
            eval_tokens=eval_tokens,
        )
    require_decoder(model)
    require(batch_size >= 1, "batch_size", batch_size, "1 or more")
    if eval_tokens is not None:
        documents = _some(documents, tokens=eval_tokens)
    source = Conversations(
        documents,
        context=window_length(model, tokenizer, context=context),
        packed=keeps_apart(model),
    )
    total, tokens, size = 0.0, 0, 0
    with inference(model), computing(model):
        starts = range(0, len(source), batch_size)
        for start in Bar(starts, desc="scoring", unit="batch", leave=False):
            batch = source.batch(range(start, min(start + batch_size, len(source))))
            ids, mask = batch["input_ids"], batch["mask"]
            require_fit(model, tokenizer, ids=ids)
            if not start:
                require_no_foresight(model, ids[0])
            positions = batch.get("position_ids")
            losses = token_losses(
                model,
                ids.to(model.device),
                position_ids=None if positions is None else positions.to(model.device),
            )
            kept = mask[:, 1:].to(losses.device)
            total += float(losses[kept].sum(dtype=torch.float64))
            tokens += int(kept.sum())
            said = tokenizer.batch_decode(
                [row[own].tolist() for row, own in zip(ids, mask, strict=True)],
                skip_special_tokens=True,
                clean_up_tokenization_spaces=False,
            )
            size += sum(len(text.encode()) for text in said)
    require_finite(model, total / tokens)
    return Score(total / tokens, tokens, max(1, size))


def _some(documents: Dataset, *, tokens: int) -> Dataset:
    """Conversations spread over all, with at most this many tokens of answers; at least one."""
    require(tokens >= 1, "eval_tokens", tokens, "1 or more")
    chosen: list[int] = []
    for row in evenly(len(documents)):
        tokens -= sum(documents[row][ANSWERED])
        if tokens < 0 and chosen:
            break
        chosen.append(row)
    return documents.select(sorted(chosen))
