"""`Segmenter`: cuts text into words, and says how sure it is; fitted, saved and loaded here."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.data.segments.cuts import Segmented, tokens_of
from attar.errors import ConfigError, DataError, require
from attar.methods.active_segmentation import files
from attar.methods.active_segmentation.beliefs import Beliefs, Floats, Model
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.crf import Weights, fit_crf
from attar.methods.active_segmentation.crfsuite import fit_crfsuite
from attar.methods.active_segmentation.dictionary import Dictionary, load_dictionary
from attar.methods.active_segmentation.linear import LinearModel
from attar.methods.active_segmentation.pointwise import fit_pointwise

#: characters of the texts that are worked on at once; a longer text is one piece by itself
PIECE = 200_000


class Segmenter:
    """Cuts text into words.

    Args:
        config: what it is made of.
        model: what training found.
        dictionary: the words that its features know, or None.
    """

    def __init__(
        self, config: SegmenterConfig, model: Model, *, dictionary: Dictionary | None = None
    ) -> None:
        self.config = config
        self.model = model
        self.dictionary = dictionary

    def tokenize(self, text: str, *, keep_whitespace: bool = True) -> list[str]:
        """The words of a text, as `pythainlp.word_tokenize` gives them: joined, they are the text.

        Args:
            text: any text.
            keep_whitespace: whether words of white space alone are among them, and space around
                others stays.
        """
        words = tokens_of(text, self.segment([text])[0]) if text else []
        if keep_whitespace:
            return words
        return [word.strip() for word in words if word.strip()]

    def segment(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The offsets at which words begin in each text, but for its start.

        Raises:
            ConfigError: this is no list of texts.
        """
        return [cuts for piece in _pieces(texts) for cuts in self.model.segment(piece)]

    def beliefs(self, texts: Sequence[str], *, members: int = 0, seed: int = 0) -> list[Beliefs]:
        """What it thinks of each text.

        Args:
            texts: any texts.
            members: of the ensemble, that give `Beliefs.members`: bags of a CRF or pointwise
                segmenter, passes with dropout of a character CNN.
            seed: of dropout.

        Raises:
            ConfigError: this is no list of texts, or there are fewer bags.
        """
        require(members >= 0, "members", members, "at least 0")
        found: list[Beliefs] = []
        for piece in _pieces(texts):
            found += self.model.beliefs(piece, members=members, seed=seed)
        return found

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """A vector for each text, `(N, d)`: the mean of the last layer of a character CNN; for the
        others, counts of its character n-grams, projected.

        Raises:
            ConfigError: this is no list of texts.
        """
        parts = [self.model.embed(piece) for piece in _pieces(texts)]
        return np.concatenate(parts) if parts else self.model.embed([])

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Segmenter":
        """A segmenter from a folder that `save_pretrained` wrote, or a name on the Hub.

        Raises:
            DataError: there is none, or its files are damaged.
            CompatibilityError: the folder holds another model.
            MissingExtraError: it needs a dictionary, and the extra `thai` is not installed.
        """
        stored = files.read(folder)
        return cls(stored.config, _model(stored), dictionary=stored.dictionary)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write it to a folder: config.json, model.safetensors and a card; and the words of a
        dictionary that came from a file. Of the dictionary `pythainlp` only the digest is kept.

        Raises:
            ConfigError: the folder cannot be made.
            ResourceError: the disk is full.
        """
        files.write(
            folder, config=self.config, dictionary=self.dictionary, tensors=self.model.tensors()
        )

    def push_to_hub(self, name: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload what `save_pretrained` writes; returns the address.

        Args:
            name: of the repository, `owner/name`.
            private: whether a new repository is private.
            token: of the Hub; None: the one that you logged in with.
        """
        return files.push(self.save_pretrained, name, private=private, token=token)


def fit(
    rows: Sequence[Segmented],
    *,
    config: SegmenterConfig | None = None,
    weights: Sequence[float] | None = None,
) -> Segmenter:
    """Learn to cut text into words.

    Args:
        rows: texts with their cuts; where `decided` is given, other positions are unknown.
        config: of the segmenter; None: the defaults.
        weights: how much each row counts, at least 0; None: 1 each.

    Raises:
        ConfigError: the weights do not fit.
        DataError: there is nothing to learn from, or the dictionary cannot be read.
        MissingExtraError: the dictionary needs the extra `thai`, which is not installed.
    """
    config = config or SegmenterConfig()
    rows = list(rows)
    counted = _checked(rows, weights)
    dictionary = load_dictionary(config.dictionary)
    if config.kind == "character-cnn":
        from attar.methods.active_segmentation.character_cnn import fit_network  # imports torch

        network = fit_network(rows, config=config, dictionary=dictionary, weights=counted)
        return Segmenter(config, network, dictionary=dictionary)
    fitted = _linear(rows, config=config, dictionary=dictionary, weights=counted)
    model = LinearModel(config, dictionary=dictionary, weights=fitted)
    return Segmenter(config, model, dictionary=dictionary)


def _linear(
    rows: Sequence[Segmented],
    *,
    config: SegmenterConfig,
    dictionary: Dictionary | None,
    weights: Floats,
) -> list[Weights]:
    """The weights of a linear model and of its bags, each fitted to as many sentences, drawn with
    replacement."""
    if config.solver == "crfsuite":
        same = bool((weights == 1).all())
        require(same, "weights", weights.tolist(), "None or 1 each for the solver crfsuite")
        return [fit_crfsuite(rows, config=config, dictionary=dictionary)]
    rng = np.random.default_rng(config.seed)
    draws = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), config.bags)
    fit_all = fit_crf if config.kind == "crf" else fit_pointwise
    return fit_all(
        rows,
        config=config,
        dictionary=dictionary,
        weights=np.concatenate([weights[None], draws * weights]),
    )


def _model(stored: files.Stored) -> Model:
    """The model that some tensors are of.

    Raises:
        DataError: they are of none of this configuration.
    """
    kind: Any = LinearModel
    if stored.config.kind == "character-cnn":
        from attar.methods.active_segmentation.character_cnn import NetworkModel  # imports torch

        kind = NetworkModel
    try:
        return kind.from_tensors(
            stored.config, dictionary=stored.dictionary, tensors=stored.tensors
        )
    except DataError as error:
        raise files.damaged(stored.folder, str(error)) from None


def _checked(rows: Sequence[Segmented], weights: Sequence[float] | None) -> Floats:
    """The weights of the rows, `(N,)`."""
    if not any(len(row.text) > 1 and (row.decided is None or row.decided) for row in rows):
        raise DataError(
            f"expected sentences of two characters or more with a decided position, found none "
            f"among {len(rows)}; label some first"
        )
    counted = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
    fine = counted.shape == (len(rows),) and bool(
        np.isfinite(counted).all() and (counted >= 0).all()
    )
    require(fine, "weights", weights, f"{len(rows)} finite numbers of at least 0, one a sentence")
    require(bool(counted.any()), "weights", weights, "above 0 for one sentence at least")
    return counted


def _pieces(texts: Sequence[str]) -> Iterator[list[str]]:
    """Texts in their order, so many at once that memory stays bounded."""
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(
            f"expected a list of texts, found {type(texts).__name__}"
            f"{'' if isinstance(texts, str) else ' with something else in it'}; put a single text "
            "into a list, or call tokenize"
        )
    piece: list[str] = []
    size = 0
    for text in texts:
        if piece and size + len(text) > PIECE:
            yield piece
            piece, size = [], 0
        piece.append(text)
        size += len(text)
    if piece:
        yield piece
