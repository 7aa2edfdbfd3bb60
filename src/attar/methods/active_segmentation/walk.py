"""Going through an order of sentences until a budget is spent."""

from collections import Counter
from collections.abc import Iterable, Sequence

from attar.data.segments.legal import legal
from attar.methods.active_segmentation.near_duplicates import NearDuplicates
from attar.methods.active_segmentation.picks import DrawConfig, Sentence


class Walk:
    """A batch in the making.

    Args:
        sentences: that it is drawn from.
        unit: what the budget counts.
        per_document: sentences of one document at most; None: as many as come.
        near: what no sentence of the batch may be a near duplicate of, to which those taken are
            added; None: near duplicates are welcome.

    Attributes:
        places: indices of the sentences taken, in their order.
        spent: characters or decisions of them.
        skipped: sentences that were near duplicates.
    """

    def __init__(
        self,
        sentences: Sequence[Sentence],
        *,
        unit: str,
        per_document: int | None = None,
        near: NearDuplicates | None = None,
    ) -> None:
        self.sentences = sentences
        self.places: list[int] = []
        self.spent = 0
        self.skipped = 0
        self._unit = unit
        self._per_document = per_document
        self._near = near
        self._seen: set[int] = set()
        self._documents: Counter[str] = Counter()

    def take(
        self, order: Iterable[int], budget: float, *, at_least_one: bool = False
    ) -> int | None:
        """Take sentences until the budget is spent, the one that crosses it if half of it fits.

        The walk ends at the first that does not fit: to go on to shorter ones would prefer those.

        Args:
            order: indices of sentences; those taken or skipped before are passed over.
            budget: of this call.
            at_least_one: whether the first is taken though it does not fit, if the batch is empty.

        Returns:
            The sentence at which it ended; None: it went through all of them.
        """
        spent = 0
        for place in order:
            if place in self._seen:
                continue
            sentence = self.sentences[place]
            document = sentence.document
            if document and self._documents[document] == self._per_document:
                continue
            if self._near and self._near.match(sentence.text, uid=sentence.uid):
                self._seen.add(place)
                self.skipped += 1
                continue
            cost = cost_of(sentence.text, unit=self._unit)
            free = at_least_one and not self.places
            if spent + cost / 2 > budget and not free:
                return place
            self._seen.add(place)
            self.places.append(place)
            self._documents[document] += 1
            if self._near:
                self._near.add([sentence.uid], [sentence.text])
            spent += cost
            self.spent += cost
        return None


def cost_of(text: str, *, unit: str) -> int:
    """Characters of a text, or its legal positions."""
    return len(text) if unit == "characters" else len(legal(text))


def walk_of(
    sentences: Sequence[Sentence], *, known: Sequence[Sentence], config: DrawConfig
) -> Walk:
    """A walk under the limits of an active arm that has some sentences already."""
    near = None
    if config.near_duplicates is not None:
        near = NearDuplicates(config.near_duplicates)
        near.add([one.uid for one in known], [one.text for one in known])
    return Walk(sentences, unit=config.unit, per_document=config.per_document, near=near)
