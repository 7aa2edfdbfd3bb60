"""The loss of encoder-decoders on pairs of texts."""

from functools import partial

from torch import nn

from attar.data.sources import Batch
from attar.errors import require
from attar.evaluation.pairs import PairModel, target_losses
from attar.train.trainer import Compute, Term


def pair_terms(
    model: nn.Module | PairModel, batch: Batch, *, label_smoothing: float = 0.0
) -> dict[str, Term]:
    """Cross-entropy of every token of the targets, smoothed; `nats` is logged besides, and is the
    plain negative log-likelihood."""
    loss, nats = target_losses(model, batch, label_smoothing=label_smoothing)
    terms = {"loss": Term(loss, per="labels")}
    if label_smoothing:
        terms["nats"] = Term(nats.detach(), weight=0.0, per="labels")
    return terms


def smoothed_loss(label_smoothing: float = 0.1) -> Compute:
    """The loss of `attar.train.trainer.fit` on `attar.data.pairs.Pairs`.

    Args:
        label_smoothing: the share of the target that all tokens of the vocabulary have alike, as
            in transformers; HAT and Mixture-of-Supernets have 0.1.
    """
    fine = 0 <= label_smoothing < 1
    require(fine, "label_smoothing", label_smoothing, "0 or more, and below 1")
    return partial(pair_terms, label_smoothing=label_smoothing)
