"""Options that are fitted, and how linear a model is."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import characters
import tiny
from attar.decode.ngram_evaluation import likeliest_weights
from attar.errors import ConfigError, DataError
from attar.methods.superposed import SuperposedConfig, SuperposedDecoder, linearity, tune, tuned
from attar.methods.superposed.tune import fit_lambdas
from counted import Counted

WORDS = characters.letters()
TEXT = "the cafe has more text and the text has more words than the cafe " * 2
IDS = WORDS(TEXT)["input_ids"]
CONFIG = SuperposedConfig(heal=False, max_new_tokens=3, temperature=0.5)


def test_weights_of_a_mixture_are_found_again() -> None:
    draw = np.random.default_rng(0)
    parts = draw.dirichlet(np.ones(8), size=3)  # distributions of three sources
    chosen = np.array([0.6, 0.3, 0.1])
    tokens = draw.choice(8, size=40_000, p=chosen @ parts)
    assert likeliest_weights(parts[:, tokens].T) == pytest.approx(chosen, abs=0.03)


def test_weights_follow_the_n_grams_that_know_the_text() -> None:
    store = Counted([IDS], order=4)
    weights = fit_lambdas(store, [IDS], orders=5)
    assert len(weights) == 3
    assert sum(weights) == pytest.approx(0.5)
    assert weights[2] > weights[1] > weights[0]  # text that was seen: the longest know it best
    with pytest.raises(ConfigError, match="of which the store knows anything"):
        fit_lambdas(Counted([[5, 5]]), [[7, 8, 9]], orders=5)


def test_the_pair_wins_whose_drafts_the_model_finds_likeliest(tmp_path: Path) -> None:
    model = tiny.model(eos_token_id=None).double()
    decoder = SuperposedDecoder(model, WORDS, config=CONFIG, store=Counted([IDS]))
    texts = [TEXT[:30], TEXT[40:75], "too short"]
    found = tune(decoder, texts, alphas=(0.2, 0.8), temperatures=(0.1, 1.0))
    assert len(found.trials) == 5
    assert [one.nll for one in found.trials] == sorted(one.nll for one in found.trials)
    assert all(one.best_nll <= one.nll for one in found.trials)
    best = found.trials[0]
    assert (found.config.alpha, found.config.temperature) == (best.alpha, best.temperature)
    # the mean of what a pass over each draft says
    config = replace(found.config, rescore="exact", min_hit_rate=0)
    again = SuperposedDecoder(model, WORDS, config=config, store=Counted([IDS]))
    means = []
    for text in texts[:2]:
        prompt = WORDS(text)["input_ids"][:15]
        rows, _ = again.search(again.reader(1), [again.prompt(prompt)], config=config)
        for draft in rows[0].alive:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([[*prompt, *draft.tokens]])).logits[0]
            picked = logits.log_softmax(-1)[torch.arange(14, 17), list(draft.tokens)]
            means.append(-float(picked.mean()))
    assert best.nll == pytest.approx(np.mean(means))
    stored = json.loads(found.save(tmp_path).read_text())
    assert len(stored["trials"]) == 5
    assert stored["hashes"]["tokenizer"] == Counted.fingerprint
    assert tuned(tmp_path) == found.config
    with pytest.raises(DataError, match="tuned options"):
        tuned(tmp_path / "none")
    with pytest.raises(ConfigError, match="give the decoder a store"):
        tune(SuperposedDecoder(model, WORDS), texts)
    with pytest.raises(ConfigError, match="some of at least 15 tokens"):
        tune(decoder, ["short"])


def test_options_stay_as_they_are_where_nothing_is_better() -> None:
    decoder = SuperposedDecoder(
        tiny.model(eos_token_id=None).double(), WORDS, config=CONFIG, store=Counted([IDS])
    )
    texts = [TEXT[:30], TEXT[40:75]]
    grid = tune(decoder, texts, alphas=(0.2, 0.8), temperatures=(0.1, 1.0)).trials
    best, worst = grid[0], grid[-1]
    own = SuperposedDecoder(
        decoder.model,
        WORDS,
        config=replace(
            CONFIG, alpha=best.alpha, temperature=best.temperature, lambdas=best.lambdas
        ),
        store=Counted([IDS]),
    )
    found = tune(own, texts, alphas=(worst.alpha,), temperatures=(worst.temperature,))
    assert found.config == own.config
    assert found.trials[0] == best


def test_how_linear_a_model_is() -> None:
    model = tiny.model(eos_token_id=None)
    decoder = SuperposedDecoder(model, WORDS, config=CONFIG)
    found = linearity(decoder, [IDS[:12], IDS[20:27]], steps=5)
    assert [one.step for one in found] == [1, 2, 3, 4, 5]
    assert all(-1 <= one.hidden < 1 and -1 <= one.logits < 1 for one in found)
    assert all(0 <= one.overlap <= 1 for one in found)
    # the first mixture, read without a cache
    given = IDS[:12]
    rows, _ = decoder.search(
        decoder.reader(1), [decoder.prompt(given)], config=replace(CONFIG, max_new_tokens=1)
    )
    drafts = rows[0].alive
    gamma = torch.tensor([draft.score for draft in drafts]).softmax(0)
    table = model.get_input_embeddings().weight  # pyright: ignore[reportAttributeAccessIssue]
    mixed = (gamma[:, None] * table[[draft.tokens[0] for draft in drafts]]).sum(0)
    texts = torch.stack([table[[*given, draft.tokens[0]]] for draft in drafts])
    with torch.no_grad():
        whole = torch.cat([torch.cat([table[given], mixed[None]])[None], texts])
        read = model(inputs_embeds=whole, output_hidden_states=True)
    (first, *_) = linearity(decoder, [given], steps=1)
    for figure, every in ((first.hidden, read.hidden_states[-1]), (first.logits, read.logits)):
        ours, *theirs = every[:, -1]
        parts = (gamma[:, None] * torch.stack(theirs)).sum(0)
        cosine = torch.nn.functional.cosine_similarity(ours, parts, dim=0)
        assert figure == pytest.approx(float(cosine), abs=1e-4)
    # one draft is no mixture
    single = SuperposedDecoder(model, WORDS, config=replace(CONFIG, k=1))
    for one in linearity(single, [IDS[:12]], steps=5):
        assert [one.hidden, one.logits, one.overlap] == pytest.approx([1, 1, 1])
    assert not math.isnan(found[0].hidden)
