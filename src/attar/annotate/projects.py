"""The verbs `annotate init`, `import` and `status`."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select

from attar.annotate import corpus
from attar.annotate.accounts import check_name
from attar.annotate.drawing import model_paths
from attar.annotate.event import check_fit, read_text
from attar.annotate.events import events_of, set_strategy
from attar.annotate.opening import create_project, open_project
from attar.annotate.overview import overview
from attar.annotate.policies import import_answers
from attar.annotate.records import recorded
from attar.annotate.results import curve
from attar.annotate.settings import AnnotateConfig
from attar.annotate.tables import Snapshot
from attar.artefacts import expanded
from attar.data.segments.streams import Offsets
from attar.errors import ConfigError, DataError
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.drawing import DrawConfig
from attar.methods.active_segmentation.engines import load_engine
from attar.methods.active_segmentation.events import Event
from attar.report.record import Run


def init(
    project: str | Path,
    *,
    demo: bool = False,
    database: str | None = None,
    name: str | None = None,
    guideline: str | Path | None = None,
    seed: int = 13,
    config: AnnotateConfig = AnnotateConfig(),
    drawing: DrawConfig = DrawConfig(),
    segmenter: SegmenterConfig = SegmenterConfig(),
) -> Run:
    """Make an annotation project.

    Args:
        project: a new folder.
        demo: fill it with made-up text, and let simulated annotators label two samples of it.
        database: URL of an empty PostgreSQL database; None: SQLite in the folder.
        name: of the project; None: that of the folder.
        guideline: a text file with what annotators are told; None: nothing.
        seed: of everything random; with the texts it fixes the random sample.
        config: of the project.
        drawing: how batches are drawn.
        segmenter: what is trained.

    Returns:
        The record; that of a demo has the points of its curve.

    Raises:
        ConfigError: the folder or the database holds something, or options do not fit together.
        DataError: a dictionary cannot be read.
        MissingExtraError: the extra `annotate` is not installed.
    """
    given = (guideline, config, drawing, segmenter)
    if demo and given != (None, AnnotateConfig(), DrawConfig(), SegmenterConfig()):
        raise ConfigError(
            "the demo has a guideline and options of its own; leave others out, or leave --demo out"
        )
    text = "" if guideline is None else read_text(guideline)
    draw = _told(drawing)
    strategy = draw.pop("strategy", None)
    stored = replace(
        config,
        longest=draw.pop("longest", config.longest),  # one limit, of imports and draws
        draw={**draw, **config.draw},
        segmenter={**_told(segmenter), **config.segmenter},
    )
    stored.require_sound()
    check_fit(stored, strategy=drawing.strategy)
    with recorded("init", project=project, demo=demo, name=name, seed=seed) as run:
        run.seed = seed
        if demo:
            from attar.annotate import demo as made

            password = made.make_demo(project, database=database, name=name, seed=seed)
            run.details = curve(project).details | {
                "about": made.ABOUT,
                "user": made.ADMIN,
                "password": password,
            }
            return run
        if config.cold_start is not None:
            load_engine(config.cold_start)  # says now what is not installed
        with create_project(
            project, database=database, name=name, guideline=text, settings=stored, seed=seed
        ) as opened:
            if strategy:
                with opened.write() as session:
                    set_strategy(session, str(strategy))
    return run


def import_(
    project: str | Path,
    *,
    data: str | Path,
    format: str | None = None,
    snapshot: str | None = None,
    offsets: Offsets = "auto",
    annotator: str | None = None,
) -> Run:
    """Add text to a project. What is there already is counted, and stays as it is.

    Args:
        project: its folder.
        data: a file, a folder of files, or a pattern.
        format: of the data; None: told by names and contents.
        snapshot: what this state of the corpus is called; None: s1, s2, ...
        offsets: what offsets in the data count.
        annotator: whose answers the words in the data are, under the guideline in force, as of a
            project before this one; a new name becomes an account that nobody can log in to. None:
            they are no answers.

    Returns:
        The record: `details` has the counts and warnings of the import; `answers` are new ones.

    Raises:
        ConfigError: there is no project, or the annotator's name cannot be that of an account.
        DataError: the data cannot be read, or hold no sentence that can be used.
        Conflict: there is such a snapshot already.
    """
    with recorded("import", project=project, data=data, format=format, snapshot=snapshot) as run:
        run.data = str(data)
        place = expanded(data)
        within = place.is_dir() and expanded(project).resolve().is_relative_to(place.resolve())
        if str(data) and within:
            raise ConfigError(
                f"expected text to import; {str(data)!r} holds the project itself: name the files"
            )
        words = dict[str, tuple[int, ...]]()
        if annotator is not None:
            check_name(annotator)
            words = corpus.words_of(data, format=format, offsets=offsets)
            if not words:
                raise DataError(
                    f"expected segmented sentences in {str(data)!r} as the answers of {annotator}; "
                    "none has its words: give the format that has them, or leave --annotator out"
                )
        with open_project(project) as opened:
            report = corpus.add(opened, data, format=format, snapshot=snapshot, offsets=offsets)
            run.details = asdict(report)
            if annotator is not None:
                run.details["answers"] = import_answers(opened, words, annotator=annotator)
    return run


def _told(options: DrawConfig | SegmenterConfig) -> dict[str, Any]:
    """The options that are not the defaults."""
    usual = asdict(type(options)())
    return {name: value for name, value in asdict(options).items() if value != usual[name]}


def status(project: str | Path) -> Run:
    """How far a project is, and what needs attention.

    Args:
        project: its folder.

    Returns:
        The record: `details` has the corpus, the arms, the people and the models.

    Raises:
        ConfigError: there is no project.
    """
    with recorded("status", project=project) as run, open_project(project) as opened:
        run.details = asdict(overview(opened))
        with opened.read() as session:
            run.details["models"] = {
                arm: str(opened.models / path) for arm, (_, path) in model_paths(session).items()
            }
            run.details["snapshots"] = list(
                session.scalars(select(Snapshot.name).order_by(Snapshot.number))
            )
            events = events_of(session)
        run.details["warnings"] = [*run.details["warnings"], *_unexplained(events)]
    return run


def _unexplained(events: Sequence[Event]) -> list[str]:
    return [
        f"{event.kind} was noticed and nobody has said why: attar annotate event add --kind "
        f"{event.kind} --note says it"
        for place, event in enumerate(events)
        if event.detected
        and not any(later.kind == event.kind and later.note for later in events[place + 1 :])
    ]
