"""Saving models as ordinary Hugging Face checkpoints."""

import contextlib
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.artefacts import disk_is_full, make_folder
from attar.checkpoint.checks import require_same
from attar.checkpoint.forms import as_stand_in, follow_config, is_per_layer, needs_stand_in
from attar.checkpoint.sources import bars_on_terminals, reason_of
from attar.errors import CompatibilityError, ResourceError
from attar.families import FAMILIES, Body
from attar.portable.modeling_elastic_marian import ElasticMarianMTModel


def save(
    model: PreTrainedModel,
    output_dir: str | Path,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> str:
    """Write a model as a Hugging Face checkpoint (safetensors).

    Layers that are all alike give a stock checkpoint. Where its class would refuse the number of
    heads, or other programs misread it, it is written as an equivalent class that carries its own
    head size: a Llama as Mistral, a Qwen2 as Llama, either with biases as Granite. Layers
    that differ give `per_layer_config` and the modelling file; an elastic Marian gives its own.
    What was written is loaded again and compared with the model before it counts.

    Returns:
        `uniform`, `uniform as mistral` (or another class) or `per_layer`.

    Raises:
        CompatibilityError: no stock class can hold these shapes, or what was written would be
            another model. Nothing of it is left.
        ResourceError: the disk is full.
    """
    if model.config.model_type in FAMILIES and (reason := Body(model).no_form()):
        raise CompatibilityError(f"this model cannot be saved for transformers: {reason}")
    follow_config(model)
    own = is_per_layer(model.config) or isinstance(model, ElasticMarianMTModel)
    form = "per_layer" if own else "uniform"
    written = model
    if form == "uniform" and needs_stand_in(model.config):
        written = as_stand_in(model)
        form = f"uniform as {written.config.model_type}"
    _require_valid(written.config)
    _forget_code(written, vars(written.config))
    output_dir = Path(output_dir)
    above = [folder for folder in (output_dir, *output_dir.parents) if not folder.exists()]
    make_folder(output_dir)
    try:
        with TemporaryDirectory(dir=output_dir, prefix=".saving-") as partial:
            with bars_on_terminals():
                written.save_pretrained(partial)
            require_same(Path(partial), written, model=model)
            if tokenizer is not None:
                _forget_code(tokenizer, tokenizer.init_kwargs)
                tokenizer.save_pretrained(partial)
            for old in output_dir.glob("model*.safetensors*"):  # one file would win over new shards
                old.unlink()
            for part in Path(partial).iterdir():
                if part.is_dir():  # further chat templates of a tokenizer
                    shutil.rmtree(output_dir / part.name, ignore_errors=True)
                part.replace(output_dir / part.name)
    except Exception as error:
        with contextlib.suppress(OSError):  # something lies in it
            for folder in above:
                folder.rmdir()
        if not disk_is_full(error):
            raise
        raise ResourceError(
            f"cannot save the checkpoint to {str(output_dir)!r}, as the disk is full; make room "
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
