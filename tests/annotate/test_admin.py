"""What administrators see and change: routes and pages."""

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import annotation_site
from attar.annotate import tokens


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("projects") / "p"
    project = annotation_site.make_project(folder, needed=2)
    project.close()
    return project


@pytest.fixture
def project(made: Any, tmp_path: Path) -> Iterator[Any]:
    with annotation_site.copied(made, tmp_path / "p") as project:
        yield project


@pytest.fixture
def ada(project: Any) -> Iterator[TestClient]:
    with annotation_site.client(annotation_site.application(project), "ada") as client:
        yield client


@pytest.fixture
def measured(made: Any, tmp_path: Path) -> Iterator[TestClient]:
    """After three training runs, with answers of two people and a change of the evaluation set."""
    with annotation_site.copied(made, tmp_path / "m") as project:
        annotation_site.measure(project)
        with annotation_site.client(annotation_site.application(project), "ada") as client:
            yield client


def message(response: Any) -> str:
    return response.json()["error"]["message"]


def test_the_state_of_the_project(ada: TestClient) -> None:
    state = ada.get("/api/admin/status").json()
    assert (state["name"], state["guideline"], state["sentences"]) == ("Thai words", "g1", 6)
    assert [(arm["name"], arm["drawn"], arm["open"]) for arm in state["arms"]] == [
        ("random", 3, 3),
        ("active", 3, 3),
    ]
    assert state["queue"] == {"arm": {"open": 6}}
    assert {one["name"] for one in state["people"]} == {"anna", "boon"}


def test_pages_of_an_empty_and_of_a_running_project(ada: TestClient) -> None:
    for path in ("/dashboard", "/users"):
        page = ada.get(path)
        assert page.status_code == 200, page.text[:500]
        assert "secret-strategy" not in page.text


def test_what_an_event_does_is_said_where_it_is_logged(ada: TestClient) -> None:
    page = ada.get("/dashboard").text
    for kind in ("model.change", "tool.upgrade", "annotator.leave"):
        assert f'<p data-value="{kind}">Active arm: ' in page
    assert "Active arm: its sentences were picked for another model. Random arm: no effect." in page
    assert "What to do: label the evaluation sentences again" in page  # of a new guideline
    ada.cookies.set("attar_language", "th")
    assert "กลุ่มแบบจำลอง: ประโยคในกลุ่มถูกเลือกไว้สำหรับแบบจำลองอื่น" in ada.get("/dashboard").text


def test_events_and_the_guideline(ada: TestClient) -> None:
    logged = ada.post("/api/admin/events", json={"kind": "tool.upgrade", "note": "0.3"})
    assert logged.status_code == 201
    assert (logged.json()["author"], logged.json()["note"]) == ("ada", "0.3")
    revision = ada.get("/api/admin/status").json()["revision"]
    change = {"kind": "guideline.change", "after": "g2", "text": "Anew.", "revision": revision}
    rule = {"kind": "join_prefix", "words": ["การ"]}
    done = ada.post("/api/admin/events", json=change | {"policy": "migrate", "rule": rule})
    assert done.json() == {"guideline": "g2", "revision": revision + 1}
    late = ada.post("/api/admin/events", json=change | {"after": "g3"})
    assert (late.status_code, "somebody else" in message(late)) == (409, True)
    kinds = [one["kind"] for one in ada.get("/api/admin/events").json()["items"]]
    assert kinds[-2:] == ["tool.upgrade", "guideline.change"]
    for body, said in (
        ({"kind": "weather.change"}, "kind"),
        ({"kind": "guideline.change", "after": "g9"}, "text"),
        (change | {"revision": revision + 1, "after": ""}, "version"),
        (change | {"revision": revision + 1, "after": "g4", "policy": "migrate"}, "rule"),
        (change | {"revision": revision + 1, "after": "g4", "query": "("}, "regular expression"),
    ):
        refused = ada.post("/api/admin/events", json=body)
        assert refused.status_code == 400, body
        assert said in message(refused), message(refused)
    paused = ada.post("/api/admin/events", json={"kind": "pause"})
    assert paused.status_code == 201
    assert ada.get("/api/next").json()["task"] is None
    ada.post("/api/admin/events", json={"kind": "resume"})
    assert ada.get("/api/next").json()["task"] is not None


def test_jobs_are_asked_for_once(ada: TestClient) -> None:
    first = ada.post("/api/admin/jobs", json={})
    assert first.status_code == 202
    assert (first.json()["kind"], first.json()["state"]) == ("train", "queued")
    again = ada.post("/api/admin/jobs", json={"kind": "train"})
    assert again.json()["id"] == first.json()["id"]
    assert [job["id"] for job in ada.get("/api/admin/jobs").json()["items"]] == [first.json()["id"]]
    assert ada.post("/api/admin/jobs", json={"kind": "sleep"}).status_code == 400


def test_accounts(ada: TestClient, project: Any) -> None:
    new = {"name": "carl", "password": "a long password", "role": "reviewer", "language": "th"}
    made = ada.post("/api/admin/users", json=new)
    assert made.status_code == 201
    assert "password" not in made.text
    assert ada.post("/api/admin/users", json=new).status_code == 409
    for wrong in ({"name": "a b"}, {"name": "dora", "password": "short"}, {"role": "king"}):
        refused = ada.post("/api/admin/users", json=new | {"name": "dora"} | wrong)
        assert refused.status_code == 400, wrong
        assert "short" not in refused.text
    with annotation_site.client(ada.app) as carl:
        sent = {"name": "carl", "password": "a long password"}
        assert carl.post("/login", data=sent).status_code == 303
        assert 'lang="th"' in carl.get("/annotate").text
        ada.patch("/api/admin/users/carl", json={"active": False})
        assert carl.get("/api/next").status_code == 401
    last = ada.patch("/api/admin/users/ada", json={"role": "annotator"})
    assert (last.status_code, "last open account" in message(last)) == (409, True)
    assert ada.patch("/api/admin/users/nobody", json={}).status_code == 404
    token = ada.post("/api/admin/users/anna/tokens", json={"label": "x"}).json()["token"]
    assert tokens.account_of_token(project, secret=token).name == "anna"
    (listed,) = ada.get("/api/admin/tokens").json()["items"]
    assert token not in json.dumps(listed)
    assert ada.delete(f"/api/admin/tokens/{listed['id']}").status_code == 204
    assert ada.get("/api/admin/tokens").json()["items"][0]["revoked"]


def test_texts_are_imported(ada: TestClient, tmp_path: Path) -> None:
    lines = "ข้อความใหม่\nแมวสองตัวนอนหลับอยู่\n".encode()
    done = ada.post("/api/admin/import?name=../../etc/new.txt&format=lines", content=lines)
    assert done.status_code == 201, done.text
    assert (done.json()["new"], done.json()["duplicate"]) == (1, 1)
    for content, query, said in (
        (b"", "name=a.txt&format=lines", ""),
        (b"\xff\xfe\x00", "name=a.jsonl", ""),
        (lines, "name=a.txt&format=word", "word"),
    ):
        refused = ada.post(f"/api/admin/import?{query}", content=content)
        assert refused.status_code == 400, refused.text
        assert said in message(refused)
        assert "attar-upload" not in message(refused)
    assert ada.post("/api/admin/import", content=b"x" * (5 * 2**20)).status_code == 413


def test_labels_and_the_whole_project_are_exported(ada: TestClient) -> None:
    with annotation_site.client(ada.app, "anna") as anna:
        given = anna.get("/api/next").json()
        anna.post("/api/annotations", json=annotation_site.answer(given))
    plain = ada.get("/api/admin/export?format=jsonl&arm=")
    (row,) = [json.loads(line) for line in plain.text.splitlines()]
    assert (row["text"], row["cuts"]) == (given["text"], [2])
    assert 'filename="labels-all.jsonl"' in plain.headers["content-disposition"]
    whole = ada.get("/api/admin/export?format=project")
    names = zipfile.ZipFile(io.BytesIO(whole.content)).namelist()
    assert "project.json" in names
    for query in ("format=word", "format=jsonl&arm=none"):
        refused = ada.get(f"/api/admin/export?{query}")
        assert refused.status_code == 400, query
    assert anna.get("/api/admin/export").status_code in (401, 403)


def test_curves_of_a_project_without_any(ada: TestClient) -> None:
    assert ada.get("/api/admin/curves").json()["points"] == []
    csv = ada.get("/api/admin/curves.csv")
    assert csv.text.startswith("arm,epoch,batch,sentences,characters")
    png = ada.get("/api/admin/curves.png?axis=seconds")
    assert (png.headers["content-type"], png.content[:4]) == ("image/png", b"\x89PNG")
    assert ada.get("/api/admin/curves.png?axis=beauty").status_code == 400


def test_curves_as_points_csv_picture_and_page(measured: TestClient) -> None:
    found = measured.get("/api/admin/curves").json()
    assert [(row["arm"], row["epoch"], row["batch"]) for row in found["points"]] == [
        *((arm, 0, batch) for arm in ("active", "random") for batch in (0, 1)),
        *((arm, 1, batch) for arm in ("active", "random") for batch in (2, 3)),
    ]
    assert all(row["low"] < row["word_f1"] < row["high"] for row in found["points"])
    gaps = {gap["axis"]: gap for gap in found["differences"]}
    assert gaps.keys() == {"characters", "decisions", "corrections", "seconds"}
    assert gaps["characters"]["value"] == pytest.approx(0.1)
    assert not gaps["characters"]["covers_zero"]
    rows = list(csv.DictReader(io.StringIO(measured.get("/api/admin/curves.csv").text)))
    assert [float(row["word_f1"]) for row in rows] == [row["word_f1"] for row in found["points"]]
    pictures = {measured.get(f"/api/admin/curves.png?axis={axis}").content for axis in gaps}
    assert len(pictures) == 4
    page = measured.get("/dashboard").text
    assert "active minus random, mean over equal cost: +0.1000" in page
    assert page.count("<figure>") == 4
    # charts number what changed around the labels, and the table says what each number means
    log = [one["kind"] for one in measured.get("/api/admin/events").json()["items"]]
    assert "account.change" in log
    marked = [kind for kind in log if kind != "account.change"]
    shown = re.findall(r'<td class="number">(\d*)</td><td>[^<]*</td><td>([a-z.]+)', page)
    assert [(number, kind) for number, kind in shown if number and kind in log] == [
        (str(number), kind) for number, kind in enumerate(marked, 1)
    ]


def test_agreement_of_people(measured: TestClient) -> None:
    rows = measured.get("/api/admin/agreement").json()["items"]
    assert [row["group"] for row in rows] == [
        {"arm": "active", "guideline": "g1"},
        {"arm": "random", "guideline": "g1"},
    ]
    assert [row["pairs"] for row in rows] == [3, 3]
    assert all(row["kappa"] < 1 for row in rows)
    (by_names,) = measured.get("/api/admin/agreement?by=annotators").json()["items"]
    assert by_names["group"] == {"annotators": "anna - boon"}
    assert by_names["pairs"] == 6
    assert measured.get("/api/admin/agreement?by=weather").status_code == 400
    assert "Krippendorff" in measured.get("/dashboard").text
