"""Saving models as ordinary Hugging Face checkpoints."""

from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.artefacts import disk_is_full, make_folder
from attar.checkpoint.forms import as_mistral, follow_config, is_per_layer, refuses_heads
from attar.checkpoint.sources import reason_of
from attar.errors import CompatibilityError, ResourceError
from attar.families import FAMILIES, Body


def save(
    model: PreTrainedModel,
    output_dir: str | Path,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> str:
    """Write a model as a Hugging Face checkpoint (safetensors).

    Layers that are all alike give a stock checkpoint. A Llama whose head count no longer divides
    its width, which `LlamaConfig` refuses, is written under the equivalent `mistral` type. Layers
    that differ give `per_layer_config` and the modelling file.

    Returns:
        `uniform`, `uniform as mistral` or `per_layer`.

    Raises:
        CompatibilityError: no stock class can hold these shapes.
        ResourceError: the disk is full.
    """
    if model.config.model_type in FAMILIES and (reason := Body(model).no_form()):
        raise CompatibilityError(f"this model cannot be saved for transformers: {reason}")
    follow_config(model)
    form = "per_layer" if is_per_layer(model.config) else "uniform"
    if form == "uniform" and refuses_heads(model.config):
        model, form = as_mistral(model), "uniform as mistral"
    _require_valid(model.config)
    _forget_code(model, vars(model.config))
    output_dir = Path(output_dir)
    make_folder(output_dir)
    try:
        if tokenizer is not None:
            _forget_code(tokenizer, tokenizer.init_kwargs)
            tokenizer.save_pretrained(output_dir)
        model.save_pretrained(output_dir)
    except Exception as error:
        if not disk_is_full(error):
            raise
        raise ResourceError(
            f"the checkpoint in {str(output_dir)!r} is incomplete, as the disk is full; make room "
            "and save it again"
        ) from error
    return form


def _require_valid(config: Any) -> None:
    """Refuse what the config's class would refuse in the middle of writing."""
    try:
        config.validate()
    except StrictDataclassError as error:
        raise CompatibilityError(
            f"this model cannot be saved for transformers, as {type(config).__name__} refuses its "
            f"shape; cut it otherwise ({reason_of(error)})"
        ) from error


def _forget_code(part: PreTrainedModel | PreTrainedTokenizerBase, settings: dict[str, Any]) -> None:
    """Drop the names of code files that came with a model, where its class is not made from them:
    they are not written either.
    """
    if type(part)._auto_class is None:
        settings.pop("auto_map", None)
