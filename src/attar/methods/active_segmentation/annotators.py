"""People made of gold labels, for simulations: they err near true cuts, and work takes time."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attar.data.segments.legal import legal
from attar.errors import check_types, require
from attar.methods.active_segmentation.labels import Label


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """How somebody works. The times are a model, not a measurement: put in your own."""

    name: str = "a1"
    flip: float = 0.0
    """Probability of a wrong answer at a true cut, and at the legal offsets next to one."""
    seconds_per_task: float = 3.0
    seconds_per_character: float = 0.1
    """Of reading, whole sentences."""
    seconds_per_correction: float = 1.5
    seconds_per_position: float = 2.0
    """Of answering whether a word begins at an offset, with what stands around it."""
    spread: float = 0.3
    """Standard deviation of the logarithm of the time that a task takes."""

    def __post_init__(self) -> None:
        check_types(self)
        require(0 <= self.flip <= 0.5, "flip", self.flip, "a probability from 0 to 0.5")
        times = [value for name, value in vars(self).items() if name.startswith("seconds")]
        require(min(times) >= 0, "seconds", min(times), "0 or more")
        require(self.spread >= 0, "spread", self.spread, "0 or more")

    def label(
        self,
        uid: str,
        text: str,
        *,
        gold: Sequence[int],
        prefill: Sequence[int] | None = None,
        positions: Sequence[int] | None = None,
        guideline: str = "g1",
        sequence: int = 0,
        seed: int = 0,
    ) -> Label:
        """An answer, the same whenever it is asked for.

        Args:
            uid: the sentence.
            text: its text.
            gold: the true cuts.
            prefill: the cuts that are shown at first; None: none at all.
            positions: the offsets that are asked about; None: all.
            guideline: that is followed.
            sequence: of the label.
            seed: of the errors and the time, with the sentence and the annotator's name.
        """
        generator = np.random.default_rng(
            [seed, int(uid, 16) % 2**64, zlib.crc32(f"{self.name} {guideline}".encode())]
        )
        cuts = self._cuts(text, gold, generator)
        pace = float(np.exp(self.spread * generator.standard_normal()))
        shown = set(prefill or ())
        if positions is not None:
            asked = tuple(sorted(positions))
            cuts = cuts & set(asked)
            corrections = len((cuts ^ shown) & set(asked))
            seconds = self.seconds_per_task + self.seconds_per_position * len(asked)
        else:
            asked = None
            corrections = len(cuts ^ shown)
            seconds = self.seconds_per_task + self.seconds_per_character * len(text)
            seconds += self.seconds_per_correction * corrections
        return Label(
            uid=uid,
            cuts=tuple(sorted(cuts)),
            decided=asked,
            guideline=guideline,
            annotator=self.name,
            sequence=sequence,
            seconds=pace * seconds,
            corrections=corrections,
        )

    def _cuts(self, text: str, gold: Sequence[int], generator: np.random.Generator) -> set[int]:
        """The cuts of an answer to the whole text. One draw for each legal offset, so that what is
        asked besides changes nothing."""
        places = [int(offset) for offset in legal(text)]
        truth = set(gold)
        wrong = generator.random(len(places)) < self.flip
        found = set(truth)
        for place, offset in enumerate(places):
            near = truth & set(places[max(place - 1, 0) : place + 2])
            if wrong[place] and near:
                found ^= {offset}
        return found
