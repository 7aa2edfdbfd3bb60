"""Decoders that learn to predict the next token."""

import logging
from dataclasses import asdict
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.data.data import Data
from attar.data.encoded import is_encoded, load_encoded
from attar.data.text import load_text
from attar.data.tokens import pack, pack_ids, train_bpe
from attar.errors import ConfigError
from attar.evaluation.bits import BitsPerByte, bits_per_byte
from attar.models import DocumentTokenizer, require_context
from attar.pretraining.config import PretrainConfig
from attar.pretraining.shapes import build_model
from attar.report.artefact import Artefact
from attar.report.record import FILE_NAME, Paper, Run
from attar.train.trainer import fit

logger = logging.getLogger(__name__)
_MANY_PASSES = 100  # over the same text: far beyond the about 4 that repeated text is worth


def pretrain_causal(
    work: Artefact,
    model: PreTrainedModel | None,
    *,
    data: Data,
    tokenizer: PreTrainedTokenizerBase | None,
    config: PretrainConfig,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Train a decoder; the model and its tokenizer.

    Args:
        work: the artefact, whose record gets what was measured.
        model: to train further; None: a new one.
        data: text, or a folder of ids.
        tokenizer: of the model; None: one is trained.
        config: options.
    """
    work.card = {"pipeline_tag": "text-generation"}
    words, windows, validation = _material(data, tokenizer, config)
    if model is None:
        words.model_max_length = config.context
        model = build_model(config, words)
    require_context(model, config.context)
    trained = model
    logger.info("%d parameters, %d windows", model.num_parameters(), len(windows))
    warn_of_passes(len(windows), config)

    def quality() -> BitsPerByte:
        return bits_per_byte(trained, words, texts=validation, eval_tokens=config.eval_tokens)

    if work.main:
        work.run.quality["before"] = quality().score.to_dict()
    training = fit(
        model,
        windows,
        config=config,
        state_dir=work.sub_state("trainer"),
        resume=work.resuming,
    )
    if work.main:
        after = quality()
        if after.learned_nothing:
            logger.warning(
                "The model has learned nothing: it is no better than the uniform "
                "baseline. Train longer, or check the text and the tokenizer."
            )
        work.run.paper = _paper(words)
        work.run.quality["after"] = after.score.to_dict()
        facts = {"split": "validation", "windows": len(windows)}
        work.run.details = facts | {"bits_per_byte": after.to_dict()} | asdict(training)
    return model, words


def warn_of_passes(windows: int, config: PretrainConfig) -> None:
    """Warn where the same text comes very often."""
    if (passes := config.rows_seen / max(1, windows)) > _MANY_PASSES:
        logger.warning(
            "the text gives %d windows of %d tokens, each of which the training reads %d "
            "times: the model will memorise them; give more text, or lower max_steps",
            *(windows, config.context, passes),
        )


def _paper(tokenizer: PreTrainedTokenizerBase) -> Paper | None:
    """The publication behind a tokenizer that Attar made."""
    record = Path(tokenizer.name_or_path) / FILE_NAME
    windows = isinstance(tokenizer, DocumentTokenizer) and record.is_file()
    return Run.load(record.parent).paper if windows else None


def _material(
    data: Data, tokenizer: PreTrainedTokenizerBase | None, config: PretrainConfig
) -> tuple[PreTrainedTokenizerBase, Dataset, Dataset]:
    """The tokenizer, windows of ids to train on, and documents to score."""
    folder = data.path
    if folder is not None and is_encoded(folder):
        if tokenizer is not None:
            raise ConfigError(
                f"the text in {data.name!r} is encoded with a tokenizer already; leave tokenizer "
                "and model out, or give the text"
            )
        words = checkpoint.load_tokenizer(folder)
        words.model_max_length = config.context
        rows = load_encoded(folder)
        assert isinstance(words, DocumentTokenizer)  # nothing else writes such a folder
        texts = words.decode_documents([i for row in rows["validation"]["input_ids"] for i in row])
        windows = pack_ids(rows["train"], context=config.context)
        return words, windows, Dataset.from_dict({"text": texts})
    documents = load_text(data)
    if tokenizer is None:
        words = train_bpe(documents["train"], vocab_size=config.vocab_size, context=config.context)
    else:
        words = tokenizer
    windows = pack(documents["train"], words, context=config.context)
    return words, windows, documents["validation"]
