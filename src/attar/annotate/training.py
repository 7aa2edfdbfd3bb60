"""The steps of a training run and of scoring the past anew.

Nothing that a run makes is in force before its last transaction, so it may be cut short anywhere
and begun again.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import delete, select, update

from attar.annotate.drawing import fill_queues
from attar.annotate.events import add_event, guideline_text
from attar.annotate.loading import study_of
from attar.annotate.points import add_points
from attar.annotate.policies import ask_reviewers
from attar.annotate.store import Project, state_of
from attar.annotate.tables import Job, ModelRow, ProjectRow, Score, User
from attar.annotate.wordlists import with_word_list
from attar.errors import DataError
from attar.methods.active_segmentation.drawing import score_pool
from attar.methods.active_segmentation.fingerprints import Fingerprint, detect
from attar.methods.active_segmentation.measuring import history, measure
from attar.methods.active_segmentation.monitors import change_rate, doubtful
from attar.methods.active_segmentation.picks import ScoreTable
from attar.methods.active_segmentation.points import Point
from attar.methods.active_segmentation.segmenter import Segmenter
from attar.methods.active_segmentation.study import (
    UNION,
    Study,
    fit_arms,
    ranked_by,
    samples,
    test_set,
)

#: rows of scores in one transaction
CHUNK = 500
#: in the order in which a training run takes them
STEPS = ("snapshot", "fit", "measure", "save", "score", "switch", "draw", "clean")
DONE = "done"


def train_models(project: Project, run: int, *, step: Callable[[str], None]) -> None:
    """A training run, step by step."""
    step("snapshot")
    with project.read() as session:
        state = state_of(session)
        sequence = session.get_one(Job, run).sequence
        stored = study_of(session, upto=sequence)
        now_text = guideline_text(session, state.guideline)
        people = session.scalars(select(User.name).where(User.active, User.role == "annotator"))
        annotators = tuple(people)
    study = with_word_list(stored, project.folder)
    rows = samples(study)
    step("fit")
    models = fit_arms(study, rows=rows)
    if not models:
        raise DataError(
            "expected labelled sentences of an arm; found none: label some that attar annotate "
            "draw has drawn, then train"
        )
    step("measure")
    test = test_set(study)
    points = (
        measure(study, models, test=test, rows=rows, refits=state.settings.refits) if test else []
    )
    step("save")
    _save(project, models, run=run)
    step("score")
    table = _ranking(study, models, run=run)
    doubts = state.settings.show_doubts
    changed = _write_scores(project, run, study=study, models=models, table=table, doubts=doubts)
    figures = {"uncertainty": table and table.uncertainty, "changed": changed}
    step("switch")
    guideline = f"{state.guideline}\n{now_text}"
    found = _fingerprint(stored, models, guideline=guideline, annotators=annotators)
    _switch(project, run, study=study, models=models, points=points, found=found, figures=figures)
    step("draw")
    fill_queues(project)
    ask_reviewers(project)
    step("clean")
    _clean(project)


def score_history(project: Project, run: int, *, step: Callable[[str], None]) -> None:
    """All batches so far, scored under the guideline and on the evaluation set of today."""
    step("snapshot")
    with project.read() as session:
        upto = session.get_one(Job, run).sequence
        study = with_word_list(study_of(session, upto=upto), project.folder)
        refits = state_of(session).settings.refits
    test = test_set(study)
    if not test:
        raise DataError("expected labelled evaluation sentences; found none: label some first")
    step("measure")
    points = history(study, test=test, refits=refits)
    step("switch")
    with project.write() as session:
        add_points(session, points, run=run)
        row = session.get_one(Job, run)
        row.state, row.ended, row.result = DONE, project.clock(), {"points": len(points)}


def _save(project: Project, models: dict[str, Segmenter], *, run: int) -> None:
    """Write the models beside their place and move them into it."""
    final = project.models / str(run)
    partial = project.models / f"{run}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    for arm, model in models.items():
        model.save_pretrained(partial / arm)
    partial.rename(final)


def _ranking(study: Study, models: dict[str, Segmenter], *, run: int) -> ScoreTable | None:
    """What the active arm's model thinks of the corpus; None: it has no labels yet."""
    config, scorer = ranked_by(study.config) or (None, "")
    if config is None or scorer not in models:
        return None
    return score_pool(
        list(study.sentences.values()),
        segmenter=models[scorer],
        model=model_name(run, scorer),
        reserved=study.reserved,
        config=config,
        seed=study.config.seed,
        chunk=CHUNK,
    )


def _write_scores(
    project: Project,
    run: int,
    *,
    study: Study,
    models: dict[str, Segmenter],
    table: ScoreTable | None,
    doubts: bool = False,
) -> float | None:
    """Scores and best cuts under the number of the run, some at a time: nobody reads them yet; with
    `doubts` also the places where the model is unsure.

    Returns:
        The share of cuts that the run in force decides differently, see `change_rate`; None: there
        is none.
    """
    shown = models.get(UNION) or next(iter(models.values()))
    uids = sorted(study.sentences)
    pairs = list[tuple[str, Sequence[int], Sequence[int]]]()
    for start in range(0, len(uids), CHUNK):
        part = uids[start : start + CHUNK]
        texts = [study.sentences[uid].text for uid in part]
        beliefs = shown.beliefs(texts) if doubts else []
        cuts = [b.cuts for b in beliefs] if doubts else shown.segment(texts)
        unsure = [doubtful(b) for b in beliefs] if doubts else [None] * len(part)
        with project.read() as session:
            now = select(ProjectRow.ranking).scalar_subquery()
            old = select(Score.sentence, Score.cuts).where(Score.run == now)
            before = {
                uid: cuts for uid, cuts in session.execute(old.where(Score.sentence.in_(part)))
            }
        pairs += [
            (study.sentences[uid].text, before[uid], after)
            for uid, after in zip(part, cuts, strict=True)
            if uid in before
        ]
        with project.write() as session:
            session.execute(
                Score.__table__.insert(),  # pyright: ignore[reportAttributeAccessIssue]
                [
                    {
                        "run": run,
                        "sentence": uid,
                        "strategy": table.strategy if table else "",
                        "value": table.values.get(uid) if table else None,
                        "cuts": list(of_it),
                        "doubts": at,
                    }
                    for uid, of_it, at in zip(part, cuts, unsure, strict=True)
                ],
            )
    texts, *both = zip(*pairs, strict=True) if pairs else ((), (), ())
    return change_rate(*both, texts=texts) if pairs else None


def _fingerprint(
    study: Study, models: dict[str, Segmenter], *, guideline: str, annotators: tuple[str, ...]
) -> Fingerprint:
    dictionary = next(iter(models.values())).dictionary
    return Fingerprint.of(
        features=asdict(study.config.segmenter),
        guideline=guideline,
        corpus=study.sentences,
        annotators=annotators,
        dictionary=() if dictionary is None else dictionary.words,
    )


def _switch(
    project: Project,
    run: int,
    *,
    study: Study,
    models: dict[str, Segmenter],
    points: list[Point],
    found: Fingerprint,
    figures: Mapping[str, float | None],
) -> None:
    """Put a run in force, in one transaction."""
    scores = {point.arm: dict(point.scores) for point in points}
    with project.write() as session:
        job, now = session.get_one(Job, run), project.clock()
        last = session.scalar(select(ModelRow).order_by(ModelRow.run.desc()).limit(1))
        if last is not None:
            before = session.get_one(Job, last.run).result or {}
            known = before.get("event", 0)
            since = [e for e in study.events if int(e.id) > known and not e.detected]
            stored = Fingerprint.from_dict(last.fingerprint)
            for event in detect(stored, found, logged=since, sequence=job.sequence or 0):
                add_event(session, event, now=now)
        session.add_all(
            ModelRow(
                name=model_name(run, arm),
                run=run,
                arm=arm,
                path=f"{run}/{arm}",
                fingerprint=found.to_dict(),
                metrics=scores.get(arm, {}),
                sequence=job.sequence,
                epoch=study.epoch,
                created=now,
            )
            for arm in models
        )
        add_points(session, points, run=run)
        session.execute(update(ProjectRow).values(ranking=run))
        job.state, job.ended = DONE, now
        job.result = {
            # what was logged since the run looked explains the next one
            "event": max((int(event.id) for event in study.events), default=0),
            "test": len(points[0].test) if points else 0,
            "scores": scores,
            "monitors": dict(figures),
        }


def _clean(project: Project) -> None:
    """Delete the scores of runs that are no longer in force, and the models of all but the last."""
    with project.read() as session:
        state = state_of(session)
        old = session.scalars(select(Score.run).where(Score.run != state.ranking).distinct()).all()
        kept = select(ModelRow.run).distinct().order_by(ModelRow.run.desc())
        recent = set(session.scalars(kept.limit(state.settings.keep_runs)))
    for run in old:
        while True:
            with project.write() as session:
                part = session.scalars(
                    select(Score.sentence).where(Score.run == run).limit(CHUNK)
                ).all()
                session.execute(delete(Score).where(Score.run == run, Score.sentence.in_(part)))
            if len(part) < CHUNK:
                break
    for folder in project.models.iterdir():
        if folder.name.isdigit() and int(folder.name) not in recent:
            shutil.rmtree(folder, ignore_errors=True)


def model_name(run: int, arm: str) -> str:
    """The name of a model in the records."""
    return f"{run}-{arm}"
