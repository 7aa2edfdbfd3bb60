"""Plain decoding: as `generate` does it, and each prompt for itself."""

import itertools

import pytest
import torch
from scipy.stats import chisquare

import decoders
import tiny
from attar.decode.sampling import sample
from attar.errors import ConfigError, TrainingDivergedError

PROMPTS = [[5, 9, 33], [7], [11, 12, 13, 14, 15, 16]]


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "t5"])
def test_at_temperature_0_it_is_generate(family: str) -> None:
    t5 = family == "t5"
    model = decoders.encoder_decoder() if t5 else decoders.model_of(family)
    found = sample(model, PROMPTS, max_new_tokens=12, seeds=[0] * 3, temperature=0.0, stops=[2])
    for prompt, new in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([prompt])
        plain = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=2,
        )
        assert new == plain[0, 1 if t5 else len(prompt) :].tolist()


@pytest.mark.parametrize("family", ["llama", "mistral", "t5"])
def test_a_prompt_depends_on_its_seed_alone(family: str) -> None:
    model = decoders.encoder_decoder() if family == "t5" else decoders.model_of(family)
    together = sample(model, PROMPTS, max_new_tokens=12, seeds=[3, 4, 5], stops=range(2, 12))
    alone = [
        sample(model, [prompt], max_new_tokens=12, seeds=[seed], stops=range(2, 12))[0]
        for prompt, seed in zip(PROMPTS, (3, 4, 5), strict=True)
    ]
    assert together == alone
    assert len({len(new) for new in together}) > 1  # some end before others
    assert together != sample(model, PROMPTS, max_new_tokens=12, seeds=[6, 7, 8])


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_texts_have_the_model_s_law(temperature: float) -> None:
    model = tiny.model("llama", vocab_size=4, pad_token_id=None, bos_token_id=None)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.5)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    rows = 2000
    found = sample(
        model, [[1, 3]] * rows, max_new_tokens=2, seeds=range(rows), temperature=temperature
    )
    expected = []
    texts = list(itertools.product(range(4), repeat=2))
    with torch.no_grad():
        for a, b in texts:
            logits = model(input_ids=torch.tensor([[1, 3, a]])).logits[0, 1:].double()
            logits = logits / temperature
            chances = logits.softmax(-1)
            expected.append(float(chances[0, a] * chances[1, b]) * rows)
    counts = [found.count([a, b]) for a, b in texts]
    assert chisquare(counts, expected).pvalue > 0.001


def test_the_mode_of_the_model_stays() -> None:
    model = tiny.model("llama").train()
    model.lm_head.eval()
    modes = [module.training for module in model.modules()]
    sample(model, [[5]], max_new_tokens=1, seeds=[0])
    assert [module.training for module in model.modules()] == modes
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TrainingDivergedError):
        sample(model, [[5]], max_new_tokens=1, seeds=[0])
    assert [module.training for module in model.modules()] == modes


def test_rotary_embeddings_that_may_change_within_a_text_are_refused() -> None:
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    model = tiny.model("llama", rope_parameters=rope, max_position_embeddings=32).train()
    prompts = tiny.ids(2, 12).tolist()
    assert len(sample(model, prompts, max_new_tokens=4, seeds=[0, 1])) == 2
    with pytest.raises(ConfigError, match="of 12 to 42 tokens; lower max_new_tokens"):
        sample(model, prompts, max_new_tokens=30, seeds=[0, 1])
    assert model.training
