"""What fifty people at once ask for must cost little: few statements, by indices, short waits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from annotating import Maker, answer_to, ask_all, filled
from attar.annotate import answers, queue
from attar.annotate.settings import AnnotateConfig
from attar.annotate.store import Project
from attar.annotate.tokens import account_of_token, create_token

PLAIN = AnnotateConfig(reserve_fraction=0.0, reserve_minimum=0, control_share=0.0)


@pytest.fixture(autouse=True, scope="module")
def no_waiting_for_the_disk() -> None:
    """Here commits wait as they do for users."""


@contextmanager
def statements(project: Project) -> Iterator[list[tuple[str, Any]]]:
    """What the database is asked in the meantime."""
    found = list[tuple[str, Any]]()

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        found.append((statement, parameters))

    event.listen(project.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(project.engine, "before_cursor_execute", note)


def test_a_request_is_few_statements_and_none_reads_a_table_to_its_end(make: Maker) -> None:
    project = filled(make(PLAIN), 8)
    ask_all(project)
    token = create_token(project, user="ann")
    queue.next_task(project, annotator="ann")  # makes a block
    given = queue.next_task(project, annotator="ann")
    assert given
    with statements(project) as submitted:
        answers.submit(project, annotator="ann", answer=answer_to(given))
    with statements(project) as asked:
        queue.next_task(project, annotator="ann")
    with statements(project) as admitted:
        account_of_token(project, secret=token)
    assert len(submitted) <= 16
    assert len(asked) <= 15
    assert len(admitted) <= 2
    if not project.sqlite:
        return
    with project.engine.connect() as connection:
        for statement, parameters in submitted + asked + admitted:
            if statement.startswith(("PRAGMA", "BEGIN")):
                continue
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            steps = [row[3] for row in plan]
            assert not [s for s in steps if s.startswith("SCAN") and s != "SCAN project"], steps


def test_answers_wait_for_the_disk_and_leases_do_not(make: Maker) -> None:
    """On SQLite every connection says so once; on PostgreSQL every such transaction."""
    project = filled(make(PLAIN), 2)
    ask_all(project)

    def waits() -> bool:
        """Of the transaction that was last."""
        with project.engine.connect() as connection:
            return connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL

    given = queue.next_task(project, annotator="ann")
    assert given
    if project.sqlite:
        assert not waits()
        answers.submit(project, annotator="ann", answer=answer_to(given))
        assert waits()
        return
    soon = "SET LOCAL synchronous_commit = off"
    with statements(project) as asked:
        queue.next_task(project, annotator="ann")
    with statements(project) as submitted:
        answers.submit(project, annotator="ann", answer=answer_to(given))
    assert soon in [statement for statement, _ in asked]
    assert soon not in [statement for statement, _ in submitted]
