"""More text from the text there is: words swapped, deleted or replaced, labels left to the teacher.

He et al. 2021, arXiv 2109.11105: token-level augmenters, any ordered subset, one after another.

Deviations: back-translation is left out, as it needs two more models; `delete` and
`neighbour` (words near in the teacher's embedding table) are in.
"""

import hashlib
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from datasets import ClassLabel, Dataset, Features, List, Value

from attar.data.augment.words import MaskedLM, Neighbours
from attar.data.labelled.task import UNLABELLED
from attar.errors import ConfigError, DataError, require
from attar.runtime import Bar

Augmenter = Literal["swap", "delete", "neighbour", "mlm"]

AUGMENTERS: tuple[Augmenter, ...] = get_args(Augmenter)

ONE_FOR_ONE = ("mlm", "neighbour")
"""Augmenters that put one word in the place of one word, so that positions stay."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")  # noqa: RUF001
BLOCK = 4096
"""Rows held as words at a time. No result depends on it."""


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to every row."""

    chain: tuple[str, ...] = ()
    """Augmenters in the order they are applied, each at most once; see `AUGMENTERS`."""
    p: float = 0.3
    """Share of the words of a text that each augmenter changes: at least one word, unless 0."""
    copies: int = 1
    """Augmented versions of every row."""
    seed: int = 0
    """With the row's source and the number of the copy, it settles all that is drawn."""

    def __post_init__(self) -> None:
        for name in self.chain:
            require(name in AUGMENTERS, "an augmenter", name, f"one of {', '.join(AUGMENTERS)}")
        if len(set(self.chain)) < len(self.chain):
            raise ConfigError(
                "each augmenter must stand in the chain at most once, but the chain is "
                f"{', '.join(self.chain)}."
            )
        require(0 <= self.p <= 1, "p", self.p, "a share of words, 0 to 1")
        require(self.copies >= 1, "copies", self.copies, "at least 1")


@dataclass(frozen=True)
class Resources:
    """What the augmenters that replace words need."""

    mlm: MaskedLM | None = None
    """For mlm."""
    neighbours: Neighbours | None = None
    """For neighbour."""


NO_RESOURCES = Resources()


def check_augment(config: AugmentConfig, columns: Sequence[str], *, resources: Resources) -> None:
    """Refuse a chain that these columns or resources do not allow, before any work.

    Raises:
        ConfigError: question answering; token classification with an augmenter that moves words;
            a model or a table that the chain needs is missing.
        DataError: there is no column of text.
    """
    if not {"text", "words"} & set(columns):
        if "context" in columns:
            raise ConfigError(
                "augmentation must leave positions as they are, but in question answering every "
                "changed word moves the answers behind it; leave the chain empty for this task"
            )
        raise DataError(
            f"augmentation needs a column text or words, but found {', '.join(columns) or 'none'}; "
            "load the data with load_labelled"
        )
    moving = [name for name in config.chain if name not in ONE_FOR_ONE]
    if "words" in columns and moving:
        raise ConfigError(
            "token classification must keep every word at its position, but "
            f"{' and '.join(moving)} would move words; use only {' and '.join(ONE_FOR_ONE)}"
        )
    if "mlm" in config.chain and resources.mlm is None:
        raise ConfigError(
            "the augmenter mlm needs a masked language model, but none was given; name a "
            "folder or a Hub name as mlm, or leave mlm out of the chain"
        )
    if "neighbour" in config.chain and resources.neighbours is None:
        raise ConfigError(
            "the augmenter neighbour needs a table of near words, but none was given; build one "
            "with Neighbours.of from the teacher's input embeddings, or leave it out of the chain"
        )


def augment(
    documents: Dataset, *, config: AugmentConfig, resources: Resources = NO_RESOURCES
) -> Dataset:
    """Make `config.copies` augmented versions of every row; the originals are not among them.

    A word is a run of letters, digits and inner apostrophes; all between words stays. Every field
    is treated for itself. What is drawn depends on the seed, the row's source and the number of the
    copy alone, so that shards of a data set give the shards of the result.

    Args:
        documents: `text`, perhaps `text_pair`; or `words` (a list) for token classification.
            `source` names the row that each came from; without it, its number does.
        config: chain, share of words, copies, seed.
        resources: the models that the chain needs.

    Returns:
        `copies` rows for each row, one after another, with the text columns, `source`, and `label`
        without a label: -100 (NaN where labels are fractions), for the teacher gives it.

    Raises:
        ConfigError, DataError: as `check_augment`; or a label is not a number.
    """
    names = [
        n for n in ("text", "text_pair", "words", "label", "source") if n in documents.features
    ]
    check_augment(config, documents.column_names, resources=resources)
    fields = [name for name in names if name not in ("label", "source")]
    kinds = {name: documents.features[name] for name in fields}
    unknown = List(Value("int64")) if "words" in fields else Value("int64")
    kinds["label"] = _label_kind(documents.features.get("label", unknown))
    kinds["source"] = Value("int64")
    made: dict[str, list[Any]] = {name: [] for name in kinds}
    documents = documents.select_columns(names).with_format(None)
    blocks = range(0, len(documents), max(1, BLOCK // config.copies))
    for start in Bar(blocks, desc="augmentation", unit="block"):
        rows: dict[str, list[Any]] = documents[start : start + blocks.step]
        count = len(rows[fields[0]])
        sources = rows.get("source") or list(range(start, start + count))
        keys = [(row, copy) for row in range(count) for copy in range(config.copies)]
        for name in fields:
            cells = [
                _Cell.of(rows[name][row], _random(config.seed, sources[row], copy, name))
                for row, copy in keys
            ]
            _apply(cells, config, resources)
            made[name].extend(cell.value() for cell in cells)
        labels = rows.get("label") or rows[fields[0]]  # only how many there are
        made["label"].extend(_no_label(kinds["label"], labels[row]) for row, _ in keys)
        made["source"].extend(sources[row] for row, _ in keys)
    return Dataset.from_dict(made, features=Features(kinds))


@dataclass
class _Cell:
    """One text as words and the gaps around them: gap, word, gap, ..., word, gap."""

    words: list[str]
    gaps: list[str]
    rng: random.Random
    listed: bool

    @classmethod
    def of(cls, value: Any, rng: random.Random) -> "_Cell":
        if isinstance(value, str):
            return cls(_WORD.findall(value), _WORD.split(value), rng, listed=False)
        if not isinstance(value, list):
            raise DataError(
                f"augmentation needs a text in every row, but found {value!r}; leave that row out"
            )
        return cls(list(value), ["", *[" "] * (len(value) - 1), ""], rng, listed=True)

    def value(self) -> str | list[str]:
        return self.words if self.listed else self.text(self.words)

    def text(self, words: Sequence[str]) -> str:
        parts = [self.gaps[0]]
        for word, gap in zip(words, self.gaps[1:], strict=True):
            parts += (word, gap)
        return "".join(parts)

    def pick(self, p: float, among: Sequence[int]) -> list[int]:
        """Places of `p` of all words, at least one, from those allowed."""
        count = max(1, int(p * len(self.words) + 0.5))
        return sorted(self.rng.sample(among, min(count, len(among))))


def _apply(cells: list[_Cell], config: AugmentConfig, resources: Resources) -> None:
    for name in config.chain if config.p else ():
        if name == "mlm":
            assert resources.mlm is not None  # check_augment saw it
            _fill(cells, config.p, resources.mlm)
            continue
        for cell in cells:
            if name == "swap":
                _swap(cell, config.p)
            elif name == "delete":
                _delete(cell, config.p)
            else:
                assert resources.neighbours is not None
                _replace(cell, config.p, resources.neighbours)


def _swap(cell: _Cell, p: float) -> None:
    """Exchange words in pairs: an even number of words, at least two, ends up elsewhere."""
    n = len(cell.words)
    pairs = min(n // 2, max(1, int(p * n / 2 + 0.5)))
    chosen = cell.rng.sample(range(n), 2 * pairs)
    for i, j in zip(chosen[::2], chosen[1::2], strict=True):
        cell.words[i], cell.words[j] = cell.words[j], cell.words[i]


def _delete(cell: _Cell, p: float) -> None:
    """Drop words, never the last one left, and one of the two spaces around each."""
    n = len(cell.words)
    spared = cell.rng.randrange(n) if n else 0
    for i in reversed(cell.pick(p, [i for i in range(n) if i != spared])):
        del cell.words[i]
        left, right = cell.gaps[i], cell.gaps.pop(i + 1)
        if i == 0:
            cell.gaps[i] = left + right.lstrip()
        elif right[:1].isspace():
            tail, rest = left[len(left.rstrip()) :], right.lstrip()
            space = right[: len(right) - len(rest)]
            cell.gaps[i] = left.rstrip() + max(tail, space, key=len) + rest
        else:
            cell.gaps[i] = left.rstrip() + right


def _replace(cell: _Cell, p: float, table: Neighbours) -> None:
    index = table.vocabulary.index
    places = [index.get(word, index.get(word.lower(), -1)) for word in cell.words]
    for i in cell.pick(p, [i for i, place in enumerate(places) if place >= 0]):
        near = table.nearest[places[i]]
        word = table.vocabulary.words[near[cell.rng.randrange(len(near))]]
        cell.words[i] = _cased_as(cell.words[i], word)


def _fill(cells: list[_Cell], p: float, mlm: MaskedLM) -> None:
    mask = str(mlm.tokenizer.mask_token)
    masked: list[tuple[str, _Cell, list[int], list[float]]] = []
    for cell in cells:
        if mask in cell.text(cell.words):
            continue  # such a text has mask tokens of its own
        chosen = cell.pick(p, [i for i, word in enumerate(cell.words) if _WORD.fullmatch(word)])
        words = [mask if i in chosen else word for i, word in enumerate(cell.words)]
        draws = [cell.rng.random() for _ in chosen]
        masked.append((cell.text(words), cell, chosen, draws))
    masked.sort(key=lambda one: len(one[0]))  # little padding
    for start in range(0, len(masked), mlm.batch_size):
        texts, owners, chosen, draws = zip(*masked[start : start + mlm.batch_size], strict=True)
        originals = [[c.words[i] for i in ids] for c, ids in zip(owners, chosen, strict=True)]
        filled = mlm.fill(texts, originals=originals, draws=draws)
        for cell, ids, words in zip(owners, chosen, filled, strict=True):
            for i, word in zip(ids, words, strict=False):  # masks that did not fit got none
                cell.words[i] = _cased_as(cell.words[i], word)


def _cased_as(original: str, word: str) -> str:
    """The word with the capitals of the one whose place it takes; its own capitals stay."""
    if len(original) > 1 and original.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if original[:1].isupper() else word


def _random(*key: Any) -> random.Random:
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))


def _label_kind(kind: Any) -> Any:
    """The type of a column that can hold -100; class labels become plain integers."""
    if isinstance(kind, List):
        return List(_label_kind(kind.feature))
    if isinstance(kind, ClassLabel) or getattr(kind, "dtype", "").startswith(("bool", "uint")):
        return Value("int64")
    if not (isinstance(kind, Value) and kind.dtype.startswith(("int", "float"))):
        raise DataError(
            "augmentation needs labels as numbers, but the column label holds "
            f"{getattr(kind, 'dtype', type(kind).__name__)}; load the data with load_labelled"
        )
    return kind


def _no_label(kind: Any, old: Any) -> Any:
    if isinstance(kind, List):
        return [_no_label(kind.feature, value) for value in old or ()]
    return math.nan if kind.dtype.startswith("float") else UNLABELLED
