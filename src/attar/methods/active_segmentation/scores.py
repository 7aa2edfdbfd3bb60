"""How much a segmenter has to learn from a sentence: higher = ask sooner.

p_t is the probability that a word begins at character t of n, h the binary entropy in nats, y* the
best segmentation and y2 the second best; the first character always begins a word, so h(p_1) = 0.

- `least_confidence`, 1 - P(y*): Culotta & McCallum 2005.
- `margin`, -(P(y*) - P(y2)): Scheffer, Decomain & Wrobel 2001.
- `sequence_entropy`, H(Y), and `total_token_entropy`, the sum of h(p_t), and `mean_token_entropy`:
  Settles & Craven 2008.
- `mnlp`, -log P(y*) / n: maximum normalised log-probability, Shen et al. 2018, arXiv 1707.05928.
- `min_margin`, the smallest |2 p_t - 1|, negated, and `topk_entropy`, the mean of the three largest
  h(p_t): a sentence is worth as much as its most doubtful positions.
- `bald`, the mean over t of h(mean_k p_tk) - mean_k h(p_tk): what the members of an ensemble
  disagree about, Houlsby et al. 2011, arXiv 1112.5745, on dropout passes as Gal, Islam & Ghahramani
  2017 have it.
- `vote_entropy`, the mean over t of the entropy of the members' votes: Dagan & Engelson 1995.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from attar.errors import ConfigError
from attar.methods.active_segmentation.beliefs import Beliefs

Array = NDArray[np.float64]

#: positions that `topk_entropy` looks at
TOP = 3


def binary_entropy(p: Array) -> Array:
    """h(p) in nats, of the same shape."""
    return entr(p) + entr(1 - p)


def least_confidence(beliefs: Beliefs) -> float:
    """1 - P(y*), from 0 to 1."""
    return -math.expm1(beliefs.log_probability)


def margin(beliefs: Beliefs) -> float:
    """-(P(y*) - P(y2)), from -1 to 0."""
    return math.exp(beliefs.second_log_probability) - math.exp(beliefs.log_probability)


def sequence_entropy(beliefs: Beliefs) -> float:
    """H(Y) in nats."""
    return beliefs.entropy


def mnlp(beliefs: Beliefs) -> float:
    """-log P(y*) / n, in nats per character."""
    return -beliefs.log_probability / _length(beliefs)


def total_token_entropy(beliefs: Beliefs) -> float:
    """Sum of h(p_t), in nats."""
    return float(binary_entropy(beliefs.cut_probabilities).sum())


def mean_token_entropy(beliefs: Beliefs) -> float:
    """Sum of h(p_t) / n, in nats per character."""
    return total_token_entropy(beliefs) / _length(beliefs)


def min_margin(beliefs: Beliefs) -> float:
    """-min |2 p_t - 1|, from -1 to 0."""
    return -float(np.abs(2 * beliefs.cut_probabilities - 1).min(initial=1.0))


def topk_entropy(beliefs: Beliefs) -> float:
    """Mean of the three largest h(p_t), or of all where there are fewer, in nats."""
    entropies = binary_entropy(beliefs.cut_probabilities)
    return float(np.sort(entropies)[-TOP:].mean()) if len(entropies) else 0.0


def bald(beliefs: Beliefs) -> float:
    """Mutual information between a cut and the member, in nats per character."""
    members = _members(beliefs)
    together = binary_entropy(members.mean(axis=0)).sum()
    apart = binary_entropy(members).mean(axis=0).sum()
    # Never negative, by Jensen; rounding can be.
    return max(0.0, float(together - apart)) / _length(beliefs)


def vote_entropy(beliefs: Beliefs) -> float:
    """Entropy of the members' votes, cut or not, in nats per character."""
    votes = (_members(beliefs) > 0.5).mean(axis=0)
    return float(binary_entropy(votes).sum()) / _length(beliefs)


#: by name
SCORES: Mapping[str, Callable[[Beliefs], float]] = MappingProxyType(
    {
        score.__name__: score
        for score in (
            mnlp,
            least_confidence,
            margin,
            sequence_entropy,
            total_token_entropy,
            mean_token_entropy,
            min_margin,
            topk_entropy,
            bald,
            vote_entropy,
        )
    }
)
#: never positive: no exponent can sharpen them
SIGNED = frozenset({"margin", "min_margin"})
#: those that need `Beliefs.members`
ENSEMBLE = frozenset({"bald", "vote_entropy"})


def _length(beliefs: Beliefs) -> int:
    return len(beliefs.cut_probabilities) + 1


def _members(beliefs: Beliefs) -> Array:
    """`(K, n - 1)`."""
    if beliefs.members is None:
        raise ConfigError(
            "bald and vote_entropy expect the beliefs of several members, found those of one; "
            "ask the segmenter for beliefs(texts, members=5)"
        )
    return beliefs.members
