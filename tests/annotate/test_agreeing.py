"""What agreement is told apart by."""

import pytest
from sqlalchemy import update

from annotating import Clock, Maker, annotate, answer_to, ask_all, sentences
from attar.annotate import answers, corpus, queue
from attar.annotate.accounts import add_user
from attar.annotate.agreeing import agreement
from attar.annotate.settings import AnnotateConfig
from attar.annotate.tables import Draft
from attar.data.segments.cuts import Segmented
from attar.errors import ConfigError

PLAIN = AnnotateConfig(reserve_fraction=0.0, reserve_minimum=0, control_share=0.0)
WEEK = 7 * 24 * 3600.0


def test_agreement_by_document_prefill_and_week(make: Maker) -> None:
    """Ann and Bob differ in the tale of the second week only, which Ann began with cuts."""
    clock = Clock()
    project = make(PLAIN, clock=clock)
    news, tale = sentences(2)
    rows = [
        Segmented(news.text, news.cuts, meta={"document": "news"}),
        Segmented(tale.text, tale.cuts, meta={"document": "tale"}),
    ]
    for name in ("ann", "bob"):
        add_user(project, name=name)
    corpus.add(project, rows[:1])
    ask_all(project, needed=2)
    assert annotate(project, "ann") == annotate(project, "bob") == 1
    corpus.add(project, rows[1:])
    ask_all(project, needed=2)
    of_ann = queue.next_task(project, annotator="ann")
    assert of_ann
    with project.write() as session:
        session.execute(update(Draft).values(prefill=[2]))
    answers.submit(project, annotator="ann", answer=answer_to(of_ann, [3]))
    clock.now += WEEK
    of_bob = queue.next_task(project, annotator="bob")
    assert of_bob
    answers.submit(project, annotator="bob", answer=answer_to(of_bob, [2]))

    def by(name: str) -> dict[str, float | None]:
        return {one.group[name]: one.word_f1 for one in agreement(project, by=(name,))}

    worse = by("document")["tale"]
    assert worse is not None
    assert worse < 1
    assert by("document") == {"news": 1.0, "tale": worse}
    assert by("prefill") == {"none": 1.0, "some": worse}
    assert by("week") == {"1970-W03": 1.0, "1970-W04": worse}
    with pytest.raises(ConfigError, match="weather"):
        agreement(project, by=("weather",))
