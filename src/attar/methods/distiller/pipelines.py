"""The choices that a distillation pipeline is made of, and the space of all of them that is
searched.

Some choices only exist with others: alpha belongs to MI-alpha, a layer map to an intermediate
loss. That dependence is written once, in the rules of `SPACE`.
"""

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import permutations
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from attar.data.augment.augment import AUGMENTERS, Augmenter
from attar.errors import ConfigError, DataError, require
from attar.foreign import parse_json
from attar.search.space import ChoiceSpace
from attar.train.features import Pool
from attar.train.layer_map import Features

if TYPE_CHECKING:  # Optuna is slow to import
    from optuna.trial import BaseTrial

IntermediateName = Literal["none", "mse", "ce", "cos", "pkd", "mi"]
LayerMapName = Literal["skip", "last", "emd"]
PredictionLoss = Literal["mse", "ce", "kl"]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One distillation pipeline, as far as it is searched.

    How the student starts is not part of it: that comes with the task at hand.

    Raises:
        ConfigError: a value, or attention maps with a loss that reads hidden states only.
    """

    intermediate: IntermediateName = "mse"
    """Loss between inner representations; none leaves the predictions alone to teach."""
    features: Features = "hidden"
    """What mse and ce compare; the other losses read hidden states."""
    alpha: float = 0.9
    """Interpolation of MI-alpha, from 0 (TUBA) to 1 (InfoNCE); for mi only."""
    pool: Pool = "cls"
    """How pkd and mi make one vector of a text."""
    layer_map: LayerMapName = "skip"
    """Which layers teach which."""
    pred_loss: PredictionLoss = "mse"
    """Loss between predictions."""
    temperature: float = 1.0
    """Divides the logits of ce and kl. The loss is multiplied by its square, so that mse does not
    depend on it."""
    hard_weight: float = 0.0
    """Weight of the loss on true labels; that on the teacher's is 1."""
    mixup: bool = False
    """Add mixed word embeddings to every batch."""
    augment: tuple[Augmenter, ...] = ()
    """Augmenters in the order in which they are applied to a text; none leaves the text alone."""
    augment_p: float = 0.3
    """Share of words that each augmenter changes."""
    copies: int = 1
    """Augmented versions of every text."""

    def __post_init__(self) -> None:
        for name, values in _LITERALS.items():
            require(getattr(self, name) in values, name, getattr(self, name), " or ".join(values))
        for name in ("alpha", "temperature", "hard_weight", "augment_p"):
            value = getattr(self, name)
            fine = isinstance(value, int | float) and not isinstance(value, bool)
            require(fine and math.isfinite(value), name, value, "a number")
            object.__setattr__(self, name, float(value))  # 1 and 1.0 must be written alike
        object.__setattr__(self, "augment", _chain(self.augment))
        require(0 <= self.alpha <= 1, "alpha", self.alpha, "between 0 and 1")
        require(self.temperature > 0, "temperature", self.temperature, "above 0")
        require(self.hard_weight >= 0, "hard_weight", self.hard_weight, "at least 0")
        require(isinstance(self.mixup, bool), "mixup", self.mixup, "true or false")
        require(0 < self.augment_p <= 1, "augment_p", self.augment_p, "a share in (0, 1]")
        whole = isinstance(self.copies, int) and not isinstance(self.copies, bool)
        require(whole and self.copies >= 1, "copies", self.copies, "a whole number, at least 1")
        require(
            self.features == "hidden" or self.intermediate in ("none", "mse", "ce"),
            "features",
            self.features,
            f"hidden with the intermediate loss {self.intermediate}",
        )

    def active(self) -> dict[str, Any]:
        """The choices that have an effect, by name, in the order of the fields.

        Cross-entropy stands for kl: they differ by the entropy of the frozen teacher, which moves
        no weight of the student.
        """
        values = {name: getattr(self, name) for name in SPACE}
        if self.pred_loss == "kl":
            values["pred_loss"] = "ce"
        return SPACE.active(values)

    def canonical(self) -> "Pipeline":
        """The same pipeline with every choice that has no effect at its default.

        Two pipelines that train alike are equal in this form.
        """
        active = self.active()
        same = all(getattr(self, f.name) == active.get(f.name, f.default) for f in fields(self))
        return self if same else Pipeline(**active)

    def to_dict(self) -> dict[str, Any]:
        """All choices as JSON values."""
        return {**asdict(self), "augment": list(self.augment)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Pipeline":
        """Read `to_dict` back; a choice that is not there takes its default.

        Raises:
            ConfigError: a name or a value is unknown.
        """
        if not isinstance(stored, Mapping):
            raise ConfigError(f"a pipeline must be an object of choices; found {stored!r}")
        SPACE.require_known(stored)
        return cls(**stored)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> "Pipeline":
        """Read `to_json` back.

        Raises:
            ConfigError: it is no JSON, or a name or a value is unknown.
        """
        try:
            stored = parse_json(text, "the pipeline")
        except DataError as error:
            raise ConfigError(f"a pipeline must be a JSON object; found {text[:200]!r}") from error
        return cls.from_dict(stored)


_LITERALS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "intermediate": get_args(IntermediateName),
        "features": get_args(Features),
        "pool": get_args(Pool),
        "layer_map": get_args(LayerMapName),
        "pred_loss": get_args(PredictionLoss),
    }
)


def label(name: str, value: Any) -> str:
    """A value of a choice as a word: a chain of augmenters as `swap+mlm`, an empty one as none."""
    return ("+".join(value) or "none") if name == "augment" else str(value)


def _chain(value: Any) -> tuple[Any, ...]:
    listed = isinstance(value, Iterable) and not isinstance(value, str)
    chain = tuple(value) if listed else ()
    fine = listed and all(name in AUGMENTERS for name in chain) and len({*chain}) == len(chain)
    require(fine, "augment", value, f"a list of {', '.join(AUGMENTERS)}, each at most once")
    return chain


SPACE = ChoiceSpace(
    MappingProxyType(
        {
            "intermediate": get_args(IntermediateName),
            "features": get_args(Features),
            "alpha": (0.0, 0.1, 0.5, 0.7, 0.9, 1.0),
            "pool": get_args(Pool),
            "layer_map": get_args(LayerMapName),
            # without kl, which trains like ce
            "pred_loss": ("mse", "ce"),
            "temperature": (1.0, 2.0, 4.0),
            "hard_weight": (0.0, 0.5),
            "mixup": (False, True),
            # at most two: longer chains hardly leave a text, and would make up most of the space
            "augment": tuple(chain for n in range(3) for chain in permutations(AUGMENTERS, n)),
            "augment_p": (0.1, 0.3, 0.5),
            "copies": (1, 4),
        }
    ),
    rules=MappingProxyType(
        {
            "features": lambda chosen: chosen["intermediate"] in ("mse", "ce"),
            "alpha": lambda chosen: chosen["intermediate"] == "mi",
            "pool": lambda chosen: chosen["intermediate"] in ("pkd", "mi"),
            "layer_map": lambda chosen: chosen["intermediate"] != "none",
            "temperature": lambda chosen: chosen["pred_loss"] != "mse",
            "augment_p": lambda chosen: bool(chosen["augment"]),
            "copies": lambda chosen: bool(chosen["augment"]),
        }
    ),
    label=label,
    read=lambda name, value: _chain(value) if name == "augment" else value,
    noun="a pipeline",
)
"""All values that are searched, in the order in which they are chosen: the fields of `Pipeline`."""


def space_id() -> str:
    """Twelve hexadecimal digits that change with the space, for records of a search in it."""
    return SPACE.space_id()


def narrow(only: Mapping[str, Sequence[Any]]) -> ChoiceSpace:
    """The space with fewer values of some choices.

    For example `{"pred_loss": ["mse"]}` where the head has one output, on which ce is constant.

    Raises:
        ConfigError: a choice is unknown, left without a value, or given one out of the space.
    """
    return SPACE.narrow(only)


def contains(pipeline: Pipeline) -> bool:
    """Whether every choice of a pipeline that has an effect takes a value of the space."""
    return all(value in SPACE[name] for name, value in pipeline.active().items())


def sample(rng: random.Random, *, space: ChoiceSpace = SPACE) -> Pipeline:
    """Draw a pipeline, every choice that has an effect uniformly, one after another."""
    return Pipeline(**space.sample(rng))


def suggest(trial: "BaseTrial", *, space: ChoiceSpace = SPACE) -> Pipeline:
    """Let an Optuna trial choose; it is only asked for what has an effect."""
    return Pipeline(**space.suggest(trial))


def enumerate_all(*, space: ChoiceSpace = SPACE) -> list[Pipeline]:
    """Every pipeline of the space once, in canonical form and always in the same order."""
    return [Pipeline(**chosen) for chosen in space.enumerate_all()]


#: the options of `attar distill` that a search chooses
SEARCHED = frozenset(field.name for field in fields(Pipeline) if field.name != "mixup") | {
    "mixup_beta"
}


def parse_only(given: Iterable[str]) -> dict[str, list[Any]]:
    """`--only pred_loss=mse,ce --only mixup=false` as the values that are left of each choice.

    Raises:
        ConfigError: not of that form. Names and values are checked by the search.
    """
    only: dict[str, list[Any]] = {}
    for text in given:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not values.strip():
            raise ConfigError(
                f"--only must be a choice and its values, such as pred_loss=mse,ce; found {text!r}"
            )
        words = [word.strip() for word in values.split(",")]
        only.setdefault(name, []).extend(_value(name, word) for word in words)
    return only


def _value(name: str, word: str) -> Any:
    """The value of a choice that a word means; the word itself where it means none."""
    for value in SPACE.get(name, ()):
        if word.lower() == label(name, value).lower():
            return value
        if isinstance(value, int | float) and not isinstance(value, bool) and _is(word, value):
            return value
    return tuple(word.split("+")) if name == "augment" else word


def _is(word: str, value: float) -> bool:
    try:
        return float(word) == value
    except ValueError:
        return False


def differences(pipeline: Pipeline) -> str:
    """The choices in which a pipeline differs from the default, such as `layer_map=last`; the
    intermediate loss always, as its default depends on the student."""
    default = Pipeline()
    words = [
        f"{name}={label(name, value)}"
        for name, value in pipeline.active().items()
        if name == "intermediate" or value != getattr(default, name)
    ]
    return " ".join(words)
