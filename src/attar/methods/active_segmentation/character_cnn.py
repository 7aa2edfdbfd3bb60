"""A segmenter that is a small network: characters are embedded, and three dilated convolutions look
14 of them to either side.

Dropout takes whole channels. So a pass with dropout is one smaller network for all texts, and what
such passes disagree on does not depend on which texts come together.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attar.data.segments.cuts import Segmented
from attar.errors import TrainingDivergedError, expect, require
from attar.methods.active_segmentation.beliefs import Beliefs, Chain, beliefs_of, best_cuts
from attar.methods.active_segmentation.chain import BEGIN, EITHER, Floats
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.dictionary import Dictionary
from attar.methods.active_segmentation.features import (
    LONGEST,
    REACH,
    Layout,
    lay_out,
    word_lengths,
)
from attar.methods.active_segmentation.fitting import constrained, permitted
from attar.runtime import place

EMBEDDED, CHANNELS, KERNEL = 64, 128, 5
DILATIONS = (1, 2, 4)
#: characters to either side of a position that its score depends on
MARGIN = sum(DILATIONS) * (KERNEL // 2)
#: code points with a vector of their own; others share some
_OWN, _SHARED = 0x1000, 256
#: characters in a pass; a longer text is cut into windows that overlap by the margin
_WINDOW, _PASS = 4096, 2**15
_BATCH = 32


class CharacterCNN(nn.Module):
    """Scores of positions.

    Args:
        dropout: share of the channels that training leaves out.
        dictionary: whether it sees the lengths of words of a dictionary.
    """

    def __init__(self, *, dropout: float, dictionary: bool) -> None:
        super().__init__()
        self.characters = nn.Embedding(_OWN + _SHARED, EMBEDDED)
        self.words = nn.Embedding(3 * (LONGEST + 1), EMBEDDED) if dictionary else None
        sizes = (EMBEDDED, *[CHANNELS] * (len(DILATIONS) - 1))
        self.layers = nn.ModuleList(
            nn.Conv1d(size, CHANNELS, KERNEL, dilation=d, padding=d * (KERNEL // 2))
            for size, d in zip(sizes, DILATIONS, strict=True)
        )
        self.score = nn.Linear(CHANNELS, 1)
        self.dropout = dropout

    def forward(self, inputs: Tensor, *, kept: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scores `(B, T)` and the last layer `(B, T, 128)`.

        Args:
            inputs: `(B, T, 4)`: character, plus 1, and the lengths of the words that begin here,
                end before and go across; 0 behind the end of a text.
            kept: channels that are left by dropout, `(layers, B or 1, 128, 1)`; None: all.
        """
        inside = inputs[..., 0] > 0
        found = self.characters((inputs[..., 0] - 1).clamp(min=0))
        if self.words is not None:
            shift = torch.arange(3, device=inputs.device) * (LONGEST + 1)
            found = found + self.words(inputs[..., 1:] + shift).sum(-2)
        mask = inside[:, None]
        found = found.transpose(1, 2) * mask  # outside a text there are zeros in every layer
        for number, layer in enumerate(self.layers):
            found = torch.relu(layer(found)) * mask
            if kept is not None:
                found = found * kept[number] / (1 - self.dropout)
        found = found.transpose(1, 2)
        return self.score(found).squeeze(-1), found

    def masks(self, rows: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Channels that are kept, `(layers, rows, 128, 1)`, drawn on the processor."""
        drawn = torch.rand(len(DILATIONS), rows, CHANNELS, 1, generator=generator)
        return (drawn >= self.dropout).to(self.score.weight)


class NetworkModel:
    """A trained network."""

    def __init__(
        self, config: SegmenterConfig, *, dictionary: Dictionary | None, network: CharacterCNN
    ) -> None:
        self.config = config
        self.dictionary = dictionary
        self.network = network.eval()
        place(network)

    @classmethod
    def from_tensors(
        cls,
        config: SegmenterConfig,
        *,
        dictionary: Dictionary | None,
        tensors: Mapping[str, NDArray[Any]],
    ) -> "NetworkModel":
        """What `tensors` gave.

        Raises:
            DataError: they cannot have come from a model of this configuration.
        """
        network = _network(config, dictionary)
        state = network.state_dict()
        shapes = {name: tuple(value.shape) for name, value in state.items()}
        found = {name: value.shape for name, value in tensors.items()}
        expect(found == shapes, "the shapes of the tensors", found, str(shapes))
        for name, value in tensors.items():
            fine = value.dtype == np.float32 and bool(np.isfinite(value).all())
            expect(fine, name, value.dtype, "finite float32")
        network.load_state_dict({name: torch.from_numpy(v) for name, v in tensors.items()})
        return cls(config, dictionary=dictionary, network=network)

    def beliefs(self, texts: Sequence[str], *, members: int, seed: int) -> list[Beliefs]:
        """What it thinks of each text; the members are passes with dropout.

        Raises:
            ConfigError: it has no dropout.
        """
        dropout = self.config.dropout
        require(members == 0 or dropout > 0, "dropout", dropout, "above 0 where members are asked")
        generator = torch.Generator().manual_seed(seed)
        masks = [self.network.masks(1, generator=generator) for _ in range(members)]
        layout = lay_out(texts)
        scores, *others = (self._scores(layout, kept=kept) for kept in (None, *masks))
        still = np.zeros((2, 2))
        return beliefs_of(
            layout,
            Chain(scores, still),
            allowed=permitted(layout, legal=self.config.legal),
            members=[Chain(one, still) for one in others],
        )

    def segment(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The cuts of the best segmentation of each text."""
        layout = lay_out(texts)
        chain = Chain(self._scores(layout), np.zeros((2, 2)))
        return best_cuts(layout, chain, allowed=permitted(layout, legal=self.config.legal))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The mean of the last layer over each text, `(N, 128)`; 0 of an empty one."""
        layout = lay_out(texts)
        sums = np.zeros((len(texts), CHANNELS), np.float32)
        for windows, _, layer in self._passes(layout):
            for row, window in enumerate(windows):
                inner = layer[row, window.skip : window.skip + window.size]
                sums[window.text] += inner.sum(0).cpu().numpy()
        return sums / np.maximum(layout.stops - layout.starts, 1)[:, None].astype(np.float32)

    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """The weights by their names in the network."""
        return {name: v.cpu().numpy() for name, v in self.network.state_dict().items()}

    def _scores(self, layout: Layout, *, kept: Tensor | None = None) -> Floats:
        """Of all rows, `(R,)`."""
        scores = np.zeros(layout.rows)
        for windows, found, _ in self._passes(layout, kept=kept):
            values = found.double().cpu().numpy()
            for row, window in enumerate(windows):
                inner = values[row, window.skip : window.skip + window.size]
                scores[window.row : window.row + window.size] = inner
        return scores

    @torch.inference_mode()
    def _passes(
        self, layout: Layout, *, kept: Tensor | None = None
    ) -> Iterator[tuple[list["_Window"], Tensor, Tensor]]:
        inputs = _inputs(layout, self.dictionary)
        device = self.network.score.weight.device
        for windows in _grouped(_windows(layout)):
            batch = _padded([inputs[w.first : w.last] for w in windows])
            scores, layer = self.network(batch.to(device), kept=kept)
            yield windows, scores, layer


class _Window(NamedTuple):
    """Rows that pass through a network together: `first` to `last`, of which `size` rows from
    `row` on, `skip` behind the first, are asked for."""

    text: int
    first: int
    last: int
    row: int
    skip: int
    size: int


def fit_network(
    rows: Sequence[Segmented],
    *,
    config: SegmenterConfig,
    dictionary: Dictionary | None,
    weights: Floats,
) -> NetworkModel:
    """Train a network on the decided positions of some rows; `weights`: of the rows, `(N,)`.

    Raises:
        TrainingDivergedError: the loss is no number any more.
    """
    layout = lay_out([row.text for row in rows])
    allowed = permitted(layout, legal=config.legal)
    agreeing = constrained(rows, layout, allowed=allowed)
    labels = torch.from_numpy((agreeing == BEGIN).astype(np.float32))
    counted = np.zeros(layout.rows, np.float32)
    for start, stop, weight in zip(layout.starts, layout.stops, weights, strict=True):
        counted[start:stop] = weight
    counted[(allowed != EITHER) | (agreeing == EITHER)] = 0
    parts = (_inputs(layout, dictionary), labels, torch.from_numpy(counted))
    every = _windows(layout)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = _network(config, dictionary).train()
        place(network)
        device = network.score.weight.device
        optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        for _ in range(config.epochs):
            order = torch.randperm(len(every)).tolist()
            for at in range(0, len(order), _BATCH):
                windows = [every[i] for i in order[at : at + _BATCH]]
                inputs, truth, count = (
                    _padded([part[w.row : w.row + w.size] for w in windows]).to(device)
                    for part in parts
                )
                if not count.any():
                    continue
                kept = network.masks(len(windows)) if config.dropout else None
                scores, _ = network(inputs, kept=kept)
                each = nn.functional.binary_cross_entropy_with_logits(
                    scores, truth, reduction="none"
                )
                loss = (each * count).sum() / count.sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if not all(bool(p.isfinite().all()) for p in network.parameters()):
                raise TrainingDivergedError(
                    f"the weights of the network are no numbers any more with the learning rate "
                    f"{config.learning_rate}; take a lower one"
                )
    return NetworkModel(config, dictionary=dictionary, network=network)


def _network(config: SegmenterConfig, dictionary: Dictionary | None) -> CharacterCNN:
    return CharacterCNN(dropout=config.dropout, dictionary=dictionary is not None)


def _inputs(layout: Layout, dictionary: Dictionary | None) -> Tensor:
    """What the network sees of each row, `(R, 4)`."""
    codes = layout.codes[REACH:][: layout.rows].astype(np.int64)
    columns = [1 + np.where(codes < _OWN, codes, _OWN + codes % _SHARED)]
    if dictionary is None:
        columns += [np.zeros(layout.rows, np.int64)] * 3
    else:
        columns += [lengths.astype(np.int64) for lengths in word_lengths(layout, dictionary)]
    return torch.from_numpy(np.stack(columns, axis=1))


def _windows(layout: Layout) -> list[_Window]:
    """Every text in pieces, each with the characters beside it that matter."""
    found = []
    pairs = zip(layout.starts.tolist(), layout.stops.tolist(), strict=True)
    for text, (start, stop) in enumerate(pairs):
        for row in range(start, stop, _WINDOW):
            size = min(_WINDOW, stop - row)
            first, last = max(start, row - MARGIN), min(stop, row + size + MARGIN)
            found.append(_Window(text, first, last, row, row - first, size))
    return found


def _grouped(windows: list[_Window]) -> Iterator[list[_Window]]:
    """Windows of about the same length, so many that a pass has about `_PASS` characters."""
    group: list[_Window] = []
    for window in sorted(windows, key=lambda w: w.last - w.first):
        if group and (len(group) + 1) * (window.last - window.first) > _PASS:
            yield group
            group = []
        group.append(window)
    if group:
        yield group


def _padded(parts: list[Tensor]) -> Tensor:
    return nn.utils.rnn.pad_sequence(parts, batch_first=True)
