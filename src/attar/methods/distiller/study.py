"""Studies: trials of pipelines on data sets, as lines of JSON; and the study of a search."""

import hashlib
import json
import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

from optuna.trial import FrozenTrial

from attar.errors import AttarError, CompatibilityError, DataError, expect, finite
from attar.foreign import parse_json
from attar.methods.distiller.pipelines import Pipeline, contains, differences, space_id
from attar.report.tables import Table
from attar.search.statistics import NORMAL_95
from attar.search.storage import STUDY_FILE
from attar.search.summary import (
    State,
    Summary,
    read_summary,
    state_of,
    summary_lines,
    trials_table,
)
from attar.search.trials import PlannedTrial

SCHEMA = 1


@dataclass(frozen=True)
class Trial:
    """One trial of a study; higher scores are better.

    Raises:
        DataError: a value is missing or out of range.
    """

    dataset: str
    student: str
    teacher: str
    init: str
    """How the student started, such as random or cut."""
    setting: str
    """What else sets it apart, such as `1k labels`."""
    pipeline: Pipeline
    seed: int
    examples: int
    """How many validation examples the score is of."""
    score: float | None
    """On validation data; None where the trial did not get that far."""
    teacher_score: float
    """On the same data."""
    test_score: float | None = None
    hard_score: float | None = None
    """Of the same student taught by labels alone, on validation data."""
    seconds: float = 0.0
    state: State = "complete"
    space: str = ""
    """Of `space_id`; empty: the present one."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", self.space or space_id())
        for name in ("dataset", "student", "teacher", "init", "setting"):
            expect(isinstance(getattr(self, name), str), name, getattr(self, name), "text")
        expect(self.state in get_args(State), "state", self.state, " or ".join(get_args(State)))
        expect(isinstance(self.seed, int), "seed", self.seed, "a whole number")
        fine = isinstance(self.examples, int) and self.examples > 0
        expect(fine, "examples", self.examples, "a whole number above 0")
        expect(finite(self.seconds), "seconds", self.seconds, "a number")
        if self.state != "complete" and not finite(self.score):
            object.__setattr__(self, "score", None)  # a diverged trial may have left NaN
        else:
            expect(finite(self.score), "score", self.score, "a number in a complete trial")
        for name in ("test_score", "hard_score"):
            value = getattr(self, name)
            expect(value is None or finite(value), name, value, "a number or null")
        fine = finite(self.teacher_score) and self.teacher_score > 0
        expect(fine, "teacher_score", self.teacher_score, "a number above 0")

    @property
    def context(self) -> tuple[str, str, str, str, str]:
        """What must agree before two scores may be compared."""
        return self.dataset, self.student, self.teacher, self.init, self.setting

    def to_dict(self) -> dict[str, Any]:
        """JSON values, one object of a study."""
        return {**asdict(self), "pipeline": self.pipeline.to_dict()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Trial":
        """Read `to_dict` back.

        Raises:
            DataError: a value is missing, unknown or out of range.
            ConfigError: the pipeline cannot be read.
            CompatibilityError: another schema or another space.
        """
        expect(isinstance(stored, Mapping), "a trial", stored, "a JSON object")
        known = {field.name for field in fields(cls)}
        wrong = sorted(known ^ stored.keys())
        if stored.get("schema", SCHEMA) != SCHEMA:
            raise CompatibilityError(
                f"expected schema {SCHEMA}, found {stored['schema']!r}; use the version of Attar "
                "that wrote it"
            )
        if wrong:
            raise DataError(
                "expected a trial as attar pipeline search writes it, found a line with too many "
                f"or too few keys ({', '.join(wrong)}); give another file, or leave out the line"
            )
        same_space(stored["space"])
        trial = cls(**{**stored, "pipeline": Pipeline.from_dict(stored["pipeline"])})
        if not contains(trial.pipeline):
            raise CompatibilityError(
                f"expected a pipeline of the space {space_id()}, found {trial.pipeline.to_json()}; "
                "leave out the line"
            )
        return trial


def read_study(paths: str | Path | Iterable[str | Path]) -> list[Trial]:
    """All trials of one or more studies, in order; lines that repeat another are left out.

    Args:
        paths: JSONL files, or folders of a search.

    Raises:
        DataError: a file or a line cannot be read, or a file has no trial.
        CompatibilityError: a line comes from a search in another space.
    """
    trials: dict[Trial, None] = {}
    for path in [paths] if isinstance(paths, str | Path) else paths:
        path = Path(path) / STUDY_FILE if Path(path).is_dir() else Path(path)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            cause = getattr(error, "strerror", None) or error
            raise DataError(
                f"cannot read the study {path} ({cause}); give the folder of attar pipeline "
                "search, or a JSONL file of one"
            ) from error
        if not any(line.strip() for line in lines):
            raise DataError(f"the study {path} has no trials; run the search, or leave it out")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                stored = parse_json(line, "the trial")
            except DataError as error:
                raise DataError(
                    f"{path}, line {number}: expected a JSON object, found {line[:60]!r}; "
                    "correct or leave out the line"
                ) from error
            try:
                trials[Trial.from_dict(stored)] = None
            except AttarError as error:
                kind = type(error) if isinstance(error, CompatibilityError) else DataError
                raise kind(f"{path}, line {number}: {error}") from error
    return list(trials)


def teacher_ratio(score: float, teacher: float) -> float:
    """The student's score over the teacher's (the paper's distilled performance ratio);
    NaN where the teacher's is not above 0."""
    return score / teacher if teacher > 0 else math.nan


def gap_closed(score: float, teacher: float, *, hard: float) -> float:
    """Share of the way from a student taught by labels alone (`hard`) to the teacher; NaN where the
    teacher is no better than that student."""
    return (score - hard) / (teacher - hard) if teacher > hard else math.nan


def by_context(trials: Iterable[Trial]) -> dict[Hashable, list[Trial]]:
    """The trials of each context that has at least one finished trial."""
    groups: dict[Hashable, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.context, []).append(trial)
    return {
        context: group
        for context, group in groups.items()
        if any(trial.state == "complete" for trial in group)
    }


def same_space(stored: object) -> None:
    """Refuse what was made for another space.

    Raises:
        CompatibilityError: the two ids differ.
    """
    if stored != space_id():
        raise CompatibilityError(
            f"expected the search space {space_id()}, found {stored!r}; use the version of Attar "
            "that wrote it, or search again"
        )


# --------------------------------------------------------------------- a search under way


def trial_of(stored: FrozenTrial, attrs: Mapping[str, Any]) -> Trial:
    """The trial of a search.

    Args:
        stored: as it lies in the storage.
        attrs: of its study: settings, and the scores of teacher and label-only student.
    """
    settings, planned = attrs["settings"], PlannedTrial.of(stored)
    assert planned is not None
    student, width = settings["student"], settings["student_width"]
    if student is None:
        student = f"{settings['student_layers']} layers"
        student += "" if width is None else f" of width {width}"
    return Trial.from_dict(
        {
            "schema": SCHEMA,
            "space": settings["space"],
            "dataset": _dataset(settings),
            "student": student,
            "teacher": Path(settings["teacher"]).name,
            "init": settings["student_init"],
            "setting": _setting(settings),
            "pipeline": json.loads(planned.payload),
            "seed": settings["training"]["seed"],
            "examples": settings["examples"],
            "score": stored.user_attrs.get("score"),
            "test_score": stored.user_attrs.get("test_score"),
            "teacher_score": attrs["teacher_score"],
            "hard_score": attrs["hard_score"],
            "seconds": stored.user_attrs.get("seconds", 0.0),
            "state": state_of(stored),
        }
    )


def _dataset(settings: Mapping[str, Any]) -> str:
    """The data set, so far as its name tells it from others: `reviews/train.csv`, `glue/sst2`."""
    path = Path(settings["data"])
    name = f"{path.parent.name}/{path.name}" if path.suffix and path.parent.name else path.name
    label = settings["columns"][-1]
    return "".join(
        [
            name,
            "" if settings["data_config"] is None else f"/{settings['data_config']}",
            "" if label is None else f", {label}",
        ]
    )


def _setting(settings: Mapping[str, Any]) -> str:
    """How a trial was trained: in words what matters most, and a digest of the rows, the teacher's
    weights and all that is the same in every trial, since scores of others do not compare."""
    training = settings["training"]
    searched = {field.name for field in fields(Pipeline)} | {"mixup_beta", "seed"}
    same = {name: value for name, value in training.items() if name not in searched}
    same |= {name: settings[name] for name in ("rows", "weights")}
    digest = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:6]
    limit = training["limit_labels"]
    return (
        f"{'all' if limit is None else limit} labels, {training['max_steps']} steps of "
        f"{training['per_device_train_batch_size']} ({digest})"
    )


def study_summary(folder: str | Path, *, storage: str | None = None) -> Summary[Trial]:
    """What the search in a folder has found so far.

    Args:
        folder: of the search.
        storage: the URL that it was given, if any.

    Raises:
        ConfigError: there is no study, or its storage cannot be opened.
        AttarError: no trial was trained to its end.
    """
    return read_summary(folder, trial_of, storage=storage)


def study_table(summary: Summary[Trial]) -> Table:
    """The best trials."""
    return trials_table(
        summary,
        lambda trial: differences(trial.pipeline),
        heading="differs from the default in",
    )


def conclusion(summary: Summary[Trial]) -> str:
    """One sentence: whether the best pipeline beat plain fine-tuning, the same student taught by
    labels alone, by more than chance. Scores count as shares of right answers, whose difference has
    a standard error of sqrt(p (1 - p) / n + q (1 - q) / n).
    """
    best, n = summary.best, summary.best.examples
    score, plain = best.score or 0.0, best.hard_score
    if plain is None:
        return (
            "Plain fine-tuning was not measured, so it is not known whether a pipeline is worth it."
        )
    shares = [min(max(value, 0.0), 1.0) for value in (score, plain)]
    noise = NORMAL_95 * math.sqrt(sum(p * (1 - p) for p in shares) / n)
    said = (
        "The best pipeline beat plain fine-tuning by more than the noise"
        if score - plain > noise
        else "No pipeline beat plain fine-tuning by more than the noise"
    )
    return (
        f"{said}: {score:.4f} against {plain:.4f}, a difference of {score - plain:+.4f} +- "
        f"{noise:.4f} (95%) on {n:,} validation examples."
    )


def study_lines(summary: Summary[Trial]) -> list[tuple[str, str]]:
    """What the best trial is measured by, as label and text; all on validation data."""
    best = summary.best
    teacher, hard = best.teacher_score, best.hard_score
    lines = summary_lines(summary, references={"teacher": teacher, "hard labels": hard})
    if hard is not None and teacher > hard:
        share = gap_closed(best.score or 0.0, teacher, hard=hard)
        after_best = 1 + [name for name, _ in lines].index("best")
        text = f"{100 * share:.0f}% of the way from hard labels to teacher"
        lines.insert(after_best, ("gap closed", text))
    return lines
