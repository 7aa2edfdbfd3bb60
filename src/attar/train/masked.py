"""The loss of masked language modelling."""

from torch import nn

from attar.data.sources import Batch
from attar.evaluation.masked import masked_token_losses
from attar.train.trainer import Term


def masked_lm_loss(model: nn.Module, batch: Batch) -> dict[str, Term]:
    """Cross-entropy of every token that is to be predicted (see `attar.data.sequences`), nats."""
    return {"loss": Term(masked_token_losses(model, batch), per="labels")}
