"""Options that `attar ngrams search` finds, and where they are taken from."""

import json
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import attar
import scene
import tiny
from attar import checkpoint
from attar.data.text import load_text
from attar.decode.generate import GenerateConfig
from attar.decode.ngrams import MergedStore, NGramStore
from attar.errors import AttarError
from attar.methods.superposed import (
    NGramSearchConfig,
    SuperposedConfig,
    SuperposedDecoder,
    tuned,
    tuned_for,
)
from attar.methods.superposed.search import _pieces
from attar.methods.superposed.tune import trial
from attar.report.record import Run
from attar.server.superposed import Superposed
from scene import run

FEW = NGramSearchConfig(
    drafts=2,
    max_new_tokens=3,
    prompts=5,
    prompt_tokens=6,
    alphas=(0.2, 0.9),
    temperatures=(0.01, 1.0),
)
TYPED = ["--drafts=2", "--max-new-tokens=3", "--prompts=5", "--prompt-tokens=6"]
TYPED += ["--alphas", "0.2,0.9", "--temperatures", "0.01,1.0"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, text, n-grams of it that were tuned for the model, and the record of that."""
    folder = tmp_path_factory.mktemp("home")
    text = scene.write_text(folder / "text")
    scene.write_parent(folder / "model", text)
    attar.ngrams.train(folder / "model", text, output_dir=folder / "store")
    attar.ngrams.search(
        folder / "store",
        text,
        target=folder / "model",
        config=FEW,
        output_dir=folder / "record",
    )
    return folder


def test_the_pair_is_the_one_whose_drafts_the_model_finds_likeliest(home: Path) -> None:
    found = Run.load(home / "record")
    options, trials = found.details["options"], found.details["trials"]
    paper = SuperposedConfig()
    assert {(one["alpha"], one["temperature"]) for one in trials} == {
        *((alpha, tau) for alpha in (0.2, 0.9) for tau in (0.01, 1.0)),
        (paper.alpha, paper.temperature),
    }
    assert [one["nll"] for one in trials] == sorted(one["nll"] for one in trials)
    assert (options["alpha"], options["temperature"]) == (
        trials[0]["alpha"],
        trials[0]["temperature"],
    )
    assert sum(options["lambdas"]) == pytest.approx(0.5)
    assert found.details["prompts"] == {"validation": 5, "test": 5}
    assert tuned(home / "store").alpha == options["alpha"]
    # the test split is scored as `tune` scores, with each of the options
    words, model = attar.load_tokenizer(home / "model"), attar.load(home / "model")
    decoder = SuperposedDecoder(model, words, store=NGramStore.load(home / "store"))
    pieces = _pieces(load_text(home / "text")["test"]["text"], words, config=FEW)
    assert all(6 <= len(piece) <= 64 for piece in pieces)
    prompts = [piece[:6] for piece in pieces]
    papers = SuperposedConfig(k=2, max_new_tokens=3, min_hit_rate=0)
    ways = {
        "tuned": replace(tuned(home / "store"), min_hit_rate=0),
        "paper": papers,
        "no n-grams": replace(papers, alpha=0.0),
    }
    for name, config in ways.items():
        one = trial(decoder, prompts, config=config, batch_size=8)
        row = found.quality["test"][name]
        assert (math.log(row["mean"]), math.log(row["best"])) == pytest.approx(
            (one.nll, one.best_nll)
        )
    for row in found.quality["test"].values():
        assert 1 <= row["best"] <= row["mean"]


def test_the_command_line_finds_what_python_does(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, model = str(home / "store"), str(home / "model")
    before = (home / "store" / "superposed.json").read_bytes()
    argv = ["ngrams", "search", store, "--target", model, "--data", str(home / "text"), *TYPED]
    assert run([*argv, "--json", str(tmp_path / "found.json")]) == 0
    said = capsys.readouterr().out
    assert "no n-grams" in said
    assert f"Next: attar generate {model} PROMPT --drafts 2 --store {store}" in said
    made, python = json.loads((tmp_path / "found.json").read_text()), Run.load(home / "record")
    assert made["quality"] == python.quality
    assert made["details"]["trials"] == python.details["trials"]
    assert (home / "store" / "superposed.json").read_bytes() == before
    recipe = tmp_path / "few.yaml"
    recipe.write_text(
        "verb: ngrams search\ndrafts: 2\nmax_new_tokens: 3\nprompts: 5\nprompt_tokens: 6\n"
        "alphas: [0.2, 0.9]\ntemperatures: [0.01, 1.0]\n",
        encoding="utf-8",
    )
    again = attar.ngrams.search(
        store, home / "text", target=model, config=str(recipe), output_dir=tmp_path / "again"
    )
    assert again.quality == python.quality


def test_generate_and_serve_take_what_was_tuned(home: Path) -> None:
    best = tuned(home / "store")
    assert (best.alpha, best.temperature) != (0.54, 0.06)
    words, model = attar.load_tokenizer(home / "model"), attar.load(home / "model")
    store = NGramStore.load(home / "store", tokenizer=words)
    few = GenerateConfig(max_new_tokens=4)

    def said(config: SuperposedConfig) -> list[tuple[str, float]]:
        decoder = SuperposedDecoder(model, words, config=config, store=store)
        return [(draft.text, draft.score) for draft in decoder.generate("def return").drafts]

    def drafts(**more: Any) -> list[tuple[str, float]]:
        made = attar.generate(
            home / "model", "def return", drafts=3, store=home / "store", config=few, **more
        )
        found = made.details["drafts"][0]["drafts"]
        return [(draft["text"], draft["score"]) for draft in found]

    default = SuperposedConfig(max_new_tokens=4)
    mine = replace(default, alpha=best.alpha, temperature=best.temperature, lambdas=best.lambdas)
    assert said(mine) != said(default)
    assert drafts() == said(mine)
    assert drafts(superposed=SuperposedConfig(tuned=False)) == said(default)
    # what is set goes first
    assert drafts(superposed=SuperposedConfig(alpha=0.3)) == said(replace(mine, alpha=0.3))
    made = attar.generate(home / "model", "def", drafts=3, store=home / "store", config=few)
    assert made.details["options"]["alpha"] == best.alpha
    served = Superposed(model, words, store=store)._decoder.config
    assert (served.alpha, served.temperature, served.lambdas) == (
        best.alpha,
        best.temperature,
        best.lambdas,
    )
    assert served.k == 3  # and nothing else of it


def test_what_was_tuned_for_another_model_or_store_is_left_out_in_words(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words, model = attar.load_tokenizer(home / "model"), attar.load(home / "model")
    store = NGramStore.load(home / "store")
    default = SuperposedConfig()
    assert tuned_for(model, store, config=default) != default
    assert tuned_for(model, MergedStore([store]), config=default) == default
    assert tuned_for(model, None, config=default) == default
    other = tiny.model(vocab_size=len(words), seed=1)
    with caplog.at_level(logging.WARNING):
        assert tuned_for(other, store, config=default) == default
    assert "was tuned for another model and is left out" in caplog.text
    attar.ngrams.train(words, home / "text", order=3, output_dir=tmp_path / "store")
    (tmp_path / "store" / "superposed.json").write_bytes(
        (home / "store" / "superposed.json").read_bytes()
    )
    with caplog.at_level(logging.WARNING):
        assert tuned_for(model, NGramStore.load(tmp_path / "store"), config=default) == default
    assert "was tuned for another store" in caplog.text
    (tmp_path / "store" / "superposed.json").write_text("{")
    with pytest.raises(AttarError, match="tuned options"):
        tuned_for(model, NGramStore.load(tmp_path / "store"), config=default)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["STORE", "--target", "MODEL", "--alphas", "0"], "alphas must be one or more, each above"),
        (["STORE", "--target", "MODEL", "--temperatures", "0"], "temperatures must be"),
        (["STORE", "--target", "MODEL", "--prompts", "0"], "prompts must be at least 1"),
        (["STORE", "--target", "MODEL", "--prompt-tokens", "9000"], "lower prompt_tokens"),
        (["STORE", "--target", "absent"], "absent"),
        (["MODEL", "--target", "MODEL"], "no meta.json in"),
        (["STORE"], "--target"),
        (["STORE", "--target", "OTHER"], "found those of another"),
    ],
)
def test_mistakes_are_one_sentence(
    home: Path,
    tmp_path: Path,
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = {"STORE": str(home / "store"), "MODEL": str(home / "model")}
    named["OTHER"] = str(home / "other")
    if "OTHER" in words and not (home / "other").exists():
        text = scene.write_text(home / "text2", seed=5)
        scene.write_parent(home / "other", text)
        checkpoint.load_tokenizer(home / "other").save_pretrained(home / "other")
    kept = (home / "store" / "superposed.json").read_bytes()
    argv = ["ngrams", "search", *(named.get(word, word) for word in words)]
    assert run([*argv, "--data", str(home / "text"), "-o", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
    assert (home / "store" / "superposed.json").read_bytes() == kept
