"""Make a tokenizer of equal-information windows: fit a byte model, list what its windows say.

`make_tokenizer` is the method, `train_tokenizer` the verb.
"""

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from attar import checkpoint
from attar.coding.ngram import NgramModel, Symbols, symbols_of
from attar.coding.windows import ByteModel, LiveWindows, compile_windows
from attar.data.data import STDLIB, Data, DataLike
from attar.data.passages import sample_passages
from attar.data.text import load_text
from attar.errors import ConfigError, DataError
from attar.methods.equal_info.config import PAPER, EqualInfoConfig
from attar.methods.equal_info.transformer import TransformerModel, train_transformer
from attar.portable.equal_info_windows import COMPILED, FORMAT, WindowDictionary
from attar.portable.tokenization_equal_info import EqualInfoTokenizer, codec_hash
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import artefact
from attar.report.record import Run

logger = logging.getLogger(__name__)

_MEASURED = 1_000_000  # bytes of each split on which the ratio is measured


def make_tokenizer(
    texts: Sequence[str],
    *,
    config: EqualInfoConfig = EqualInfoConfig(),
    byte_model: PreTrainedModel | None = None,
    special_tokens: Mapping[str, str] | None = None,
    state_dir: Path | None = None,
    resume: bool = False,
) -> EqualInfoTokenizer:
    """A tokenizer from documents. The numbered steps are those of the paper's section 3.

    Args:
        texts: to fit the byte model on, at most `config.fit_bytes` of them. What a model will be
            trained on with the tokenizer should not be among them: counts know their own text too
            well.
        config: windows and byte model.
        byte_model: a causal LM over bytes in place of the one that `config` describes (see
            `TransformerModel`).
        special_tokens: other names for `eos_token` and `pad_token`, and more tokens of transformers
            (`bos_token`, ...).
        state_dir: for checkpoints of the Transformer's training.
        resume: go on from them.

    Raises:
        DataError: there is no text, or too little.
        ConfigError: a special token is the string of a window, or the byte model does not suit
            long windows.
    """
    # 1. Documents become bytes; where windows hold the end of a document, it is one more symbol.
    documents = _sample(texts, config)
    logger.info("fitting the byte model on %d bytes", sum(map(len, documents)))
    # 2. M1, a small model of the next byte, is trained on them.
    m1 = _byte_model(documents, config, byte_model=byte_model, state_dir=state_dir, resume=resume)
    # 3. M1 drives a coder. Both start over after every W bits, so that a window always stands for
    #    the same bytes: its string is listed here, and M1 is not needed again.
    dictionary = _windows(m1, config)
    # 4. The bits of the windows are cut into ids of N bits each, as `codec` says.
    codec = _codec(m1, dictionary, documents=documents, config=config)
    # 5. M2, the model that learns from the ids, is trained by `attar.pretraining.pretrain`.
    try:
        return EqualInfoTokenizer(dictionary=dictionary, codec=codec, **(special_tokens or {}))
    except ValueError as error:
        raise ConfigError(str(error)) from error


@takes_recipe("tokenizer train")
def train_tokenizer(
    data: DataLike = STDLIB,
    *,
    config: EqualInfoConfig | str = EqualInfoConfig(),
    byte_model: str | Path | None = None,
    output_dir: str | Path,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Train a tokenizer on the training split of a text, and save it.

    Args:
        data: whatever `attar.data.load_text` takes.
        config: windows and byte model; or the name or path of a recipe.
        byte_model: folder or Hub name of a causal LM over bytes to use in place of a new one.
        output_dir: where the tokenizer goes; it appears when it is complete.
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an interrupted run of the same settings.

    Returns:
        The record, also written to `attar.json`: bytes for each window on text that the byte model
        has seen and on validation text.

    Raises:
        ConfigError: the output folder is taken, or the options do not fit together.
        DataError: the text cannot be read or is too short.
    """
    config, recipe = configured(config, EqualInfoConfig, recipe=recipe)
    data = Data.of(data)
    named = None if byte_model is None else str(byte_model)
    with artefact(
        output_dir,
        command="tokenizer train",
        method="equal_info",
        paper=PAPER,
        settings={"model": named, **data.settings(), **asdict(config)},
        recipe=recipe,
        seed=config.seed,
        resume=resume,
    ) as work:
        began = time.perf_counter()
        documents = load_text(data)
        tokenizer = make_tokenizer(
            documents["train"]["text"],
            config=config,
            byte_model=None if byte_model is None else checkpoint.load(byte_model),
            state_dir=work.sub_state("trainer"),
            resume=work.resuming,
        )
        if work.main:
            seconds = time.perf_counter() - began
            work.run.details = {"codec": tokenizer.codec, "fit_seconds": seconds}
            for split in ("train", "validation"):
                work.run.quality[split] = density(tokenizer, documents[split]["text"])
            tokenizer.save_pretrained(work.folder)
    return work.run


def load_equal_info(folder: str | Path) -> EqualInfoTokenizer:
    """The tokenizer of windows in a folder.

    Raises:
        DataError: it is absent, damaged, or another kind.
    """
    tokenizer = checkpoint.load_document_tokenizer(folder)
    assert isinstance(tokenizer, EqualInfoTokenizer)  # the one kind that loads without its own code
    return tokenizer


def density(tokenizer: EqualInfoTokenizer, texts: Sequence[str]) -> dict[str, float]:
    """Bytes for each window and id, and the bits for each byte of a model that knows nothing.

    Raises:
        DataError: there is no text.
    """
    room = _MEASURED if tokenizer.window_bits <= COMPILED else _MEASURED // 20
    texts = sample_passages(texts, str.encode, tokens=room)
    ids, size = 0, 0
    for text in texts:
        ids += len(tokenizer.encode_bytes(text.encode()))
        size += len(text.encode())
    if not ids:
        raise DataError("expected text to measure a tokenizer on, found none; give other text")
    return {
        "bytes_per_window": size / (ids * tokenizer.token_bits / tokenizer.window_bits),
        "bytes_per_id": size / ids,
        "uniform_bits_per_byte": ids * tokenizer.token_bits / size,
    }


def _sample(texts: Sequence[str], config: EqualInfoConfig) -> list[Symbols]:
    """At most `fit_bytes` of the documents; from the start of each where its end is coded."""
    if config.eos == "document":
        encode = partial(str.encode, errors="surrogateescape")
        return [
            symbols_of(text) for text in sample_passages(texts, encode, tokens=config.fit_bytes)
        ]
    step = max(1, -(-sum(map(len, texts)) // config.fit_bytes))
    documents, room = [], config.fit_bytes
    for text in filter(None, texts[::step]):
        documents.append(symbols_of(text, end=True)[:room])
        room -= len(documents[-1])
        if not room:
            break
    return documents


def _byte_model(
    documents: Sequence[Symbols],
    config: EqualInfoConfig,
    *,
    byte_model: PreTrainedModel | None,
    state_dir: Path | None,
    resume: bool,
) -> ByteModel:
    if byte_model is not None:
        return TransformerModel(
            byte_model, alphabet=config.alphabet, precision=config.precision_bits
        )
    if config.model_kind == "transformer":
        return train_transformer(documents, config=config, state_dir=state_dir, resume=resume)
    return NgramModel.fit(
        documents,
        order=config.order,
        alphabet=config.alphabet,
        precision=config.precision_bits,
    )


def _windows(m1: ByteModel, config: EqualInfoConfig) -> WindowDictionary | LiveWindows:
    """The string of every window: listed, or of long windows worked out when it is needed."""
    if config.window_bits <= COMPILED:
        return compile_windows(m1, window_bits=config.window_bits)
    if not isinstance(m1, NgramModel):
        raise ConfigError(
            f"expected a byte model of integers for windows above {COMPILED} bits, found "
            f"{type(m1).__name__}; leave byte_model out"
        )
    return LiveWindows(m1, window_bits=config.window_bits)


def _codec(
    m1: ByteModel,
    dictionary: WindowDictionary | LiveWindows,
    *,
    documents: Sequence[Symbols],
    config: EqualInfoConfig,
) -> dict[str, Any]:
    """What `codec.json` says: how windows become ids, and what they were made from."""
    codec: dict[str, Any] = {
        "format": FORMAT,
        "codec": "stop",
        "window_bits": config.window_bits,
        "token_bits": config.id_bits,
        "precision_bits": config.precision_bits,
        "alphabet": config.alphabet,
        "eos": config.eos,
        "model": m1.kind,
        "corpus": {
            "bytes": sum(map(len, documents)),
            "sha256": hashlib.sha256(b"\0".join(d.tobytes() for d in documents)).hexdigest(),
        },
        "sha256": dictionary.digest.hex(),
    }
    codec |= {"order": config.order} if m1.kind == "ngram" else {}
    return codec | {"codec_sha256": codec_hash(codec)}
