"""The routes of the editor: what they give, what they refuse, and what they never tell."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import annotation_site
from annotation_site import answer
from attar.annotate import events, logins, tokens


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    project = annotation_site.make_project(tmp_path_factory.mktemp("projects") / "p")
    project.close()
    return project


@pytest.fixture
def project(made: Any, tmp_path: Path) -> Iterator[Any]:
    with annotation_site.copied(made, tmp_path / "p") as project:
        yield project


@pytest.fixture
def app(project: Any) -> Any:
    return annotation_site.application(project)


@pytest.fixture
def anna(app: Any) -> Iterator[TestClient]:
    with annotation_site.client(app, "anna") as client:
        yield client


def act(**more: Any) -> dict[str, Any]:
    return {"id": str(uuid.uuid4())} | more


def message(response: Any) -> str:
    return response.json()["error"]["message"]


def test_a_text_is_given_answered_and_taken_back(anna: TestClient) -> None:
    given = anna.get("/api/next").json()
    assert given["text"] in annotation_site.TEXTS
    assert given["guideline"] == {"version": "g1", "acknowledged": True}
    assert 0 < given["lease"]["seconds"] <= 1200
    assert (given["lease"]["beat_seconds"], given["lease"]["idle_seconds"]) == (60, 60)
    assert anna.get("/api/next").json()["task"] == given["task"]  # the same until it is done
    body = answer(given)
    first = anna.post("/api/annotations", json=body)
    assert (first.status_code, first.json()["status"]) == (201, "submitted")
    again = anna.post("/api/annotations", json=body)
    assert (again.status_code, again.json()) == (200, first.json())
    other = anna.post("/api/annotations", json=body | {"cuts": [3]})
    assert other.status_code == 409
    assert "was used for another answer" in message(other)
    after = anna.get("/api/next").json()
    assert (after["task"] != given["task"], after["done"]) == (True, 1)
    undone = anna.post(f"/api/annotations/{body['id']}/void", json=act())
    assert undone.json()["status"] == "void"
    back = anna.get("/api/next").json()
    assert (back["task"], back["draft"]["cuts"]) == (given["task"], [2])
    history = anna.get("/api/history").json()
    assert [(one["status"], one["undoable"]) for one in history["items"]] == [("void", False)]


def test_a_draft_is_given_back(anna: TestClient) -> None:
    given = anna.get("/api/next").json()
    draft = {"cuts": [2, 5], "decided": None, "caret": 5, "active_ms": 700}
    assert anna.put(f"/api/drafts/{given['task']}", json=draft).json() == {"saved": True}
    assert anna.get("/api/next").json()["draft"] == draft
    anna.post("/api/annotations", json=answer(given))
    assert anna.put(f"/api/drafts/{given['task']}", json=draft).json() == {"saved": False}


def test_skipping_and_flagging(anna: TestClient) -> None:
    seen = []
    for kind, more in (("skip", {}), ("flag", {"note": "half a sentence"})):
        task = anna.get("/api/next").json()["task"]
        done = anna.post(f"/api/tasks/{task}/{kind}", json=act(active_ms=10, **more))
        assert done.status_code == 200, done.text
        seen.append((task, done.json()["status"]))
    assert [status for _, status in seen] == ["skipped", "flagged"]
    assert anna.get("/api/next").json()["task"] not in {task for task, _ in seen}


def test_a_lease_is_kept_by_signs_of_life(anna: TestClient, app: Any) -> None:
    given = anna.get("/api/next").json()
    beat = anna.post(f"/api/leases/{given['lease']['id']}/beat")
    assert beat.json()["guideline"] == "g1"
    with annotation_site.client(app, "boon") as boon:
        assert boon.get("/api/next").json()["task"] != given["task"]
        stolen = boon.post(f"/api/leases/{given['lease']['id']}/beat")
        assert stolen.status_code == 403
    assert anna.post("/api/leases/none/beat").status_code in (404, 409)


def test_a_changed_guideline_must_be_read_first(anna: TestClient, project: Any) -> None:
    given = anna.get("/api/next").json()
    text = "Cut where a word begins.\nCut names apart.\n"
    events.change_guideline(project, version="g2", text=text, expected=1, author="ada")
    refused = anna.post("/api/annotations", json=answer(given))
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "guideline_changed"
    read = anna.get("/api/guideline").json()
    assert (read["version"], read["previous"], read["acknowledged"]) == ("g2", "g1", False)
    assert read["diff"] == [
        {"kind": "same", "text": "Cut where a word begins."},
        {"kind": "removed", "text": "Keep names whole."},
        {"kind": "added", "text": "Cut names apart."},
    ]
    assert anna.post("/api/guideline/g1/acknowledge").status_code == 409
    assert anna.post("/api/guideline/g2/acknowledge").json()["acknowledged"]
    back = anna.get("/api/next").json()
    assert back["draft"]["cuts"] == [2]  # kept from the answer that was refused
    assert back["guideline"] == {"version": "g2", "acknowledged": True}
    assert anna.post("/api/annotations", json=answer(back)).status_code == 201


def test_bad_requests_are_refused_in_one_sentence(anna: TestClient) -> None:
    given = anna.get("/api/next").json()
    for changes, said in (
        ({"cuts": [0]}, "offset"),
        ({"cuts": [5, 2]}, "rising"),
        ({"cuts": [2, 2]}, "rising"),
        ({"cuts": [10**40]}, "2147483647"),
        ({"cuts": [True]}, "valid integer"),
        ({"cuts": [2.0]}, "valid integer"),
        ({"cuts": "2"}, "list"),
        ({"cuts": [2], "decided": [3]}, "decided"),
        ({"id": "1"}, "UUID"),
        ({"id": "\x00"}, "pattern"),
        ({"text_sha": "0" * 64}, "text that you saw"),
        ({"text_sha": "no"}, "pattern"),
        ({"task": "\ud800"}, ""),
        ({"active_ms": -1}, "greater than or equal"),
        ({"active_ms": 10**30}, "less than or equal"),
        ({"colour": "red"}, "there is no field colour"),
        ({"events": [{"ms": 1, "kind": "<script>", "at": 1}]}, "pattern"),
        ({"events": [{"ms": 1, "kind": "toggle", "at": 1}] * 2001}, "2000"),
    ):
        data = json.dumps(answer(given, **changes))
        headers = {"content-type": "application/json"}
        response = anna.post("/api/annotations", content=data, headers=headers)
        assert response.status_code in (400, 409), (changes, response.text)
        assert said in message(response) or said == "rising", (changes, message(response))
    assert anna.put("/api/drafts/none", json={"cuts": []}).status_code == 404
    assert anna.post("/api/tasks/none/skip", json=act()).status_code == 404
    assert anna.post(f"/api/annotations/{uuid.uuid4()}/void", json=act()).status_code == 404
    assert anna.get("/api/history?limit=0").status_code == 400
    assert anna.get("/api/history").json()["items"] == []


def test_who_has_not_logged_in_gets_nothing(app: Any) -> None:
    with annotation_site.client(app) as client:
        for path in ("/api/next", "/api/history", "/api/guideline", "/metrics"):
            response = client.get(path)
            assert response.status_code == 401, path
            assert response.json()["error"]["type"] == "authentication_error"
        page = {"accept": "text/html"}
        for path in ("/", "/annotate", "/history", "/dashboard", "/users"):
            response = client.get(path, headers=page)
            assert response.status_code == 303, path
            assert response.headers["location"] == f"login?next={path[1:]}"
        assert client.get("/healthz").status_code == 200
        assert client.get("/login").status_code == 200


def test_roles_open_their_own_doors_only(app: Any) -> None:
    for name, review, admin in (("anna", 403, 403), ("rita", 200, 403), ("ada", 200, 200)):
        with annotation_site.client(app, name) as client:
            assert client.get("/api/review/next").status_code == review
            for path in ("/metrics", "/dashboard", "/users", "/api/admin/status"):
                assert client.get(path).status_code == admin, (name, path)


def test_a_request_needs_the_token_of_its_session(anna: TestClient, app: Any) -> None:
    task = anna.get("/api/next").json()["task"]
    good = anna.headers["x-csrf-token"]
    with annotation_site.client(app, "boon") as boon:
        of_another = boon.headers["x-csrf-token"]
    for token in ("", "x", of_another, good[:-1], "\xe9"):
        headers = {"x-csrf-token": token.encode("latin-1")}
        response = anna.post(f"/api/tasks/{task}/skip", json=act(), headers=headers)  # pyright: ignore[reportArgumentType]
        assert (response.status_code, response.json()["error"]["code"]) == (403, "csrf")
    for headers in (
        {"origin": "https://page.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        response = anna.post(f"/api/tasks/{task}/skip", json=act(), headers=headers)
        assert response.json()["error"]["code"] == "cross_origin", headers
        login = {"name": "boon", "password": annotation_site.PASSWORD}
        assert anna.post("/login", data=login, headers=headers).status_code == 403
    fine = {"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}
    assert anna.post(f"/api/tasks/{task}/skip", json=act(), headers=fine).status_code == 200


def test_scripts_use_tokens(app: Any, project: Any) -> None:
    secret = tokens.create_token(project, user="boon", label="a script")
    with annotation_site.client(app) as client:
        client.headers["authorization"] = f"Bearer {secret}"
        given = client.get("/api/next").json()
        assert client.post("/api/annotations", json=answer(given)).status_code == 201
        client.headers["authorization"] = f"Bearer {secret}x"
        assert client.get("/api/next").status_code == 401
        tokens.revoke_token(project, id=tokens.tokens(project)[0].id)
        client.headers["authorization"] = f"Bearer {secret}"
        assert client.get("/api/next").status_code == 401


def test_logging_in_and_out(app: Any) -> None:
    with annotation_site.client(app) as client:
        wrong = annotation_site.log_in(client, "anna", password="guess")
        assert (wrong.status_code, wrong.headers["content-type"]) == (
            401,
            "text/html; charset=utf-8",
        )
        assert "the name or the password is wrong" in wrong.text
        assert "guess" not in wrong.text
        for next, where in (
            ("history", "history"),
            ("https://page.example", "./"),
            ("//page.example", "./"),
            ("", "./"),
        ):
            form = {"name": "anna", "password": annotation_site.PASSWORD, "next": next}
            response = client.post("/login", data=form)
            assert response.headers["location"] == where
        cookie = response.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        stolen = client.cookies["attar_session"]
        page = client.get("/annotate").text
        token = page.partition('name="csrf" content="')[2].partition('"')[0]
        assert client.post("/logout", data={"csrf": "wrong"}).status_code == 403
        assert client.post("/logout", data={"csrf": token}).headers["location"] == "login"
        client.cookies.set("attar_session", stolen)
        assert client.get("/api/next").status_code == 401


def test_guessing_is_slowed_down(app: Any) -> None:
    with annotation_site.client(app) as client:
        for _ in range(logins.PER_PAIR):
            assert annotation_site.log_in(client, "anna", password="guess").status_code == 401
        held = annotation_site.log_in(client, "anna")
        assert held.status_code == 429
        assert int(held.headers["retry-after"]) > 0
        assert "too many failed logins" in held.text


def test_nothing_that_is_sent_makes_the_service_fail(anna: TestClient) -> None:
    headers = {"content-type": "application/json"}
    for name in ("%00", "%F0%9F%98%80", "a" * 300, "..%2f..%2fetc", "'--", "%ED%A0%80"):
        for method, path in (
            ("PUT", f"/api/drafts/{name}"),
            ("POST", f"/api/tasks/{name}/skip"),
            ("POST", f"/api/tasks/{name}/flag"),
            ("POST", f"/api/annotations/{name}/void"),
            ("POST", f"/api/leases/{name}/beat"),
            ("POST", f"/api/guideline/{name}/acknowledge"),
            ("GET", f"/static/{name}"),
            ("GET", f"/{name}"),
        ):
            for body in ("{}", json.dumps(act(note="\ud800")), json.dumps(act(note="\0")), "[", ""):
                sent = {"content": body, "headers": headers} if method != "GET" else {}
                response = anna.request(method, path, **sent)
                assert 400 <= response.status_code < 500, (method, path, body, response.text)
    task = anna.get("/api/next").json()["task"]
    for note in ("\ud800", "\0", "x" * 2001):
        data = json.dumps(act(note=note))
        refused = anna.post(f"/api/tasks/{task}/flag", content=data, headers=headers)
        assert refused.status_code == 400, note[:5]
    for form in (b"name=%00%ff&password=%00", b"&" * 100, b"\xff\xfe", b"a=1&" * 50):
        form_type = {"content-type": "application/x-www-form-urlencoded"}
        response = anna.post("/login", content=form, headers=form_type)
        assert 400 <= response.status_code < 500, form[:20]
    for cookie in ("", "x", "%00", "a" * 3000):
        anna.cookies.clear()
        asked = {"cookie": f"attar_session={cookie}", "accept-language": "\xff;q=\xff,th;q=9e999"}
        sent = {name: value.encode("latin-1") for name, value in asked.items()}
        response = anna.get("/annotate", headers=sent)  # pyright: ignore[reportArgumentType]
        assert response.status_code == 401, cookie[:20]


def test_an_account_has_the_language_that_was_chosen_for_it(app: Any, project: Any) -> None:
    """And otherwise that of the browser."""
    from attar.annotate.accounts import change_user

    for chosen, shown in ((None, "th"), ("en", "en"), ("th", "th")):
        if chosen:
            change_user(project, name="anna", language=chosen)
        with annotation_site.client(app, "anna") as anna:
            page = anna.get("/guideline", headers={"accept-language": "th"}).text
        assert f'<html lang="{shown}"' in page
