"""The annotation service for tests: a small project, people, and the service over both."""

import hashlib
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from attar.web import pages
from attar.web.app import WebConfig
from attar.web.running import Server

STATIC = Path(str(files("attar"))) / "annotate" / "static"
PASSWORD = "correct horse"
PEOPLE = {"anna": "annotator", "boon": "annotator", "rita": "reviewer", "ada": "admin"}
TEXTS = (
    "การเปลี่ยนแปลงครั้งใหญ่",
    "ฉันชอบกินข้าวผัดกุ้ง",
    "เขาไปตลาดทุกวันเสาร์",
    "วันนี้อากาศดีมาก😀เลย",
    "น้ำแข็งละลาย\u200bหมดแล้ว",
    "แมวสองตัวนอนหลับอยู่",
)
GUIDELINE = "Cut where a word begins.\nKeep names whole.\n"


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """An application behind a socket, in a thread of this process; gives its URL."""
    ready = threading.Event()
    server = Server(app, host="127.0.0.1", port=0, grace=1, ready=lambda url: ready.set())
    thread = threading.Thread(target=server.serve_until_stopped)
    thread.start()
    assert ready.wait(20)
    yield server.url
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def files_only() -> FastAPI:
    """The scripts without a service behind them."""
    app = FastAPI()
    names = {f"/static/{file.name}": file.name for file in STATIC.iterdir()}
    app.include_router(pages.router(STATIC, names))
    return app


def make_project(
    folder: Path,
    *,
    texts: Sequence[str] = TEXTS,
    asked: Mapping[str, Sequence[int]] | None = None,
    people: Mapping[str, str] = PEOPLE,
    needed: int = 1,
    read: bool = True,
    **settings: Any,
) -> Any:
    """A project whose texts were drawn for both arms in turn, with a task for each.

    Args:
        folder: a new one.
        texts: of the corpus.
        asked: text -> the only offsets that are asked about.
        people: name -> role; all have the same password.
        needed: answers of each task.
        read: they have read the guideline.
        settings: of the project.
    """
    from attar.annotate import accounts, corpus
    from attar.annotate.opening import create_project
    from attar.annotate.settings import AnnotateConfig
    from attar.annotate.tables import BatchRow, PickRow
    from attar.annotate.tasks import NewTask, ask
    from attar.data.segments.cuts import Segmented
    from attar.methods.active_segmentation.arms import uid

    own = AnnotateConfig(
        **({"reserve_fraction": 0.0, "reserve_minimum": 0, "control_share": 0.0} | settings)
    )
    project = create_project(folder, guideline=GUIDELINE, settings=own, name="Thai words")
    corpus.add(project, [Segmented(text, cuts=(), decided=()) for text in texts])
    for name, role in people.items():
        accounts.add_user(project, name=name, role=role, password=PASSWORD)
        if read:
            accounts.acknowledge(project, annotator=name, guideline="g1")
    batch: dict[str, Any] = {"strategy": "secret-strategy", "model": "secret-model"}
    batch |= {"snapshot": "s1", "pool_size": len(texts)}
    with project.write() as session:
        for arm in ("random", "active"):
            made = BatchRow(arm=arm, number=0, settings={}, sequence=0, created=0.0, **batch)
            session.add(made)
        for i, text in enumerate(texts):
            positions = (asked or {}).get(text)
            task = NewTask(
                uid(text),
                "arm",
                needed=needed,
                order=i,
                positions=None if positions is None else tuple(positions),
            )
            (name,) = ask(session, [task], seed=13, now=0.0)
            pick: dict[str, Any] = {
                "sentence": uid(text),
                "task": name,
                "rank": i,
                "score": 0.987654,
            }
            arm = ("random", "active")[i % 2]
            session.add(
                PickRow(arm=arm, batch=0, probability=None, positions=positions, **pick, **batch)
            )
    return project


@contextmanager
def opened(folder: Path, copy: Path) -> Iterator[Any]:
    """A copy of a project, which stays as it is."""
    from attar.annotate.opening import open_project

    shutil.copytree(folder, copy)
    with open_project(copy) as project:
        yield project


def copied(project: Any, folder: Path) -> Any:
    """The same of a project that was opened before."""
    return opened(project.folder, folder)


def application(project: Any, **web: Any) -> FastAPI:
    """The service over a project."""
    from attar.annotate.app import application

    config = WebConfig(**({"cookies": True} | web))
    return application(project, web=config, registry=CollectorRegistry())


@contextmanager
def client(app: Any, name: str | None = None) -> Iterator[TestClient]:
    """A browser's worth of client, logged in as somebody."""
    where: dict[str, Any] = {"base_url": "http://localhost:8000", "follow_redirects": False}
    with TestClient(app, raise_server_exceptions=False, **where) as made:
        if name is not None:
            log_in(made, name)
        yield made


def log_in(client: TestClient, name: str, *, password: str = PASSWORD) -> Any:
    """Log in as the page does; later requests carry the CSRF token."""
    response = client.post("/login", data={"name": name, "password": password})
    if response.status_code == 303:
        page = client.get("/guideline").text
        token = page.partition('name="csrf" content="')[2].partition('"')[0]
        client.headers["x-csrf-token"] = token
    return response


def answer(given: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """An answer to what `/api/next` gave, as the editor sends it."""
    digest = hashlib.sha256(given["text"].encode()).hexdigest()
    body = {"id": str(uuid.uuid4()), "task": given["task"], "text_sha": digest}
    body |= {"cuts": [2], "guideline": given["guideline"]["version"], "active_ms": 1200}
    body["events"] = [{"ms": 500, "kind": "toggle", "at": 2}]
    return body | changes


def answer_all(client: TestClient, cuts: Mapping[str, Sequence[int]]) -> int:
    """Answer what comes, until nothing does; how many it was."""
    count = 0
    while (given := client.get("/api/next").json())["task"] is not None:
        body = answer(given, cuts=list(cuts.get(given["text"], ())))
        assert client.post("/api/annotations", json=body).status_code == 201
        count += 1
    return count


def measure(project: Any) -> None:
    """Two people answer everything, and training runs leave points: in each of two epochs two of
    each arm, the active one ahead by a tenth."""
    import numpy as np

    from attar.annotate import acts, answers, events, queue
    from attar.annotate.points import add_points
    from attar.annotate.tables import Job
    from attar.methods.active_segmentation.events import Event
    from attar.methods.active_segmentation.points import Costs, Point

    for name, cut in (("anna", 2), ("boon", 3)):
        while (given := queue.next_task(project, annotator=name)) is not None:
            body = answers.Answer(
                id=str(uuid.uuid4()),
                task=given.task,
                text_sha=acts.text_digest(given.text),
                cuts=(cut, 8),
                guideline=given.guideline,
                active_ms=60_000,
            )
            answers.submit(project, annotator=name, answer=body)
    events.log_event(project, Event(kind="evalset.change", author="ada"))
    tests = tuple(f"test{i}" for i in range(40))
    for batch in range(4):
        points = []
        for arm, ahead in (("random", 0), ("active", 2)):
            right = np.array([[10.0 + batch + ahead - i % 2, 20, 20] for i in range(40)])
            score = float(right[:, 0].sum() / 800)
            cost = 100 * (batch + 1)
            costs = Costs(5 * (batch + 1), cost, cost, cost // 4, cost / 10, float(cost))
            made = Point(arm, costs, {"word_f1": score}, counts=right, test=tests)
            points.append(replace(made, epoch=batch // 2, batch=batch))
        with project.write() as session:
            job = Job(kind="train", state="done", reason="", step="", error="", asked=0.0)
            session.add(job)
            session.flush()
            add_points(session, points, run=job.id)
