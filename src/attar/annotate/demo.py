"""`annotate init --demo`: a project on made-up text, labelled by simulated people through the same
queue, worker and store as a real one.
"""

import logging
import secrets
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from attar.annotate import accounts, answers, corpus, drawing, jobs, queue
from attar.annotate.acts import text_digest
from attar.annotate.answers import Answer
from attar.annotate.events import change_settings
from attar.annotate.opening import create_project
from attar.annotate.settings import ARMS, AnnotateConfig
from attar.annotate.store import Project, state_of
from attar.artefacts import expanded, new_folder
from attar.methods.active_segmentation.annotators import Annotator
from attar.methods.active_segmentation.arms import uid
from attar.methods.active_segmentation.made_up import make_up

logger = logging.getLogger(__name__)

ABOUT = (
    "The text is made up: words of PyThaiNLP's frequency list in random order, so that the true "
    "boundaries are known. It is easier than real text, and its figures say nothing about yours."
)
GUIDELINE = "# Demo\n\nThe text is made up. Words are those of a frequency list.\n"
ADMIN = "demo"
_SENTENCES, _RESERVED, _ROUNDS = 1000, 150, 5
#: characters of a batch; what else the demo does otherwise than a new project
_BUDGET = 1500
_SETTINGS = AnnotateConfig(
    reserve_minimum=_RESERVED,
    seed_sentences=25,
    evaluation_share=0.5,
    low_water=0,
    retrain_after=0,
    refits=3,
    draw={"budget": _BUDGET},
)


def make_demo(
    folder: str | Path, *, database: str | None = None, name: str | None = None, seed: int = 13
) -> str:
    """Make a project and let simulated people label two samples.

    Args:
        folder: a new one.
        database: URL of an empty PostgreSQL database; None: SQLite in the folder.
        name: of the project.
        seed: of text, samples and mistakes.

    Returns:
        The password of the account `demo`, an admin.

    Raises:
        ConfigError: the folder or the database holds something.
        MissingExtraError: pythainlp is not installed.
    """
    made = make_up(_SENTENCES, seed=seed)
    gold = {uid(row.text): row.cuts for row in made.rows}
    password = secrets.token_urlsafe(9)
    people = [Annotator(name=f"simulated-{number}", flip=0.01) for number in (1, 2, 3)]
    final = expanded(folder)
    with new_folder(final) as unfinished:
        with tempfile.TemporaryDirectory() as scratch:
            words = made.save_dictionary(Path(scratch) / "words.txt")
            project = create_project(
                unfinished,
                database=database,
                name=name or final.resolve().name,
                guideline=GUIDELINE,
                settings=replace(_SETTINGS, segmenter={"dictionary": str(words)}),
                seed=seed,
            )
        with project:
            corpus.add(project, made.rows, snapshot="made-up")
            accounts.add_user(project, name=ADMIN, role="admin", password=password)
            for person in people:
                accounts.add_user(project, name=person.name)
            for number in range(_ROUNDS + 1):
                for arm in ARMS:
                    drawing.draw(project, arm=arm)
                count = _label(project, people, gold=gold, seed=seed)
                jobs.ask_for(project, reason="the demo")
                jobs.work(project, once=True)
                logger.info("round %d of %d: %d answers", number, _ROUNDS, count)
            _as_usual(project)
    return password


def _label(
    project: Project,
    people: Sequence[Annotator],
    *,
    gold: Mapping[str, tuple[int, ...]],
    seed: int,
) -> int:
    """Everybody answers what comes, in turn, until nothing is left; how many answers that is."""
    count, waiting = 0, list(people)
    while waiting:
        for person in [*waiting]:
            task = queue.next_task(project, annotator=person.name)
            if task is None:
                waiting.remove(person)
                continue
            if not task.acknowledged:  # an answer to a guideline that nobody read is refused
                accounts.acknowledge(project, annotator=person.name, guideline=task.guideline)
            said = person.label(
                uid(task.text),
                task.text,
                gold=gold[uid(task.text)],
                prefill=task.cuts,
                positions=task.positions,
                guideline=task.guideline,
                seed=seed,
            )
            answer = Answer(
                id=str(uuid.uuid4()),
                task=task.task,
                text_sha=text_digest(task.text),
                cuts=said.cuts,
                decided=said.decided,
                guideline=task.guideline,
                active_ms=round(1000 * (said.seconds or 0)),
            )
            answers.submit(project, annotator=person.name, answer=answer)
            count += 1
    return count


def _as_usual(project: Project) -> None:
    """From now on batches are drawn and models trained when there is need."""
    usual = AnnotateConfig()
    with project.read() as session:
        state = state_of(session)
    settings = replace(state.settings, low_water=usual.low_water, retrain_after=usual.retrain_after)
    change_settings(project, expected=state.revision, settings=settings)
