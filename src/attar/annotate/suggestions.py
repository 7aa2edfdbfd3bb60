"""What a task begins with: cuts of the model in force, or of an engine before there is one."""

import logging
from collections.abc import Sequence

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from attar.annotate.store import State
from attar.annotate.tables import Score, table
from attar.methods.active_segmentation.engines import load_engine

logger = logging.getLogger(__name__)

_SCORES = table(Score)
_HERE = (_SCORES.c.run == bindparam("of_run"), _SCORES.c.sentence == bindparam("of_sentence"))
_CUTS, _DOUBTS = select(_SCORES.c.cuts).where(*_HERE), select(_SCORES.c.doubts).where(*_HERE)

#: cuts, and the name of the run that they are of
Suggestion = tuple[Sequence[int] | None, str | None]


def suggested(session: Session, sentence: str, *, state: State) -> Suggestion:
    """The cuts of the model in force, and its run's name; None: there are none.

    Args:
        session: a transaction.
        sentence: its uid.
        state: of the project.
    """
    if state.ranking is None:
        return None, None
    row = session.execute(_CUTS, _key(sentence, state)).one_or_none()
    return (None, None) if row is None else (row.cuts, str(state.ranking))


def of_engine(text: str, engine: str) -> tuple[int, ...] | None:
    """The cuts of an engine; None: it has none. This can take a tenth of a second, and seconds for
    the first text, so it does not belong into a transaction that writes."""
    try:
        return load_engine(engine)(text)
    except Exception as error:  # not installed here, or it fails on a text: people go on working
        logger.warning("%s: %s; a task begins without cuts", engine, error)
        return None


def doubts(session: Session, sentence: str, *, model: str | None, state: State) -> list[int] | None:
    """Where the model in force is unsure; None: this is not shown, or the cuts are another's.

    Args:
        session: a transaction.
        sentence: its uid.
        model: that the cuts are of.
        state: of the project.
    """
    shown = state.settings.show_doubts and not state.settings.comparing
    if not shown or model != str(state.ranking):
        return None
    return session.scalar(_DOUBTS, _key(sentence, state))


def _key(sentence: str, state: State) -> dict[str, object]:
    return {"of_run": state.ranking, "of_sentence": sentence}
