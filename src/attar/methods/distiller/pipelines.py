"""The choices that a distillation pipeline is made of, and the set of all of them that is searched
(section 2.6 of the specification).

Some choices only exist beside others: alpha belongs to MI-alpha, a layer map to an intermediate
loss. That dependence is written once, in `_APPLIES`; sampling, listing, suggesting and comparing
all follow it.
"""

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import permutations
from types import MappingProxyType
from typing import Any, Literal, get_args

import optuna

from attar.data.augment.augment import AUGMENTERS, Augmenter
from attar.errors import ConfigError, require
from attar.train.features import Pool
from attar.train.layer_map import Features

IntermediateName = Literal["none", "mse", "ce", "cos", "pkd", "mi"]
LayerMapName = Literal["skip", "last", "emd"]
PredictionLoss = Literal["mse", "ce", "kl"]
Choices = Mapping[str, tuple[Any, ...]]
"""The values that each choice may take."""
#: raised when the rules of `_APPLIES` change, so that studies made under others are told apart
_RULES = 1


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
        values = {field: getattr(self, field) for field in _FIELDS}
        if self.pred_loss == "kl":
            values["pred_loss"] = "ce"
        return {name: value for name, value in values.items() if _applies(name, values)}

    def canonical(self) -> "Pipeline":
        """The same pipeline with every choice that has no effect at its default.

        Two pipelines that train alike are equal in this form.
        """
        return Pipeline(**self.active())

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
        _known(stored)
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
            return cls.from_dict(json.loads(text))
        except ValueError as error:
            raise ConfigError(f"a pipeline must be a JSON object; found {text!r}") from error


_FIELDS = tuple(field.name for field in fields(Pipeline))
_LITERALS: Choices = MappingProxyType(
    {
        "intermediate": get_args(IntermediateName),
        "features": get_args(Features),
        "pool": get_args(Pool),
        "layer_map": get_args(LayerMapName),
        "pred_loss": get_args(PredictionLoss),
    }
)
_APPLIES: Mapping[str, Callable[[Mapping[str, Any]], bool]] = MappingProxyType(
    {
        "features": lambda chosen: chosen["intermediate"] in ("mse", "ce"),
        "alpha": lambda chosen: chosen["intermediate"] == "mi",
        "pool": lambda chosen: chosen["intermediate"] in ("pkd", "mi"),
        "layer_map": lambda chosen: chosen["intermediate"] != "none",
        "temperature": lambda chosen: chosen["pred_loss"] != "mse",
        "augment_p": lambda chosen: bool(chosen["augment"]),
        "copies": lambda chosen: bool(chosen["augment"]),
    }
)

SPACE: Choices = MappingProxyType(
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
)
"""All values that are searched, in the order in which they are chosen."""


def space_id() -> str:
    """Twelve hexadecimal digits that change with the space, for records of a search in it."""
    text = json.dumps({"rules": _RULES, "choices": dict(SPACE)})
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def narrow(only: Mapping[str, Sequence[Any]]) -> Choices:
    """The space with fewer values of some choices.

    For example `{"pred_loss": ["mse"]}` where the head has one output, on which ce is constant.

    Raises:
        ConfigError: a choice is unknown, left without a value, or given one out of the space.
    """
    _known(only)
    found = dict(SPACE)
    for name, values in only.items():
        listed = isinstance(values, Iterable) and not isinstance(values, str)
        require(listed and bool(list(values)), name, values, "a list with at least one value")
        kept = tuple(_chain(value) if name == "augment" else value for value in values)
        for value in kept:
            # In Python True is 1 and 1.0; here only numbers may stand for each other.
            fine = any(
                value == own and isinstance(value, bool) == isinstance(own, bool)
                for own in SPACE[name]
            )
            require(fine, name, value, f"one of {', '.join(label(name, v) for v in SPACE[name])}")
        found[name] = tuple(value for value in SPACE[name] if value in kept)
    return MappingProxyType(found)


def contains(pipeline: Pipeline) -> bool:
    """Whether every choice of a pipeline that has an effect takes a value of the space."""
    return all(value in SPACE[name] for name, value in pipeline.active().items())


def sample(rng: random.Random, *, space: Choices = SPACE) -> Pipeline:
    """Draw a pipeline: every choice that has an effect uniformly, one after another.

    So each intermediate loss is as likely as any other, however many variants it has.
    """
    return _compose(space, lambda name, values: rng.choice(values))


def suggest(trial: "optuna.trial.BaseTrial", *, space: Choices = SPACE) -> Pipeline:
    """Let an Optuna trial choose. It is asked only for what has an effect; chains of augmenters
    are named as by `label`."""

    def choose(name: str, values: tuple[Any, ...]) -> Any:
        if name != "augment":  # Optuna stores plain values only
            return trial.suggest_categorical(name, values)
        chains = {label(name, chain): chain for chain in values}
        return chains[str(trial.suggest_categorical(name, tuple(chains)))]

    return _compose(space, choose)


def enumerate_all(*, space: Choices = SPACE) -> list[Pipeline]:
    """Every pipeline of the space once, in canonical form and always in the same order."""

    def extend(chosen: dict[str, Any], names: tuple[str, ...]) -> Iterator[Pipeline]:
        if not names:
            yield Pipeline(**chosen)
        elif not _applies(names[0], chosen):
            yield from extend(chosen, names[1:])
        else:
            for value in space[names[0]]:
                yield from extend({**chosen, names[0]: value}, names[1:])

    return list(extend({}, _FIELDS))


def label(name: str, value: Any) -> str:
    """A value of a choice as a word: a chain of augmenters as `swap+mlm`, an empty one as none."""
    return ("+".join(value) or "none") if name == "augment" else str(value)


def _compose(space: Choices, choose: Callable[[str, tuple[Any, ...]], Any]) -> Pipeline:
    chosen: dict[str, Any] = {}
    for name in _FIELDS:
        if _applies(name, chosen):
            chosen[name] = choose(name, space[name])
    return Pipeline(**chosen)


def _applies(name: str, chosen: Mapping[str, Any]) -> bool:
    return name not in _APPLIES or _APPLIES[name](chosen)


def _chain(value: Any) -> tuple[Any, ...]:
    listed = isinstance(value, Iterable) and not isinstance(value, str)
    chain = tuple(value) if listed else ()
    fine = listed and all(name in AUGMENTERS for name in chain) and len({*chain}) == len(chain)
    require(fine, "augment", value, f"a list of {', '.join(AUGMENTERS)}, each at most once")
    return chain


def _known(names: Iterable[str]) -> None:
    unknown = [str(name) for name in names if name not in _FIELDS]
    if unknown:
        raise ConfigError(
            f"a pipeline has no choice named {' or '.join(unknown)}; choose among "
            f"{', '.join(_FIELDS)}"
        )


#: the options of `attar distill` that a search chooses
SEARCHED = frozenset(field.name for field in fields(Pipeline) if field.name != "mixup") | {
    "mixup_beta"
}


def parse_only(given: Iterable[str]) -> dict[str, list[Any]]:
    """`--only pred_loss=mse,ce --only mixup=false` as the values that are left of each choice.

    Raises:
        ConfigError: not of that form. Names and values are checked by the search.
    """
    found: dict[str, list[Any]] = {}
    for text in given:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not values.strip():
            raise ConfigError(
                f"--only must be a choice and its values, such as pred_loss=mse,ce; found {text!r}"
            )
        words = [word.strip() for word in values.split(",")]
        found.setdefault(name, []).extend(_value(name, word) for word in words)
    return found


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
    intermediate loss always, as its default hangs on the student."""
    default = Pipeline()
    found = [
        f"{name}={label(name, value)}"
        for name, value in pipeline.active().items()
        if name == "intermediate" or value != getattr(default, name)
    ]
    return " ".join(found)
