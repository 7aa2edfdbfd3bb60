"""Loading models."""

import re
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto import modeling_auto

from attar import portable
from attar.checkpoint.claims import (
    check_config,
    check_files,
    check_numbers,
    check_size,
    quantised,
)
from attar.checkpoint.forms import accept_widths, is_per_layer, per_layer_class
from attar.checkpoint.gguf import located
from attar.checkpoint.sources import read_from
from attar.errors import CompatibilityError, DataError, require
from attar.foreign import read_json
from attar.portable.configuration_elastic_marian import ElasticMarianConfig
from attar.portable.modeling_elastic_marian import ElasticMarianMTModel
from attar.portable.modeling_per_layer import PREFIX

#: names of classes by the type of model, from which no class is imported
_CAUSAL: Any = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
_MASKED: Any = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
_SEQ_TO_SEQ: Any = modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
_BARE: Any = modeling_auto.MODEL_MAPPING_NAMES
#: where transformers keeps the head of a task, which no language model has
_TASK_HEADS = ("classifier.", "score.", "qa_outputs.")
#: a tensor of a numbered layer, but for what old versions stored though it can be computed
_OF_A_LAYER = re.compile(r"\.\d+\.(?!.*(inv_freq|masked_bias|attn\.bias)$)")


def load(
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """Load a model by folder, file or Hub name, per-layer ones included, in evaluation mode.

    Args:
        path: a folder with `config.json` and weights, a Hub name, a GGUF file, or one on the Hub
            as `owner/name:file.gguf`. A GGUF file is read once, into a checkpoint that is kept.
        dtype: None keeps the type that the weights are stored in, whatever the config says, unless
            that is a smaller one.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run modelling code that comes with the checkpoint. Attar's own
            checkpoints (per-layer, elastic) do not need it.

    Raises:
        CompatibilityError: its weights are quantised, or pickled.
        DataError: there is no such model, or its files are damaged or do not fit its config.
    """
    name, path = path, located(path, revision=revision)
    kwargs: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    config = read_config(path, **kwargs)
    if getattr(config, "quantization_config", None) is not None:
        raise quantised(path, "quantization_config in its config.json")
    _refuse_pickles(path)
    asked = config.dtype
    if dtype is None:
        config.dtype = None  # which leaves the type to the weights
    classes, first = model_classes(config), None
    for loader in classes:
        if loader.__module__.startswith(f"{portable.__name__}."):
            kwargs.pop("trust_remote_code", None)  # our class, whatever code lies there
        model, info = _weights(path, loader, config=config, dtype=dtype or "auto", **kwargs)
        lost = sorted(info["missing_keys"]) + sorted(str(k[0]) for k in info["mismatched_keys"])
        if not lost and dtype is None and _is_smaller(asked, model.dtype):
            model, info = _weights(path, loader, config=config, dtype=asked, **kwargs)
        if not lost:
            break
        first = first or lost
    else:
        assert first
        raise DataError(
            f"the checkpoint {str(path)!r} does not fit its config: {len(first)} tensors are "
            f"missing or of another shape, "
            f"such as {first[0]!r}; fetch or save it again"
        )
    if unread := [key for key in sorted(info["unexpected_keys"]) if _is_part(key, model)]:
        raise DataError(
            f"the checkpoint {str(path)!r} does not fit its config, which has no place for "
            f"{len(unread)} of its tensors, such as {unread[0]!r}; fetch or save it again"
        )
    heads = [key for key in sorted(info["unexpected_keys"]) if key.startswith(_TASK_HEADS)]
    if len(classes) > 1 and heads:
        raise DataError(
            f"the config.json of {str(path)!r} does not say which class of transformers wrote its "
            f"weights, among them {heads[0]!r}; name it there under 'architectures'"
        )
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if isinstance(ends, list) and not all(isinstance(end, int) for end in ends):
        raise DataError(
            f"expected ids of tokens for eos_token_id in the generation_config.json of "
            f"{str(path)!r}, found {ends!r}; correct it"
        )
    if name is not path:
        model.name_or_path = model.config.name_or_path = str(name)
    return model.eval()


def _is_part(key: str, model: PreTrainedModel) -> bool:
    """Whether a tensor that found no place belongs to what the model computes: to a layer, or to a
    module with other weights; not to the head of another task.
    """
    module, name = key.rpartition(".")[::2]
    found = dict(model.named_modules()).get(module)
    weights = found is not None and any(True for _ in found.parameters(recurse=False))
    return bool(_OF_A_LAYER.search(key)) or (weights and getattr(found, name, None) is None)


def _is_smaller(asked: Any, stored: torch.dtype) -> bool:
    """Whether a config asks for a smaller type than the weights have, as some old ones do."""
    return isinstance(asked, torch.dtype) and asked.itemsize < stored.itemsize


def _refuse_pickles(path: str | Path) -> None:
    folder = Path(path)
    pickled = sorted(file.name for file in folder.glob("pytorch_model*.bin"))
    if pickled and not any(folder.glob("*.safetensors")):
        # of another class than its own a model would come back without its head
        written = read_json(folder / "config.json", "the config").get("architectures")
        name = written[0] if isinstance(written, list) and written else "AutoModelForCausalLM"
        raise CompatibilityError(
            f"expected weights in safetensors in {str(path)!r}, found {pickled[0]}, a pickle, "
            "which can run any code; if you trust it, convert it with transformers: "
            f"{name}.from_pretrained(folder).save_pretrained(new_folder)"
        )


def read_config(path: str | Path, **kwargs: Any) -> Any:
    """The configuration of a checkpoint, by folder or Hub name.

    What it says of how to run the model and what to return does not count: the caller asks for
    outputs, and Flash Attention runs on few machines and types.

    Raises:
        CompatibilityError: only code of its own can read it.
        DataError: there is no such model, or its configuration is damaged.
    """

    path = located(path, revision=kwargs.get("revision"))

    def read() -> Any:
        check_files(Path(path))
        plain, _ = PreTrainedConfig.get_config_dict(path, revision=kwargs.get("revision"))
        check_config(plain, path, trusted=kwargs.get("trust_remote_code", False))
        if plain.get("model_type") == ElasticMarianConfig.model_type:
            return ElasticMarianConfig.from_dict(plain)  # our class, whatever code lies there
        return AutoConfig.from_pretrained(path, **kwargs)

    config = read_from("model", path, read)
    accept_widths(config)
    config.output_attentions = config.output_hidden_states = False
    config.return_dict = True
    if config._attn_implementation not in ("eager", "sdpa"):
        config._attn_implementation = None  # what suits the machine
    return config


def _weights(path: str | Path, loader: Any, **kwargs: Any) -> tuple[PreTrainedModel, Any]:
    """A checkpoint in a class of transformers, and which of its tensors did not find a place."""

    def read() -> Any:
        check_numbers(Path(path))
        if not kwargs.get("trust_remote_code"):  # whose code may build what it likes
            check_size(path, loader, config=kwargs["config"])
        return loader.from_pretrained(
            path,
            output_loading_info=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # refused by the caller, in words that help
            **kwargs,
        )

    return read_from("weights", path, read)


def load_body(path: str | Path, *, loader: Any, config: Any) -> PreTrainedModel:
    """Load a checkpoint into a class with another head, whose weights are drawn at random.

    Args:
        path: folder or Hub name.
        loader: an auto class of transformers.
        config: what `read_config` gave, with the options of the new head.

    Raises:
        DataError: there is no such model, its files are damaged, or its body does not fit.
    """
    path = located(path)
    if is_per_layer(config) and type(config) in loader._model_mapping:
        loader = per_layer_class(loader._model_mapping[type(config)])
    model, info = _weights(path, loader, config=config, dtype="auto")
    prefix = f"{model.base_model_prefix}."
    absent = sorted([*info["missing_keys"], *(str(k[0]) for k in info["mismatched_keys"])])
    lost = [name for name in absent if name.startswith(prefix)]
    if lost := [name for name in lost if ".pooler." not in name]:
        raise DataError(
            f"the checkpoint {str(path)!r} lacks {len(lost)} tensors of {type(model).__name__}, or "
            f"has them in other shapes, such as {lost[0]!r}; fetch or save it again"
        )
    for name, module in model.named_modules():  # an old head of the same shape was read, too
        if name and not f"{name}.".startswith(prefix):
            for weight in module.parameters(recurse=False):
                weight._is_hf_initialized = False  # pyright: ignore[reportAttributeAccessIssue]
            model._init_weights(module)
    return model.eval()


def model_classes(config: Any) -> list[Any]:
    """The classes that may have written a checkpoint; their per-layer forms where layers differ.

    It is the one that a config's first architecture names. Where that is absent or unknown, it is
    the first that has all its weights in the checkpoint: the language model of this type, or the
    bare model.
    """
    if isinstance(config, ElasticMarianConfig):
        return [ElasticMarianMTModel]
    differ = is_per_layer(config)
    name = str(next(iter(config.architectures or ()), "")).removeprefix(PREFIX)
    named: Any = getattr(transformers, name, None)
    own = getattr(named, "config_class", None)  # LlamaForCausalLM may stand beside another type
    if isinstance(named, type) and issubclass(named, PreTrainedModel) and own is type(config):
        classes: list[Any] = [named]
    elif not differ and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        return [AutoModelForCausalLM]
    else:
        kind, language = config.model_type, _CAUSAL
        if config.is_encoder_decoder:
            language = _SEQ_TO_SEQ
        elif not getattr(config, "is_decoder", False) and kind in _MASKED:
            language = _MASKED
        names = [table[kind] for table in (language, _BARE) if kind in table]
        classes = [getattr(transformers, name) for name in names if isinstance(name, str)]
    if differ:
        return [per_layer_class(base) for base in classes]
    return classes or [AutoModel]


def model_of(model: str | Path | PreTrainedModel, **options: Any) -> PreTrainedModel:
    """The model itself, or the one of a folder or Hub name, with the options of `load`.

    Raises:
        ConfigError: it is neither.
        DataError: it cannot be read.
    """
    if isinstance(model, PreTrainedModel):
        return model
    expected = "a folder, a name on the Hub, or a model of transformers"
    found = model if isinstance(model, str) else type(model).__name__
    require(isinstance(model, str | Path) and str(model) != "", "model", found, expected)
    return load(model, **options)
