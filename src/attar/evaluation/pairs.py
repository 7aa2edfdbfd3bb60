"""How good an encoder-decoder is on pairs of texts: nats a target token, and BLEU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.data.pairs import encoded, padded
from attar.data.sequences import IGNORED
from attar.data.sources import Batch
from attar.errors import DataError, MissingExtraError, require
from attar.evaluation.means import Rows, mean_loss
from attar.models import computing, inference
from attar.runtime import Bar

PairModel = Callable[..., Any]
"""What is called with `input_ids`, `attention_mask` and `decoder_input_ids`, and gives `logits`
(B, T, V)."""
INPUTS = ("input_ids", "attention_mask", "decoder_input_ids")


def target_losses(
    model: PairModel, batch: Batch, *, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Losses of the tokens of the targets, row by row, (N,) in float32.

    Args:
        model: an encoder-decoder, or a function like one.
        batch: of `attar.data.pairs.Pairs`, or alike.
        label_smoothing: the share of the target that all tokens have alike.

    Returns:
        The smoothed cross-entropy, and the negative log-likelihood in nats.
    """
    inputs = {name: batch[name] for name in INPUTS}
    labels = batch["labels"]
    chosen = labels != IGNORED
    logits = model(**inputs, use_cache=False).logits[chosen].float()
    targets = labels[chosen]
    nats = F.cross_entropy(logits, targets, reduction="none")
    if label_smoothing == 0:
        return nats, nats
    smoothed = F.cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)
    return smoothed, nats


def pair_loss(
    model: PreTrainedModel | PairModel,
    source: Rows,
    *,
    batch_size: int = 64,
    device: torch.device | str | None = None,
) -> float:
    """Mean negative log-likelihood per token of the targets, in nats.

    Args:
        model: an encoder-decoder, or a function that is called like one (see
            `attar.evaluation.means.mean_loss`, as for what follows).
        source: pairs (`attar.data.pairs.Pairs`), or other rows whose batches look like theirs.
        batch_size: rows per call of the model.
        device: where a function wants its inputs.
    """
    mean = mean_loss(
        model,
        source,
        lambda model, batch: target_losses(model, batch)[1],
        batch_size=batch_size,
        device=device,
    )
    assert mean is not None  # no source is without pairs, and no target without its end
    return mean


def translations(
    model: PreTrainedModel,
    sources: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    num_beams: int = 5,
    max_new_tokens: int = 128,
    batch_size: int = 32,
) -> list[str]:
    """What an encoder-decoder writes for each text, without special tokens.

    The model's training mode is restored. A text is not cut, and texts of a batch are padded; the
    batch size does not matter but for rounding.

    Args:
        model: an encoder-decoder.
        sources: texts to read.
        tokenizer: of the model.
        num_beams: width of the beam search; 1: the likeliest token each time.
        max_new_tokens: of a translation, at most.
        batch_size: texts that are read together.
    """
    require(batch_size >= 1, "batch_size", batch_size, "1 or more")
    ids = list(encoded(sources, tokenizer))
    # an empty text is nothing but its end, and has an empty translation
    by_length = sorted(
        (row for row, one in enumerate(ids) if len(one) > 1), key=lambda i: len(ids[i])
    )
    written = [""] * len(sources)
    generate: Any = model.generate
    starts = range(0, len(by_length), batch_size)
    with inference(model), computing(model):
        for start in Bar(starts, desc="translating", unit="batch", leave=False):
            rows = by_length[start : start + batch_size]
            read = [ids[row] for row in rows]
            pad: Any = tokenizer.pad_token_id
            batch = padded(read, 0 if pad is None else pad), padded([[1] * len(r) for r in read], 0)
            tokens, mask = (torch.from_numpy(array).to(model.device) for array in batch)
            output = generate(
                input_ids=tokens,
                attention_mask=mask,
                num_beams=num_beams,
                do_sample=False,
                max_new_tokens=max_new_tokens,
            )
            decoded = tokenizer.batch_decode(output, skip_special_tokens=True)
            for row, text in zip(rows, decoded, strict=True):
                written[row] = text.strip()
    return written


@dataclass(frozen=True)
class Bleu:
    """A corpus's BLEU, from 0 to 100, and sacrebleu's signature, which says how it was computed and
    belongs to each figure that is published."""

    score: float
    signature: str


def bleu(hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> Bleu:
    """Corpus BLEU by sacrebleu, with its own tokenization (13a): Post 2018, arXiv 1804.08771.

    Args:
        hypotheses: what a model wrote, as plain text.
        references: what is right, one for each.
        lowercase: compare without case.

    Raises:
        DataError: there are none, or not as many references.
        MissingExtraError: sacrebleu is not installed.
    """
    if not hypotheses or len(hypotheses) != len(references):
        raise DataError(
            f"expected a reference for each hypothesis, found {len(references)} and "
            f"{len(hypotheses)}; give both, in the same order"
        )
    try:
        metrics: Any = import_module("sacrebleu.metrics.bleu")
    except ModuleNotFoundError:
        raise MissingExtraError(
            "BLEU needs sacrebleu, which is not installed; run pip install '.[eval]' in the "
            "checkout of Attar"
        ) from None
    metric = metrics.BLEU(lowercase=lowercase)
    score = metric.corpus_score(list(hypotheses), [list(references)])
    return Bleu(float(score.score), str(metric.get_signature()))
