"""What a segmenter is made of."""

from dataclasses import dataclass
from typing import Literal

from attar.errors import check_types, require

Kind = Literal["crf", "pointwise", "character-cnn"]
Solver = Literal["own", "crfsuite"]

#: weights of a segmenter, as a power of two: 2^24 of 8 bytes are 128 MB
_MOST_BITS = 24
_MOST_BAGS = 64


@dataclass(frozen=True)
class SegmenterConfig:
    """The options of a segmenter.

    Attributes:
        kind: `crf`: a first-order chain over {a word begins here, it does not}; `pointwise`: the
            same without transitions, a logistic regression at each position; `character-cnn`: a
            small network of dilated convolutions.
        dictionary: `pythainlp`: the general word list of that package; a text file with a word in
            each line; None, on the command line `none`: none.
        legal: whether cuts are predicted at legal positions alone, see `attar.data.segments.legal`.
            A cut elsewhere in the training data then counts as none.
        c2: strength of the L2 penalty, as CRFsuite counts it.
        iterations: of L-BFGS at most.
        bags: models fitted to bootstrap resamples of the sentences, for scores that compare the
            members of an ensemble. Of the character CNN dropout passes take their place.
        seed: of resampling, initialisation, batches and dropout.
        hash_bits: features share 2^hash_bits weights.
        solver: `crfsuite` fits a CRF by python-crfsuite, for comparison; complete labels alone.
        epochs: of the character CNN.
        learning_rate: of Adam.
        dropout: of the character CNN.
        tag: the guideline to predict by, where sentences follow several: `meta["guideline"]` names
            that of each, and what guidelines share and what is theirs alone are both learned. None:
            guidelines are not told apart.

    Raises:
        ConfigError: a value is out of range, or some do not go together.
    """

    kind: Kind = "crf"
    dictionary: str | None = "pythainlp"
    legal: bool = True
    c2: float = 0.1
    iterations: int = 100
    bags: int = 0
    seed: int = 0
    hash_bits: int = 20
    solver: Solver = "own"
    epochs: int = 20
    learning_rate: float = 1e-3
    dropout: float = 0.1
    tag: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if self.dictionary == "none":  # as it is typed
            object.__setattr__(self, "dictionary", None)
        require(self.dictionary != "", "dictionary", self.dictionary, "a name, a path or None")
        require(self.c2 >= 0, "c2", self.c2, "at least 0")
        require(self.iterations >= 1, "iterations", self.iterations, "at least 1")
        require(0 <= self.bags <= _MOST_BAGS, "bags", self.bags, f"from 0 to {_MOST_BAGS}")
        require(self.seed >= 0, "seed", self.seed, "at least 0")
        require(8 <= self.hash_bits <= _MOST_BITS, "hash_bits", self.hash_bits, "from 8 to 24")
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and below 1")
        own = self.solver == "own" or (self.kind == "crf" and self.bags == 0)
        require(own, "solver", self.solver, "own for other kinds than crf, and for bags")
        require(
            self.bags == 0 or self.kind != "character-cnn",
            "bags",
            self.bags,
            "0 for a character CNN, whose members are passes with dropout",
        )
        linear = self.tag is None or (self.kind != "character-cnn" and self.solver == "own")
        require(linear, "tag", self.tag, "None for a character CNN and for the solver crfsuite")
