"""Which sentences belong to which arm, by hashes of their texts alone.

Every sentence has a key for each purpose: a number in [0, 1) that depends on its text and on the
purpose's salt, and on nothing else. The random arm is the sentences with the smallest keys: a
prefix of one fixed order, which nothing the active arm does can bend and which needs no state to
resume. A sample of the smallest of independent uniform keys is a uniform sample without replacement
(bottom-k sampling, Cohen & Kaplan 2007). When a corpus grows, new sentences whose keys lie below
those already served come first ("backfill"), and the arm is a uniform sample of the larger corpus.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence, Set

import numpy as np
from numpy.typing import NDArray

from attar.errors import require

#: purposes of keys; a project that wants another order appends its seed
EVALUATION, RANDOM = "eval", "random"


def uid(text: str) -> str:
    """The name of a sentence: BLAKE2b-128 of its text in UTF-8, as 32 hexadecimal digits."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def key(uid: str, salt: str) -> float:
    """The key of one sentence for one purpose: uniform on [0, 1).

    The first 53 bits of BLAKE2b(salt, uid) as a fraction: as many as a float can hold, so that no
    key rounds up to 1.

    Args:
        uid: name of the sentence.
        salt: the purpose.
    """
    return float(keys([uid], salt)[0])


def keys(uids: Iterable[str], salt: str) -> NDArray[np.float64]:
    """The `key` of each sentence, `(N,)`."""
    start = hashlib.blake2b(salt.encode())
    digests = bytearray()
    for name in uids:
        digest = start.copy()
        digest.update(name.encode())
        digests += digest.digest()[:8]
    bits = np.frombuffer(digests, dtype=">u8") >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def order(uids: Sequence[str], *, salt: str = RANDOM) -> NDArray[np.intp]:
    """What puts the sentences in the order of their keys, `(N,)`: indices of `uids`, smallest key
    first. Equal keys are told apart by name, so that the order of `uids` never matters.
    """
    found = keys(uids, salt)
    by_key = np.argsort(found, kind="stable")
    if (np.diff(found[by_key]) == 0).any():
        return np.lexsort((np.array(uids, dtype=str), found))
    return by_key


def random_order(uids: Collection[str], *, salt: str = RANDOM) -> list[str]:
    """All sentences in the order of their keys: the random arm is a prefix of it, and its first
    sentences are the seed that both arms share.
    """
    names = list(uids)
    return [names[index] for index in order(names, salt=salt)]


def backfill(uids: Collection[str], *, drawn: Set[str], salt: str = RANDOM) -> list[str]:
    """The sentences that a corpus gained below the keys already served, in order of their keys:
    until all of them are served the random arm is no uniform sample of the corpus.

    Args:
        uids: the corpus as it is now.
        drawn: what the random arm was served, whether or not still in the corpus.
        salt: the purpose.
    """
    ordered = random_order(uids, salt=salt)
    last = max((place for place, name in enumerate(ordered) if name in drawn), default=-1)
    return [name for name in ordered[: last + 1] if name not in drawn]


def reserve_threshold(
    uids: Sequence[str],
    *,
    fraction: float = 0.02,
    minimum: int = 1000,
    largest: float = 0.25,
    salt: str = EVALUATION,
) -> float:
    """The key below which a sentence is kept for evaluation.

    Found once, when a project begins, and then kept: one found anew on a larger corpus would move
    sentences between evaluation and training.

    Args:
        uids: the corpus as it is when the project begins.
        fraction: expected share of the corpus that is reserved.
        minimum: sentences that are reserved at least ...
        largest: ... as long as they are no larger a share of the corpus.
        salt: the purpose.

    Returns:
        Between 0 and 1; pass it to `reserve`.

    Raises:
        ConfigError: a share is not between 0 and 1, or the minimum is negative.
    """
    require(0 <= fraction <= 1, "fraction", fraction, "between 0 and 1")
    require(0 <= largest <= 1, "largest", largest, "between 0 and 1")
    require(minimum >= 0, "minimum", minimum, "0 or more sentences")
    count = min(minimum, int(largest * len(uids)))
    if not count:
        return fraction
    ordered = np.sort(keys(uids, salt))
    # Halfway to the next key, so that exactly `count` lie below.
    after = float(ordered[count]) if count < len(ordered) else 1.0
    return max(fraction, (float(ordered[count - 1]) + after) / 2)


def reserve(uids: Sequence[str], *, threshold: float, salt: str = EVALUATION) -> frozenset[str]:
    """The sentences kept for evaluation, which no arm is ever served.

    Args:
        uids: the corpus as it is now.
        threshold: of `reserve_threshold`.
        salt: the purpose.
    """
    below = keys(uids, salt) < threshold
    return frozenset(name for name, kept in zip(uids, below.tolist(), strict=True) if kept)
