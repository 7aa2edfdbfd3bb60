"""Make a tokenizer of equal-information windows: fit a byte model, list what its windows say."""

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from transformers import PreTrainedModel

from attar import checkpoint
from attar.artefacts import shared_workspace
from attar.coding.ngram import NgramModel, Symbols, symbols_of
from attar.coding.windows import ByteModel, LiveWindows, compile_windows
from attar.data.data import Data
from attar.data.passages import spread
from attar.data.text import load_text
from attar.errors import ConfigError, DataError
from attar.methods.equal_info.config import PAPER, EqualInfoConfig
from attar.methods.equal_info.transformer import TransformerModel, train_transformer
from attar.portable.equal_info_windows import COMPILED, FORMAT
from attar.portable.tokenization_equal_info import EqualInfoTokenizer, codec_hash
from attar.report.record import Run
from attar.runtime import broadcast, processes

logger = logging.getLogger(__name__)


def load_equal_info(folder: str | Path) -> EqualInfoTokenizer:
    """The tokenizer in a folder.

    Raises:
        DataError: it is absent, damaged, or another kind.
    """
    found = checkpoint.load_tokenizer(folder)
    if not isinstance(found, EqualInfoTokenizer):
        raise DataError(
            f"expected a tokenizer of equal-information windows in {str(folder)!r}, found "
            f"{type(found).__name__}; make one with attar tokenizer fit"
        )
    return found


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
    """A tokenizer from documents.

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
        ConfigError: a special token is the string of a window.
    """
    documents = _sample(texts, config)
    logger.info("fitting the byte model on %d bytes", sum(map(len, documents)))
    model = _byte_model(documents, config, byte_model, state_dir, resume)
    if config.window_bits <= COMPILED:
        dictionary = compile_windows(model, window_bits=config.window_bits)
    elif isinstance(model, NgramModel):
        dictionary = LiveWindows(model, window_bits=config.window_bits)
    else:
        raise ConfigError(
            f"expected a byte model of integers for windows above {COMPILED} bits, found "
            f"{type(byte_model).__name__}; leave byte_model out"
        )
    codec: dict[str, Any] = {
        "format": FORMAT,
        "codec": "stop",
        "window_bits": config.window_bits,
        "token_bits": config.id_bits,
        "precision_bits": config.precision_bits,
        "alphabet": config.alphabet,
        "eos": config.eos,
        "model": model.kind,
        "corpus": {
            "bytes": sum(map(len, documents)),
            "sha256": hashlib.sha256(b"\0".join(d.tobytes() for d in documents)).hexdigest(),
        },
        "sha256": dictionary.digest.hex(),
    }
    codec |= {"order": config.order} if model.kind == "ngram" else {}
    codec["codec_sha256"] = codec_hash(codec)
    try:
        return EqualInfoTokenizer(dictionary=dictionary, codec=codec, **(special_tokens or {}))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _sample(texts: Sequence[str], config: EqualInfoConfig) -> list[Symbols]:
    """At most `fit_bytes` of the documents; from the start of each where its end is coded."""
    if config.eos == "document":
        encode = partial(str.encode, errors="surrogateescape")
        return [symbols_of(text) for text in spread(texts, encode, tokens=config.fit_bytes)]
    step = max(1, -(-sum(map(len, texts)) // config.fit_bytes))
    found, room = [], config.fit_bytes
    for text in filter(None, texts[::step]):
        found.append(symbols_of(text, end=True)[:room])
        room -= len(found[-1])
        if not room:
            break
    return found


def _byte_model(
    documents: Sequence[Symbols],
    config: EqualInfoConfig,
    given: PreTrainedModel | None,
    state_dir: Path | None,
    resume: bool,
) -> ByteModel:
    if given is not None:
        return TransformerModel(given, alphabet=config.alphabet, precision=config.precision_bits)
    if config.model == "transformer":
        return train_transformer(documents, config=config, state_dir=state_dir, resume=resume)
    return NgramModel.fit(
        documents,
        order=config.order,
        alphabet=config.alphabet,
        precision=config.precision_bits,
    )


def fit_tokenizer(
    data: str | Path | Dataset | DatasetDict,
    *,
    output_dir: str | Path,
    config: EqualInfoConfig = EqualInfoConfig(),
    byte_model: str | Path | None = None,
    data_config: str | None = None,
    text_column: str = "text",
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Fit a tokenizer on the training split of a text, and save it.

    Args:
        data: whatever `attar.data.load_text` takes.
        output_dir: where the tokenizer goes; it appears when it is complete.
        config: windows and byte model.
        byte_model: folder or Hub name of a causal LM over bytes to use instead.
        data_config: configuration of a data set on the Hub.
        text_column: column of a table that holds the text.
        recipe: name of the recipe that the options came from, for the record.
        resume: go on with an interrupted run of the same settings.

    Returns:
        The record, also written to `attar.json`: bytes for each window on text that the byte model
        has seen and on validation text.

    Raises:
        ConfigError: the output folder is taken, or the options do not fit together.
        DataError: the text cannot be read or is too short.
    """
    settings = {"data": Data.of(data).name, "byte_model": byte_model and str(byte_model)}
    settings |= {"recipe": recipe, "processes": processes().num_processes} | asdict(config)
    with shared_workspace(Path(output_dir), settings=settings, resume=resume) as space:
        began = time.perf_counter()
        documents = load_text(data, config=data_config, text_column=text_column)
        tokenizer = make_tokenizer(
            documents["train"]["text"],
            config=config,
            byte_model=None if byte_model is None else checkpoint.load(byte_model),
            state_dir=space.state / "trainer",
            resume=space.resuming,
        )
        seconds = time.perf_counter() - began
        if not processes().is_main_process:
            return broadcast(None)
        quality = {
            split: density(tokenizer, documents[split]["text"]) for split in ("train", "validation")
        }
        run = Run(
            command="tokenizer fit",
            method="equal_info",
            paper=PAPER,
            data=settings["data"],
            settings=settings,
            quality=quality,
            details={"codec": tokenizer.codec, "fit_seconds": seconds},
            seed=config.seed,
            seconds=time.perf_counter() - began,
        )
        tokenizer.save_pretrained(space.path)
        run.save(space.path)
        return broadcast(run)


def density(tokenizer: EqualInfoTokenizer, texts: Sequence[str]) -> dict[str, float]:
    """Bytes for each window and id, and the bits for each byte of a model that knows nothing.

    Raises:
        DataError: there is no text.
    """
    room = _MEASURED if tokenizer.window_bits <= COMPILED else _MEASURED // 20
    texts = spread(texts, str.encode, tokens=room)
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
