"""The model under superposed decoding: what it read exactly, and the mixtures behind it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.decode.cache import cached
from attar.errors import CompatibilityError, ConfigError
from attar.methods.superposed.core import Row, mixing_weights, superposed_embedding
from attar.models import has_cache, inference, rotation_changes


class Reader:
    """A model with the cache of some rows.

    The cache of a row begins with tokens that were read as they are; mixtures follow, and are
    dropped before another token is read exactly. So none of them ever stays.

    Args:
        model: in evaluation mode.
        rows: how many.

    Attributes:
        exact: the tokens of each row that the cache begins with.
        reused: how many tokens of each prompt were not read again.
        forwards: passes since the prompts began.
        longest: entries of the cache since then, at most.
    """

    def __init__(self, model: PreTrainedModel, rows: int) -> None:
        self.model = model
        self.cached = cached(model, rows)
        self.exact: list[list[int]] = [[] for _ in range(rows)]
        self.begin([[] for _ in range(rows)])

    def begin(self, prompts: Sequence[Sequence[int]], *, weight_temperature: float = 1.0) -> None:
        """Continue these prompts; what they have in common with what was read is not read again.

        Args:
            prompts: token ids, one at least of each row.
            weight_temperature: of the mixtures.
        """
        self.heat = weight_temperature
        self.prompts = [list(prompt) for prompt in prompts]
        self.mixtures = 0  # behind the exact tokens of each row
        self.reused = [self.known(prompt, row=n) for n, prompt in enumerate(prompts)]
        self.forwards = 0
        self.longest = 0  # entries of the cache
        #: logits behind the prompts, `(B, V)`, without those that may not come first
        self.first: Tensor | None = None

    def known(self, text: Sequence[int], *, row: int = 0) -> int:
        """How many tokens of a text the cache of a row has, so that they need not be read again;
        the last one is, for the logits."""
        then = self.exact[row]
        most = max(0, min(len(text) - 1, len(then)))
        return next((i for i in range(most) if text[i] != then[i]), most)

    def read(self, rows: Sequence[Row]) -> Tensor:
        """The logits from which every row continues, `(B, V)`: see `core.step`."""
        if not self.forwards or any(row.exact for row in rows):
            logits = self._read_tokens([self._text(row, n=n) for n, row in enumerate(rows)])
        else:
            self.mixtures += 1
            texts = [[*text, *[0] * self.mixtures] for text in self.exact]  # their number counts
            logits = self.cached.score_embeddings(texts, self._mixed(rows))[:, -1]
        if not self.forwards:
            self.first = logits  # the step takes tokens that may not come first out of it
        self.forwards += 1
        self.longest = max(self.longest, int(self.cached.cache.get_seq_length()))
        return logits

    def _text(self, row: Row, *, n: int) -> list[int]:
        """A prompt with its one draft; where all have ended, anything of that length."""
        if row.alive:
            return [*self.prompts[n], *row.alive[0].tokens]
        return [*self.exact[n], *[0] * (self.mixtures + 1)]

    def _read_tokens(self, texts: list[list[int]]) -> Tensor:
        self.cached.keep([self.known(text, row=n) for n, text in enumerate(texts)])
        logits = self.cached.score(texts, counts=[1] * len(texts))[:, -1]
        self.exact, self.mixtures = texts, 0
        return logits

    def _mixed(self, rows: Sequence[Row]) -> Tensor:
        """x~ of every row (equations 3 and 4), `(B, 1, d)`."""
        embed: Any = self.model.get_input_embeddings()
        mixed = []
        for row in rows:
            last = [draft.tokens[-1] for draft in row.alive] or [0]
            scores = [draft.score for draft in row.alive] or [0.0]
            vectors = embed(torch.tensor(last, device=self.model.device))
            weights = mixing_weights(scores, temperature=self.heat)
            mixed.append(superposed_embedding(vectors, weights))
        return torch.stack(mixed)[:, None]

    def log_probs(self, drafts: Sequence[Sequence[tuple[int, ...]]]) -> list[list[float]]:
        """The model's own log-probability of each draft of each row, in one pass over all: the
        cache of the prompts is repeated, and then as before.

        Args:
            drafts: tokens of one draft at least of each row.
        """
        assert self.first is not None
        lengths = [len(prompt) for prompt in self.prompts]
        owners = [n for n, row in enumerate(drafts) for _ in row]
        flat = [tokens for row in drafts for tokens in row]
        counts = [len(tokens) - 1 for tokens in flat]
        self.cached.keep(lengths)
        self.exact, self.mixtures = self.prompts, 0
        first = self.first.float().log_softmax(-1)
        sums = [float(first[n, tokens[0]]) for n, tokens in zip(owners, flat, strict=True)]
        if max(counts):
            self.cached.select(owners)
            texts = [
                [*self.prompts[n], *tokens[:-1]] for n, tokens in zip(owners, flat, strict=True)
            ]
            logits = self.cached.score(texts, counts=counts)
            self.forwards += 1
            for i, (tokens, count) in enumerate(zip(flat, counts, strict=True)):
                if count:
                    rows = logits[i, -count:].float().log_softmax(-1)
                    picked = torch.tensor(tokens[1:], device=rows.device)[:, None]
                    sums[i] += float(rows.gather(1, picked).sum())
            self.cached.select([owners.index(n) for n in range(len(lengths))])
            self.cached.keep(lengths)
        found = iter(sums)
        return [[next(found) for _ in row] for row in drafts]


def require_mixable(model: PreTrainedModel) -> None:
    """Refuse a model that cannot read mixtures of embeddings.

    The last check is a try: the embedding of a token must give the same logits as its id, bit for
    bit. It does not where a model goes by ids besides, or scales embeddings outside of the module.

    Raises:
        CompatibilityError: with the reason.
    """
    kind = model.config.model_type
    config = model.config.get_text_config(decoder=True)
    reason = None
    if not has_cache(model):
        reason = "is not a decoder that generates text with a key/value cache"
    elif getattr(config, "hidden_size_per_layer_input", 0):
        reason = "looks up further embeddings of each token in every layer, by its id"
    elif model._is_stateful:
        reason = "keeps a running state, from which mixtures cannot be taken back"
    elif not _reads_embeddings(model):
        reason = "gives other logits for the embedding of a token than for its id"
    if reason:
        raise CompatibilityError(
            f"superposed decoding feeds mixtures of token embeddings, but {kind} {reason}; use "
            "plain generation"
        )


@torch.no_grad()
def _reads_embeddings(model: PreTrainedModel) -> bool:
    """Whether the embedding of a token does what its id does."""
    embed: Any = model.get_input_embeddings()
    most = model.config.get_text_config(decoder=True).vocab_size - 1
    read = [min(token, most) for token in (5, 6, 7)]
    with inference(model):
        plain, mixed = cached(model, 1), cached(model, 1)
        for one in (plain, mixed):
            one.score([read[:2]], counts=[1])
        by_id = plain.score([read], counts=[1])
        vector = embed(torch.tensor(read[2:], device=model.device))
        one_hot = superposed_embedding(vector, mixing_weights([0.0]))
        try:
            by_embedding = mixed.score_embeddings([read], one_hot[None, None])
        except (TypeError, ValueError):  # its forward pass takes no embeddings
            return False
    return torch.equal(by_id, by_embedding)


def require_still_rotation(model: PreTrainedModel, shortest: int, *, longest: int) -> None:
    """Refuse texts in which the rotary embeddings of a model change.

    Raises:
        ConfigError: they do.
    """
    if rotation_changes(model, prompt=shortest, length=longest):
        raise ConfigError(
            f"the rotary embeddings of {model.config.model_type} change with the length of a text, "
            f"and may do so within these, of {shortest} to {longest} tokens; lower "
            "max_new_tokens"
        )
