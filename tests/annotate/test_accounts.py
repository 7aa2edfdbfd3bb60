"""Accounts, logins, sessions and tokens."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from annotating import Clock, Maker
from attar.annotate import accounts, hashing, logins, tokens
from attar.annotate.events import events_of, log_event
from attar.annotate.refusals import Conflict, Throttled, Unauthenticated, Unknown
from attar.annotate.tables import Base
from attar.errors import ConfigError
from attar.methods.active_segmentation.events import Event

PASSWORD = "correct horse"


def test_a_login_and_its_end(make: Maker) -> None:
    clock = Clock()
    project = make(clock=clock)
    accounts.add_user(project, name="ann", role="admin", password=PASSWORD)
    login = logins.log_in(project, name="ann", password=PASSWORD)
    again = logins.session_of(project, secret=login.secret)
    assert (again.account.role, again.csrf) == ("admin", login.csrf)
    logins.log_out(project, secret=login.secret)
    logins.log_out(project, secret=login.secret)
    with pytest.raises(Unauthenticated, match="log in again"):
        logins.session_of(project, secret=login.secret)
    login = logins.log_in(project, name="ann", password=PASSWORD)
    clock.now += logins.SESSION_SECONDS
    with pytest.raises(Unauthenticated):
        logins.session_of(project, secret=login.secret)
    login = logins.log_in(project, name="ann", password=PASSWORD)
    accounts.change_user(project, name="ann", password="another one")
    with pytest.raises(Unauthenticated):
        logins.session_of(project, secret=login.secret)


def test_guessing_is_slowed_down(make: Maker) -> None:
    clock = Clock()
    project = make(clock=clock)
    accounts.add_user(project, name="ann", password=PASSWORD)
    for _ in range(logins.PER_PAIR):
        with pytest.raises(Unauthenticated):
            logins.log_in(project, name="ann", password="wrong horse", address="1")
    with pytest.raises(Throttled, match="15 minutes") as caught:
        logins.log_in(project, name="ann", password=PASSWORD, address="1")
    assert caught.value.retry_after == logins.WINDOW
    assert logins.log_in(project, name="ann", password=PASSWORD, address="2")
    clock.now += logins.WINDOW + 1
    assert logins.log_in(project, name="ann", password=PASSWORD, address="1")


def test_many_guesses_at_once_are_not_all_looked_at(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each counts before its slow hash is made, so that those that wait for theirs count, too."""
    project = make()
    accounts.add_user(project, name="ann", password=PASSWORD)
    looked_at = list[str]()

    def slow(stored: str, password: str) -> bool:
        looked_at.append(password)
        with contextlib.suppress(Unauthenticated, Throttled):  # another one comes in meanwhile
            logins.log_in(project, name="ann", password=password + "!", address="1")
        return False

    monkeypatch.setattr(hashing, "fits", slow)
    with pytest.raises(Unauthenticated):
        logins.log_in(project, name="ann", password="wrong", address="1")
    assert len(looked_at) == logins.PER_PAIR


def test_guesses_at_the_same_moment_are_counted_one_at_a_time(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make()
    accounts.add_user(project, name="ann", password=PASSWORD)
    looked_at = list[str]()
    monkeypatch.setattr(hashing, "fits", lambda stored, password: looked_at.append(password))

    def guess(number: int) -> None:
        with contextlib.suppress(Unauthenticated, Throttled):
            logins.log_in(project, name="ann", password=f"guess {number}", address="1")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(guess, range(16)))
    assert len(looked_at) == logins.PER_PAIR


def test_a_login_that_works_leaves_no_mark(make: Maker) -> None:
    project = make()
    accounts.add_user(project, name="ann", password=PASSWORD)
    for _ in range(logins.PER_ADDRESS + 1):
        logins.log_in(project, name="ann", password=PASSWORD, address="1")


def test_what_happens_to_accounts_is_logged(make: Maker) -> None:
    project = make()
    accounts.add_user(project, name="ann", role="reviewer", author="ada")
    common: dict[str, Any] = {"name": "ann", "author": "ada"}
    accounts.change_user(project, role="annotator", password=PASSWORD, **common)
    accounts.change_user(project, language="th", **common)
    secret = tokens.create_token(project, user="ann", label="script", author="ada")
    (token,) = tokens.tokens(project)
    tokens.revoke_token(project, id=token.id, author="ada")
    accounts.change_user(project, active=False, **common)
    accounts.change_user(project, active=True, **common)
    with project.read() as session:
        assert [event.kind for event in events_of(session)] == ["annotator.leave"]
        log = [e for e in events_of(session, accounts=True) if e.kind == "account.change"]
    assert {(event.scope, event.author) for event in log} == {("ann", "ada")}
    assert [(event.before, event.after, event.note) for event in log] == [
        ("", "reviewer", "opened"),
        ("reviewer", "annotator", "role, new password"),
        ("", "", f"token {token.id} made script"),
        ("", "", f"token {token.id} ended"),
        ("annotator", "annotator", "closed"),
        ("annotator", "annotator", "opened"),
    ]
    assert not any(secret in event.note for event in log)
    with pytest.raises(ConfigError, match="by itself"):
        log_event(project, Event(kind="account.change", scope="ann"))


def test_tokens(make: Maker) -> None:
    clock = Clock()
    project = make(clock=clock)
    accounts.add_user(project, name="ann")
    with pytest.raises(Unauthenticated):
        logins.log_in(project, name="ann", password=PASSWORD)  # it has none
    secret = tokens.create_token(project, user="ann", label="script", days=1)
    assert tokens.account_of_token(project, secret=secret).name == "ann"
    (info,) = tokens.tokens(project, user="ann")
    clock.now += 86400
    with pytest.raises(Unauthenticated):
        tokens.account_of_token(project, secret=secret)
    secret = tokens.create_token(project, user="ann")
    for one in tokens.tokens(project):
        tokens.revoke_token(project, id=one.id)
    with pytest.raises(Unauthenticated):
        tokens.account_of_token(project, secret=secret)
    with pytest.raises(Unknown):
        tokens.revoke_token(project, id="0" * 12)
    assert info.label == "script"


def test_nothing_that_opens_a_door_is_stored(make: Maker) -> None:
    project = make()
    accounts.add_user(project, name="ann", password=PASSWORD)
    secrets = [
        PASSWORD,
        logins.log_in(project, name="ann", password=PASSWORD).secret,
        tokens.create_token(project, user="ann"),
    ]
    with project.read() as session:
        stored = "".join(
            str(row)
            for table in Base.metadata.sorted_tables
            for row in session.execute(select(table))
        )
    assert not any(secret in stored for secret in secrets)


def test_accounts_that_cannot_be(make: Maker) -> None:
    project = make()
    accounts.add_user(project, name="ann", role="admin")
    with pytest.raises(Conflict, match="already"):
        accounts.add_user(project, name="ann")
    for bad in ({"name": "a b"}, {"name": ""}, {"role": "king"}, {"password": "short"}):
        with pytest.raises(ConfigError):
            accounts.add_user(project, **{"name": "bob", **bad})
    for change in ({"active": False}, {"role": "annotator"}):
        if change == {"active": False}:
            with pytest.raises(Conflict, match="last open account"):
                accounts.change_user(project, name="ann", active=False)
    with pytest.raises(Unknown):
        accounts.change_user(project, name="bob", role="admin")
    accounts.add_user(project, name="bob")
    accounts.acknowledge(project, annotator="bob", guideline="g1")
    with pytest.raises(Conflict, match="in force"):
        accounts.acknowledge(project, annotator="bob", guideline="g0")
    accounts.change_user(project, name="bob", active=False)
    with project.read() as session:
        kinds = [event.kind for event in events_of(session)]
    assert kinds == ["annotator.join", "annotator.train", "annotator.leave"]
