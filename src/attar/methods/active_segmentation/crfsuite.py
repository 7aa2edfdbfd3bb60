"""CRFsuite: fits the same model from complete labels of equal weight, and is the yardstick of our
own fit and inference.

CRFsuite does not know that a text begins with a word, nor of illegal positions; its weights are
used with both rules.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from attar.data.segments.cuts import Segmented
from attar.errors import ConfigError
from attar.methods.active_segmentation.chain import BEGIN
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.crf import Weights
from attar.methods.active_segmentation.dictionary import Dictionary, thai_package
from attar.methods.active_segmentation.features import feature_matrix, lay_out
from attar.methods.active_segmentation.fitting import constrained, permitted

LABELS = ("I", "B")
_WHAT = "the solver crfsuite"


def fit_crfsuite(
    rows: Sequence[Segmented], *, config: SegmenterConfig, dictionary: Dictionary | None
) -> Weights:
    """The weights that CRFsuite finds.

    Raises:
        ConfigError: a row is not decided everywhere.
        MissingExtraError: python-crfsuite is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model"
        train(rows, file, config=config, dictionary=dictionary)
        return read(file)


def train(
    rows: Sequence[Segmented],
    file: Path,
    *,
    config: SegmenterConfig,
    dictionary: Dictionary | None,
) -> None:
    """Write a model of CRFsuite.

    Raises:
        ConfigError, MissingExtraError: as `fit_crfsuite`.
    """
    if any(row.decided is not None for row in rows):
        raise ConfigError(
            "expected sentences with every position decided for the solver crfsuite, found some "
            "with a part; take the solver own"
        )
    trainer = thai_package("pycrfsuite", _WHAT).Trainer(algorithm="lbfgs", verbose=False)
    trainer.set_params(
        {
            "c1": 0.0,
            "c2": config.c2,
            "max_iterations": config.iterations,
            "feature.possible_states": True,
            "feature.possible_transitions": True,
        }
    )
    for row in rows:
        layout = lay_out([row.text])
        states = constrained([row], layout, allowed=permitted(layout, legal=config.legal))
        labels = [LABELS[int(state == BEGIN)] for state in states]
        trainer.append([*named_features(row.text, config=config, dictionary=dictionary)], labels)
    trainer.train(str(file))


def named_features(
    text: str, *, config: SegmenterConfig, dictionary: Dictionary | None
) -> Iterator[list[str]]:
    """The features of each character, as CRFsuite takes them."""
    for row in feature_matrix(lay_out([text]), dictionary=dictionary, bits=config.hash_bits):
        yield [str(number) for number in row.tolist()]


def read(file: Path) -> Weights:
    """The weights of a model of CRFsuite.

    Raises:
        MissingExtraError: python-crfsuite is not installed.
    """
    tagger = thai_package("pycrfsuite", _WHAT).Tagger()
    tagger.open(str(file))
    found = tagger.info()
    used = np.array(sorted({int(name) for name, _ in found.state_features}), np.int64)
    place = {number: at for at, number in enumerate(used.tolist())}
    values = np.zeros(len(used))
    for (name, label), weight in found.state_features.items():
        values[place[int(name)]] += weight if label == LABELS[1] else -weight
    transitions = [[found.transitions.get((a, b), 0.0) for b in LABELS] for a in LABELS]
    return Weights(used, values, np.array(transitions))
