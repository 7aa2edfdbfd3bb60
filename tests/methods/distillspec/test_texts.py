"""Who writes the texts of a step, and that nothing depends on chance."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from attar.data.prompts import Prompt
from attar.decode.sampling import sample
from attar.errors import ConfigError
from attar.methods.distillspec.config import TextSource
from attar.methods.distillspec.texts import OnPolicySampler, Prompts
from drafts import CONFIG, PROMPTS, pair


def test_the_source_is_drawn_for_each_step() -> None:
    target, draft = pair()
    config = replace(CONFIG, draft_share=0.5, target_share=0.25)
    sampler = OnPolicySampler(target, PROMPTS, config=config, stops=[2])
    sources = [sampler.source(step) for step in range(400)]
    shares = [sources.count(source) / 400 for source in get_args(TextSource)]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.08)
    rows = torch.tensor([0, 5, 3])
    for step, source in enumerate(sources[:12]):
        batch = sampler(draft, {"rows": rows}, step)
        again = sampler(draft, {"rows": rows[[0]]}, step)
        size = int(again["mask"].sum())
        start = batch["input_ids"].shape[1] - batch["mask"].shape[1]
        text = batch["input_ids"][0, start : start + int(batch["mask"][0].sum())].tolist()
        assert text == again["input_ids"][0, -size:].tolist()  # whoever its neighbours are
        if source == "data":
            assert tuple(text) == PROMPTS[0].completion


@pytest.mark.parametrize("source", ["draft", "target"])
def test_who_the_source_says_writes_the_texts(source: TextSource) -> None:
    target, draft = pair()
    shares = {"draft_share": float(source == "draft"), "target_share": float(source == "target")}
    written = {}
    for temperature in (0.0, 1.0):
        config = replace(CONFIG, sampling_temperature=temperature, **shares)
        sampler = OnPolicySampler(target, PROMPTS, config=config, stops=[])
        batches = [sampler(draft, {"rows": torch.arange(4)}, step) for step in range(2)]
        written[temperature] = [batch["input_ids"][:, -6:].tolist() for batch in batches]
    prompts = [prompt.ids for prompt in PROMPTS[:4]]
    drafted, wanted = (
        sample(model, prompts, max_new_tokens=6, seeds=[0] * 4, temperature=0.0)
        for model in (draft, target)
    )
    assert drafted != wanted
    assert written[0.0] == [drafted if source == "draft" else wanted] * 2
    assert written[1.0][0] != written[1.0][1]  # other numbers are drawn at each step
    assert len({tuple(text) for text in written[1.0][0]}) == 4


def test_a_text_that_is_missing_is_told() -> None:
    bare = [*PROMPTS[:3], Prompt((5, 6))]
    Prompts(bare, CONFIG)
    with pytest.raises(ConfigError, match="1 of 4 prompts"):
        Prompts(bare, replace(CONFIG, draft_share=0.5))
