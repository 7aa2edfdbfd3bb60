"""Facts that are read off a loaded model or its tokenizer: positions, separator, cache, precision,
and which of its layers a smaller one has.

Each rule stands here once.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import numpy as np
import psutil
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.errors import CompatibilityError, ConfigError, DataError
from attar.runtime import native_bfloat16, native_float16

logger = logging.getLogger(__name__)


def has_cache(model: PreTrainedModel) -> bool:
    """True for a decoder-only model that can generate with a key/value cache."""
    return bool(model.can_generate()) and not model.config.is_encoder_decoder


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch dropout off for the block; afterwards each module is back in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def positions_of(model: PreTrainedModel) -> int | None:
    """The longest text that a model was made for; None where it has no bound."""
    config = model.config.get_text_config(decoder=True)
    most = getattr(config, "max_position_embeddings", None)
    if not isinstance(most, int) or most <= 0:
        return None
    # Some configs have the positions before rotary embeddings were stretched, others those after.
    rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    first = rope.get("original_max_position_embeddings") or most
    most = max(most, int(first * (rope.get("factor") or 1)))
    # RoBERTa and its relatives number positions from after that of padding.
    table: Any = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return most if padding is None else most - padding - 1


def rotation_changes(model: PreTrainedModel, *, prompt: int, length: int) -> bool:
    """Whether rotary embeddings change while a prompt grows to a text of `length` tokens.

    They do where they depend on the length of the text: with `longrope` once, with `dynamic` at
    every token beyond the positions that the model was first made for. Plain generation then goes
    on with what was read before, or reads it again, from exactly that token on.
    """
    config = model.config.get_text_config(decoder=True)
    rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    for one in [rope] if "rope_type" in rope else filter(None, rope.values()):
        kind, first = one.get("rope_type"), one.get("original_max_position_embeddings")
        if kind == "longrope" and first is not None and prompt <= first < length:
            return True
        if kind == "dynamic" and config.max_position_embeddings < length:
            return True
    return False


def require_context(model: PreTrainedModel, context: int) -> None:
    """Refuse rows of more tokens than a model was made for.

    Raises:
        ConfigError: they are.
    """
    most = positions_of(model)
    if most is not None and context > most:
        name = model.name_or_path or f"this {type(model).__name__}"
        raise ConfigError(
            f"context must be at most {most}, as {name} has {most} positions; found {context}, so "
            "lower it"
        )


def require_positions(model: PreTrainedModel, *, prompt: int, new: int) -> None:
    """Refuse texts that are longer than those a model was made for.

    Raises:
        ConfigError: they are.
    """
    most = positions_of(model)
    if most is not None and prompt + new > most:
        raise ConfigError(
            f"the prompt and the new tokens must fit into the {most} positions of the model; "
            f"found {prompt} and {new}, so shorten the prompt or lower max_new_tokens"
        )


def require_generator(side: str, model: PreTrainedModel) -> None:
    """Refuse a model that writes no texts, such as an encoder.

    Raises:
        CompatibilityError: it is one.
    """
    if not model.can_generate():
        raise CompatibilityError(
            f"the {side} must be a decoder or an encoder-decoder that generates text, but "
            f"{model.name_or_path or 'it'} is a {type(model).__name__}; give another model"
        )


def evenly_spaced(count: int, whole: int, *, first: bool) -> list[int]:
    """Numbers of `count` layers spread evenly over `whole`, counted from 0.

    Args:
        count: how many; more than there are repeats some.
        whole: layers to choose from.
        first: True: from the first to the last, both among them, and the first for a single one;
            False: the last one of each of `count` equal stretches.
    """
    if first:
        return [round(i * (whole - 1) / max(1, count - 1)) for i in range(count)]
    return [(i + 1) * whole // count - 1 for i in range(count)]


def keep_layers(config: Any, kept: Sequence[int]) -> None:
    """Make a config, in place, that of a model with these layers alone: their number, and each list
    with an entry per layer, such as `layer_types` and `attention_window`. Ids of tokens and names
    of classes are the lists that have nothing to do with layers.
    """
    whole = config.num_hidden_layers
    for name, value in config.to_dict().items():
        per_layer = isinstance(value, list | tuple) and len(value) == whole
        if per_layer and not name.endswith(("token_id", "token_ids", "architectures")):
            setattr(config, name, [value[i] for i in kept])
    config.num_hidden_layers = len(kept)
    if hasattr(config, "num_decoder_layers"):  # of an encoder-decoder, as deep on both sides
        config.num_decoder_layers = len(kept)


AUTOCAST_FROM = (
    5_000_000  # below this many parameters, casting costs more than bfloat16 arithmetic saves
)


def autocast(model: torch.nn.Module) -> AbstractContextManager[Any]:
    """bfloat16 autocast where it pays, else a context that does nothing.

    It pays on a CPU with bfloat16 instructions, for a float32 model of 5 million parameters or
    more. It moves a loss a little (1e-4 nats for a Llama of 6 million), so hold one context around
    a comparison of models of different size, that all of them use the same.
    """
    parameters = list(model.parameters())
    suits = bool(parameters) and all(
        p.device.type == "cpu" and p.dtype == torch.float32 for p in parameters
    )
    if suits and sum(p.numel() for p in parameters) >= AUTOCAST_FROM and native_bfloat16():
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A block whose arithmetic has the types of its tensors, also under autocast; the meta device
    has none."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def computing_dtype(model: nn.Module) -> torch.dtype:
    """The type that a model computes in, which need not be the one that it is stored in.

    A processor emulates a half-precision type that it cannot multiply, several times slower than
    float32. There such a model computes in float32, where the memory for it is free.
    """
    halves = [tensor for tensor in _halves(model) if tensor.device.type == "cpu"]
    native = {torch.bfloat16: native_bfloat16, torch.float16: native_float16}
    slow = any(not native[dtype]() for dtype in {tensor.dtype for tensor in halves})
    more = sum(tensor.numel() * tensor.element_size() for tensor in halves)
    if slow and more < psutil.virtual_memory().available:
        return torch.float32
    return next(model.parameters()).dtype


def computed_in(model: nn.Module) -> str:
    """The name of `computing_dtype`, for the record."""
    return str(computing_dtype(model)).removeprefix("torch.")


def _halves(model: nn.Module) -> list[Tensor]:
    """Weights and buffers in half precision."""
    return [
        tensor
        for tensor in chain(model.parameters(), model.buffers())
        if tensor.dtype in (torch.bfloat16, torch.float16)
    ]


def to_computing_dtype(model: nn.Module) -> None:
    """Put a model that is in its place into `computing_dtype`, for good."""
    if computing_dtype(model) is torch.float32:
        for tensor in _halves(model):
            _tell(tensor.dtype)
            tensor.data = tensor.data.float()


@cache
def _tell(stored: torch.dtype) -> None:
    logger.info(
        "computing in float32: this processor is slow in %s, in which the weights are stored",
        str(stored).removeprefix("torch."),
    )


@contextmanager
def computing(model: nn.Module) -> Iterator[None]:
    """Hold a model that is in its place in `computing_dtype` for the length of the block; after it
    every weight, also one that was cut in the block, has the type that it is stored in.
    """
    with _types_restored(model):
        to_computing_dtype(model)
        yield


@contextmanager
def in_float32(model: nn.Module) -> Iterator[None]:
    """Hold a model in float32 while it is trained, as smaller types swallow small updates; after
    the block every weight has the type that it is stored in.
    """
    with _types_restored(model):
        for tensor in _halves(model):
            tensor.data = tensor.data.float()
        yield


@contextmanager
def _types_restored(model: nn.Module) -> Iterator[None]:
    stored = [(tensor, tensor.dtype) for tensor in _halves(model)]
    try:
        yield
    finally:
        for tensor, dtype in stored:
            tensor.data = tensor.data.to(dtype)


@contextmanager
def inference(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients."""
    # inference_mode would be a little faster, but buffers that a model makes in it (rotary tables)
    # could not be trained with later.
    with evaluation_mode(model), torch.no_grad():
        yield


def damage_of(model: PreTrainedModel) -> str:
    """Why a model gives no finite numbers, as part of a sentence."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return f"its weights are damaged, {name} holds NaN or infinite values"
    return f"its weights are finite but its logits overflow in {model.dtype}"


def separator(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that stands between documents: EOS, else SEP, else BOS.

    Raises:
        DataError: the tokenizer has none of them.
    """
    for token in (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.bos_token_id):
        if isinstance(token, int):
            return token
    raise DataError(
        "expected a tokenizer with an end-of-text token (EOS, SEP or BOS) to put between "
        f"documents, found none in {tokenizer.name_or_path or type(tokenizer).__name__}; "
        "set tokenizer.eos_token"
    )


def leading_bos(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """BOS, where the tokenizer puts it before a text: such a model may give nonsense without it."""
    ids: Any = tokenizer("a", return_attention_mask=False)["input_ids"]
    bos = tokenizer.bos_token_id
    return bos if isinstance(bos, int) and ids[:1] == [bos] else None


@runtime_checkable
class DocumentTokenizer(Protocol):
    """A tokenizer that turns whole documents into ids, their ends among them.

    Ask for it with `isinstance`. An ordinary tokenizer knows texts alone, and puts `separator`
    between them; this one may code the end of a document inside an id, together with the text
    around it.
    """

    @property
    def name_or_path(self) -> str:
        """The folder that it was loaded from; empty for none."""
        ...

    @property
    def vocab_size(self) -> int:
        """Ids, without special tokens."""
        ...

    @property
    def ends_inside(self) -> bool:
        """Whether ends of documents lie inside ids; else `separator` follows each document."""
        ...

    @property
    def id_count(self) -> int:
        """How many different ids documents with their ends can have."""
        ...

    @property
    def content_hash(self) -> str:
        """A hash of what the ids stand for, which their names in the vocabulary may not tell."""
        ...

    @property
    def dependencies(self) -> dict[str, Any]:
        """All that the ids of a text depend on, as JSON has it."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """Ids of documents with their ends, `(S,)`."""
        ...

    def decode_documents(self, ids: ArrayLike) -> list[str]:
        """The texts between the ends, and what comes after the last one if it is anything."""
        ...

    def encode_bytes(self, data: bytes) -> NDArray[np.int32]:
        """Ids of a bytes object, `(S,)`, without an end."""
        ...

    def decode_bytes(self, ids: ArrayLike) -> bytes:
        """The bytes that ids stand for; ends give none."""
        ...

    def count_ends(self, ids: ArrayLike) -> int:
        """How many ends of documents there are in ids."""
        ...

    def head_bytes(self, ids: NDArray[np.int32]) -> int:
        """How many bytes the first of these ids stands for, rounded where it is part of a unit."""
        ...

    def save_pretrained(self, save_directory: Any) -> Any:
        """Write the tokenizer into a folder."""
        ...


def require_decoder(model: PreTrainedModel) -> None:
    """Refuse a model that does not predict text.

    Raises:
        CompatibilityError: the model has no language-model head or is an encoder-decoder.
    """
    if not has_cache(model):
        remedy = (
            "; an encoder-decoder such as a T5 is fine-tuned for a task first "
            "(AutoModelForSeq2SeqLM), and scored by what it writes there"
            if model.config.is_encoder_decoder
            else ""
        )
        raise CompatibilityError(
            f"expected a causal language model (one that AutoModelForCausalLM loads); found "
            f"{type(model).__name__}, "
            f"which has no next-token loss{remedy}"
        )
