"""Mixup of word embeddings: the student answers between two texts as its teacher does.

MixKD, Liang et al. 2021, arXiv 2011.00593, as in He et al. 2021, arXiv 2109.11105. One weight and
one permutation a batch, drawn once and given to teacher and student alike; each mixes its own word
embeddings. The batch becomes the B texts and, after them, the B mixtures.

Deviations: the official code keeps the first text's attention mask, which cuts the tail of a longer
partner; here a mixture has all positions of both. Texts whose segments (`token_type_ids`) disagree
on a position that both fill are no partners; a text without any partner is mixed with itself.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attar.data.sources import Batch, Source
from attar.errors import ConfigError

BETA = 0.4  # He et al.; MixKD


@dataclass(frozen=True)
class MixedBatch:
    """What was drawn for one batch."""

    weight: float
    """Lambda, the share of a text in its mixture; its partner has the rest."""
    partner: Tensor
    """Row of each text's partner, (B,): a permutation."""


def mix(
    batch: Mapping[str, Tensor], *, beta: float = BETA, generator: torch.Generator
) -> MixedBatch:
    """Draw lambda ~ Beta(beta, beta) and a permutation of the batch.

    The permutation is uniform over all, and over all within each segment layout where the layouts
    differ altogether.

    Args:
        batch: `input_ids` (B, T), perhaps `attention_mask` and `token_type_ids` (B, T).
        beta: small values leave most texts nearly as they are.
        generator: on the CPU.

    Raises:
        ConfigError: `beta` is not positive, or the batch has no `input_ids`.
    """
    if not 0 < beta < math.inf:
        raise ConfigError(f"mixup's beta must be positive, but it is {beta}; leave mixup off for 0")
    if "input_ids" not in batch:
        raise ConfigError(
            f"mixup needs input_ids to mix their embeddings, but the batch has "
            f"{', '.join(batch) or 'nothing'}; leave mixup off"
        )
    ids = batch["input_ids"]
    numbers = torch.rand(len(ids), generator=generator, dtype=torch.float64).tolist()
    # torch's own Beta takes no generator.
    seed = int(torch.randint(2**62, (), generator=generator))
    weight = float(np.random.default_rng(seed).beta(beta, beta))
    fits = _compatible(batch)
    partner = np.arange(len(ids))
    # Fisher and Yates' shuffle, of which only the exchanges are kept that leave all rows fitting.
    for i in range(len(ids) - 1, 0, -1):
        allowed = np.flatnonzero(fits[i, partner[: i + 1]] & fits[: i + 1, partner[i]])
        j = allowed[int(numbers[i] * len(allowed))]
        partner[i], partner[j] = partner[j], partner[i]
    return MixedBatch(weight, torch.from_numpy(partner).to(ids.device))


def mixed_inputs(
    model: nn.Module, batch: Mapping[str, Tensor], *, mixed: MixedBatch
) -> dict[str, Tensor]:
    """The texts and their mixtures as this model's inputs; gradients reach its word embeddings.

    Models that count positions from the ids, such as RoBERTa, need padding on the right.

    Args:
        model: any transformers model; what its embeddings add to the words' is added by itself.
        batch: as `mix` was given.
        mixed: what it drew: the same for teacher and student.

    Returns:
        `inputs_embeds` (2B, T, d), `attention_mask` (2B, T) int64, true where either text has a
        token, and `token_type_ids` (2B, T) if the batch has them.
    """
    embed: Any = model.get_input_embeddings()  # pyright: ignore[reportCallIssue]
    mask = _mask(batch)
    words: Tensor = embed(batch["input_ids"])
    first, second = _sides(words, mixed)
    mixture = torch.lerp(second, first, mixed.weight)  # exact between equal values
    of_first, of_second = _sides(mask, mixed)
    inputs = {
        "inputs_embeds": torch.cat([words, mixture]),
        "attention_mask": torch.cat([mask, of_first | of_second]).long(),
    }
    if (types := batch.get("token_type_ids")) is not None:
        one, other = _sides(types, mixed)
        inputs["token_type_ids"] = torch.cat([types, torch.where(of_first, one, other)])
    return inputs


def mixed_labels(labels: Tensor, *, mixed: MixedBatch) -> tuple[float, Tensor, Tensor]:
    """Hard class labels of texts and mixtures: (B, ...) -> lambda, (2B, ...), (2B, ...).

    The cross-entropy with the mixed one-hot labels is lambda times that with the first labels plus
    (1 - lambda) times that with the second. A mixture of which one part is unlabelled (-100) is
    unlabelled.
    """
    first, second = _sides(labels, mixed)
    unknown = (first == -100) | (second == -100)
    first, second = (side.masked_fill(unknown, -100) for side in (first, second))
    return mixed.weight, torch.cat([labels, first]), torch.cat([labels, second])


def mixed_targets(targets: Tensor, *, mixed: MixedBatch) -> Tensor:
    """Labels that mix linearly, as of regression or several at once: (B, ...) -> (2B, ...).

    NaN and -100 stand for no label: a mixture of which one part has none has NaN.
    """
    targets = targets if targets.is_floating_point() else targets.float()
    first, second = _sides(targets.masked_fill(targets == -100, torch.nan), mixed)
    return torch.cat([targets, torch.lerp(second, first, mixed.weight)])


def mixed_sources(sources: Tensor, *, mixed: MixedBatch) -> Tensor:
    """The two texts in each of the 2B rows, (B,) -> (2B, 2); a text alone is both of its two."""
    first, second = _sides(sources, mixed)
    return torch.stack([torch.cat([sources, first]), torch.cat([sources, second])], 1)


class MixedExamples:
    """A source whose batches say how they are mixed: `mix_weight` and `mix_partner`, (B,).

    Drawn from the seed and the rows of the batch, so that a resumed run mixes as it would have; and
    before anything is counted, as a mixture has the tokens of both its texts.

    Args:
        source: whose rows are mixed.
        beta: see `mix`.
        seed: of what is drawn.
    """

    def __init__(self, source: Source, *, beta: float = BETA, seed: int = 0) -> None:
        self._source, self._beta, self._seed = source, beta, seed
        self.tokens_per_row = 2 * source.tokens_per_row

    def __len__(self) -> int:
        """Rows to draw from."""
        return len(self._source)

    def batch(self, rows: Sequence[int]) -> Batch:
        """These rows, and what was drawn for them."""
        batch = self._source.batch(rows)
        seed = int(np.random.SeedSequence([self._seed, *rows]).generate_state(1, np.uint64)[0] >> 1)
        mixed = mix(batch, beta=self._beta, generator=torch.Generator().manual_seed(seed))
        weight = torch.full((len(mixed.partner),), mixed.weight, dtype=torch.float64)
        return batch | {"mix_weight": weight, "mix_partner": mixed.partner}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Of the texts and their mixtures; a mixture is labelled if both its texts are."""
        counts, mixed = self._source.counts(batch), drawn(batch)
        assert mixed is not None
        one, other = _sides(_mask(batch), mixed)
        labels = batch["labels"] if batch["labels"].ndim == 1 else batch["labels"][:, 0]
        known = ~(labels.isnan() | (labels == -100))
        both = torch.stack(_sides(known, mixed)).all(0)
        return {
            "rows": 2 * counts["rows"],
            "items": 2 * counts["items"],
            "tokens": counts["tokens"] + float((one | other).sum()),
            "labelled": float(known.sum() + both.sum()),
        }

    def fingerprint(self) -> str:
        """Of the rows; what is drawn depends on the seed, which is among a run's settings."""
        return self._source.fingerprint()


def drawn(batch: Batch) -> MixedBatch | None:
    """What `MixedExamples` drew for a batch; None for a batch that is not mixed."""
    if "mix_partner" not in batch:
        return None
    return MixedBatch(float(batch["mix_weight"][0]), batch["mix_partner"])


def _sides(values: Tensor, mixed: MixedBatch) -> tuple[Tensor, Tensor]:
    """Both texts of every mixture; a text of weight zero is not in it, not even its padding."""
    partners = values[mixed.partner]
    if mixed.weight == 1:
        return values, values
    return (partners if mixed.weight == 0 else values), partners


def _mask(batch: Mapping[str, Tensor]) -> Tensor:
    mask = batch.get("attention_mask")
    return torch.ones_like(batch["input_ids"], dtype=torch.bool) if mask is None else mask.bool()


def _compatible(batch: Mapping[str, Tensor]) -> np.ndarray:
    """Pairs of rows whose segments agree wherever both have a token, (B, B) bool."""
    mask = _mask(batch)
    types = batch.get("token_type_ids")
    if types is None:
        return np.ones((len(mask), len(mask)), dtype=bool)
    both = mask[:, None] & mask
    return (~(both & (types[:, None] != types)).any(-1)).cpu().numpy()
