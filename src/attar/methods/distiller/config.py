"""Options of one distillation run."""

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from attar.methods.distiller.space import AUGMENTERS, IntermediateName, PredictionLoss, require
from attar.train.intermediate import Pool
from attar.train.layers import Features
from attar.train.trainer import TrainConfig

Intermediate = Literal["auto"] | IntermediateName
Baseline = Literal["learned", "fixed"]


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainConfig):
    """One pipeline: augmentation, losses, layers, and how long it trains.

    The defaults are those that the specification recommends; `recipes/distiller/paper.yaml` has
    those of the published code.
    """

    pred_loss: PredictionLoss = "mse"
    """Loss between the predictions of student and teacher."""
    temperature: float = 1.0
    """Divides the logits in `pred_loss`."""
    tau_squared: bool = True
    """Multiply `pred_loss` by the temperature squared, so that its weight does not hang on it (the
    published code does not)."""
    pred_weight: float = 1.0
    """Weight of `pred_loss`."""
    hard_weight: float = 0.0
    """Weight of the loss on the labels of the data; rows without one do not count."""
    intermediate: Intermediate = "auto"
    """Loss between features. auto: mse for a student with random weights, mi for one with
    pre-trained weights."""
    intermediate_weight: float = 1.0
    """Weight of the intermediate loss, which is summed over the layer map."""
    features: Features = "hidden"
    """What mse and ce compare: hidden states or attention maps."""
    layer_map: str = "skip"
    """Which layer learns from which: skip, last, emd, or pairs of student:teacher such as
    0:0,1:2,2:4."""
    pool: Pool = "cls"
    """One vector per text for pkd and mi: the first token's, or the mean over the tokens."""
    alpha: float = 0.9
    """Of mi: 1 is InfoNCE, 0 is TUBA."""
    baseline: Baseline = "learned"
    """Of mi: fixed makes alpha 0 the bound of Nguyen, Wainwright and Jordan (NWJ)."""
    critic_hidden: int = 128
    """Width of the critic's hidden layers."""
    critic_dim: int = 64
    """Width in which the two sides of the critic meet."""
    per_layer: bool = False
    """A critic for every pair of layers instead of one for all; with emd always."""
    mixup_beta: float | None = None
    """Mix the word embeddings of each batch with weights from Beta(b, b); unset: no mixup. Paper:
    0.4."""
    augment: tuple[str, ...] = ()
    """Augmenters, applied one after another, such as swap,delete: of swap, delete, neighbour, mlm.
    The teacher labels what they make."""
    augment_p: float = 0.3
    """Share of the words that each augmenter changes."""
    copies: int = 1
    """Augmented versions of every text."""
    repeated: bool = False
    """Put the copies of a text into the same batch (repeated augmentation), so that a batch holds
    `copies` + 1 times as many rows."""
    mlm: str | None = None
    """Folder or Hub name of the masked language model that the augmenter mlm fills with."""
    max_length: int = 128
    """Tokens of a text, or of a pair of texts."""
    num_train_epochs: float | None = None
    """Passes over the training rows; unset: `max_steps` decides."""
    teacher_cache: bool = True
    """Run the teacher over all rows once and keep its outputs on disk, if the run sees them more
    than once. Mixup and attention maps need it live; other tokens than the student's need it
    stored."""
    limit_labels: int | None = None
    """Use the labels of this many rows only; the others teach through the teacher."""

    max_steps: int = 1000
    per_device_train_batch_size: int = 32
    learning_rate: float = 5e-5
    warmup_steps: float = 0.1
    weight_decay: float = 0.1
    lr_scheduler_type: Literal[
        "linear", "cosine", "polynomial", "constant", "constant_with_warmup"
    ] = "linear"
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        chain = [name for part in self.augment for name in re.split(r"[,+]", part) if name]
        object.__setattr__(self, "augment", tuple(chain))
        for name in chain:
            require(name in AUGMENTERS, "augment", name, f"of {', '.join(AUGMENTERS)}")
        for name, words in _WORDS.items():
            require(getattr(self, name) in words, name, getattr(self, name), " or ".join(words))
        for name in ("pred_weight", "hard_weight", "intermediate_weight"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "zero or more")
        require(self.temperature > 0, "temperature", self.temperature, "above 0")
        require(0 <= self.alpha <= 1, "alpha", self.alpha, "between 0 and 1")
        require(
            self.mixup_beta is None or self.mixup_beta > 0,
            "mixup_beta",
            self.mixup_beta,
            "above 0, or unset for no mixup",
        )
        for name in ("critic_hidden", "critic_dim", "copies", "max_length"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(
            self.num_train_epochs is None or self.num_train_epochs > 0,
            "num_train_epochs",
            self.num_train_epochs,
            "above 0",
        )
        require(
            self.features == "hidden" or self.intermediate in ("auto", "none", "mse", "ce"),
            "intermediate",
            self.intermediate,
            "mse or ce where features is attention",
        )
        require(
            self.limit_labels is None or self.limit_labels >= 2,
            "limit_labels",
            self.limit_labels,
            "at least 2",
        )


_WORDS = MappingProxyType(
    {
        "pred_loss": get_args(PredictionLoss),
        "intermediate": ("auto", *get_args(IntermediateName)),
        "features": get_args(Features),
        "pool": get_args(Pool),
        "baseline": get_args(Baseline),
    }
)
