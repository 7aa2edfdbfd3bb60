"""What annotators get says nothing of arms, scores, ranks or other people's answers."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import annotation_site
from attar.annotate import schemas

#: names of fields that would give it away
TELLING = {
    *("arm", "arms", "score", "scores", "rank", "strategy", "batch", "model", "prefill_model"),
    *("probability", "uncertainty", "pool_size", "snapshot", "annotator", "author", "user"),
    *("gold", "kind", "needed", "round", "order", "sentence", "uid", "others", "answers"),
}
#: the lines of a comparison of guidelines have a kind; a reviewer decides between answers
ALLOWED = {("Line", "kind"), ("ReviewOut", "answers")}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Any]:
    with annotation_site.make_project(tmp_path / "p", needed=2) as project:
        yield annotation_site.application(project)


def own_routes(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The routes that are open to annotators and reviewers."""
    return {
        f"{method} {path}": operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if path.startswith("/api/") and not path.startswith("/api/admin/")
    }


def test_no_schema_of_a_response_has_a_field_that_tells(app: Any) -> None:
    document = app.openapi()
    routes = own_routes(document)
    assert len(routes) == 11
    named = document["components"]["schemas"]

    def fields(schema: Any, name: str) -> Iterator[tuple[str, str]]:
        if isinstance(schema, list):
            for one in schema:
                yield from fields(one, name)
        elif isinstance(schema, dict):
            if "$ref" in schema:
                name = schema["$ref"].rpartition("/")[2]
                yield from fields(named[name], name)
            yield from ((name, field) for field in schema.get("properties", {}))
            assert not schema.get("additionalProperties"), name  # anything could be in there
            for key, one in schema.items():
                if key != "$ref":
                    yield from fields([*one.values()] if key == "properties" else one, name)

    for route, operation in routes.items():
        good = [one for status, one in operation["responses"].items() if status in ("200", "201")]
        for response in good:
            schema = response["content"]["application/json"]["schema"]
            assert "$ref" in schema, route  # nothing goes out unfiltered
            found = set(fields(schema, route))
            told = {(of, name) for of, name in found if name in TELLING} - ALLOWED
            assert told == set(), route
            if "review" not in route:
                assert ("ReviewOut", "answers") not in found


def test_no_response_to_an_annotator_tells(app: Any) -> None:
    with annotation_site.client(app, "boon") as boon:
        given = boon.get("/api/next").json()
        body = annotation_site.answer(given, cuts=[4])
        assert boon.post("/api/annotations", json=body).status_code == 201
        boon.post(f"/api/annotations/{body['id']}/void", json={"id": body["id"][::-1]})
    said: dict[str, str] = {}
    with annotation_site.client(app, "anna") as anna:

        def ask(method: str, path: str, **sent: Any) -> Any:
            response = anna.request(method, path, **sent)
            said[f"{method} {path}"] = f"{response.text} {dict(response.headers)}"
            return response

        for step in range(3):
            given = ask("GET", "/api/next").json()
            draft = {"cuts": [2], "active_ms": 5}
            ask("PUT", f"/api/drafts/{given['task']}", json=draft)
            ask("POST", f"/api/leases/{given['lease']['id']}/beat")
            body = annotation_site.answer(given)
            ask("POST", "/api/annotations", json=body)
            ask("POST", "/api/annotations", json=body | {"cuts": [step + 3]})
        given = ask("GET", "/api/next").json()
        ask("POST", f"/api/tasks/{given['task']}/skip", json={"id": body["id"]})
        for path in ("/api/history", "/api/guideline", "/api/review/next", "/api/admin/status"):
            ask("GET", path)
        for path in ("/", "/annotate", "/history", "/guideline", "/dashboard", "/nothing"):
            ask("GET", path, headers={"accept": "text/html"})
    assert len(said) > 15
    for route, text in said.items():
        assert not re.search(r"secret-|0\.98765|boon", text), route
        assert not re.search(r"""["'>](random|active|overlap|control|arm)["'<]""", text), route


def test_a_reviewer_sees_answers_and_no_names(app: Any, tmp_path: Path) -> None:
    fields = schemas.Proposal.model_fields.keys()
    assert fields == {"cuts", "decided"}
    with annotation_site.client(app, "rita") as rita:
        assert json.loads(rita.get("/api/review/next").text)["answers"] == []
        assert "answers" not in rita.get("/api/next").json()


def test_places_are_asked_about_in_an_order_that_says_nothing(tmp_path: Path) -> None:
    asked = dict.fromkeys(annotation_site.TEXTS, (2, 3, 8))
    people = {"anna": "annotator"}
    orders = []
    with (
        annotation_site.make_project(tmp_path / "p", asked=asked, people=people) as project,
        annotation_site.client(annotation_site.application(project), "anna") as anna,
    ):
        for _ in asked:
            given = anna.get("/api/next").json()
            assert anna.get("/api/next").json()["candidates"] == given["candidates"]
            orders.append(tuple(given["candidates"]))
            body = annotation_site.answer(given, cuts=[2], decided=[2, 3, 8])
            assert anna.post("/api/annotations", json=body).status_code == 201
    assert {tuple(sorted(order)) for order in orders} == {(2, 3, 8)}
    assert len({*orders}) > 1
