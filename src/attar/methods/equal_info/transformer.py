"""A byte model that is a small Transformer, trained on what a window sees: a few bytes.

Its probabilities are floats, which two machines may round differently. So it lists the strings of a
tokenizer once, and nobody needs it afterwards.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from attar.coding.frequencies import Integers, integer_frequencies
from attar.coding.ngram import Symbols
from attar.errors import CompatibilityError, DataError
from attar.methods.equal_info.config import EqualInfoConfig
from attar.models import computing, inference
from attar.portable.equal_info_windows import END
from attar.runtime import place
from attar.train.trainer import fit

START = END + 1
"""The id before a window's first byte, in the models that are trained here."""
_HEAD = 32
_ROWS = 1024
_SEGMENTS = 2**20


class TransformerModel:
    """Any causal LM over bytes: id b is byte b, 256 the end of a document where that is coded, and
    `bos_token_id` comes before a window.

    Args:
        model: on a processor.
        alphabet: 256 or 257.
        precision: bits of a probability.

    Raises:
        CompatibilityError: the model has too few ids or no BOS.
    """

    kind = "transformer"

    def __init__(self, model: PreTrainedModel, *, alphabet: int, precision: int) -> None:
        ids, start = model.config.get_text_config().vocab_size, model.config.bos_token_id
        if ids <= alphabet or not isinstance(start, int) or start < alphabet:
            raise CompatibilityError(
                f"expected a causal language model over bytes, with the ids 0 to {alphabet - 1} "
                f"for symbols and a bos_token_id after them, found {ids} ids and bos_token_id "
                f"{start}; leave it out and let model_kind='transformer' train one"
            )
        self.model, self.alphabet, self.precision, self._start = model, alphabet, precision, start

    def frequencies(self, prefixes: Symbols) -> Integers:
        """`(B, D)` prefixes to `(B, A)` integers that add up to `2**precision`."""
        start = torch.full((len(prefixes), 1), self._start)
        ids = torch.cat([start, torch.from_numpy(prefixes.astype(np.int64))], dim=1)
        ids = ids.to(self.model.device)
        with inference(self.model), computing(self.model):
            rows = [
                self.model(input_ids=part, use_cache=False).logits[:, -1, : self.alphabet]
                for part in ids.split(_ROWS)
            ]
        chances = torch.cat(rows).double().softmax(dim=-1).cpu().numpy()
        return integer_frequencies(chances, precision=self.precision)


def train_transformer(
    documents: Sequence[Symbols],
    *,
    config: EqualInfoConfig,
    state_dir: Path | None = None,
    resume: bool = False,
) -> TransformerModel:
    """Train a byte model on short segments that begin anywhere in the text, as windows do.

    A segment has `2 * window_bits` symbols, more than a window can hold at better than half a bit
    for each. It may run over into the next document.

    Raises:
        DataError: the text is shorter than a segment.
    """
    length = 2 * config.window_bits
    stream = np.concatenate(documents) if documents else np.zeros(0, np.uint16)
    if len(stream) <= length:
        raise DataError(
            f"expected more than {length} bytes of text to train on, found {len(stream)}; give "
            "more text"
        )
    shape = LlamaConfig(
        vocab_size=START + 1,
        hidden_size=config.hidden_size,
        intermediate_size=4 * config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.hidden_size // _HEAD,
        max_position_embeddings=length + 1,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = LlamaForCausalLM(shape)
    fit(
        model,
        _segments(stream, length, config),
        config=config,
        state_dir=state_dir,
        resume=resume,
    )
    place(model, "cpu")
    return TransformerModel(model, alphabet=config.alphabet, precision=config.precision_bits)


def _segments(stream: Symbols, length: int, config: EqualInfoConfig) -> Tensor:
    """`(N, 1 + length)`: the start, and the symbols from random places on; a million of them, or as
    many as all steps need, are seen again and again in another order."""
    rng = np.random.default_rng(config.seed)
    places = rng.integers(0, len(stream) - length + 1, size=min(config.rows_seen, _SEGMENTS))
    segments = np.lib.stride_tricks.sliding_window_view(stream, length)[places].astype(np.int64)
    return torch.from_numpy(np.pad(segments, ((0, 0), (1, 0)), constant_values=START))
