"""A segmenter whose scores are sums of weights of features: the CRF, and the pointwise one, which
is a CRF without transitions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.errors import ConfigError, expect
from attar.methods.active_segmentation.beliefs import Beliefs
from attar.methods.active_segmentation.chain import Bytes, entropies, marginals, paths
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
        layout = lay_out(texts)
        allowed = permitted(layout, legal=self.config.legal)
        matrix = self._matrix(layout)
        where: dict[str, Any] = {
            "allowed": allowed,
            "starts": layout.starts,
            "stops": layout.stops,
        }
        scores = add_up(matrix, self._table)
        transitions = self.weights[0].transitions
        known = marginals(scores, transitions, **where)
        best = paths(scores, transitions, **where)
        entropy = entropies(known, scores, transitions, starts=layout.starts)
        probabilities = [known.begin]
        for bag in bags[:members]:
            scores = add_up(matrix, self._spread_out(bag))
            probabilities.append(marginals(scores, bag.transitions, **where).begin)
        stacked = np.stack(probabilities)
        cuts = _cuts(best.states, layout)
        found = []
        for i, (start, stop) in enumerate(zip(layout.starts, layout.stops, strict=True)):
            inner = stacked[:, start + 1 : stop]
            found.append(
                Beliefs(
                    cuts=cuts[i],
                    cut_probabilities=inner[0].copy(),
                    log_probability=min(float(best.best[i] - known.log_z[i]), 0.0),
                    second_log_probability=min(float(best.second[i] - known.log_z[i]), 0.0),
                    entropy=float(entropy[i]),
                    members=inner[1:].copy() if members else None,
                )
            )
        return found

    def segment(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The cuts of the best segmentation of each text."""
        layout = lay_out(texts)
        allowed = permitted(layout, legal=self.config.legal)
        scores = np.zeros(layout.rows)
        bits = self.config.hash_bits
        for found in features(layout, dictionary=self.dictionary, bits=bits):
            scores += self._table[found]
        states = paths(
            scores,
            self.weights[0].transitions,
            allowed=allowed,
            starts=layout.starts,
            stops=layout.stops,
        ).states
        return _cuts(states, layout)

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

    def _matrix(self, layout: Layout) -> NDArray[Any]:
        return feature_matrix(layout, dictionary=self.dictionary, bits=self.config.hash_bits)

    def _spread_out(self, weights: Weights) -> NDArray[np.float64]:
        table = np.zeros(2**self.config.hash_bits)
        table[weights.used] = weights.values
        return table


def _cuts(states: Bytes, layout: Layout) -> list[tuple[int, ...]]:
    """The offsets at which words begin in each text, without its start."""
    begins = np.flatnonzero(states)
    texts = np.searchsorted(layout.starts, begins, side="right") - 1
    offsets = begins - layout.starts[texts]
    inner = offsets > 0
    offsets, texts = offsets[inner], texts[inner]
    ends = np.searchsorted(texts, np.arange(len(layout.starts)), side="right")
    listed = offsets.tolist()
    return [
        tuple(listed[first:last])
        for first, last in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)
    ]
