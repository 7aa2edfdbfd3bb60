"""Profiles: predictions follow from the parts, and races count what decoding does."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

import decoders
from attar.decode import timer
from attar.decode.bench import Profile, profile
from attar.decode.drafters import PromptLookupDrafter
from attar.decode.race import Race, Written, race
from attar.decode.settings import SpecConfig
from attar.decode.stats import SpecStats
from attar.decode.timer import Times
from attar.errors import ConfigError

PROMPTS = [[5, 9, 33, 5], [7, 8, 7, 8]]


@pytest.fixture(autouse=True)
def few_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the timings are does not matter here."""
    monkeypatch.setattr(timer, "TURNS", 1)


def pair(family: str = "llama") -> tuple[Any, Any]:
    make = decoders.encoder_decoder if family == "t5" else lambda: decoders.model_of(family)
    target, draft = make(), make()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in draft.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return target, draft


def test_the_time_of_a_block_is_that_of_its_parts() -> None:
    times = Times(plain=1.0, verify={1: 1.0, 3: 1.2, 5: 2.0}, draft=0.1, other=0.05)
    assert times.cost == 0.1
    assert times.block(2) == pytest.approx(0.2 + 1.2 + 0.05)
    assert times.block(3) == pytest.approx(0.3 + 1.6 + 0.05)


@pytest.mark.parametrize(("temperature", "family"), [(0.0, "llama"), (1.0, "llama"), (0.0, "t5")])
def test_a_profile(temperature: float, family: str) -> None:
    target, draft = pair(family)
    found = profile(
        target,
        draft,
        prompts=PROMPTS,
        temperature=temperature,
        max_new_tokens=8,
        lengths=(1, 2, 3),
        rounds=1,
    )
    assert 0 < found.alpha <= 1
    assert [one.length for one in found.estimates] == [1, 2, 3]
    efficiencies = [one.block_efficiency for one in found.estimates]
    assert efficiencies == sorted(efficiencies)
    assert all(1 <= one.block_efficiency <= one.length + 1 for one in found.estimates)
    for one in found.estimates:
        c = found.times.cost
        assert one.published == pytest.approx(one.block_efficiency / (c * one.length + 1))
        expected = one.block_efficiency * found.times.plain / found.times.block(one.length)
        assert one.predicted == pytest.approx(expected)
    constant, cost = found.races
    assert (constant.policy, cost.policy) == (str(found.best.length), "cost")
    if temperature:
        assert constant.equal is None
    else:
        assert constant.equal == cost.equal == 1
        assert constant.margin == cost.margin == 0
        assert constant.block_efficiency == pytest.approx(found.best.block_efficiency)
    assert constant.speedup > 0
    stored = found.to_dict()
    assert stored["best"] == found.best.length
    assert stored["times"]["verify"][1] > 0


def test_parts_are_timed_before_and_beside_the_races(monkeypatch: pytest.MonkeyPatch) -> None:
    target, draft = pair()
    write, written = timer.generate_one, []

    def clocked(*args: Any, tokens: int, decoder: Any = None, **options: Any) -> Any:
        """Plain decoding takes a second a token at first, and one more at every visit."""
        if decoder is not None:
            return write(*args, tokens=tokens, decoder=decoder, **options)
        written.append(tokens)
        visit = 1 + (len(written) - 1) // 4  # short, long, short, long
        return Written([], seconds=float(visit * (tokens - 1)), stats=SpecStats())

    monkeypatch.setattr(timer, "generate_one", clocked)
    found = profile(
        target,
        draft,
        prompts=PROMPTS,
        temperature=0.0,
        max_new_tokens=4,
        lengths=(1, 2),
        rounds=2,
    )
    assert written == [1, 5, 1, 5] * 3  # one of two prompts, before and in each of two rounds
    assert found.times.plain == pytest.approx(2)
    for one in found.estimates:
        assert one.predicted == pytest.approx(
            one.block_efficiency * 2 / found.times.block(one.length)
        )


def test_a_draft_that_is_the_target_is_seen() -> None:
    target, _ = pair()
    found = profile(
        target, target, prompts=PROMPTS, temperature=0.0, max_new_tokens=9, lengths=(2,), rounds=0
    )
    assert found.alpha == 1
    assert found.best.block_efficiency == 3
    assert found.acceptance == [1, 1]
    assert not found.races


def test_a_lossy_text_that_differs_is_told() -> None:
    target, draft = pair()
    lossy = SpecConfig(policy="constant", draft_tokens=4, lossy="lin", epsilon=1e-6)
    (found,) = race(
        target,
        draft,
        prompts=PROMPTS,
        policies=[lossy],
        temperature=0.0,
        max_new_tokens=12,
        rounds=1,
    )
    assert found.equal is not None
    assert found.equal < 1
    assert found.margin
    assert found.margin > 0
    assert found.block_efficiency >= 4


def test_other_drafters_race_too() -> None:
    target, _ = pair()
    policies = [SpecConfig(policy="constant")]
    (found,) = race(
        target,
        PromptLookupDrafter(),
        prompts=PROMPTS,
        policies=policies,
        temperature=0.0,
        max_new_tokens=12,
        rounds=1,
    )
    assert found.policy == "5"
    assert found.equal == 1


def test_a_profile_ends_with_its_verdict() -> None:
    target, draft = pair()
    found = profile(
        target, draft, prompts=PROMPTS, temperature=0.0, max_new_tokens=8, lengths=(1, 2), rounds=0
    )
    race = Race("2", 1.2, 1.2, 1.3, 2.5, equal=1.0, margin=0.0)
    text = replace(found, races=[race]).text()
    assert text.endswith("Drafting pays here: 1.20 times plain decoding.")
    assert "drafts of 2: 1.20 times" in text
    table = text.split("\n\n")[1]
    assert max(map(len, table.splitlines())) <= 80
    assert "block efficiency 2.50, 100% of the texts identical" in text
    stored = json.loads(json.dumps(replace(found, races=[race]).to_dict()))
    assert Profile.from_dict(stored) == replace(found, races=[race])
    lossy = replace(found, races=[replace(race, speedup=0.98)]).text("lin")
    assert lossy.endswith("Drafting makes no difference here: 0.98 times plain decoding.")
    assert "lossy verification (lin)" in lossy
    assert f"{found.best.predicted:.2f} times plain decoding." in found.text()


def test_nothing_to_measure_is_told() -> None:
    target, draft = pair()
    with pytest.raises(ConfigError, match="at least one prompt"):
        profile(target, draft, prompts=[], temperature=0.0)
