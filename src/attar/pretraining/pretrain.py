"""The verb `pretrain`: a language model from random weights, or further training of one.

A decoder learns to predict the next token, an encoder-decoder to restore spans of text, as T5 does,
or as SpacTor does. It is also how everything else in Attar can be tried without a download: a
parent to prune, a teacher to distil from.
"""

import logging
from pathlib import Path

import torch
from transformers import PreTrainedModel

from attar import checkpoint
from attar.data.data import STDLIB, Data, DataLike
from attar.errors import CompatibilityError, ConfigError
from attar.measure.cost import cost_of
from attar.methods.spactor import SpacTorConfig
from attar.pretraining.causal import pretrain_causal
from attar.pretraining.config import PretrainConfig, settings_of
from attar.pretraining.spans import pretrain_spans
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import artefact
from attar.report.record import FILE_NAME, Run
from attar.runtime import place

logger = logging.getLogger(__name__)
_SHAPE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "tie_word_embeddings",
)


@takes_recipe("pretrain")
def pretrain(
    model: str | Path | PreTrainedModel | None = None,
    data: DataLike = STDLIB,
    *,
    tokenizer: str | Path | None = None,
    spactor: SpacTorConfig = SpacTorConfig(),
    config: PretrainConfig | str = PretrainConfig(),
    output_dir: str | Path,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Train a model and its tokenizer on text and save both as an ordinary Hugging Face checkpoint.

    Args:
        model: a decoder or a T5 to train further; None: a new one with random weights.
        data: whatever `attar.data.load_text` takes, or a folder that `attar tokenizer encode`
            wrote, with its tokenizer. The training split trains, the validation split is scored.
        tokenizer: folder or Hub name of one to use; None: the model's, or one that is trained on
            the same text.
        spactor: the first stage of the objective spactor.
        config: objective, shape and training options; or the name or path of a recipe.
        output_dir: where the checkpoint goes; it appears when it is complete.
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an interrupted run of the same settings.

    Returns:
        The record, also written to `attar.json`: cost, quality before and after training (bits per
        byte, or nats per target token of held-out spans), the training log.

    Raises:
        ConfigError: the output folder is taken, the settings differ from those of the run to
            resume, options do not go together, or training diverged.
        CompatibilityError: the model or the tokenizer does not suit the objective.
        DataError: the text cannot be read or is shorter than one window.
    """
    config, recipe = configured(config, PretrainConfig, recipe=recipe)
    given = model is not None
    if (tokenizer is not None or given) and config.vocab_size != PretrainConfig.vocab_size:
        kind = "model" if tokenizer is None else "tokenizer"
        name = checkpoint.name_of(model) if tokenizer is None else str(tokenizer)
        raise ConfigError(
            f"vocab_size is of a tokenizer to train, but the {kind} {name!r} is given and has its "
            f"own; leave out vocab_size={config.vocab_size} or the {kind}"
        )
    data = Data.of(data)
    settings = settings_of(
        *(model, data),
        options=(config, *((spactor,) if config.objective == "spactor" else ())),
        tokenizer=tokenizer and str(tokenizer),
    )
    if spactor != SpacTorConfig() and config.objective != "spactor":
        logger.warning(
            "options of the first stage, such as tau, do nothing here: they are for the objective "
            "spactor"
        )
    with artefact(
        output_dir,
        command="pretrain",
        settings=settings,
        recipe=recipe,
        seed=config.seed,
        resume=resume,
    ) as work:
        start = _start(model, config) if model is not None else None
        seq2seq = start is not None and bool(start.config.is_encoder_decoder)
        spans = config.objective in ("span", "spactor") or (config.objective is None and seq2seq)
        if start is not None and spans != seq2seq:
            kind = type(start).__name__
            raise CompatibilityError(
                f"the objective {config.objective} is for an encoder-decoder, but the model is a "
                f"{kind}; give a T5, or choose the objective causal, for a decoder"
                if spans
                else f"the objective causal is for a decoder, but the model is a {kind}; choose "
                "the objective span or spactor"
            )
        words = None
        if tokenizer is not None:
            words = checkpoint.load_tokenizer(tokenizer)
        elif model is not None:
            words = checkpoint.tokenizer_of(model, None)
        if spans:
            trained, words = pretrain_spans(
                work,
                start,
                data=data,
                tokenizer=words,
                spactor=spactor,
                config=config,
                by_spans=isinstance(model, str | Path) and _by_spans(Path(model)),
            )
        else:
            trained, words = pretrain_causal(work, start, data=data, tokenizer=words, config=config)
        if work.main:
            place(trained, "cpu")
            work.run.cost = {"after": cost_of(trained).to_dict()}
            checkpoint.save(trained, work.folder, tokenizer=words)
    return work.run


def _by_spans(folder: Path) -> bool:
    """Whether the record in a folder says that its model was trained by spans."""
    if not (folder / FILE_NAME).is_file():
        return False
    run = Run.load(folder)
    return run.command == "pretrain" and run.method in ("span", "spactor")


def _start(model: str | Path | PreTrainedModel, config: PretrainConfig) -> PreTrainedModel:
    """The model to train further."""
    void = [name for name in _SHAPE if getattr(config, name) != getattr(PretrainConfig, name)]
    if void:
        logger.warning(
            "the model that is given keeps its own shape: leave out %s, which %s of a new model",
            *(", ".join(void), "is" if len(void) == 1 else "are"),
        )
    return checkpoint.model_of(model, dtype=torch.float32)
