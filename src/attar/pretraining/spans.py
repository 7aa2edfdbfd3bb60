"""Encoder-decoders that learn to restore spans of text."""

import logging
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.data.data import Data
from attar.data.encoded import is_encoded
from attar.data.sources import Order, window
from attar.data.text import load_text
from attar.data.tokens import pack, train_bpe
from attar.errors import CompatibilityError, ConfigError, require
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
#: the largest share that T5 (section 3.3.3) was tried with
_MOST_NOISE = 0.5
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


@dataclass(frozen=True)
class SpanText:
    """Text that is cut into rows for span corruption.

    Attributes:
        tokenizer: of the model.
        train: rows to train on.
        held_out: rows to score.
        config: how they are corrupted, and for how long a model trains.
    """

    tokenizer: PreTrainedTokenizerBase
    train: Dataset
    held_out: Dataset
    config: PretrainConfig

    @classmethod
    def read(
        cls,
        data: Data,
        *,
        model: PreTrainedModel | None,
        tokenizer: PreTrainedTokenizerBase | None,
        config: PretrainConfig,
    ) -> "SpanText":
        """Read it.

        Args:
            data: text.
            model: that will read the rows; None: a new one.
            tokenizer: of the model; None: one is trained on the text.
            config: options.

        Raises:
            ConfigError: the data holds ids, or a context of fewer than 4.
            CompatibilityError: the tokenizer does not suit span corruption, or the model.
            DataError: the text cannot be read, or is too short for a row.
        """
        if data.path is not None and is_encoded(data.path):
            raise ConfigError(
                f"span corruption needs text, but {data.name!r} holds ids without sentinels, made "
                "by attar tokenizer encode; give the text itself"
            )
        least = "4 or more, to hold text and a span"
        require(config.context >= 4, "context", config.context, least)
        documents = load_text(data)
        lengths = span_lengths(
            config.context, noise_density=config.noise_density, mean_span=config.mean_span
        )
        if config.noise_density > _MOST_NOISE:
            logger.warning(
                "noise_density=%g cuts out more than half of the text: inputs of %d tokens get "
                "targets of %d; T5 has 0.15",
                *(config.noise_density, lengths.inputs, lengths.targets),
            )
        words = tokenizer or train_bpe(
            documents["train"],
            vocab_size=config.vocab_size,
            context=config.context,
            sentinels=max(_SENTINELS, lengths.spans),
        )
        size = len(words) if model is None else int(model.config.vocab_size)
        text = cls(words, documents["train"], documents["validation"], config)
        _require_marks(text.collator(0.0), size, name=words.name_or_path)
        train, held_out = (
            pack(documents[split], words, context=lengths.raw, vocab_size=size, literal=True)
            for split in ("train", "validation")
        )
        return replace(text, train=train, held_out=held_out)

    def collator(self, mask_share: float) -> T5SpanCorruptionCollator:
        """What corrupts the rows."""
        config = self.config
        return T5SpanCorruptionCollator(
            self.tokenizer,
            input_length=config.context,
            noise_density=config.noise_density,
            mean_span=config.mean_span,
            mask_share=mask_share,
            seed=config.seed,
        )

    def sources(
        self, model: PreTrainedModel, *, mask_share: float = 0.0
    ) -> tuple[SpanRows, SpanRows]:
        """Rows to train on, and rows to score, as this model reads them.

        Args:
            model: the T5.
            mask_share: share of the tokens of text that are masked for SpacTor's generator.
        """
        config, collator = self.config, self.collator(mask_share)
        text = text_tokens(self.tokenizer, int(model.config.vocab_size))
        count = config.eval_tokens // len(window(self.held_out, 0))
        spread = torch.linspace(
            0, len(self.held_out) - 1, max(1, min(len(self.held_out), count))
        ).round()
        places = Order(len(self.train), length=config.rows_seen, seed=config.seed)
        return (
            SpanRows(self.train, collator, model=model, places=places, text=text),
            SpanRows(self.held_out, collator, model=model, places=spread.int().tolist(), text=text),
        )


def pretrain_spans(
    work: Artefact,
    model: PreTrainedModel | None,
    *,
    data: Data,
    tokenizer: PreTrainedTokenizerBase | None,
    spactor: SpacTorConfig,
    config: PretrainConfig,
    by_spans: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Train a T5; the model and its tokenizer.

    Args:
        work: the artefact, whose record gets what was measured.
        model: to train further; None: a new one.
        data: text.
        tokenizer: of the model; None: one is trained.
        spactor: the first stage, where the objective is spactor.
        config: options.
        by_spans: the model is known to come from such a training.
    """
    work.card = {"pipeline_tag": "text2text-generation"}
    if config.objective != "spactor":
        spactor = replace(spactor, tau=0)
    spactor.switch(config.max_steps)  # refuse what is not within the run before reading text
    if model is not None:
        method.require_t5(model)
    text = SpanText.read(data, model=model, tokenizer=tokenizer, config=config)
    if model is None:
        model = build_t5(config, text.tokenizer)
    train, held_out = text.sources(model, mask_share=spactor.mask_share)
    logger.info("%d parameters, %d rows of text", model.num_parameters(), len(text.train))
    warn_of_passes(len(text.train), config)
    place(model)
    if work.main:
        work.run.quality["before"] = {"span_nats": pair_loss(model, held_out)}
        if work.run.settings.get("model") is not None and not by_spans:
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
            "rows": len(text.train),
            "held_out_rows": len(held_out),
            "tau": tau,
            "first_stage": None if found is None else asdict(found),
            "flops": flops.to_dict(),
            **asdict(training),
        }
    return model, text.tokenizer


def _require_marks(collator: T5SpanCorruptionCollator, size: int, *, name: str) -> None:
    """Refuse a tokenizer whose sentinels, end or padding the model's table lacks."""
    used = collator.sentinels[: collator.lengths.spans].tolist()
    highest = max(*used, collator.end, collator.pad)
    if highest >= size:
        raise CompatibilityError(
            f"the tokenizer {name!r} has a sentinel, end or padding of id {highest}, but the "
            f"model's table has {size} rows; give the model's own tokenizer, or a model after "
            "model.resize_token_embeddings(len(tokenizer))"
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
            "T5 does that was fine-tuned, or hardly trained with span corruption: after this "
            "training it writes sentinels, whatever it did before; if it was fine-tuned, fine-tune "
            "it again afterwards",
            chance,
        )
