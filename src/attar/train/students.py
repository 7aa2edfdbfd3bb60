"""Smaller models: fewer layers of a larger one, cut out of it or with random weights."""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.errors import AttarError, CompatibilityError, ConfigError, check_types
from attar.models import evenly_spaced, keep_layers

StudentInit = Literal["cut", "random"]
#: lists of numbers of layers in configs of mixtures of experts
_NUMBERED = ("mlp_only_layers", "moe_layers")


@dataclass(frozen=True)
class StudentShape:
    """A student that is made from its teacher.

    Attributes:
        layers: its blocks; None: no student is made, as one is given.
        width: of its hidden states, if it starts at random; None: the teacher's.
        init: `cut` copies the teacher's weights into it, `random` does not.
    """

    layers: int | None = None
    width: int | None = None
    init: StudentInit = "cut"

    def __post_init__(self) -> None:
        check_types(self)


def depth(model: PreTrainedModel) -> int:
    """Blocks of a model.

    Raises:
        CompatibilityError: its config does not say how many there are.
    """
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    if not isinstance(count, int):
        raise CompatibilityError(
            f"expected a model whose config gives its number of blocks as num_hidden_layers, found "
            f"{type(model).__name__}, whose config does not; give another model"
        )
    return count


def width(model: PreTrainedModel) -> int:
    """Width of a model's hidden states."""
    return int(model.config.get_text_config().hidden_size)


def make_student(
    teacher: PreTrainedModel,
    *,
    layers: int | Sequence[int],
    width: int | None = None,
    init: StudentInit = "cut",
    seed: int = 0,
) -> PreTrainedModel:
    """A model of the teacher's class and type with fewer layers, and if it starts at random,
    narrower ones.

    Args:
        teacher: an encoder, decoder or encoder-decoder; it stays as it is.
        layers: how many blocks (an encoder-decoder has so many on each side), or which blocks of
            the teacher, counted from 0.
        width: of its hidden states, for random weights only; its heads are as wide as the
            teacher's, and its feed-forward layers narrower by the same factor. None: as the
            teacher.
        init: `cut` copies embeddings, head and evenly spread blocks, the last among them; `random`
            copies nothing.
        seed: draws the random weights.

    Raises:
        ConfigError: the number of layers is not between 1 and the teacher's; a width for a cut, or
            one that is no whole number of heads.
        CompatibilityError: the blocks of this model cannot be found, or its config names them by
            number.
    """
    kept = _kept(layers, depth(teacher))
    if getattr(teacher.config, "is_heterogeneous", False):
        raise CompatibilityError(
            "the layers of this model differ in width, so that none of them can stand in for "
            "another; make the smaller model from its parent, before pruning"
        )
    if named := [key for key in _NUMBERED if getattr(teacher.config, key, None)]:
        raise CompatibilityError(
            f"the config of this mixture of experts names layers by number ({named[0]}), which "
            "fewer layers would shift; give a smaller model of your own instead of a cut"
        )
    if width is not None and init == "cut":
        raise ConfigError(
            "a cut keeps the width of the larger model, as its weights are copied; let a "
            "narrower one start at random, or leave its width out"
        )
    student = _drawn(teacher, kept, width=width, seed=seed)
    if init == "cut":
        numbers = {
            f"{prefix}.{new}.": f"{prefix}.{old}."
            for prefix in _blocks(teacher)
            for new, old in enumerate(kept)
        }
        stored, own = teacher.state_dict(), student.state_dict()
        weights = {name: _stored(name, numbers, stored) for name in own}
        for name, weight in weights.items():
            if weight.shape != own[name].shape:
                raise CompatibilityError(
                    f"{name!r} of {type(teacher).__name__} depends on the number of layers "
                    f"({tuple(weight.shape)} for {depth(teacher)}, {tuple(own[name].shape)} for "
                    f"{len(kept)}), so that it cannot be copied; give a smaller model of your own "
                    "instead of a cut"
                )
        student.load_state_dict(weights)
    if teacher.can_generate():
        student.generation_config = copy.deepcopy(teacher.generation_config)
    return student.eval()


def _drawn(
    teacher: PreTrainedModel, kept: Sequence[int], *, width: int | None, seed: int
) -> PreTrainedModel:
    """A model with random weights, of the teacher's class with these layers and this width."""
    config = copy.deepcopy(teacher.config)
    try:
        keep_layers(config.get_text_config(), kept)
        if width is not None:
            _narrow(config, width)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return type(teacher)._from_config(config, dtype=teacher.dtype)
    except AttarError:
        raise
    except Exception as error:  # a class may have any rule for its sizes
        raise CompatibilityError(
            f"{type(teacher).__name__} cannot be made smaller by its number of layers or its width "
            f"({' '.join(str(error).split())[:200]}); give a smaller model of your own"
        ) from error


def evenly_spaced_layers(count: int, whole: int) -> list[int]:
    """Numbers of so many layers, evenly spread from the first to the last.

    Without its first layer a decoder says next to nothing: of a model of 6.1M parameters and 7
    layers two alone accept 0.09 of the tokens as the third and the last, 0.43 as the first two, and
    0.54 as the first and the last (temperature 1, before any training).

    Raises:
        ConfigError: not between 1 and all layers.
    """
    if not 1 <= count <= whole:
        raise ConfigError(f"expected between 1 and {whole} layers of the target, found {count}")
    return evenly_spaced(count, whole, first=True)


def _kept(layers: int | Sequence[int], whole: int) -> list[int]:
    """Which blocks: evenly spread, the last among them, or those that are named."""
    if isinstance(layers, int):
        if not 1 <= layers <= whole:
            raise ConfigError(
                f"expected between 1 and {whole} layers, as the larger model has, found {layers}"
            )
        return evenly_spaced(layers, whole, first=False)
    kept = list(layers)
    if not kept or kept != sorted(set(kept)) or not 0 <= kept[0] <= kept[-1] < whole:
        raise ConfigError(
            f"expected numbers of layers from 0 to {whole - 1} in ascending order, found "
            f"{', '.join(map(str, kept)) or 'none'}"
        )
    return kept


def _narrow(config: Any, width: int) -> None:
    """Set another width, with heads of the same size."""
    before = config.hidden_size
    head = before // config.num_attention_heads
    if not 1 <= width <= before or width % head:
        raise ConfigError(
            f"the width of a smaller model must be a multiple of {head}, the width of a head, up "
            f"to {before}, as the larger one has, but it is {width}"
        )
    groups = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    shared = config.num_attention_heads // groups  # query heads of a key/value head
    if width // head % shared:
        raise ConfigError(
            f"the width of a smaller model must be a multiple of {head * shared}, the {shared} "
            f"heads that share a key/value head, but it is {width}"
        )
    if getattr(config, "num_key_value_heads", None):
        config.num_key_value_heads = width // head // shared
    config.hidden_size, config.num_attention_heads = width, width // head
    for name, value in config.to_dict().items():  # SqueezeBERT and DeBERTa need them to be one
        if name.endswith(("hidden_size", "embedding_size")) and value == before:
            setattr(config, name, width)
    for name in ("intermediate_size", "hidden_dim"):  # DistilBERT has the second
        if hasattr(config, name):
            setattr(config, name, max(1, getattr(config, name) * width // before))


def _blocks(model: PreTrainedModel) -> list[str]:
    """The names of the lists that hold a model's blocks: one, or an encoder's and a decoder's."""
    count, sides = depth(model), 2 if model.config.is_encoder_decoder else 1
    lists: list[str] = []
    for name, module in model.named_modules():
        inner = any(name.startswith(f"{other}.") for other in lists)
        if isinstance(module, nn.ModuleList) and len(module) == count and not inner:
            lists.append(name)
    if len(lists) != sides:
        raise CompatibilityError(
            f"expected {sides} list{'s' * (sides > 1)} of {count} blocks in "
            f"{type(model).__name__}, found {len(lists)}; give a smaller model of your own instead "
            "of a cut"
        )
    return lists


def _stored(name: str, numbers: Mapping[str, str], stored: Mapping[str, Tensor]) -> Tensor:
    """The weight that the student's `name` gets. T5 has its positions in the first block alone."""
    for new, old in numbers.items():
        if name.startswith(new):
            return stored.get(re.sub(rf"^{re.escape(new)}", old, name), stored.get(name))  # pyright: ignore[reportReturnType, reportCallIssue, reportArgumentType]
    return stored[name]
