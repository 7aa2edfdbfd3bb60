"""The files of the playground, without a browser."""

import re

import pytest

import served
from attar.server.app import PLAYGROUND

TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@pytest.mark.parametrize("keys", [[], ["secret"]])
def test_the_page_needs_no_key_and_may_load_nothing_from_elsewhere(keys: list[str]) -> None:
    with served.serving(keys=keys) as (client, _):
        for path, name in PLAYGROUND.items():
            response = client.get(path)
            assert response.status_code == 200, path
            assert response.headers["content-type"] == TYPES[name.rpartition(".")[2]]
            policy = response.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; ")
            assert "unsafe" not in policy
            assert "http" not in policy
            assert response.headers["x-content-type-options"] == "nosniff"
            head = client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == str(len(response.content))
            outside = re.sub(r'xmlns="[^"]+"', "", response.text)
            assert not re.search(r"https?://|style=|onclick|innerHTML", outside)
            assert client.post(path).status_code == 405
        assert client.get("/v1/models").status_code == (401 if keys else 200)
        assert client.get("/playground/app.py").status_code == (401 if keys else 404)
        known = {"authorization": "Bearer secret"}
        assert "playground" not in client.get("/openapi.json", headers=known).text
        assert 'route="/playground/page.js"' in client.get("/metrics", headers=known).text


def test_the_page_keeps_to_the_hosts_of_the_server() -> None:
    with served.serving() as (client, _):
        assert client.get("/", headers={"host": "page.example"}).status_code == 403


def test_the_page_names_all_of_its_files() -> None:
    """Each is served, and is loaded by another of them."""
    with served.serving() as (client, _):
        texts = {path: client.get(path).text for path in PLAYGROUND}
    for path in PLAYGROUND.keys() - {"/"}:
        name = path.rpartition("/")[2]
        assert any(name in text for other, text in texts.items() if other != path), path
