"""Words to put in the place of words: near ones in an embedding table, or what a masked language
model fills in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from attar.checkpoint import load_tokenizer
from attar.data.files import reason
from attar.errors import CompatibilityError, ConfigError, DataError, require
from attar.models import positions_of, to_computing_dtype
from attar.runtime import place


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a vocabulary that stand for a whole word: `words[i]` has the id `ids[i]`."""

    words: tuple[str, ...]
    ids: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, *, size: int) -> "Vocabulary":
        """Find them among the first `size` ids.

        Raises:
            CompatibilityError: there are not two, case aside.
        """
        size = min(size, len(tokenizer))
        texts = tokenizer.batch_decode([[i] for i in range(size)])
        alone = {i: w for i, text in enumerate(texts) if (w := str(text).strip()).isalpha()}
        # A word's token is the one that the tokenizer itself gives it in the middle of a text.
        # This tells a word from a piece of one in every kind of vocabulary.
        before, *inside = tokenizer(
            ["a", *("a " + word for word in alone.values())], add_special_tokens=False
        )["input_ids"]
        whole = [
            (word, i)
            for (i, word), ids in zip(alone.items(), inside, strict=True)
            if ids == [*before, i]
        ]
        if len({word.casefold() for word, _ in whole}) < 2:
            raise CompatibilityError(
                f"replacing words needs a vocabulary with whole words, but of the {size} tokens of "
                f"{tokenizer.name_or_path or 'the tokenizer'} {len(whole)} are such; leave mlm and "
                "neighbour out of the chain"
            )
        words, ids = zip(*whole, strict=True)
        return cls(words, ids)

    @cached_property
    def index(self) -> dict[str, int]:
        """Place of each word."""
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def same(self) -> dict[str, list[int]]:
        """Places of the words that differ in case alone, by `casefold`."""
        places: dict[str, list[int]] = {}
        for i, word in enumerate(self.words):
            places.setdefault(word.casefold(), []).append(i)
        return places


@dataclass(frozen=True)
class Neighbours:
    """The nearest words of each whole word of a vocabulary."""

    vocabulary: Vocabulary
    nearest: np.ndarray
    """Places in the vocabulary, (words, k), the nearest first."""

    @classmethod
    def of(
        cls,
        embeddings: Tensor,
        tokenizer: PreTrainedTokenizerBase,
        *,
        k: int = 10,
        chunk: int = 1024,
    ) -> "Neighbours":
        """Compare all whole words by the cosine of their embeddings.

        Args:
            embeddings: (V, d), such as a teacher's input embeddings.
            tokenizer: of the same model.
            k: neighbours kept; a word in another case is none.
            chunk: words compared with all others at once.

        Raises:
            CompatibilityError: the vocabulary has fewer than two whole words.
            ConfigError: `k` is not positive.
        """
        require(k >= 1, "k", k, "at least 1 neighbour")
        vocabulary = Vocabulary.of(tokenizer, size=len(embeddings))
        vectors = F.normalize(embeddings.detach()[list(vocabulary.ids)].float(), dim=-1)
        group = torch.empty(len(vectors), dtype=torch.long, device=vectors.device)
        for number, places in enumerate(vocabulary.same.values()):
            group[places] = number
        others = len(vectors) - max(map(len, vocabulary.same.values()))
        nearest = []
        for part, own in zip(vectors.split(chunk), group.split(chunk), strict=True):
            cosine = (part @ vectors.T).masked_fill_(own[:, None] == group, -torch.inf)
            nearest.append(cosine.topk(min(k, others)).indices.int().cpu())
        return cls(vocabulary, torch.cat(nearest).numpy())


@dataclass(frozen=True)
class MaskedLM:
    """A masked language model that proposes words; it sees text alone, never a label."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    top_p: float = 0.8
    """The likeliest words that together have this probability are drawn from."""
    batch_size: int = 16
    """Texts in one forward pass."""

    @classmethod
    def load(cls, path: str | Path, *, batch_size: int = 16) -> "MaskedLM":
        """Load model and tokenizer from one folder or Hub name.

        Raises:
            ConfigError: there is no such model.
            CompatibilityError: its weights have no masked-LM head, or its tokenizer no mask token.
        """
        try:
            model, info = AutoModelForMaskedLM.from_pretrained(
                path, output_loading_info=True, use_safetensors=True
            )
            tokenizer = load_tokenizer(path)
        except (OSError, ValueError, DataError) as error:
            raise ConfigError(
                f"mlm must name the folder or Hub name of a masked language model, but "
                f"{str(path)!r} cannot be loaded as one ({reason(error)})"
            ) from error
        if lost := sorted(info["missing_keys"]):
            raise CompatibilityError(
                f"mlm must name a model with a masked-LM head, but {str(path)!r} lacks "
                f"{len(lost)} tensors, such as {lost[0]!r}; give one trained to fill masks"
            )
        if tokenizer.mask_token_id is None:
            raise CompatibilityError(
                f"mlm must name a model that fills masks, but the tokenizer of {str(path)!r} has "
                "no mask token; give another"
            )
        place(model)
        to_computing_dtype(model)
        return cls(model.eval(), tokenizer, batch_size=batch_size)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words that it can fill in: those of one token."""
        return Vocabulary.of(self.tokenizer, size=self.model.config.vocab_size)

    @property
    def longest(self) -> int:
        """Tokens that fit into the model."""
        most = 2**20  # tokenizers without a bound have one of 1e30
        return min(self.tokenizer.model_max_length, positions_of(self.model) or most, most)

    @torch.no_grad()
    def fill(
        self, texts: Sequence[str], *, originals: Sequence[Sequence[str]], draws: Sequence[Any]
    ) -> list[list[str]]:
        """Words for the mask tokens of each text, all masks of a text at once.

        A mask never gets its original word back, in whatever case. Masks beyond the longest text
        of the model get no word: the list of that text is shorter.

        Args:
            texts: each with as many mask tokens as it has originals.
            originals: the words that the masks stand for.
            draws: uniform numbers in [0, 1), one a mask; with the text they settle the word, up to
                the rounding of the model, whatever the other texts are.
        """
        batch: Any = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.longest,
            return_tensors="pt",
        )
        batch = {name: value.to(self.model.device) for name, value in batch.items()}
        row, column = (batch["input_ids"] == self.tokenizer.mask_token_id).nonzero(as_tuple=True)
        logits = self.model(**batch).logits[row, column].float().cpu()
        logits = logits[:, list(self.vocabulary.ids)]
        numbers: list[float] = []
        seen = [0] * len(texts)
        owners: list[int] = row.tolist()
        for mask, text in enumerate(owners):
            own = originals[text][seen[text]].casefold()
            logits[mask, self.vocabulary.same.get(own, [])] = -torch.inf
            numbers.append(draws[text][seen[text]])
            seen[text] += 1
        places = sample_top_p(logits, p=self.top_p, draws=torch.tensor(numbers)).tolist()
        filled: list[list[str]] = [[] for _ in texts]
        for text, at in zip(owners, places, strict=True):
            filled[text].append(self.vocabulary.words[at])
        return filled


def sample_top_p(logits: Tensor, *, p: float, draws: Tensor) -> Tensor:
    """Draw from the fewest likeliest choices whose probability reaches `p`: (N, C) -> (N,).

    Args:
        logits: -inf rules a choice out.
        p: 0 to 1; at 0 the likeliest is left.
        draws: uniform numbers in [0, 1), (N,).
    """
    likely, order = logits.double().softmax(-1).sort(dim=-1, descending=True, stable=True)
    before = likely.cumsum(-1) - likely
    kept = (before < p).index_fill(-1, torch.zeros(1, dtype=torch.long, device=before.device), True)
    mass = (likely * kept).cumsum(-1)
    target = draws.double()[:, None] * mass[:, -1:]
    place = torch.searchsorted(mass, target, right=True)
    # Rounding may push a number near 1 past the last choice that is kept.
    place = torch.minimum(place, kept.sum(-1, keepdim=True) - 1)
    return order.gather(-1, place).squeeze(-1)
