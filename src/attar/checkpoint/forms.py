"""The classes of transformers that can hold a model: its own, one that stands in, or per-layer."""

from typing import Any

import torch
from transformers import MistralConfig, MistralForCausalLM, PreTrainedModel

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
    """Whether the layers differ, so that only our form of the class can be built from the
    config.
    """
    return config.is_heterogeneous and config.model_type in FAMILIES


def follow_config(model: PreTrainedModel) -> None:
    """Give a model the class that its config needs: the per-layer form where its layers differ, so
    that whatever saves it saves what loads again, and the stock class where they are alike.
    """
    base = stock_class(model)
    if is_per_layer(model.config):
        model.__class__ = per_layer_class(base)
    elif type(model).__name__ == modeling_per_layer.PREFIX + base.__name__:
        model.__class__ = base


def refuses_heads(config: Any) -> bool:
    """Whether the config class would refuse this number of heads."""
    family = FAMILIES.get(config.model_type)
    return bool(
        family and family.heads_divide_width and config.hidden_size % config.num_attention_heads
    )


def has_stock_form(config: Any) -> bool:
    """True when any number of heads can be written: the config class takes it, or `mistral` stands
    in for a bias-free Llama.
    """
    family = FAMILIES[config.model_type]
    if not family.heads_divide_width:
        return True
    plain = not (getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False))
    return config.model_type == "llama" and plain


def as_mistral(model: PreTrainedModel) -> PreTrainedModel:
    """The same network, sharing its tensors, as the class whose config takes any number of
    heads.
    """
    old = model.config
    if not has_stock_form(old):
        raise CompatibilityError(
            f"{type(old).__name__} refuses {old.num_attention_heads} heads at width "
            f"{old.hidden_size} and no stock class stands in "
            "for it; use the per_layer layout or keep a head count that divides the width"
        )
    keys = set(MistralConfig().to_dict()) - {
        "model_type",
        "architectures",
        "sliding_window",
        "transformers_version",
    }
    stored = old.to_dict()
    config = MistralConfig(**{k: stored[k] for k in keys if k in stored}, sliding_window=None)
    with torch.device("meta"):
        twin = MistralForCausalLM(config)
    twin.load_state_dict(model.state_dict(), assign=True)
    twin.tie_weights()
    twin.generation_config = model.generation_config
    return twin
