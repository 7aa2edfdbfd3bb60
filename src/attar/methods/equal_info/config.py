"""How a tokenizer of equal-information windows is made."""

from dataclasses import dataclass
from typing import Literal

from attar.errors import ConfigError, require
from attar.portable.equal_info_windows import COMPILED
from attar.report.record import Paper
from attar.train.trainer import TrainConfig

PAPER = Paper(
    title="Training LLMs over Neurally Compressed Text",
    authors=(
        "Brian Lester",
        "Jaehoon Lee",
        "Alex Alemi",
        "Jeffrey Pennington",
        "Adam Roberts",
        "Jascha Sohl-Dickstein",
        "Noah Constant",
    ),
    year=2024,
    arxiv="2404.03626",
)
MAX_WINDOW = 32
MAX_TOKEN = 20
"""Bits of an id: a model needs an embedding for each."""


@dataclass(frozen=True, kw_only=True)
class EqualInfoConfig(TrainConfig):
    """Windows, and the byte model that fills them. Defaults suit models of some million parameters.

    The paper's: windows of 16 bits, ids of 16 bits, a Transformer of 3M parameters, 14 bits of
    precision, the end of a document inside windows, and another coder (`PaperCoder`).
    """

    window_bits: int = 16
    """Bits of a window (W): 8 to 32. An embedding table of 2**16 rows outweighs a small model; 12
    suits models below 10M parameters."""
    token_bits: int | None = None
    """Bits of an id (N), at most W and 20; unset: W, so that an id always stands for one string."""
    model_kind: Literal["ngram", "transformer"] = "ngram"
    """The byte model (M1): counts of byte n-grams, in integers and the same on every machine, or a
    small Transformer."""
    order: int = 6
    """Bytes of the longest n-gram: 1 to 7."""
    precision_bits: int = 16
    """Bits of an integer probability (beta)."""
    eos: Literal["document", "in_window"] = "document"
    """`document`: a window ends with its document, and a special token follows; `in_window`: the
    end is one more symbol for the byte model, as in the paper."""
    fit_bytes: int = 32_000_000
    """Bytes of training text that the byte model sees, in passages spread over all of it."""
    hidden_size: int = 128
    """Width of the Transformer (d)."""
    num_hidden_layers: int = 3
    """Layers of the Transformer, whose heads have 32 channels."""

    max_steps: int = 1500
    per_device_train_batch_size: int = 128
    learning_rate: float = 2e-3
    warmup_steps: float = 0.05
    weight_decay: float = 0.1
    adam_beta2: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 8 <= self.window_bits <= MAX_WINDOW:
            raise ConfigError(
                f"expected windows of 8 to {MAX_WINDOW} bits, found {self.window_bits}; 16 suits "
                "large models, 12 small ones"
            )
        if self.eos == "in_window" and self.window_bits == 8:
            raise ConfigError(
                "expected windows of 9 bits or more with eos in_window, found 8: the 256 bytes "
                "take every code; make window_bits larger"
            )
        if not 1 <= self.id_bits <= min(self.window_bits, MAX_TOKEN):
            given = "as many, since token_bits was left out"
            if self.token_bits is not None:
                given = str(self.token_bits)
            raise ConfigError(
                f"expected ids of 1 to {min(self.window_bits, MAX_TOKEN)} bits for windows of "
                f"{self.window_bits}, found {given}; give token_bits (--token-bits)"
            )
        if not 1 <= self.order <= 7:
            raise ConfigError(
                f"expected n-grams of order 1 to 7, found {self.order}; 6 suits most text"
            )
        if not 10 <= self.precision_bits <= 24:
            raise ConfigError(
                f"expected a precision of 10 to 24 bits, found {self.precision_bits}; 16 loses "
                "little"
            )
        if self.window_bits > COMPILED and self.model_kind == "transformer":
            raise ConfigError(
                f"expected a byte model of integers for windows above {COMPILED} bits, whose "
                "strings are worked out as they come, found a Transformer, whose floats differ "
                "between machines; set model_kind to ngram"
            )
        for name in ("fit_bytes", "num_hidden_layers"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        fine = self.hidden_size >= 32 and self.hidden_size % 32 == 0
        require(fine, "hidden_size", self.hidden_size, "a multiple of 32")

    @property
    def id_bits(self) -> int:
        """Bits of an id."""
        return self.window_bits if self.token_bits is None else self.token_bits

    @property
    def alphabet(self) -> int:
        """Symbols of the byte model: 256 bytes, and the end of a document where it is coded."""
        return 257 if self.eos == "in_window" else 256
