"""A batch of sentences for an arm, within a budget of characters or decisions."""

from collections.abc import Collection, Mapping, Sequence, Set
from typing import TYPE_CHECKING

from attar.methods.active_segmentation.picks import Draw as Draw
from attar.methods.active_segmentation.picks import DrawConfig as DrawConfig
from attar.methods.active_segmentation.picks import Pick as Pick
from attar.methods.active_segmentation.picks import ScoreTable as ScoreTable
from attar.methods.active_segmentation.picks import Sentence as Sentence

if TYPE_CHECKING:
    from attar.methods.active_segmentation.segmenter import Segmenter


def score_pool(
    pool: Sequence[Sentence],
    *,
    segmenter: "Segmenter",
    model: str,
    reserved: Set[str],
    config: DrawConfig,
    seed: int = 0,
    chunk: int = 500,
) -> ScoreTable:
    """Score all sentences that could be drawn, some at a time.

    Args:
        pool: the corpus as it is now.
        segmenter: the model that ranks.
        model: its name, for the record.
        reserved: the evaluation reserve.
        config: strategy, base score and lengths.
        seed: of dropout passes.
        chunk: sentences at a time; changes nothing but memory.
    """
    raise NotImplementedError


def draw_random(
    pool: Sequence[Sentence],
    *,
    drawn: Set[str],
    reserved: Set[str],
    config: DrawConfig,
    batch: int,
    arm: str = "random",
    snapshot: str = "",
) -> Draw:
    """The next batch of the random order: the smallest keys that the arm has not been served.

    Args:
        pool: the corpus as it is now.
        drawn: uids that this arm has been served, still in the corpus or not.
        reserved: the evaluation reserve.
        config: budget, lengths and salt.
        batch: number of the batch.
        arm: name of the arm; the active arm draws its common seed here.
        snapshot: state of the corpus.
    """
    raise NotImplementedError


def draw_active(
    pool: Sequence[Sentence],
    *,
    table: ScoreTable | None = None,
    segmenter: "Segmenter | None" = None,
    model: str = "",
    drawn: Set[str],
    reserved: Set[str],
    labelled: Set[str] = frozenset(),
    asked: Mapping[str, Collection[int]] | None = None,
    config: DrawConfig,
    batch: int,
    arm: str = "active",
    snapshot: str = "",
    seed: int = 0,
) -> Draw:
    """The next batch by what a model is unsure of.

    A sentence that the random arm was served may be drawn: its label is shared, and its cost
    charged to both arms. Without scores that can be used the batch is drawn in the random order,
    and a warning says so.

    Args:
        pool: the corpus as it is now.
        table: scores of the pool; none: the segmenter scores it now.
        segmenter: needed without a table, and by `badge`, `coreset` and positions.
        model: name of the segmenter, where there is no table.
        drawn: uids that this arm has been served.
        reserved: the evaluation reserve.
        labelled: uids that are labelled or served in any arm; near duplicates of them are skipped
            under the scorer `union`, in addition to those of `drawn`.
        asked: for positions: offsets that this arm has asked about, by uid; a sentence that was
            drawn and is not here was labelled as a whole.
        config: strategy, budget and limits.
        batch: number of the batch.
        arm: name of the arm.
        snapshot: state of the corpus.
        seed: of all chance in it.
    """
    raise NotImplementedError
