"""The classes of transformers that can hold a model: its own, one that stands in, or per-layer."""

from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from attar.checkpoint.sources import unnoticed_widths
from attar.errors import CompatibilityError
from attar.families import FAMILIES
from attar.portable import modeling_per_layer

MODELLING_FILE = "modeling_per_layer.py"


def per_layer_class(base: type[PreTrainedModel]) -> Any:
    """The form of a transformers model class that builds each layer from
    `config.per_layer_config`.
    """
    return getattr(modeling_per_layer, modeling_per_layer.PREFIX + base.__name__)


def stock_class(model: PreTrainedModel) -> Any:
    """The class of transformers below our per-layer form; its own class where there is none."""
    stock = (c for c in type(model).__mro__ if c.__module__.startswith("transformers.models."))
    return next(stock, type(model))


def is_per_layer(config: Any) -> bool:
    """Whether only our form of the class can be built from the config: the layers differ, or their
    heads are not as wide as the stock class computes them, or linear maps connect them.
    """
    if config.model_type not in FAMILIES:
        return False
    connected = getattr(config, "layer_connectors", False)
    return config.is_heterogeneous or connected or _own_head_size(config)


def _own_head_size(config: Any) -> bool:
    """Whether the heads have a size of their own, where the stock class computes it as width /
    heads.
    """
    size = getattr(config, "head_dim", None)
    tied = not FAMILIES[config.model_type].own_head_size
    return not (tied or size is None or config.num_attention_heads * size == config.hidden_size)


def accept_widths(config: Any) -> None:
    """Read each width in which the layers differ once, so that no notice about it comes later."""
    if config.is_heterogeneous:
        with unnoticed_widths():
            for name in config._heterogeneity_spec.per_layer_attributes:
                getattr(config, name, None)


def follow_config(model: PreTrainedModel) -> None:
    """Give a model the class that its config needs: the per-layer form where its layers differ or
    its heads have a size of their own, so that whatever saves it saves what loads again, and else
    the stock class.
    """
    base = stock_class(model)
    if is_per_layer(model.config):
        model.__class__ = per_layer_class(base)
    elif type(model).__name__ == modeling_per_layer.PREFIX + base.__name__:
        model.__class__ = base


def has_stock_form(config: Any) -> bool:
    """True when any number of heads can be written so that every program that knows the class reads
    it: the class carries its own head size, or another one stands in.
    """
    family = FAMILIES[config.model_type]
    if not family.heads_divide_width and not family.width_over_heads:
        return True
    return config.model_type in _STANDS_FOR and not _windows(config)


def needs_stand_in(config: Any) -> bool:
    """Whether this number of heads is one that the config class refuses, or that other programs
    would misread where a class stands in.
    """
    family, heads = FAMILIES.get(config.model_type), config.num_attention_heads
    if family is None:
        return False
    if family.heads_divide_width:
        return config.hidden_size % heads != 0
    return (
        family.width_over_heads
        and has_stock_form(config)
        and heads * _head_size(config) != config.hidden_size
    )


def _windows(config: Any) -> bool:
    return "sliding_attention" in (getattr(config, "layer_types", None) or ())


def _head_size(config: Any) -> int:
    size = getattr(config, "head_dim", None)
    return size or config.hidden_size // config.num_attention_heads


#: types of models that others can stand in for, and how their classes are called
_STANDS_FOR = {"llama": "Llama", "qwen2": "Qwen2"}


def _stand_in(config: Any) -> tuple[str, dict[str, Any]]:
    """The class, by the first word of its name, that is the same network with any number of heads,
    and what its config needs besides. Llama, which more programs know, refuses head counts that do
    not divide the width, and Mistral has no biases.
    """
    biases = {k: getattr(config, k, False) for k in ("attention_bias", "mlp_bias")}
    if config.model_type == "qwen2":  # its output projection has no bias: zeros stand in
        biases["attention_bias"] = True
    if not any(biases.values()):
        return "Mistral", {"sliding_window": None}
    if config.hidden_size % config.num_attention_heads == 0:
        return "Llama", biases
    size = _head_size(config)
    return "Granite", biases | {"head_dim": size, "attention_multiplier": size**-0.5}


def as_stand_in(model: PreTrainedModel) -> PreTrainedModel:
    """The same network, sharing its tensors, as a class that holds its number of heads.

    Raises:
        CompatibilityError: there is none.
    """
    old, name = model.config, stock_class(model).__name__
    prefix, changes = _stand_in(old) if has_stock_form(old) else ("", {})
    stock = getattr(
        transformers, name.replace(_STANDS_FOR.get(old.model_type, ""), prefix, 1), None
    )
    if not prefix or stock is None:
        raise CompatibilityError(
            f"{type(old).__name__} refuses {old.num_attention_heads} heads at width "
            f"{old.hidden_size} and no stock class stands in for {name}; use the per_layer layout "
            "or keep a head count that divides the width"
        )
    stored, own = old.to_dict(), {"model_type", "architectures", "transformers_version"}
    keys = set(stock.config_class().to_dict()) - own - set(changes)
    config = stock.config_class(**{k: stored[k] for k in keys if k in stored}, **changes)
    with torch.device("meta"):
        twin = stock(config)
    absent = twin.load_state_dict(model.state_dict(), strict=False, assign=True).missing_keys
    for name in absent:  # biases that the class has and the model lacks
        module, _, leaf = name.rpartition(".")
        zeros = torch.zeros_like(twin.get_parameter(name), dtype=model.dtype, device=model.device)
        setattr(twin.get_submodule(module), leaf, nn.Parameter(zeros))
    twin.tie_weights()
    if model.can_generate():
        twin.generation_config = model.generation_config
    return twin
