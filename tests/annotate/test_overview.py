"""How a project stands."""

from collections.abc import Callable

import pytest

import annotation_site
from annotating import Maker, answer_to, filled, gold_of
from attar.annotate import answers, queue
from attar.annotate.accounts import add_user
from attar.annotate.drawing import refill
from attar.annotate.overview import overview
from attar.annotate.settings import AnnotateConfig
from attar.annotate.store import Project

SETTINGS = AnnotateConfig(
    reserve_fraction=0.1,
    reserve_minimum=0,
    seed_sentences=40,
    control_share=0.0,
    overlap_share=0.0,
    retrain_after=0,
)


def work(project: Project, who: str, *, count: int, ms: Callable[[str, int], float]) -> None:
    """Right answers that take so many milliseconds, by text and cuts."""
    for _ in range(count):
        task = queue.next_task(project, annotator=who)
        assert task
        cuts = gold_of(project, task)
        answer = answer_to(task, cuts, active_ms=round(ms(task.text, len(cuts))))
        answers.submit(project, annotator=who, answer=answer)


def test_the_time_of_each_annotator_is_what_their_answers_were_made_of(make: Maker) -> None:
    project = filled(make(SETTINGS), 60)
    refill(project)
    add_user(project, name="ada", role="admin", password=annotation_site.PASSWORD)
    work(project, "ann", count=20, ms=lambda text, cuts: 2000 + 250 * len(text) + 700 * cuts)
    work(project, "bob", count=8, ms=lambda text, cuts: 1000)
    ann, bob = (one for one in overview(project).people if one.role == "annotator")
    assert ann.pace
    assert ann.pace.answers == 20
    assert ann.pace.character == pytest.approx(0.25, abs=1e-3)
    assert ann.pace.each == pytest.approx(3.4, abs=1e-2)  # two cuts are in every answer
    assert ann.pace.correction is None
    assert ann.typical is None
    assert bob.pace is None  # too few answers
    with annotation_site.client(annotation_site.application(project), "ada") as ada:
        page = ada.get("/dashboard").text
        people = ada.get("/api/admin/status").json()["people"]
    assert people[0]["pace"]["character"] == pytest.approx(0.25, abs=1e-3)
    assert '<td class="number">0.25</td>' in page
    assert ">per position<" not in page
    assert ">per correction<" in page
