"""Pages and cards are whole, escaped, and tell no local paths."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from attar.errors import ConfigError
from attar.report.pages import html_report, model_card
from attar.report.record import Paper, Run
from markup import Page
from records import HOSTILE, make


def test_html_report_is_whole_escaped_and_needs_no_network(tmp_path: Path) -> None:
    hostile = make(HOSTILE, model=HOSTILE, settings={HOSTILE: HOSTILE}, data=HOSTILE)
    path = html_report([make(), hostile], tmp_path / "new" / "r.html", title=HOSTILE)
    assert [file.name for file in path.parent.iterdir()] == ["r.html"]
    text = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert "script" not in page.tags
    assert all(address.startswith("#") for address in page.fetched)
    assert "url(http" not in text
    assert "@import" not in text
    assert text.count("<svg") >= 4
    assert "prefers-color-scheme: dark" in text
    assert "budget met" in text
    with pytest.raises(ConfigError, match="cannot write"):
        html_report([make()], path / "below" / "r.html")


def card_parts(text: str) -> tuple[dict[str, Any], str]:
    _, header, body = text.split("---\n", 2)
    return yaml.safe_load(header), body


def test_model_card_header_is_what_the_hub_expects() -> None:
    text = model_card(make(), license="apache-2.0", tags=["pruned"], datasets=["a/b"])
    header, body = card_parts(text)
    assert header == {
        "library_name": "transformers",
        "base_model": "someone/parent-1m",
        "base_model_relation": "finetune",
        "license": "apache-2.0",
        "pipeline_tag": "text-generation",
        "datasets": ["a/b"],
        "tags": ["attar", "bonsai", "pruned"],
    }
    assert ModelCard(text).data.to_dict()["base_model"] == "someone/parent-1m"
    assert "AutoModelForCausalLM.from_pretrained" in body
    assert "eprint = {2402.05406}" in body
    assert "| bytes | 4 MB | 2 MB | 0.50 |" in body
    assert "random" in body
    quantised = model_card(make(model="someone/parent-GGUF:parent-Q8_0.gguf"))
    assert card_parts(quantised)[0]["base_model"] == "someone/parent-GGUF"


def test_a_model_card_takes_over_what_its_parents_card_says(tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    run = make(model=str(tmp_path / "half"), data="someone/books")
    assert "license" not in card_parts(model_card(run))[0]
    (tmp_path / "half" / "README.md").write_text("---\nlicense: [\n---\nnot a card")
    assert "license" not in card_parts(model_card(run))[0]
    parent = model_card(make(data="a/b"), license="llama3")
    (tmp_path / "half" / "README.md").write_text(parent, encoding="utf-8")
    text = model_card(run)
    card = ModelCard(text)
    assert card.data.to_dict() == {
        "library_name": "transformers",
        "base_model": "someone/parent-1m",
        "base_model_relation": "finetune",
        "license": "llama3",
        "pipeline_tag": "text-generation",
        "datasets": ["someone/books"],
        "tags": ["attar", "bonsai"],
    }
    assert "Made from **half**" in card.text
    for data in ("python-stdlib", "python-stdlib:package", str(tmp_path), "a data set of 3 rows"):
        assert "datasets" not in card_parts(model_card(make(data=data)))[0]
    (tmp_path / "half" / "README.md").write_text("# Only text")
    assert card_parts(model_card(run))[0].keys() & {"license", "base_model"} == set()


def test_model_card_tells_no_local_paths_and_keeps_markup_out(tmp_path: Path) -> None:
    run = make(model=str(tmp_path / "parent-1m"), data=str(tmp_path / "text.jsonl"))
    text = model_card(run, plain=False)
    assert str(tmp_path) not in text
    assert "base_model" not in card_parts(text)[0]
    assert "import attar" in text
    hostile = model_card(make(HOSTILE, model="x: [y\n---\n" + HOSTILE))
    assert isinstance(card_parts(hostile)[0], dict)
    assert "<script>" not in hostile.replace("\\<script\\>", "")


def test_only_addresses_of_the_web_are_links(tmp_path: Path) -> None:
    bad = make(paper=Paper("A", "B", 2024, url="javascript:alert(1)"))
    assert 'href="javascript:' not in html_report([bad], tmp_path / "r.html").read_text()


def test_networks_of_a_search_are_drawn(tmp_path: Path) -> None:
    points = [[str(n), 1000 * n, 5 - n / 10] for n in range(1, 80)]
    chart = {"x": "parameters", "y": "held-out loss", "points": points}
    page = html_report([Run("supernet search", details={"chart": chart})], tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    assert "Networks, by size and loss" in text
    assert text.count("<svg") == 1
    wrong: list[Any] = [5, {}, {"points": 5}, {"points": []}, {"points": [["1", "2", 3]]}]
    wrong += [{"points": [["1", float("nan"), 3]]}, {"points": points * 200}]
    for one in wrong:
        html_report([Run("supernet search", details={"chart": one})], page)
        assert "<svg" not in page.read_text(encoding="utf-8")
