"""Studies: trials of pipelines on data sets, as lines of JSON, and which choices matter in them."""

import json
import math
import random
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from attar.errors import AttarError, CompatibilityError, DataError, expect, finite
from attar.methods.distiller.pipelines import SPACE, Pipeline, contains, label, space_id

SCHEMA = 1
STUDY_FILE = "study.jsonl"
State = Literal["complete", "pruned", "failed"]
#: trials of one context that a forest needs to say anything about importance
_FEWEST = 8


@dataclass(frozen=True)
class Row:
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
    def from_dict(cls, stored: Mapping[str, Any]) -> "Row":
        """Read `to_dict` back.

        Raises:
            DataError: a value is missing, unknown or out of range.
            ConfigError: the pipeline cannot be read.
            CompatibilityError: another schema or another space.
        """
        expect(isinstance(stored, Mapping), "a row", stored, "a JSON object")
        known = {field.name for field in fields(cls)}
        wrong = sorted(known ^ stored.keys())
        if stored.get("schema", SCHEMA) != SCHEMA:
            raise CompatibilityError(
                f"expected schema {SCHEMA}, found {stored['schema']!r}; use the version of Attar "
                "that wrote it"
            )
        if wrong:
            raise DataError(
                "expected a trial as attar distill search writes it, found a line with too many or "
                f"too few keys ({', '.join(wrong)}); give another file, or leave out the line"
            )
        same_space(stored["space"])
        row = cls(**{**stored, "pipeline": Pipeline.from_dict(stored["pipeline"])})
        if not contains(row.pipeline):
            raise CompatibilityError(
                f"expected a pipeline of the space {space_id()}, found {row.pipeline.to_json()}; "
                "leave out the row"
            )
        return row


def read_study(paths: str | Path | Iterable[str | Path]) -> list[Row]:
    """All trials of one or more studies, in order; lines that repeat another are left out.

    Args:
        paths: JSONL files, or folders of a search.

    Raises:
        DataError: a file or a line cannot be read, or a file has no trial.
        CompatibilityError: a line comes from a search in another space.
    """
    rows: dict[Row, None] = {}
    for path in [paths] if isinstance(paths, str | Path) else paths:
        path = Path(path) / STUDY_FILE if Path(path).is_dir() else Path(path)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            cause = getattr(error, "strerror", None) or error
            raise DataError(
                f"cannot read the study {path} ({cause}); give the folder of attar distill search, "
                "or a JSONL file of one"
            ) from error
        if not any(line.strip() for line in lines):
            raise DataError(f"the study {path} has no trials; run the search, or leave it out")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                rows[Row.from_dict(json.loads(line))] = None
            except ValueError as error:
                raise DataError(
                    f"{path}, line {number}: expected a JSON object, found {line[:60]!r}; "
                    "mend or leave out the line"
                ) from error
            except AttarError as error:
                kind = type(error) if isinstance(error, CompatibilityError) else DataError
                raise kind(f"{path}, line {number}: {error}") from error
    return list(rows)


def dpr(score: float, teacher: float) -> float:
    """Distilled performance ratio: the student's score over the teacher's; NaN where the teacher's
    is not above 0."""
    return score / teacher if teacher > 0 else math.nan


def gap_closed(score: float, teacher: float, *, hard: float) -> float:
    """Share of the way from a student taught by labels alone (`hard`) to the teacher; NaN where the
    teacher is no better than that student."""
    return (score - hard) / (teacher - hard) if teacher > hard else math.nan


def importance(rows: Iterable[Row], *, seed: int = 0) -> dict[str, float]:
    """Share of the variance of scores that each choice alone explains, largest first; sums to 1.

    Functional ANOVA (Hutter et al., 2014) by Optuna on the finished trials of each context,
    averaged over contexts. A choice that had no effect in a trial is given a random value there: a
    mark for it would be a second name of the choice that it hangs on, and share its importance.

    Args:
        rows: of `read_study`. Contexts that are `silent` are left out.
        seed: of forests and of those values.

    Raises:
        DataError: no context is left.
    """
    shares: list[dict[str, float]] = []
    contexts = by_context(rows).values()
    for context in contexts:
        if silent(context) is None:
            shares.append(_fanova([row for row in context if row.state == "complete"], seed))
    if not shares:
        raise DataError(
            f"expected a context with at least {_FEWEST} finished trials of different scores, "
            f"found {' and '.join(str(silent(c)) for c in contexts) or 'no trial'}; run more trials"
        )
    mean = {name: math.fsum(share.get(name, 0.0) for share in shares) for name in SPACE}
    return {name: mean[name] / len(shares) for name in sorted(mean, key=lambda n: -mean[n])}


def silent(context: Iterable[Row]) -> str | None:
    """Why the trials of one context say nothing about importance; None if they do: at least 8 have
    finished, of more than one pipeline and with different scores."""
    ended = [row for row in context if row.state == "complete"]
    if len(ended) < _FEWEST:
        return f"{len(ended)} finished trials, fewer than {_FEWEST}"
    if len({row.pipeline.canonical() for row in ended}) < 2:
        return "a single pipeline"
    return "equal scores" if len({row.score for row in ended}) < 2 else None


def _fanova(rows: list[Row], seed: int) -> dict[str, float]:
    rng = random.Random(seed)
    chosen = [{n: label(n, v) for n, v in row.pipeline.active().items()} for row in rows]
    seen = {name: sorted({c[name] for c in chosen if name in c}) for name in SPACE}
    varied = {name: values for name, values in seen.items() if len(values) > 1}
    distributions: dict[str, Any] = {
        name: optuna.distributions.CategoricalDistribution(values)
        for name, values in varied.items()
    }
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a study made in passing is no news
    try:
        study = optuna.create_study(direction="maximize")
    finally:
        optuna.logging.set_verbosity(level)
    for row, values in zip(rows, chosen, strict=True):
        params = {name: values.get(name, rng.choice(options)) for name, options in varied.items()}
        study.add_trial(
            optuna.create_trial(params=params, distributions=distributions, value=row.score)
        )
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))


def by_context(rows: Iterable[Row]) -> dict[Hashable, list[Row]]:
    """The trials of each context that has at least one finished trial."""
    found: dict[Hashable, list[Row]] = {}
    for row in rows:
        found.setdefault(row.context, []).append(row)
    return {k: group for k, group in found.items() if any(r.state == "complete" for r in group)}


def same_space(found: object) -> None:
    """Refuse what was made for another space.

    Raises:
        CompatibilityError: the two ids differ.
    """
    if found != space_id():
        raise CompatibilityError(
            f"expected the search space {space_id()}, found {found!r}; use the version of Attar "
            "that wrote it, or search again"
        )
