"""How far people agree about the same sentences, over the places where a word can begin."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Literal, get_args

from sqlalchemy import select

from attar.annotate.loading import load_study
from attar.annotate.store import Project
from attar.annotate.tables import Annotation
from attar.data.segments.cuts import Segmented
from attar.errors import require
from attar.evaluation.agreement import krippendorffs_alpha, pairwise, total
from attar.methods.active_segmentation.labels import Label, answers
from attar.methods.active_segmentation.study import Study

By = Literal["arm", "guideline", "annotators", "document", "prefill", "week"]
_NOT_DRAWN = "none"


@dataclass(frozen=True)
class Agreement:
    """Of one group of answers: `pairs` comparisons of two people's answers to one sentence."""

    group: Mapping[str, str]
    pairs: int
    kappa: float | None
    alpha: float | None
    boundary_similarity: float | None
    word_f1: float | None


def agreement(project: Project, *, by: Sequence[str] = ("arm", "guideline")) -> list[Agreement]:
    """Agreement by groups; those without a sentence that two people answered are left out.

    A sentence that two arms drew counts for both; reviewers' decisions do not count, as they have
    seen the others' answers.

    Args:
        project: the project.
        by: what to tell apart. `prefill` is whether all, some or none of the answers began with the
            cuts of a model; `week` (ISO 8601, UTC) is that of the last of them.

    Raises:
        ConfigError: there is nothing of that name to tell apart.
    """
    for name in by:
        require(name in get_args(By), "by", name, f"one of {', '.join(get_args(By))}")
    study = load_study(project)
    with project.read() as session:
        found = session.execute(select(Annotation.seq, Annotation.created)).all()
    times = {row.seq: row.created for row in found}
    served = {arm: set(study.served(arm)) for arm in study.config.arms}
    groups = defaultdict[tuple[str, ...], list[dict[str, Segmented]]](list)
    for (uid, guideline), answers_of in _answers(study).items():
        arms = [arm for arm in served if uid in served[arm]] or [_NOT_DRAWN]
        values = {"arm": arms, "guideline": [guideline]}
        values["document"] = [study.sentences[uid].document]
        for pair in _pairs(answers_of) if "annotators" in by else [answers_of]:
            values["annotators"] = [" - ".join(sorted(pair))]
            values["prefill"] = [_prefill(pair.values())]
            values["week"] = [_week(max(times[label.sequence] for label in pair.values()))]
            rows = {name: _row(study, label) for name, label in pair.items()}
            for key in product(*(values[name] for name in by)):
                groups[key].append(rows)
    return [_figures(dict(zip(by, key, strict=True)), rows) for key, rows in sorted(groups.items())]


def _answers(study: Study) -> Mapping[tuple[str, str], dict[str, Label]]:
    """The latest answer of each person to each sentence under each guideline, of two people or
    more."""
    found = defaultdict[tuple[str, str], dict[str, Label]](dict)
    for label in answers(study.labels):
        if label.status == "submitted" and label.uid in study.sentences:
            found[label.uid, label.guideline][label.annotator] = label
    return {key: rows for key, rows in found.items() if len(rows) > 1}


def _row(study: Study, label: Label) -> Segmented:
    return Segmented(study.sentences[label.uid].text, label.cuts, label.decided)


def _prefill(labels: Iterable[Label]) -> str:
    shown = {label.corrections is not None for label in labels}
    return "some" if len(shown) > 1 else "all" if shown == {True} else "none"


def _week(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%G-W%V}"


def _pairs(rows: Mapping[str, Label]) -> list[dict[str, Label]]:
    names = sorted(rows)
    return [{a: rows[a], b: rows[b]} for i, a in enumerate(names) for b in names[i + 1 :]]


def _figures(group: Mapping[str, str], rows: Sequence[Mapping[str, Segmented]]) -> Agreement:
    together = total(pairwise(rows).values())
    return Agreement(
        group=group,
        pairs=together.texts,
        kappa=together.kappa,
        alpha=krippendorffs_alpha([[*by_name.values()] for by_name in rows]),
        boundary_similarity=together.boundary_similarity,
        word_f1=together.word_f1,
    )
