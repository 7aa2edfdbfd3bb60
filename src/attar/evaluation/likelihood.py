"""How likely a causal language model finds a text: perplexity and bits per byte.

Perplexity depends on the tokenizer, bits per byte does not: compare models of different
vocabularies by bits per byte only. All losses are natural logarithms (nats), summed in float64 over
log-softmax in float32.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.data.passages import sample_passages
from attar.errors import CompatibilityError, DataError, require
from attar.models import (
    DocumentTokenizer,
    autocast,
    computing,
    damage_of,
    inference,
    leading_bos,
    positions_of,
    require_context,
    require_decoder,
    separator,
)
from attar.runtime import Bar

DEFAULT_CONTEXT = 2048
LOGITS_AT_A_TIME = 2**24
"""Logits turned to float32 at a time: 64 MiB. No score depends on it."""


@dataclass(frozen=True)
class Score:
    """Loss over a text: `nll` in nats per scored token, and the tokens and UTF-8 bytes scored."""

    nll: float
    tokens: int
    bytes: int

    @property
    def perplexity(self) -> float:
        """`exp(nll)`, infinite where that overflows."""
        return math.exp(self.nll) if self.nll < 700 else math.inf

    @property
    def bits_per_byte(self) -> float:
        """All nats spent, in bits, over the bytes of the text: comparable between tokenizers."""
        return self.nll * self.tokens / math.log(2) / self.bytes

    def to_dict(self) -> dict[str, float | int]:
        """Fields and derived figures, as stored in a `Run`."""
        return {
            "nll": self.nll,
            "tokens": self.tokens,
            "bytes": self.bytes,
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
        }


def token_losses(
    model: PreTrainedModel, ids: Tensor, *, position_ids: Tensor | None = None
) -> Tensor:
    """Negative log-likelihood of each row's ids but the first: `(B, T)` ids to `(B, T-1)` nats.
    Positions that begin again keep what is packed into a row apart."""
    inputs, targets = {"input_ids": ids[:, :-1]}, ids[:, 1:]
    if position_ids is not None:
        inputs["position_ids"] = position_ids[:, :-1]
    logits = model(**inputs, use_cache=False).logits
    rows = max(1, LOGITS_AT_A_TIME // (logits.shape[1] * logits.shape[2]))
    parts = [
        F.cross_entropy(part.flatten(0, 1).float(), next_ids.flatten(), reduction="none")
        for part, next_ids in zip(logits.split(rows), targets.split(rows), strict=True)
    ]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).view(targets.shape)


def nll(model: PreTrainedModel, input_ids: Tensor, *, batch_size: int = 8) -> float:
    """Mean negative log-likelihood per predicted token of fixed windows, in nats.

    The inner loop of a search: `input_ids` is `(N, T)`, each row predicts its ids 2..T. No
    gradients, no cache, at most one batch of logits in memory; the model's training mode is
    restored; NaN and infinity pass through. Runs under `autocast(model)`; an autocast that the
    caller has entered stays in force, which keeps one precision over models of different size.
    """
    if input_ids.ndim != 2 or input_ids.shape[1] < 2 or not len(input_ids):
        raise DataError(
            "nll() expects windows of shape (N, T) with N >= 1 and T >= 2, but got "
            f"{tuple(input_ids.shape)}; cut the text with attar.data.pack."
        )
    total = 0.0
    with inference(model), computing(model), autocast(model):
        for batch in input_ids.split(batch_size):
            total += float(token_losses(model, batch.to(model.device)).sum(dtype=torch.float64))
    return total / (input_ids.shape[0] * (input_ids.shape[1] - 1))


def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    documents: Dataset,
    context: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
    eval_tokens: int | None = None,
) -> Score:
    """Perplexity and bits per byte of a causal LM over documents.

    The stream `EOS document EOS document ...` (no other special tokens) is cut into windows of
    `context` inputs that overlap so that every token after the first is predicted exactly once. The
    EOS tokens between documents are predicted too and their cost counts; the bytes are those of the
    documents alone. Where the tokenizer puts BOS before a text, the stream is `BOS document EOS BOS
    document ...`, BOS takes the place of the first input of every window, and is itself never
    predicted. Computed in the model's own dtype, or in float32 where the processor is slow in it
    (`attar.models.computing`); the batch size does not matter.

    Args:
        model: any transformers causal LM; its training mode is restored.
        tokenizer: the model's tokenizer.
        documents: rows with a column `text`.
        context: inputs per window; None takes the model's positions, at most 2048.
        stride: new tokens per window; smaller than `context`, every token but the first ones has at
            least `context - stride` tokens before it (slower, a little better). None means
            `context`.
        batch_size: windows per model call.
        eval_tokens: score at most so many tokens, in passages spread evenly over all documents
            (`attar.data.passages`), each with its own EOS before it.

    Raises:
        CompatibilityError: the model is no causal LM, or the tokenizer has more ids than the model.
        ConfigError: context or stride do not suit the model.
        DataError: there is no text, or the loss is not finite.
    """
    return score_with_ids(
        model,
        tokenizer,
        documents=documents,
        context=context,
        stride=stride,
        batch_size=batch_size,
        eval_tokens=eval_tokens,
    )[0]


def score_with_ids(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    documents: Dataset,
    context: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
    eval_tokens: int | None = None,
) -> tuple[Score, Tensor]:
    """`score`, and the ids `(S,)`, of which all but the first were predicted; BOS is among them as
    the first one only."""
    require_decoder(model)
    context = window_length(model, tokenizer, context=context)
    stride = context if stride is None else stride
    require(batch_size >= 1, "batch_size", batch_size, "1 or more")
    expected = f"between 1 and the context of {context}"
    require(1 <= stride <= context, "stride", stride, expected)
    bos = leading_bos(tokenizer)
    stream = _stream(tokenizer, documents, bos=bos, eval_tokens=eval_tokens)
    require_fit(model, tokenizer, ids=stream.ids)
    with inference(model), computing(model):
        require_no_foresight(model, stream.ids)
        total = _sum_over_windows(
            model, stream, bos=bos, context=context, stride=stride, batch_size=batch_size
        )
    scored = stream.ids[stream.kept]
    tokens = len(scored) - 1
    require_finite(model, total / tokens)
    return Score(total / tokens, tokens, stream.bytes), scored


@dataclass(frozen=True)
class _Stream:
    """Ids `(S,)`, whether each counts `(S,)`, and the UTF-8 bytes of the documents in them."""

    ids: Tensor
    kept: Tensor
    bytes: int


def _sum_over_windows(
    model: PreTrainedModel,
    stream: _Stream,
    *,
    bos: int | None,
    context: int,
    stride: int,
    batch_size: int,
) -> float:
    """Summed loss of the ids that count, but the first, each predicted once; windows of `context`
    start `stride` apart."""
    last = len(stream.ids) - 1  # inputs there are
    starts = range(0, max(1, last - context + stride), stride)
    both = torch.stack([stream.ids, stream.kept.long()])
    windows = [both[:, start : start + context + 1] for start in starts]
    whole = [window for window in windows if window.shape[1] == context + 1]
    batches = [torch.stack(whole[i : i + batch_size]) for i in range(0, len(whole), batch_size)]
    batches += [
        window[None] for window in windows if window.shape[1] <= context
    ]  # the short last one, alone: no padding
    total, first = 0.0, True
    for batch in Bar(batches, desc="scoring", unit="batch", leave=False):
        rows, kept = batch.to(model.device).clone().unbind(1)
        if bos is not None:
            rows[:, 0] = bos
        losses = token_losses(model, rows).double().where(kept[:, 1:] > 0, 0.0)
        # All but the first window begin with context - stride inputs whose targets the window
        # before has scored.
        total += float(losses[:, context - stride :].sum())
        total += float(losses[0, : context - stride].sum()) if first else 0.0
        first = False
    return total


def _stream(
    tokenizer: PreTrainedTokenizerBase,
    documents: Dataset,
    *,
    bos: int | None,
    eval_tokens: int | None,
) -> _Stream:
    """`EOS doc EOS doc ...`, or with BOS `BOS doc EOS BOS doc ...` of which only the first BOS
    counts; at most `eval_tokens` ids that count follow the first."""
    require(eval_tokens is None or eval_tokens >= 1, "eval_tokens", eval_tokens, "1 or more")
    end = separator(tokenizer)
    if "text" not in documents.column_names:
        raise DataError(
            f"score() expects a column 'text', but the documents have {documents.column_names}."
        )
    texts = [text for text in documents["text"] if text]
    if eval_tokens is not None:
        # the first id of the stream is not scored, so one more fits
        texts = sample_passages(texts, partial(_encode, tokenizer), tokens=eval_tokens + 1)
    if not texts:
        raise DataError(
            "there is no text to score: every document is empty (or eval_tokens leaves nothing)."
        )
    size = sum(len(text.encode()) for text in texts)
    if isinstance(tokenizer, DocumentTokenizer) and tokenizer.ends_inside:
        encoded = tokenizer.encode_documents(texts)
        # The first id is not predicted, so that its bytes do not count.
        ids = torch.from_numpy(encoded).long()
        kept = torch.ones_like(ids, dtype=torch.bool)
        return _Stream(ids, kept, size - tokenizer.head_bytes(encoded))
    # a token that both begins and ends a text stands once between two
    between = [(end, True)] if bos in (None, end) else [(end, True), (bos, False)]
    pairs = [
        pair
        for text in texts
        for pair in (*between, *((token, True) for token in _encode(tokenizer, text)))
    ][len(between) - 1 :]
    ids, kept = torch.tensor([token for token, _ in pairs]), torch.tensor([k for _, k in pairs])
    kept[0] = True
    return _Stream(ids, kept, size)


def count_ends(tokenizer: PreTrainedTokenizerBase, ids: Tensor) -> int:
    """How many ends of documents there are in ids."""
    if isinstance(tokenizer, DocumentTokenizer):
        return tokenizer.count_ends(ids.numpy())
    return int((ids == separator(tokenizer)).sum())


def id_count(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many different ids documents with their ends can have."""
    return tokenizer.id_count if isinstance(tokenizer, DocumentTokenizer) else len(tokenizer)


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)[
        "input_ids"
    ]


def require_finite(model: PreTrainedModel, loss: float) -> None:
    """Refuse what a damaged model gives.

    Raises:
        DataError: the loss is infinite or no number.
    """
    if not math.isfinite(loss):
        raise DataError(
            f"the loss of {_name(model)} is not finite ({loss}): {damage_of(model)}; take another "
            "checkpoint."
        )


def window_length(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, context: int | None
) -> int:
    """Inputs per window: `context`, or as many as model and tokenizer take, at most 2048.

    Raises:
        ConfigError: the model has no room for `context`.
    """
    if context is None:
        positions = positions_of(model) or DEFAULT_CONTEXT
        return min(positions, tokenizer.model_max_length, DEFAULT_CONTEXT)
    require(context >= 1, "context", context, "1 or more")
    require_context(model, context)
    return context


def _name(model: PreTrainedModel) -> str:
    return repr(model.name_or_path) if model.name_or_path else f"this {type(model).__name__}"


def require_fit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, ids: Tensor) -> None:
    """Refuse ids that the model has no embeddings for.

    Raises:
        CompatibilityError: there is one.
    """
    vocabulary, highest = _vocabulary(model), int(ids.max())
    if highest >= vocabulary:
        raise CompatibilityError(
            f"the tokenizer does not fit {_name(model)}: it gave the id {highest}, but the model "
            f"has {vocabulary} embeddings; use the model's own tokenizer, not "
            f"{tokenizer.name_or_path or type(tokenizer).__name__!r}."
        )


def _vocabulary(model: PreTrainedModel) -> int:
    return next(model.get_input_embeddings().parameters()).shape[0]


def require_no_foresight(model: PreTrainedModel, ids: Tensor) -> None:
    """Refuse a model whose prediction changes with a later token: it would score absurdly well."""
    pair = ids[:3].repeat(2, 1).to(model.device)
    if pair.shape[1] < 2:
        return
    pair[1, -1] = (pair[1, -1] + 1) % _vocabulary(model)
    logits = model(input_ids=pair, use_cache=False).logits[:, :-1].float()
    if bool((logits[0] - logits[1]).abs().max() > 1e-2 * logits.std()):
        raise CompatibilityError(
            f"perplexity needs a causal language model, but {_name(model)} "
            f"({type(model).__name__}) sees later tokens; a masked LM has no perplexity, "
            "score it on a task."
        )
