"""A finished project as files, from which every curve can be drawn again without the database.

project.json       name, seed, settings, guideline texts, arms, what is kept for evaluation
sentences.jsonl    the corpus, native format; the words on which the labels agree
annotations.jsonl  every act of every person, as stored
picks.jsonl        what was drawn, and why
events.jsonl       the log
points.jsonl       the learning curves, with the counts and documents that make their intervals
dictionaries/      word lists of the segmenter's own, if it has any
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from attar.annotate.events import events_of
from attar.annotate.loading import study_of
from attar.annotate.points import points_of
from attar.annotate.store import Project, state_of
from attar.annotate.tables import Annotation, Guideline, SentenceRow
from attar.annotate.wordlists import WORD_LISTS, with_word_list
from attar.artefacts import expanded, new_folder
from attar.data.segments.cuts import Segmented
from attar.data.segments.formats import write_segments
from attar.data.segments.streams import OnPipe
from attar.errors import DataError
from attar.foreign import parse_json, read_json
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.events import Event
from attar.methods.active_segmentation.labels import Label
from attar.methods.active_segmentation.picks import DrawConfig, Pick, Sentence
from attar.methods.active_segmentation.points import Costs, Point
from attar.methods.active_segmentation.study import Study, StudyConfig, resolved

FORMAT = 1


def export_project(project: Project, *, output: str | Path) -> Path:
    """Write all of a project to a new folder, which appears when it is complete.

    Raises:
        ConfigError: the folder holds something.
        ResourceError: the disk is full.
    """
    with new_folder(output) as unfinished, project.read() as session:
        _write_all(session, unfinished)
        if (kept := project.folder / WORD_LISTS).is_dir():
            unfinished_too = shutil.ignore_patterns("*.partial")
            shutil.copytree(kept, unfinished / WORD_LISTS, ignore=unfinished_too)
    return expanded(output)


def read_export(folder: str | Path) -> tuple[Study, list[Point]]:
    """The study and the curves of an export, from its files alone.

    Raises:
        DataError: this is no export, or it is damaged.
    """
    place = expanded(folder)
    about = read_json(place / "project.json", "the project of the export")
    try:
        if about["format"] != FORMAT:
            raise DataError(
                f"expected an export of format {FORMAT}; {str(place)!r} has {about['format']}: "
                "install the version of Attar that wrote it"
            )
        config = StudyConfig(
            arms={name: DrawConfig(**options) for name, options in about["arms"].items()},
            segmenter=SegmenterConfig(**about["segmenter"]),
            guideline=about["guidelines"][0]["version"],
            seed_sentences=about["settings"]["seed_sentences"],
            seed=about["seed"],
        )
        study = Study(
            config=config,
            sentences={
                row["id"]: Sentence(
                    row["id"],
                    row["text"],
                    row["meta"]["document"],
                    row["meta"]["snapshot"],
                    row["meta"]["occurrences"],
                )
                for row in _lines(place, "sentences")
            },
            reserved=frozenset(about["reserved"]),
            picks=tuple(_made(Pick, row) for row in _lines(place, "picks")),
            labels=tuple(_made(Label, row) for row in _lines(place, "labels")),
            events=tuple(Event.from_dict(row) for row in _lines(place, "events")),
            snapshot=about["snapshot"],
        )
        points = [_point(row) for row in _lines(place, "points")]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(
            f"the export in {str(place)!r} lacks something or is damaged ({error!r}); export again"
        ) from None
    return with_word_list(study, place), points


def labelled(
    project: Project,
    *,
    arm: str | None = None,
    guideline: str | None = None,
    reserve: Literal["with", "without", "only"] = "with",
    history: bool = False,
) -> Iterator[Segmented]:
    """The labels as sentences, each once, as its annotators agree.

    Args:
        project: the project.
        arm: only what it drew; None: all.
        guideline: only those that follow it; None: all.
        reserve: the evaluation sentences.
        history: with every act on the sentence, in the meta.
    """
    with project.read() as session:
        study = study_of(session)
        acts = _acts(session) if history else {}
    arms = dict[str, list[str]]()
    batches = dict[str, int]()
    for pick in study.picks:
        if pick.arm not in arms.setdefault(pick.uid, []):
            arms[pick.uid].append(pick.arm)
        batches.setdefault(pick.uid, pick.batch)
    for uid, found in sorted(resolved(study).items()):
        kept = uid in study.reserved
        drawn = arms.get(uid, [])
        fits = guideline is None or found.guideline == guideline
        if not fits or (arm is not None and arm not in drawn) or (kept and reserve == "without"):
            continue
        if reserve == "only" and not kept:
            continue
        sentence = study.sentences[uid]
        meta: dict[str, Any] = {
            "id": uid,
            "arms": ["evaluation"] if kept else drawn,
            "guideline": found.guideline,
            "document": sentence.document,
        }
        meta |= {"batch": batches[uid]} if uid in batches else {}
        meta |= {"history": acts[uid]} if uid in acts else {}
        yield Segmented(sentence.text, found.cuts, found.decided, meta)


def export_labels(
    project: Project,
    *,
    output: str | Path,
    format: str = "jsonl",
    arm: str | None = None,
    guideline: str | None = None,
    reserve: Literal["with", "without", "only"] = "with",
    history: bool = False,
    on_pipe: OnPipe = "error",
) -> None:
    """Write the labels to a new file of a format; see `labelled` and `write_segments`.

    Raises:
        DataError: the format cannot hold them.
        ConfigError: there is no such format, or the file is there already.
    """
    rows = labelled(project, arm=arm, guideline=guideline, reserve=reserve, history=history)
    write_segments(rows, output, format=format, on_pipe=on_pipe)


def _write_all(session: Session, folder: Path) -> None:
    state, study = state_of(session), study_of(session)
    found = resolved(study)
    guidelines = session.scalars(select(Guideline).order_by(Guideline.number))
    about = {
        "format": FORMAT,
        "name": state.name,
        "seed": state.seed,
        "settings": state.settings.to_json(),
        "arms": {name: asdict(config) for name, config in study.config.arms.items()},
        "segmenter": asdict(study.config.segmenter),
        "guidelines": [
            {"version": g.version, "text": g.text, "rules": g.rules, "created": g.created}
            for g in guidelines
        ],
        "guideline": state.guideline,
        "snapshot": study.snapshot,
        "reserved": sorted(study.reserved),
    }
    text = json.dumps(about, ensure_ascii=False, indent=1, sort_keys=True)
    (folder / "project.json").write_text(text + "\n", encoding="utf-8")
    rows = session.scalars(
        select(SentenceRow).where(SentenceRow.removed.is_(None)).order_by(SentenceRow.uid)
    )
    _write(folder / "sentences.jsonl", (_sentence(row, found.get(row.uid)) for row in rows))
    acts = session.scalars(select(Annotation).order_by(Annotation.seq))
    _write(folder / "annotations.jsonl", (_act(row) for row in acts))
    _write(folder / "labels.jsonl", (asdict(label) for label in study.labels))
    _write(folder / "picks.jsonl", (asdict(pick) for pick in study.picks))
    _write(folder / "events.jsonl", (event.to_dict() for event in events_of(session)))
    _write(folder / "points.jsonl", (_fields(point) for point in points_of(session)))


def _sentence(row: SentenceRow, found: Any) -> dict[str, Any]:
    """In the native format; raw where nobody has labelled it."""
    return {
        "id": row.uid,
        "text": row.text,
        "cuts": [] if found is None else list(found.cuts),
        "decided": [] if found is None else found.decided and list(found.decided),
        "guideline": None if found is None else found.guideline,
        "meta": {
            "document": row.document,
            "snapshot": row.first_snapshot,
            "occurrences": row.occurrences,
        },
    }


def _act(row: Annotation) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in Annotation.__table__.columns}


def _acts(session: Session) -> dict[str, list[dict[str, Any]]]:
    """The acts on each sentence, oldest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in session.scalars(select(Annotation).order_by(Annotation.seq)):
        act = {
            "id": row.id,
            "annotator": row.annotator,
            "status": row.status,
            "kind": row.kind,
            "cuts": row.cuts,
            "decided": row.decided,
            "guideline": row.guideline,
            "created": row.created,
        }
        found.setdefault(row.sentence, []).append(act)
    return found


def _fields(point: Point) -> dict[str, Any]:
    return {
        "arm": point.arm,
        "epoch": point.epoch,
        "batch": point.batch,
        "costs": asdict(point.costs),
        "scores": dict(point.scores),
        "counts": None if point.counts is None else point.counts.astype(int).tolist(),
        "documents": list(point.documents),
        "refits": list(point.refits),
    }


def _point(row: Mapping[str, Any]) -> Point:
    counts = row["counts"]
    return Point(
        arm=row["arm"],
        epoch=row["epoch"],
        batch=row["batch"],
        costs=Costs(**row["costs"]),
        scores=row["scores"],
        counts=None if counts is None else np.array(counts, float).reshape(-1, 3),
        documents=tuple(row.get("documents", ())),  # which earlier exports lack
        refits=tuple(row["refits"]),
    )


def _made(kind: Any, row: Mapping[str, Any]) -> Any:
    """A value out of its fields; JSON knows no tuples."""
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()})


def _write(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with file.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def _lines(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    file = folder / f"{name}.jsonl"
    try:
        with file.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                yield parse_json(line, "line", origin=f"{number} of {file}")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the export lacks {file} or it is damaged ({error})") from error
