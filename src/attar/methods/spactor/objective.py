"""SpacTor's objective: the algorithm on one batch, in the paper's steps, and its loss."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from attar.data.sources import Batch
from attar.methods.spactor.first_stage import FirstStage, replaced
from attar.train.trainer import Term, cross_entropy


def sampled(logits: Tensor, uniform: Tensor, *, text: Tensor, temperature: float) -> Tensor:
    """One token for each distribution, `(B, Q)`: no gradient, and no token but of text.

    Args:
        logits: (B, Q, V).
        uniform: (B, Q), in (0, 1]; the same number gives the same token however rows are batched.
        text: (V,), true for tokens that may be drawn.
        temperature: of the distribution.
    """
    scores = logits.detach().to(torch.float32, copy=True).div_(temperature)
    sums = scores.masked_fill_(~text, -torch.inf).softmax(-1).cumsum_(-1)
    return reached_at(sums, uniform, text=text)


def reached_at(sums: Tensor, uniform: Tensor, *, text: Tensor) -> Tensor:
    """The token of text at which sums of probabilities reach a share of the whole, `(B, Q)`.

    Sums that a GPU adds in parallel are not quite in order, and may grow by a rounding error at a
    token of probability 0. A binary search still ends where they pass the aim, but for rounding;
    if that is at no text, the text before it is taken.

    Args:
        sums: (B, Q, V), of the probabilities up to each token.
        uniform: (B, Q), in (0, 1].
        text: (V,), true for tokens that may be drawn.
    """
    aim = uniform[..., None] * sums[..., -1:]  # above 0: never a token of probability 0
    # logits that are no numbers reach nothing: the loss says so, later
    place = torch.searchsorted(sums, aim)[..., 0].clamp_max(len(text) - 1)
    tokens = torch.arange(len(text), device=text.device)
    before = torch.where(text, tokens, text.long().argmax()).cummax(0).values
    return before[place]


@dataclass(frozen=True, kw_only=True)
class Detection:
    """What one batch gives in the first stage; no part is averaged yet.

    Attributes:
        loss_sc: (B, U), nats, 0 behind the ends of targets.
        loss_rtd: (B, T), nats, 0 where it is not scored.
        loss_mlm: (B, Q), nats, 0 where there is no place.
        rtd_logits: (B, T), above 0 where a token is taken for replaced.
        is_replaced: (B, T), true where one is.
        scored: (B, T), true where detection is scored.
    """

    loss_sc: Tensor
    loss_rtd: Tensor
    loss_mlm: Tensor
    rtd_logits: Tensor
    is_replaced: Tensor
    scored: Tensor


def detect_and_restore(model: nn.Module, batch: Batch, *, stage: FirstStage) -> Detection:
    """The first stage on one batch, in the paper's steps; the first two are the collator's.

    Args:
        model: the T5.
        batch: of `attar.train.span_rows.SpanRows`, with `masked` and `uniform`.
        stage: generator and head.
    """
    t5: Any = model
    config, text = stage.config, stage.text
    assert isinstance(text, Tensor)
    # 1. Text X. 2. X_c: its spans corrupted, and Y: the targets. 3. M: places to mask.
    x_c, attention_mask, m = batch["input_ids"], batch["attention_mask"], batch["masked"]
    there = m >= 0
    # 4. The generator reads X_c with its tokens masked at M, and predicts these.
    hidden = stage.generator(x_c, attention_mask, m)
    at = m.clamp_min(0)
    if config.logits_at == "masked":
        logits = stage.generator.logits(_gathered(hidden, at))
    else:
        logits = _gathered(stage.generator.logits(hidden), at)
    loss_mlm = cross_entropy(logits, x_c.gather(1, at)) * there
    # 5. X^_c: a sample at each of them.
    drawn = sampled(logits, batch["uniform"], text=text, temperature=config.temperature)
    x_hat = replaced(x_c, masked=m, tokens=drawn)
    # 6. The model reads X^_c, is not told M, and writes the true Y.
    encoded = t5.get_encoder()(input_ids=x_hat, attention_mask=attention_mask).last_hidden_state
    written = t5(
        encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
        attention_mask=attention_mask,
        decoder_input_ids=batch["decoder_input_ids"],
        use_cache=False,
    ).logits
    loss_sc = cross_entropy(written, batch["labels"])
    # 7. The encoder tells what was replaced; a sample that is the token itself was not.
    is_replaced = x_hat != x_c
    scored = attention_mask.bool()
    if not config.rtd_on_special:
        scored = scored & text[x_c]
    rtd_logits = stage.detector(encoded)[..., 0].float()
    loss_rtd = F.binary_cross_entropy_with_logits(rtd_logits, is_replaced.float(), reduction="none")
    return Detection(
        loss_sc=loss_sc,
        loss_rtd=loss_rtd * scored,
        loss_mlm=loss_mlm,
        rtd_logits=rtd_logits,
        is_replaced=is_replaced,
        scored=scored,
    )


def _gathered(values: Tensor, places: Tensor) -> Tensor:
    """(B, T, C) at places (B, Q) -> (B, Q, C)."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[-1]))


def joint_loss(model: nn.Module, batch: Batch, *, stage: FirstStage) -> dict[str, Term]:
    """L, and what tells whether the generator is too weak or too strong: the shares of scored
    tokens that are replaced, that are taken for replaced, and that rightly are."""
    parts, config = detect_and_restore(model, batch, stage=stage), stage.config
    taken = (parts.rtd_logits > 0) & parts.scored
    return {
        "loss_sc": Term(parts.loss_sc, per="labels"),
        "loss_rtd": Term(parts.loss_rtd, config.w_rtd, per="scored"),
        "loss_mlm": Term(parts.loss_mlm, config.w_mlm, per="masked"),
        "replaced": Term((parts.is_replaced & parts.scored).float(), 0.0, per="scored"),
        "flagged": Term(taken.float(), 0.0, per="scored"),
        "caught": Term((taken & parts.is_replaced).float(), 0.0, per="scored"),
    }
