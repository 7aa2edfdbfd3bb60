"""Options of `attar pretrain`."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedModel

from attar import checkpoint
from attar.data.data import Data
from attar.errors import require
from attar.train.trainer import TrainConfig

Objective = Literal["causal", "span", "spactor"]
_MOST_ENTRIES = 2**20  # of a vocabulary; training one sets memory aside for each


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(TrainConfig):
    """The shape of the model, and how it is trained. The defaults are the recipe `pocket/1m`. The
    shape, from vocab_size on, is that of a new model; a model that is given has its own."""

    objective: Objective | None = None
    """causal: each token is predicted from those before it; span: an encoder-decoder restores spans
    that were cut out (T5); spactor: so does it, and finds replaced tokens in a first stage. Unset:
    causal, or span where the model is a T5."""
    noise_density: float = 0.15
    """For span and spactor: the share of tokens that are cut out."""
    mean_span: float = 3.0
    """For span and spactor: tokens of a span, on average."""
    vocab_size: int = 2048
    """Entries of the byte-level BPE tokenizer that is trained on the same text, where no tokenizer
    is given."""
    context: int = 256
    """Tokens in one training window, which is also the model's context. For span and spactor:
    tokens that the encoder reads."""
    hidden_size: int = 128
    """Width of the residual stream."""
    num_hidden_layers: int = 4
    """Decoder layers, and for span and spactor as many encoder layers."""
    num_attention_heads: int = 8
    """Query heads in each layer."""
    num_key_value_heads: int = 4
    """Key and value heads in each layer; they divide the query heads. A T5 has one of each for
    every query head."""
    intermediate_size: int = 344
    """Neurons of each gated feed-forward layer."""
    tie_word_embeddings: bool = True
    """One matrix for the input and the output embedding, which a T5 always has."""
    eval_tokens: int = 50_000
    """Tokens of the validation split, in passages spread over it, that are scored at the end."""

    per_device_train_batch_size: int = 16
    learning_rate: float = 3e-3
    warmup_steps: float = 50
    weight_decay: float = 0.1
    adam_beta2: float = 0.95
    save_steps: int = 100
    logging_steps: int = 25

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (
            "context",
            "hidden_size",
            "num_hidden_layers",
            "intermediate_size",
            "eval_tokens",
        ):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(0 < self.noise_density < 1, "noise_density", self.noise_density, "above 0, below 1")
        require(self.mean_span >= 1, "mean_span", self.mean_span, "1 or more")
        spans = self.objective in ("span", "spactor")
        fine = self.tie_word_embeddings or not spans
        expected = "true for a T5, whose tables transformers ties"
        require(fine, "tie_word_embeddings", self.tie_word_embeddings, expected)
        fine = self.vocab_size <= _MOST_ENTRIES
        expected = f"at most {_MOST_ENTRIES}: no text has so many entries that are worth learning"
        require(fine, "vocab_size", self.vocab_size, expected)
        heads = self.num_attention_heads
        fine = heads >= 1 and self.hidden_size % heads == 0
        expected = f"a divisor of hidden_size={self.hidden_size}"
        require(fine, "num_attention_heads", heads, expected)
        groups = self.num_key_value_heads
        require(groups >= 1, "num_key_value_heads", groups, "at least 1")


def settings_of(
    model: str | Path | PreTrainedModel | None, data: Data, *, options: Iterable[Any], **more: Any
) -> dict[str, Any]:
    """All that the result of a training depends on, for its record.

    Args:
        model: to train further; None: a new one.
        data: text.
        options: dataclasses.
        more: what else there is.
    """
    flat = {name: value for one in options for name, value in asdict(one).items()}
    given = {} if model is None else {"model": checkpoint.name_of(model)}
    return given | data.settings() | more | flat
