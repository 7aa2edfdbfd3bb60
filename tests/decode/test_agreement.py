"""What is read off the target's texts is what decoding with the draft gives."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import decoders
import tiny
from attar.decode.agreement import Agreement, Texts, agreement, block_starts, expected_blocks
from attar.decode.forced import answers, batch_of
from attar.decode.settings import SpecConfig
from attar.decode.speculative import SpeculativeDecoder

PROMPTS = [[5, 9, 33], [7, 8], [11, 12, 13, 14]]
COMPLETIONS = [[21, 22, 23, 24], [31], [41, 42]]
CHANCES = st.lists(st.sampled_from([0.0, 0.3, 0.9, 1.0]), min_size=1, max_size=12)


@pytest.mark.parametrize("family", [*tiny.CAUSAL, "t5"])
def test_answers_are_those_of_each_text_alone(family: str) -> None:
    model: Any = decoders.encoder_decoder() if family == "t5" else decoders.model_of(family)
    batch = batch_of(model, prompts=PROMPTS, completions=COMPLETIONS)
    assert batch["mask"].sum(1).tolist() == [4, 1, 2]
    with torch.no_grad():
        found = answers(model, batch)
        for r, (prompt, after) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True)):
            if family == "t5":
                decoder = torch.tensor([[0, *after]])
                alone = model(input_ids=torch.tensor([prompt]), decoder_input_ids=decoder).logits
            else:
                alone = model(input_ids=torch.tensor([[*prompt, *after]])).logits
            exact = 1e-9 if model.dtype == torch.float64 else 1e-4
            torch.testing.assert_close(
                found[r, : len(after)], alone[0, -len(after) - 1 : -1], atol=exact, rtol=0
            )


@given(chances=CHANCES, length=st.integers(1, 5), seed=st.integers(0, 100))
def test_blocks_are_those_of_many_tries(chances: list[float], length: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    stay, tries, blocks = np.array(chances), 400, []
    for _ in range(tries):
        place = count = 0
        while place < len(stay):
            kept = 0
            while kept < length and place + kept < len(stay) and rng.random() < stay[place + kept]:
                kept += 1
            place += kept + 1
            count += 1
        blocks.append(count)
    error = np.std(blocks) / tries**0.5
    assert abs(np.mean(blocks) - expected_blocks(stay, length)) <= 5 * error + 1e-9


def test_a_perfect_draft_and_one_that_is_always_wrong() -> None:
    right, wrong = np.ones(12), np.zeros(12)
    assert Agreement([right], [right]).block_efficiency(3) == 4
    assert Agreement([wrong], [wrong]).block_efficiency(3) == 1
    assert block_starts(right, 3).nonzero()[0].tolist() == [0, 4, 8]
    assert Agreement([right], [right]).acceptance(3) == [1, 1, 1]


def test_the_error_of_block_efficiency_is_its_spread_over_samples_of_texts() -> None:
    rng = np.random.default_rng(0)

    def sample() -> Agreement:
        texts = [rng.random(rng.integers(4, 12)) ** 0.5 for _ in range(60)]
        return Agreement(texts, texts)

    samples = [sample() for _ in range(150)]
    spread = np.std([one.block_efficiency(3) for one in samples])
    assert samples[0].efficiency_error(3) == pytest.approx(spread, rel=0.3)
    assert Agreement([], [np.ones(12)] * 2).efficiency_error(3) == 0
    assert Agreement([], [np.ones(12)]).efficiency_error(3) is None


@pytest.mark.parametrize("family", ["llama", "t5"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_decoding_gives_what_is_told(temperature: float, family: str) -> None:
    length, rows, generator = 3, 200, torch.Generator().manual_seed(0)
    if family == "t5":
        target, draft = decoders.encoder_decoder(), decoders.encoder_decoder()
        with torch.no_grad():
            noise = torch.randn(draft.lm_head.weight.shape, generator=generator)
            draft.lm_head.weight.add_(0.3 * noise)
        prompt = [5, 9, 33]
    else:
        target, draft = tiny.model("llama"), tiny.model("llama")
        prompt = [5, 9, 33, 5]
        with torch.no_grad():
            for model in (target, draft):
                model.lm_head.weight.mul_(0.5)  # pyright: ignore
            for weight in draft.parameters():
                weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    prompts = [prompt] * rows if temperature else [[*prompt, i] for i in range(40, 60)]
    texts = Texts.of(target, prompts, temperature=temperature, max_new_tokens=12, seed=9)
    told = agreement(target, draft, texts=texts)
    config = SpecConfig(policy="constant", draft_tokens=length, seed=10_000)
    decoder = SpeculativeDecoder(target, draft, config=config)
    found = decoder.generate(
        torch.tensor(prompts),
        attention_mask=torch.ones(len(prompts), len(prompts[0]), dtype=torch.long),
        max_new_tokens=12,
        do_sample=temperature > 0,
        top_k=0,
        pad_token_id=0,
        eos_token_id=None,
    )
    tau = told.block_efficiency(length)
    assert 1.05 < tau < length + 0.9
    error = 0.0 if temperature == 0 else 0.06
    assert abs(found.stats.block_efficiency - tau) <= error
    # Before the last token decoding drafts none, as the target gives one anyway.
    assert told.acceptance(length)[0] == pytest.approx(found.stats.acceptance[0], abs=0.05)
    if temperature:
        means = np.concatenate(told.chances).mean()
        assert told.alpha == pytest.approx(means, abs=0.02)


@pytest.mark.parametrize("rows", [56, 80])
def test_a_vocabulary_of_another_size_is_read_as_in_decoding(rows: int) -> None:
    target = tiny.model("llama")
    draft: Any = tiny.model("llama", vocab_size=rows, num_hidden_layers=2)
    own = target.state_dict()
    with torch.no_grad():
        for part in ("self_attn.o_proj", "mlp.down_proj"):  # so that the last layer does nothing
            own[f"model.layers.2.{part}.weight"].zero_()
        for name, weight in draft.state_dict().items():
            if weight.shape == own[name].shape:
                weight.copy_(own[name])
            else:  # what only the draft has would be its likeliest token
                weight[: tiny.VOCAB] = own[name][:rows]
    texts = Texts.of(target, PROMPTS, temperature=0.0, max_new_tokens=10)
    told = agreement(target, draft, texts=texts)
    decoder = SpeculativeDecoder(
        target, draft, config=SpecConfig(policy="constant", draft_tokens=3)
    )
    tokens = blocks = 0
    for prompt in PROMPTS:
        found = decoder.generate(
            torch.tensor([prompt]), max_new_tokens=10, do_sample=False, eos_token_id=None
        )
        tokens += found.stats.tokens
        blocks += found.stats.row_blocks
    assert told.block_efficiency(3) == pytest.approx(tokens / blocks)
    if rows > tiny.VOCAB:
        assert told.alpha == 1
