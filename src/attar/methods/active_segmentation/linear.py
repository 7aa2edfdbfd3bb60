"""A segmenter whose scores are sums of weights of features: the CRF, and the pointwise one, which
is a CRF without transitions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.errors import ConfigError, expect
from attar.methods.active_segmentation.beliefs import (
    Beliefs,
    Chain,
    beliefs_of,
    best_cuts,
)
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.crf import Weights
from attar.methods.active_segmentation.dictionary import Dictionary
from attar.methods.active_segmentation.features import (
    Layout,
    feature_matrix,
    features,
    lay_out,
)
from attar.methods.active_segmentation.fitting import add_up, permitted
from attar.methods.active_segmentation.ngrams import embedded


class LinearModel:
    """A CRF or pointwise segmenter.

    Args:
        config: of the segmenter.
        dictionary: or None.
        weights: of the model itself, and then of each bag.
    """

    def __init__(
        self,
        config: SegmenterConfig,
        *,
        dictionary: Dictionary | None,
        weights: Sequence[Weights],
    ) -> None:
        self.config = config
        self.dictionary = dictionary
        self.weights = tuple(weights)
        self._table = self._spread_out(self.weights[0])

    @classmethod
    def from_tensors(
        cls,
        config: SegmenterConfig,
        *,
        dictionary: Dictionary | None,
        tensors: Mapping[str, NDArray[Any]],
    ) -> "LinearModel":
        """What `tensors` gave.

        Raises:
            DataError: they cannot have come from a model of this configuration.
        """
        names = ("features", "weights", "transitions")
        expect({*tensors} == {*names}, "the tensors", sorted(tensors), ", ".join(names))
        used, values, transitions = (tensors[name] for name in names)
        models = config.bags + 1
        shapes = (used.shape, values.shape, transitions.shape)
        fitting = ((used.size,), (models, used.size), (models, 2, 2))
        expect(shapes == fitting, "the shapes of the tensors", shapes, str(fitting))
        fine = used.dtype == np.int32 and bool((np.diff(used) > 0).all())
        fine = fine and (not used.size or (used[0] >= 0 and used[-1] < 2**config.hash_bits))
        expect(fine, "features", used.dtype, f"increasing int32 below 2^{config.hash_bits}")
        for name, found in (("weights", values), ("transitions", transitions)):
            fine = found.dtype == np.float64 and bool(np.isfinite(found).all())
            expect(fine, name, found.dtype, "finite float64")
        known = used.astype(np.int64)
        return cls(
            config,
            dictionary=dictionary,
            weights=[Weights(known, v, t) for v, t in zip(values, transitions, strict=True)],
        )

    def beliefs(self, texts: Sequence[str], *, members: int, seed: int) -> list[Beliefs]:
        """What it thinks of each text; `seed` changes nothing.

        Raises:
            ConfigError: more members are asked for than there are bags.
        """
        bags = self.weights[1:]
        if members > len(bags):
            raise ConfigError(
                f"expected at most {len(bags)} members, as many as bags were fitted, found "
                f"{members}; fit with SegmenterConfig(bags={members})"
            )
        layout = self._lay_out(texts)
        matrix = feature_matrix(layout, dictionary=self.dictionary, bits=self.config.hash_bits)
        chain = Chain(add_up(matrix, self._table), self.weights[0].transitions)
        others = [
            Chain(add_up(matrix, self._spread_out(bag)), bag.transitions) for bag in bags[:members]
        ]
        allowed = permitted(layout, legal=self.config.legal)
        return beliefs_of(layout, chain, allowed=allowed, members=others)

    def segment(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The cuts of the best segmentation of each text."""
        layout = self._lay_out(texts)
        allowed = permitted(layout, legal=self.config.legal)
        scores = np.zeros(layout.rows)
        bits = self.config.hash_bits
        for found in features(layout, dictionary=self.dictionary, bits=bits):
            scores += self._table[found]
        chain = Chain(scores, self.weights[0].transitions)
        return best_cuts(layout, chain, allowed=allowed)

    def _lay_out(self, texts: Sequence[str]) -> Layout:
        """Texts, all with the tag of the present guideline if there are tags."""
        tag = self.config.tag
        return lay_out(texts, tags=None if tag is None else [tag] * len(texts))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Hashed character 2- to 5-grams, projected to 256 numbers, `(N, 256)`."""
        return embedded(texts)

    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """Features that have a weight, their weights of the model and each bag, and transitions."""
        used = self.weights[0].used
        order = np.argsort(used)
        return {
            "features": used[order].astype(np.int32),
            "weights": np.stack([one.values[order] for one in self.weights]),
            "transitions": np.stack([one.transitions for one in self.weights]),
        }

    def _spread_out(self, weights: Weights) -> NDArray[np.float64]:
        table = np.zeros(2**self.config.hash_bits)
        table[weights.used] = weights.values
        return table
