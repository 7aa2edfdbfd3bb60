"""Encoder-decoders that learn to restore spans of text."""

import logging
import math
from dataclasses import asdict, replace
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.data.data import Data
from attar.data.encoded import is_encoded
from attar.data.sources import order
from attar.data.text import load_text
from attar.data.tokens import pack, train_bpe
from attar.errors import ConfigError
from attar.evaluation.pairs import pair_loss
from attar.methods import spactor as method
from attar.methods.spactor import SpacTorConfig, training_cost
from attar.models import autocast, inference
from attar.pretraining.causal import warn_of_passes
from attar.pretraining.config import PretrainConfig
from attar.pretraining.shapes import build_t5
from attar.report.artefact import Artefact
from attar.report.record import Paper
from attar.runtime import place
from attar.train.corruption import T5SpanCorruptionCollator, span_lengths, text_tokens
from attar.train.span_rows import SpanRows

logger = logging.getLogger(__name__)

#: as many as T5 has
_SENTINELS = 100
T5_PAPER = Paper(
    title="Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
    authors=(
        "Colin Raffel",
        "Noam Shazeer",
        "Adam Roberts",
        "Katherine Lee",
        "Sharan Narang",
        "Michael Matena",
        "Yanqi Zhou",
        "Wei Li",
        "Peter J. Liu",
    ),
    year=2020,
    arxiv="1910.10683",
)


def pretrain_spans(
    work: Artefact,
    model: PreTrainedModel | None,
    *,
    data: Data,
    tokenizer: PreTrainedTokenizerBase | None,
    spactor: SpacTorConfig,
    config: PretrainConfig,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Train a T5; the model and its tokenizer.

    Args:
        work: the artefact, whose record gets what was measured.
        model: to train further; None: a new one.
        data: text.
        tokenizer: of the model; None: one is trained.
        spactor: the first stage, where the objective is spactor.
        config: options.
    """
    work.card = {"pipeline_tag": "text2text-generation"}
    if config.objective != "spactor":
        spactor = replace(spactor, tau=0)
    spactor.switch(config.max_steps)  # refuse what is not within the run before reading text
    if model is not None:
        method.require_t5(model)
    train, held_out, model, words = _material(data, model, tokenizer, config, spactor)
    logger.info("%d parameters, %d rows of text", model.num_parameters(), len(train.data))
    warn_of_passes(len(train.data), config)
    place(model)
    if work.main:
        work.run.quality["before"] = {"span_nats": pair_loss(model, held_out)}
        if work.run.settings.get("model") is not None:
            _warn_if_fine_tuned(model, held_out)
    state = work.sub_state("trainer")
    assert state is not None  # the verb asks for a folder
    training, found = method.train(
        model,
        train,
        held_out=held_out,
        config=config,
        spactor=spactor,
        state_dir=state,
        resume=work.resuming,
    )
    if work.main:
        nats = pair_loss(model, held_out)
        if nats >= math.log(model.config.vocab_size):
            logger.warning(
                "The model has learned nothing: it is no better than the uniform "
                "baseline. Train longer, or check the text and the tokenizer."
            )
        run, tau = work.run, spactor.switch(config.max_steps)
        run.method = config.objective or "span"
        run.paper = method.PAPER if config.objective == "spactor" else T5_PAPER
        run.quality["after"] = {"span_nats": nats}
        flops = training_cost(model, train, config=config, spactor=spactor)
        run.details = {
            "split": "validation",
            "rows": len(train.data),
            "held_out_rows": len(held_out),
            "tau": tau,
            "first_stage": None if found is None else asdict(found),
            "flops": flops.to_dict(),
            **asdict(training),
        }
    return model, words


def _material(
    data: Data,
    model: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase | None,
    config: PretrainConfig,
    spactor: SpacTorConfig,
) -> tuple[SpanRows, SpanRows, PreTrainedModel, PreTrainedTokenizerBase]:
    """Rows to train on and to score, the model, and its tokenizer."""
    if data.path is not None and is_encoded(data.path):
        raise ConfigError(
            f"span corruption needs text, but {data.name!r} holds ids without sentinels, made by "
            "attar tokenizer encode; give the text itself"
        )
    documents = load_text(data)
    lengths = span_lengths(
        config.context, noise_density=config.noise_density, mean_span=config.mean_span
    )
    if tokenizer is None:
        sentinels = max(_SENTINELS, lengths.spans)
        tokenizer = train_bpe(
            documents["train"],
            vocab_size=config.vocab_size,
            context=config.context,
            sentinels=sentinels,
        )
    if model is None:
        model = build_t5(config, tokenizer)
    size = int(model.config.vocab_size)
    collator = T5SpanCorruptionCollator(
        tokenizer,
        input_length=config.context,
        noise_density=config.noise_density,
        mean_span=config.mean_span,
        mask_share=spactor.mlm_probability if spactor.tau else 0.0,
        seed=config.seed,
    )
    text = text_tokens(tokenizer, size)

    def rows(split: Dataset) -> Dataset:
        return pack(split, tokenizer, context=lengths.raw, vocab_size=size)

    train, scored = rows(documents["train"]), rows(documents["validation"])
    count = max(1, min(len(scored), config.eval_tokens // lengths.raw))
    spread = torch.linspace(0, len(scored) - 1, count).round().int().tolist()
    places = order(len(train), length=config.rows_seen, seed=config.seed)
    return (
        SpanRows(train, collator, model=model, places=places, text=text),
        SpanRows(scored, collator, model=model, places=spread, text=text),
        model,
        tokenizer,
    )


def _warn_if_fine_tuned(model: PreTrainedModel, rows: SpanRows) -> None:
    """A T5 that was fine-tuned no longer begins with a sentinel."""
    batch = rows.batch(range(min(8, len(rows))))
    batch = {name: value.to(model.device) for name, value in batch.items()}
    t5: Any = model
    with inference(model), autocast(model):
        logits = t5(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            decoder_input_ids=batch["decoder_input_ids"][:, :1],
            use_cache=False,
        ).logits[:, 0]
    first = batch["labels"][:, :1]
    chance = logits.float().softmax(-1).gather(1, first).mean()
    if chance < 0.5:
        logger.warning(
            "the model begins its output with the first sentinel with a probability of %.2f, as a "
            "T5 does that was fine-tuned, or not trained with span corruption: after this training "
            "it writes sentinels, whatever it did before; fine-tune it again afterwards",
            chance,
        )
