"""What supernets are trained and compared on."""

from collections.abc import Mapping

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.arch import Space
from attar.data.data import DataLike
from attar.data.pairs import Pairs, load_pairs
from attar.data.sequences import Sequences
from attar.data.text import load_text
from attar.errors import CompatibilityError
from attar.evaluation.likelihood import id_count
from attar.families import Body, EncoderDecoder, is_encoder_decoder
from attar.models import has_cache, require_context
from attar.search.elastic_training import SupernetConfig


def require_fit(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, context: int
) -> None:
    """Refuse a model that Attar cannot slice, or that does not read what its tokenizer gives.

    Raises:
        CompatibilityError: its family is not supported, its vocabulary is smaller than the
            tokenizer's, or as an encoder-decoder it ends texts with another token.
        ConfigError: it has fewer positions than `context`.
    """
    rows, ids = vocabulary_of(model), id_count(tokenizer)
    if ids > rows:
        raise CompatibilityError(
            f"expected a tokenizer of at most {rows} ids, as many as the model has embeddings; "
            f"found one of {ids}: give the tokenizer that the model was trained with"
        )
    ends = getattr(model.config, "eos_token_id", None), tokenizer.eos_token_id
    if is_encoder_decoder(model) and None not in ends and ends[0] != ends[1]:
        raise CompatibilityError(
            f"expected a model whose texts end with the tokenizer's EOS, {ends[1]}; found "
            f"eos_token_id {ends[0]} in its config: correct it there, or it never stops writing"
        )
    require_context(model, context)


def vocabulary_of(model: PreTrainedModel) -> int:
    """Rows of the token embeddings; of the smaller table, where an encoder-decoder has two."""
    if not is_encoder_decoder(model):
        return Body(model).vocabulary
    sides = EncoderDecoder(model)
    return min(sides.vocabulary("encoder"), sides.vocabulary("decoder"))


def require_vocabulary(spaces: Mapping[str, Space], tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a space with networks that lack some of the tokenizer's ids.

    Raises:
        CompatibilityError: there is one.
    """
    ids = id_count(tokenizer)
    for name, space in spaces.items():
        for side in (space, space.decoder):
            if side is not None and side.vocab_size and side.vocab_size[0] < ids:
                raise CompatibilityError(
                    f"expected networks with {ids} token embeddings or more, one for each id of "
                    f"the tokenizer; the space {name!r} has some with {side.vocab_size[0]}: leave "
                    "vocab_size out"
                )


def masked_share(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: SupernetConfig
) -> float:
    """Share of the tokens that are masked: none for a decoder, or without a mask token."""
    plain = has_cache(model) or tokenizer.mask_token_id is None
    return 0.0 if plain else config.mask_probability


def load_sequences(
    data: DataLike,
    tokenizer: PreTrainedTokenizerBase,
    *,
    split: str,
    config: SupernetConfig,
    mask_probability: float,
) -> Sequences:
    """Pieces of documents, of `train` all, of another split at most `eval_sequences`, evenly
    spread over it."""
    rows = Sequences(
        load_text(data)[split]["text"],
        tokenizer,
        context=config.context,
        mask_probability=mask_probability,
        seed=config.seed,
    )
    return rows if split == "train" else rows.select(spread(len(rows), config.eval_sequences))


def load_some_pairs(
    data: DataLike,
    tokenizer: PreTrainedTokenizerBase,
    *,
    split: str,
    config: SupernetConfig,
    decoder_start_token_id: int | None,
) -> Pairs:
    """Pairs of texts, of `train` all, of another split at most `eval_sequences`, evenly spread over
    it."""
    rows = load_pairs(
        data,
        tokenizer,
        split=split,
        context=config.context,
        decoder_start_token_id=decoder_start_token_id,
    )
    return rows if split == "train" else rows.select(spread(len(rows), config.eval_sequences))


def spread(rows: int, most: int) -> list[int]:
    """Numbers of at most so many rows, evenly spread over all."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).round().astype(int)).tolist()
