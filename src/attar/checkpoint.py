"""Loading and saving models as ordinary Hugging Face checkpoints."""

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto import modeling_auto

from attar.artefacts import disk_is_full, make_folder
from attar.coding.windows import LiveWindows
from attar.errors import (
    AttarError,
    CompatibilityError,
    ConfigError,
    DataError,
    MissingExtraError,
    ResourceError,
    require,
)
from attar.families import FAMILIES, Body
from attar.models import DocumentTokenizer
from attar.portable import modeling_per_layer
from attar.portable.equal_info_windows import COMPILED
from attar.portable.tokenization_equal_info import CODEC_FILE, DICTIONARY_FILE, EqualInfoTokenizer

MODELLING_FILE = "modeling_per_layer.py"
#: names of classes by the type of model, from which no class is imported
_CAUSAL: Any = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
_MASKED: Any = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
_SEQ_TO_SEQ: Any = modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
_BARE: Any = modeling_auto.MODEL_MAPPING_NAMES
#: where transformers keeps the head of a task, which no language model has
_TASK_HEADS = ("classifier.", "score.", "qa_outputs.")


def load(
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """Load a model by folder or Hub name, one with per-layer widths included, in evaluation mode.

    Args:
        path: a folder with `config.json` and weights, or a Hub name.
        dtype: None keeps the type the weights are stored in.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run modelling code that comes with the checkpoint. Attar's own per-layer
            checkpoints do not need it.

    Raises:
        CompatibilityError: its weights are quantised.
        DataError: there is no such model, or its files are damaged or do not fit its config.
    """
    kwargs: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    config = read_config(path, **kwargs)
    if getattr(config, "quantization_config", None) is not None:
        raise CompatibilityError(
            f"expected weights in float32, bfloat16 or float16; those of {str(path)!r} are "
            "quantised (quantization_config in its config.json): give the model that they were "
            "made from"
        )
    classes, first = _model_classes(config), None
    for loader in classes:
        if loader.__name__.startswith("PerLayer"):
            kwargs.pop("trust_remote_code", None)  # our class, whatever code lies there
        model, info = _weights(path, loader, config=config, dtype=dtype or "auto", **kwargs)
        lost = sorted(info["missing_keys"]) + sorted(str(k[0]) for k in info["mismatched_keys"])
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
    heads = [key for key in sorted(info["unexpected_keys"]) if key.startswith(_TASK_HEADS)]
    if len(classes) > 1 and heads:
        raise DataError(
            f"the config.json of {str(path)!r} does not say which class of transformers wrote its "
            f"weights, among them {heads[0]!r}; name it there under 'architectures'"
        )
    return model.eval()


def read_config(path: str | Path, **kwargs: Any) -> Any:
    """The configuration of a checkpoint, by folder or Hub name.

    What it says of how to run the model and what to return does not count: the caller asks for
    outputs, and Flash Attention runs on few machines and types.

    Raises:
        DataError: there is no such model, or its configuration is damaged.
    """
    config = _read("model", path, lambda: AutoConfig.from_pretrained(path, **kwargs))
    config.output_attentions = config.output_hidden_states = False
    config.return_dict = True
    if config._attn_implementation not in ("eager", "sdpa"):
        config._attn_implementation = None  # what suits the machine
    return config


def _weights(path: str | Path, loader: Any, **kwargs: Any) -> tuple[PreTrainedModel, Any]:
    """A checkpoint in a class of transformers, and which of its tensors did not find a place."""
    return _read(
        "weights",
        path,
        lambda: loader.from_pretrained(
            path,
            output_loading_info=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # refused by the caller, in words that help
            **kwargs,
        ),
    )


def load_body(path: str | Path, *, loader: Any, config: Any) -> PreTrainedModel:
    """Load a checkpoint into a class with another head, whose weights are drawn at random.

    Args:
        path: folder or Hub name.
        loader: an auto class of transformers.
        config: what `read_config` gave, with the options of the new head.

    Raises:
        DataError: there is no such model, its files are damaged, or its body does not fit.
    """
    model, info = _weights(path, loader, config=config, dtype=torch.float32)
    prefix = f"{model.base_model_prefix}."
    lost = [name for name in sorted(info["missing_keys"]) if name.startswith(prefix)]
    if lost := [name for name in lost if ".pooler." not in name]:
        raise DataError(
            f"the checkpoint {str(path)!r} lacks {len(lost)} tensors of {type(model).__name__}, "
            f"such as {lost[0]!r}; fetch or save it again"
        )
    for name, module in model.named_modules():  # an old head of the same shape was read, too
        if name and not f"{name}.".startswith(prefix):
            for weight in module.parameters(recurse=False):
                weight._is_hf_initialized = False  # pyright: ignore[reportAttributeAccessIssue]
            model._init_weights(module)
    return model.eval()


def _model_classes(config: Any) -> list[Any]:
    """The classes that may have written a checkpoint; their per-layer forms where layers differ.

    It is the one that a config's first architecture names. Where that is absent or unknown, it is
    the first that has all its weights in the checkpoint: the language model of this type, or the
    bare model.
    """
    differ = config.is_heterogeneous and config.model_type in FAMILIES
    name = str(next(iter(config.architectures or ()), ""))
    named: Any = getattr(transformers, name, None)
    if isinstance(named, type) and issubclass(named, PreTrainedModel):
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
        return [per_layer_class(base, config.model_type) for base in classes]
    return classes or [AutoModel]


def per_layer_class(base: type[PreTrainedModel], model_type: str) -> Any:
    """The form of a transformers model class that builds each layer from
    `config.per_layer_config`.
    """
    return type(
        f"PerLayer{base.__name__}",
        (modeling_per_layer.PerLayerMixin, base),
        {"layers_path": layers_path(base, model_type)},
    )


def layers_path(base: type[PreTrainedModel], model_type: str) -> str:
    """Dotted path of the layer list inside an instance of this class."""
    below = FAMILIES[model_type].layers
    return (
        f"{base.base_model_prefix}.{below}"
        if "For" in base.__name__ or "LMHead" in base.__name__
        else below
    )


def load_tokenizer(
    path: str | Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint.

    Args:
        path: folder or Hub name.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run code that comes with it. Attar's own needs none.

    Raises:
        DataError: the folder has none, or it is damaged.
    """
    folder = _folder(path)
    if folder.is_dir() and not any(folder.glob("token*")) and not any(folder.glob("vocab*")):
        raise DataError(
            f"the folder {str(path)!r} holds no tokenizer; copy the one that the model was trained "
            "with into it (tokenizer.json, tokenizer_config.json)"
        )
    if _has_windows(folder):
        return _read("tokenizer", path, lambda: _load_windows(folder))
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    return _read("tokenizer", path, lambda: AutoTokenizer.from_pretrained(path, **options))


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


def tokenizer_of(
    model: str | Path | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    **options: Any,
) -> PreTrainedTokenizerBase:
    """The tokenizer that is given, or else the model's, with the options of `load_tokenizer`.

    Raises:
        ConfigError: none is given, and the model was never stored.
        DataError: it cannot be read.
    """
    if tokenizer is not None:
        return tokenizer
    if not (name := name_of(model)):
        raise ConfigError("a model in memory brings no tokenizer along; give one as `tokenizer`")
    return load_tokenizer(name, **options)


def load_document_tokenizer(path: str | Path) -> DocumentTokenizer:
    """The tokenizer in a folder, which encodes whole documents.

    Raises:
        DataError: it is absent, damaged, or an ordinary one.
    """
    tokenizer = load_tokenizer(path)
    if not isinstance(tokenizer, DocumentTokenizer):
        raise DataError(
            f"expected a tokenizer of equal-information windows in {str(path)!r}, found "
            f"{type(tokenizer).__name__}; make one with attar tokenizer train"
        )
    return tokenizer


def _load_windows(folder: Path) -> EqualInfoTokenizer:
    """Our own tokenizer; the byte model of windows too long for a table is put to work here."""
    codec = json.loads((folder / CODEC_FILE).read_text(encoding="utf-8"))
    options: dict[str, Any] = {}
    if codec["window_bits"] > COMPILED:
        file = folder / DICTIONARY_FILE
        options["dictionary"] = LiveWindows.load(file, window_bits=codec["window_bits"])
    return EqualInfoTokenizer.from_pretrained(folder, **options)


def _has_windows(folder: Path) -> bool:
    """Whether a folder holds our own tokenizer, whose code need not be trusted: it is here."""
    present = [name for name in (DICTIONARY_FILE, CODEC_FILE) if (folder / name).exists()]
    if len(present) == 1:
        lacks = CODEC_FILE if present[0] == DICTIONARY_FILE else DICTIONARY_FILE
        raise DataError(
            f"the tokenizer in {str(folder)!r} lacks {lacks}; copy all files of the tokenizer"
        )
    return bool(present)


def _folder(path: str | Path) -> Path:
    """What may be a folder, or a name on the Hub."""
    fine = isinstance(path, str | Path) and str(path) != ""
    require(fine, "model", path, "a folder or a name on the Hub")
    folder = Path(path)
    try:
        folder.exists()
    except OSError as error:  # too long a name, or a folder above it that is closed
        raise DataError(
            f"cannot look for the model {str(path)[:100]!r}: {error.strerror}; give a folder that "
            "you may read, or a name on the Hugging Face Hub"
        ) from None
    return folder


def _read(what: str, path: str | Path, call: Any) -> Any:
    """Turn the many ways in which a checkpoint can be absent or broken into one sentence."""
    folder = _folder(path)
    if not folder.exists() and str(path).startswith((".", "/", "~")):
        raise DataError(
            f"no {what} at {str(path)!r}: expected a folder with config.json, or a name on the "
            f"Hugging Face Hub"
        )
    if folder.is_file():
        raise DataError(f"expected a folder with a {what}, found the file {str(path)!r}")
    if what != "tokenizer" and folder.is_dir() and not (folder / "config.json").exists():
        raise DataError(
            f"the folder {str(path)!r} holds no config.json, so it is no checkpoint; give the "
            "folder that a model was saved to"
        )
    try:
        return call()
    except HFValidationError:
        raise DataError(
            f"{str(path)!r} is neither a folder nor a valid name on the Hugging Face Hub"
        ) from None
    except AttarError:
        raise
    except ImportError as error:
        raise MissingExtraError(
            f"the {what} of {str(path)!r} needs a package that is not installed; install it "
            f"({_reason(error)})"
        ) from error
    except Exception as error:  # libraries raise whatever a damaged file makes them trip over
        reason = _reason(error)
        if folder.is_dir():
            raise DataError(
                f"cannot read the {what} of the checkpoint {str(path)!r}, which may be damaged; "
                f"save or download it again ({reason})"
            ) from error
        raise DataError(
            f"no {what} named {str(path)!r}: it is no folder here and the Hugging Face Hub did not "
            f"give it; check the name and the connection ({reason})"
        ) from error


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


# ----------------------------------------------------------------------------------------- saving


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
    form = "per_layer" if model.config.is_heterogeneous else "uniform"
    if form == "uniform" and _refuses_heads(model.config):
        model, form = _as_mistral(model), "uniform as mistral"
    _require_valid(model.config)
    _forget_code(model, vars(model.config))
    output_dir = Path(output_dir)
    make_folder(output_dir)
    try:
        if tokenizer is not None:
            _forget_code(tokenizer, tokenizer.init_kwargs)
            tokenizer.save_pretrained(output_dir)
        if form == "per_layer":
            _save_per_layer(model, output_dir)
        else:
            model.save_pretrained(output_dir)
            _rewrite_config(output_dir, architectures=[_stock_class(model).__name__])
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
            f"shape; cut it otherwise ({_reason(error)})"
        ) from error


def _forget_code(part: PreTrainedModel | PreTrainedTokenizerBase, settings: dict[str, Any]) -> None:
    """Drop the names of code files that came with a model, where its class is not made from them:
    they are not written either.
    """
    if type(part)._auto_class is None:
        settings.pop("auto_map", None)


def _stock_class(model: PreTrainedModel) -> type:
    """The class of transformers below our per-layer form; its own class where there is none."""
    stock = (c for c in type(model).__mro__ if c.__module__.startswith("transformers.models."))
    return next(stock, type(model))


def _save_per_layer(model: PreTrainedModel, output_dir: Path) -> None:
    base = _stock_class(model)
    # under the module's own names: a class that is not stock gets no renaming when it is read back
    model.save_pretrained(output_dir, save_original_format=False)
    path = layers_path(base, model.config.model_type)
    (output_dir / MODELLING_FILE).write_text(
        f"{inspect.getsource(modeling_per_layer)}\n\n"
        f"from transformers import {base.__name__}  # noqa: E402\n\n\n"
        f"class PerLayer{base.__name__}(PerLayerMixin, {base.__name__}):\n"
        f'    layers_path = "{path}"\n',
        encoding="utf-8",
    )
    auto = "AutoModelForCausalLM" if base.__name__ in _CAUSAL.values() else "AutoModel"
    auto_map = {auto: f"modeling_per_layer.PerLayer{base.__name__}"}
    _rewrite_config(output_dir, auto_map=auto_map, architectures=[base.__name__])


def _rewrite_config(output_dir: Path, **changes: Any) -> None:
    file = output_dir / "config.json"
    stored = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")


def _refuses_heads(config: Any) -> bool:
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


def _as_mistral(model: PreTrainedModel) -> PreTrainedModel:
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


def name_of(model: str | Path | PreTrainedModel | None) -> str:
    """Folder or Hub name of a model; empty for none, and for one that was never stored."""
    if model is None:
        return ""
    return model.name_or_path or "" if isinstance(model, PreTrainedModel) else str(model)


def fingerprint(model: PreTrainedModel) -> str:
    """A short hash of a model: names, shapes, types and a spread of at most 4,096 values of every
    tensor.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 4096)].cpu().to(torch.float32)
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(sample.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """A short hash of a tokenizer's vocabulary: equal exactly when ids mean the same tokens."""
    vocabulary: list[Any] = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if isinstance(tokenizer, DocumentTokenizer):  # names of parts of windows say nothing
        vocabulary.append(tokenizer.content_hash)
    return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()[:16]
