"""GGUF files, the format of llama.cpp, as models to work on: each is read once, into an ordinary
checkpoint that is kept.

transformers reads and dequantises them. What it ignores in a file is added here (RoPE scaling, how
text is split before BPE) or refused. Values stay in the type of the file; those of a quantised file
are kept in bfloat16, in which most models were trained.
"""

import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelCard, ModelCardData, hf_hub_download
from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from attar import artefacts
from attar.checkpoint.pre_tokenizers import pre_tokenizer_named
from attar.checkpoint.sources import bars_on_terminals, folder_of, not_on_hub, reason_of
from attar.errors import AttarError, CompatibilityError, DataError, MissingExtraError

logger = logging.getLogger(__name__)

SUFFIX = ".gguf"
_ON_HUB = re.compile(r"(?P<repo>[^/:\s]+/[^/:\s]+):(?P<file>[^:\s]+\.gguf)", re.IGNORECASE)
#: keys for which transformers expects one number, and llama.cpp may have one for each layer
_PER_LAYER = (".attention.head_count", ".attention.head_count_kv", ".feed_forward_length")
#: the RoPE scaling of Llama 3.1, 3.2 and 3.3; their files hold the factors that result from it
_LLAMA_3 = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
ROPE_FACTORS = "rope_freqs.weight"
"""In a file: by what RoPE scaling divides each rotary frequency."""
CARD_KEYS = {
    "license": "general.license",
    "license_name": "general.license.name",
    "license_link": "general.license.link",
    "language": "general.languages",
}
"""What the card of a model says, and its key in a GGUF file."""
_GIVE_SOURCE = "give the checkpoint that it was made from"


def is_gguf(path: str | Path) -> bool:
    """Whether a name is that of a GGUF file: a path, or `owner/name:file.gguf` on the Hub."""
    return str(path).lower().endswith(SUFFIX) and not folder_of(path).is_dir()


def located(path: str | Path, *, revision: str | None = None) -> str | Path:
    """The path of a model's checkpoint: for a GGUF file, a folder under `ATTAR_HOME`, which is
    written if it is not there yet; for anything else, the path itself.

    Args:
        path: a folder, a name on the Hub, a GGUF file, or one as `owner/name:file.gguf` on the Hub.
        revision: branch, tag or commit on the Hub.

    Raises:
        MissingExtraError: the package gguf is not installed.
        DataError: there is no such file, or it is damaged.
        CompatibilityError: transformers cannot read this architecture or quantisation.
    """
    if not is_gguf(path):
        return path
    file = _file(path, revision)
    return artefacts.made_once(
        artefacts.kept_form(file), lambda folder: _convert(file, str(path), folder=folder)
    )


def _file(path: str | Path, revision: str | None) -> Path:
    """The file itself, from the Hub where its name says so."""
    on_hub = _ON_HUB.fullmatch(str(path))
    if on_hub and not Path(path).exists():
        try:
            return Path(hf_hub_download(on_hub["repo"], on_hub["file"], revision=revision))
        except Exception as error:  # the network and the Hub fail in many ways
            reason = not_on_hub(error, "model") or f"the Hub did not give it ({reason_of(error)})"
            raise DataError(
                f"no GGUF file {str(path)!r}: there is none of that name here, and {reason}"
            ) from error
    if not Path(path).is_file():
        raise DataError(
            f"no GGUF file at {str(path)!r}; give a path, or owner/name:file.gguf for one on the "
            "Hugging Face Hub"
        )
    return Path(path)


def _convert(file: Path, shown: str, *, folder: Path) -> None:
    """Write a GGUF file as an ordinary checkpoint."""
    reader = _reader(file, shown)
    logger.info("reading %s, once: the checkpoint is kept in %s", shown, folder.parent)
    source: dict[str, Any] = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    try:
        with bars_on_terminals(), _no_bar():
            config = AutoConfig.from_pretrained(**source)
            if type(config) not in AutoModelForCausalLM._model_mapping:
                raise CompatibilityError(
                    f"expected a decoder in the GGUF file {shown!r}, found {config.model_type}; "
                    f"{_GIVE_SOURCE}"
                )
            architecture = _value(reader, "general.architecture")
            if size := _value(reader, f"{architecture}.attention.key_length"):
                config.head_dim = size  # which transformers leaves out for some
            _set_rope_scaling(config, reader, shown=shown)
            found: Any = AutoModelForCausalLM.from_pretrained(
                **source,
                config=config,
                dtype=_dtype(reader),
                # else weights can stay in blocks, for kernels that read those
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
            )
            model, info = found
            tokenizer = AutoTokenizer.from_pretrained(**source)
    except AttarError:
        raise
    except NotImplementedError as error:
        raise CompatibilityError(
            f"cannot undo the quantisation of the GGUF file {shown!r}; give one in another "
            f"quantisation, such as Q8_0 ({reason_of(error)})"
        ) from error
    except Exception as error:  # which one depends on where the file is damaged
        if "is not supported" in str(error):
            raise CompatibilityError(
                f"transformers cannot read the GGUF file {shown!r}; {_GIVE_SOURCE} "
                f"({reason_of(error)})"
            ) from error
        raise DataError(
            f"cannot read the GGUF file {shown!r}, which may be damaged; download it again, or "
            f"{_GIVE_SOURCE} ({reason_of(error)})"
        ) from error
    _require_all(model, reader, missing=info["missing_keys"], shown=shown)
    _drop_strangers(tokenizer, reader)
    _set_pre_tokenizer(tokenizer, reader, shown=shown)
    if len(ends := _ends(reader)) > 1:
        model.generation_config.eos_token_id = ends
    # traces of the GGUF file, with which it could not be saved
    model.hf_quantizer = None
    for mark in ("quantization_config", "_model_name_or_path"):
        model.config.__dict__.pop(mark, None)
    with bars_on_terminals():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ModelCard(_card(reader)).save(folder / "README.md")


@contextmanager
def _no_bar() -> Iterator[None]:
    """Keep a progress bar that ignores transformers' settings out of pipes and log files."""
    with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
        yield


def _reader(file: Path, shown: str) -> Any:
    """The metadata of a file that transformers may be able to read.

    Raises:
        MissingExtraError: the package gguf is not installed.
        DataError: the file is damaged, or holds no tokenizer.
        CompatibilityError: its layers differ, for which transformers has no class.
    """
    try:
        from gguf import GGUFReader
    except ImportError:
        raise MissingExtraError(
            "reading GGUF files needs the package gguf, which is not installed; run "
            "pip install '.[gguf]' in the checkout of Attar"
        ) from None
    try:
        reader = GGUFReader(file)
        architecture = str(_value(reader, "general.architecture"))
    except Exception as error:  # it trusts the sizes and offsets in a file
        raise DataError(
            f"expected a GGUF file in {shown!r}, which is damaged or something else; download it "
            f"again ({reason_of(error)})"
        ) from None
    if (parts := _value(reader, "split.count") or 1) > 1:
        raise CompatibilityError(
            f"the GGUF file {shown!r} is one of {parts} parts of a model, and transformers reads "
            "whole files; put them together with llama-gguf-split --merge, from llama.cpp"
        )
    for name in _PER_LAYER:
        counts = _value(reader, architecture + name)
        if isinstance(counts, list) and architecture != "lfm2":
            raise CompatibilityError(
                f"the layers of the GGUF file {shown!r} differ ({architecture}{name} is a list), "
                f"which transformers cannot read; {_GIVE_SOURCE}"
            )
    if not _value(reader, "tokenizer.ggml.model"):
        raise DataError(f"the GGUF file {shown!r} holds no tokenizer; {_GIVE_SOURCE}")
    return reader


def _card(reader: Any) -> str:
    """A card with what the file says of its licence and languages, for the cards of what is made
    from it."""
    told = {name: _value(reader, key) for name, key in CARD_KEYS.items()}
    data = ModelCardData(**{name: value for name, value in told.items() if value})
    return f"---\n{data.to_yaml()}\n---\nRead from a GGUF file by Attar.\n"


def _value(reader: Any, name: str) -> Any:
    """The value of a metadata key; None if the file lacks it."""
    field = reader.fields.get(name)
    return None if field is None else field.contents()


def _dtype(reader: Any) -> torch.dtype:
    """The type to keep values in. Norms are float32 in every file."""
    names = {tensor.tensor_type.name for tensor in reader.tensors}
    if names <= {"F32", "F16"}:
        return torch.float16 if "F16" in names else torch.float32
    return torch.bfloat16


def _set_rope_scaling(config: Any, reader: Any, *, shown: str) -> None:
    """Put the RoPE scaling of a file into a config.

    Raises:
        CompatibilityError: it is of a kind that the file does not describe in full.
    """
    text = config.get_text_config(decoder=True)
    at = f"{_value(reader, 'general.architecture')}.rope.scaling."
    kind, factor = _value(reader, f"{at}type"), _value(reader, f"{at}factor")
    factors = {t.name: np.array(t.data) for t in reader.tensors if t.name.startswith("rope_f")}
    plain = dict(getattr(text, "rope_parameters", None) or {})
    if list(factors) == [ROPE_FACTORS]:
        scaled = {**plain, **_LLAMA_3, "factor": float(factors[ROPE_FACTORS].max())}
        text.rope_parameters = scaled
        if np.allclose(rope_factors(text), factors[ROPE_FACTORS], rtol=1e-3):
            return
    elif not factors and kind in (None, "none"):
        return
    elif not factors and kind == "linear":
        text.rope_parameters = {**plain, "rope_type": "linear", "factor": float(factor)}
        return
    elif not factors and kind == "yarn":
        first = _value(reader, f"{at}original_context_length")
        text.rope_parameters = {
            **plain,
            "rope_type": "yarn",
            "factor": float(factor),
            "original_max_position_embeddings": int(first),
        }
        return
    raise CompatibilityError(
        f"the GGUF file {shown!r} uses a RoPE scaling that transformers does not read "
        f"({kind or ', '.join(factors)}); {_GIVE_SOURCE}"
    )


def rope_factors(config: Any) -> Tensor:
    """What the RoPE scaling of Llama 3 divides the rotary frequencies by, `(head size / 2,)`."""
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    base = config.rope_parameters["rope_theta"]
    plain = 1 / base ** (torch.arange(0, size, 2, device="cpu").float() / size)
    return plain / scaled


def _require_all(model: PreTrainedModel, reader: Any, *, missing: Any, shown: str) -> None:
    """Refuse a file of which transformers has ignored a part, as it does so silently.

    Raises:
        CompatibilityError: values of the file or of the model are left over.
    """
    stored = sum(int(t.n_elements) for t in reader.tensors if t.name != ROPE_FACTORS)
    read = model.num_parameters()
    if missing or stored != read:
        what = f"{read:,} of its {stored:,} values fit"
        if missing:
            what = f"it lacks {sorted(missing)[0]!r}"
        raise CompatibilityError(
            f"the GGUF file {shown!r} does not fit {type(model).__name__}, as which transformers "
            f"reads it ({what}); {_GIVE_SOURCE}"
        )


def _drop_strangers(tokenizer: Any, reader: Any) -> None:
    """Take out tokens that the class brings along and the file lacks, such as GPT-2's end of text:
    the model has no embeddings for them.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    known = len(_value(reader, "tokenizer.ggml.tokens"))
    kept = [token for token in state["added_tokens"] if token["id"] < known]
    if len(kept) < len(state["added_tokens"]):
        state["added_tokens"] = kept
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))


def _ends(reader: Any) -> list[int]:
    """Tokens that end a text, a turn or a message, of which transformers reads the first."""
    found = [_value(reader, f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom")]
    return [token for token in dict.fromkeys(found) if token is not None]


def _set_pre_tokenizer(tokenizer: Any, reader: Any, *, shown: str) -> None:
    """Split text as in training; transformers takes every unknown pre-tokenizer for GPT-2's."""
    if _value(reader, "tokenizer.ggml.model") != "gpt2":
        return
    name = _value(reader, "tokenizer.ggml.pre")
    if known := pre_tokenizer_named(name):
        tokenizer.backend_tokenizer.pre_tokenizer = known.build(published=True)
        tokenizer.backend_tokenizer.model.ignore_merges = known.ignores_merges
    else:
        logger.warning(
            "the pre-tokenizer of %s (%s) is not known here, so some ids may differ; better %s",
            shown,
            name,
            _GIVE_SOURCE,
        )
