"""Make a small language model from nothing: a tokenizer and a Llama trained on plain text.

It exists so that everything else in Attar can be tried without a download: a parent to prune, a
teacher to distil from.
"""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from attar import checkpoint
from attar.data.data import STDLIB, Data, DataLike
from attar.data.encoded import is_encoded, load_encoded
from attar.data.text import load_text
from attar.data.tokens import pack, pack_ids, train_bpe
from attar.errors import ConfigError, require
from attar.evaluation.bits import BitsPerByte, bits_per_byte
from attar.measure.cost import cost_of
from attar.models import DocumentTokenizer
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import artefact
from attar.report.record import FILE_NAME, Paper, Run
from attar.runtime import place
from attar.train.trainer import TrainConfig, fit

logger = logging.getLogger(__name__)
_MOST_ENTRIES = 2**20  # of a vocabulary; training one sets memory aside for each
_MANY_PASSES = 100  # over the same text: far beyond the about 4 that repeated text is worth


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(TrainConfig):
    """The shape of the model, and how it is trained. The defaults are the recipe `pocket/1m`."""

    vocab_size: int = 2048
    """Entries of the byte-level BPE tokenizer that is trained on the same text, where no tokenizer
    is given."""
    context: int = 256
    """Tokens in one training window, which is also the model's context."""
    hidden_size: int = 128
    """Width of the residual stream."""
    num_hidden_layers: int = 4
    """Decoder layers."""
    num_attention_heads: int = 8
    """Query heads in each layer."""
    num_key_value_heads: int = 4
    """Key and value heads in each layer; they divide the query heads."""
    intermediate_size: int = 344
    """Neurons of each gated feed-forward layer."""
    tie_word_embeddings: bool = True
    """One matrix for the input and the output embedding."""
    eval_tokens: int = 50_000
    """Tokens of the validation split, in passages spread over it, that are scored at the end."""

    per_device_train_batch_size: int = 16
    learning_rate: float = 3e-3
    warmup_steps: float = 50
    weight_decay: float = 0.1
    adam_beta2: float = 0.95
    save_steps: int = 100
    logging_steps: int = 25

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (
            "context",
            "hidden_size",
            "num_hidden_layers",
            "intermediate_size",
            "eval_tokens",
        ):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        fine = self.vocab_size <= _MOST_ENTRIES
        expected = f"at most {_MOST_ENTRIES}: no text has so many entries that are worth learning"
        require(fine, "vocab_size", self.vocab_size, expected)
        heads, groups = self.num_attention_heads, self.num_key_value_heads
        if heads < 1 or groups < 1 or self.hidden_size % heads or heads % groups:
            raise ConfigError(
                "num_attention_heads must divide hidden_size and be a multiple of "
                f"num_key_value_heads, but they are {heads}, {self.hidden_size} and {groups}."
            )


def build_model(config: PretrainConfig, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """A Llama of this shape with random weights that depend on the seed alone."""
    end: Any = tokenizer.eos_token_id
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        head_dim=config.hidden_size // config.num_attention_heads,
        max_position_embeddings=config.context,
        tie_word_embeddings=config.tie_word_embeddings,
        bos_token_id=end,
        eos_token_id=end,
    )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return LlamaForCausalLM(shape)


@takes_recipe("pretrain")
def pretrain(
    data: DataLike = STDLIB,
    *,
    config: PretrainConfig | str = PretrainConfig(),
    tokenizer: str | Path | None = None,
    output_dir: str | Path,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Train a tokenizer and a model on text and save both as an ordinary Hugging Face checkpoint.

    Args:
        data: whatever `attar.data.load_text` takes, or a folder that `attar tokenizer encode`
            wrote, with its tokenizer. The training split trains, the validation split is scored.
        config: shape and training options; or the name or path of a recipe.
        tokenizer: folder or Hub name of one to use; None trains one on the same text.
        output_dir: where the checkpoint goes; it appears when it is complete.
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an interrupted run of the same settings.

    Returns:
        The record, also written to `attar.json`: cost, perplexity and bits per byte before and
        after training, the training log.

    Raises:
        ConfigError: the output folder is taken, the settings differ from those of the run to
            resume, or training diverged.
        DataError: the text cannot be read or is shorter than one window.
    """
    config, recipe = configured(config, PretrainConfig, recipe=recipe)
    if tokenizer is not None and config.vocab_size != PretrainConfig.vocab_size:
        raise ConfigError(
            f"vocab_size is of a tokenizer to train, but the tokenizer {str(tokenizer)!r} is given "
            f"and has its own; leave out vocab_size={config.vocab_size} or the tokenizer"
        )
    data = Data.of(data)
    settings = {**data.settings(), "tokenizer": tokenizer and str(tokenizer), **asdict(config)}
    with artefact(
        output_dir,
        command="pretrain",
        settings=settings,
        recipe=recipe,
        seed=config.seed,
        resume=resume,
    ) as work:
        work.card = {"pipeline_tag": "text-generation"}
        words, windows, validation = _material(data, tokenizer, config)
        model = build_model(config, words)
        logger.info("%d parameters, %d windows", model.num_parameters(), len(windows))
        if (passes := config.rows_seen / max(1, len(windows))) > _MANY_PASSES:
            logger.warning(
                "the text gives %d windows of %d tokens, each of which the training reads %d "
                "times: the model will memorise them; give more text, or lower max_steps",
                len(windows),
                config.context,
                passes,
            )

        def quality() -> BitsPerByte:
            return bits_per_byte(model, words, texts=validation, eval_tokens=config.eval_tokens)

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
            place(model, "cpu")
            work.run.paper = _paper(words)
            work.run.cost = {"after": cost_of(model).to_dict()}
            work.run.quality["after"] = after.score.to_dict()
            facts = {"split": "validation", "windows": len(windows)}
            work.run.details = facts | {"bits_per_byte": after.to_dict()} | asdict(training)
            checkpoint.save(model, work.folder, tokenizer=words)
    return work.run


def _paper(tokenizer: PreTrainedTokenizerBase) -> Paper | None:
    """The publication behind a tokenizer that Attar made."""
    record = Path(tokenizer.name_or_path) / FILE_NAME
    windows = isinstance(tokenizer, DocumentTokenizer) and record.is_file()
    return Run.load(record.parent).paper if windows else None


def _material(
    data: Data, tokenizer: str | Path | None, config: PretrainConfig
) -> tuple[PreTrainedTokenizerBase, Dataset, Dataset]:
    """The tokenizer, windows of ids to train on, and documents to score."""
    folder = data.path
    if folder is not None and is_encoded(folder):
        if tokenizer is not None:
            raise ConfigError(
                f"the text in {data.name!r} is encoded with a tokenizer already; leave tokenizer "
                "out, or give the text"
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
        words = checkpoint.load_tokenizer(tokenizer)
        words.model_max_length = config.context
    windows = pack(documents["train"], words, context=config.context)
    return words, windows, documents["validation"]
