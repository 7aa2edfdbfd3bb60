"""Scores are equalities: against token-by-token losses, other batch sizes, other tokenizers."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    PreTrainedTokenizerFast,
)

import tiny
from attar.errors import CompatibilityError, ConfigError, DataError
from attar.evaluation import likelihood
from attar.evaluation.bits import bits_per_byte
from attar.evaluation.likelihood import Score
from characters import TEXTS, documents, letters_behind_bos, stream, token_loss, word_level
from scene import sources
from windows import made, small_model


@pytest.mark.parametrize(("context", "stride"), [(7, 7), (7, 3), (16, 1), (64, 64), (5, 5)])
def test_score_is_the_mean_of_single_token_losses(
    model: Any, tokenizer: PreTrainedTokenizerFast, context: int, stride: int
) -> None:
    ids = stream(tokenizer, TEXTS)
    expected = []
    for target in range(1, len(ids)):
        # the first window that reaches the target
        window = max(0, math.ceil((target - context) / stride)) * stride
        expected.append(token_loss(model, ids, target, window))
        assert target - window >= min(target, context - stride)
    found = likelihood.score(
        model, tokenizer, documents=documents(TEXTS), context=context, stride=stride, batch_size=3
    )
    assert found.tokens == len(ids) - 1
    assert found.bytes == sum(len(text.encode()) for text in TEXTS)
    assert found.nll == pytest.approx(sum(expected) / len(expected), abs=1e-5)


@pytest.mark.parametrize(("context", "stride"), [(7, 7), (7, 3), (64, 64)])
def test_every_window_begins_with_the_bos_of_the_tokenizer(
    model: Any, tokenizer: PreTrainedTokenizerFast, context: int, stride: int
) -> None:
    ids: list[int] = []
    for text in filter(None, TEXTS):
        ids += [2, 1, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    ids = ids[1:]
    expected = []
    for target in range(1, len(ids)):
        window = max(0, math.ceil((target - context) / stride)) * stride
        read = [*ids[:window], 1, *ids[window + 1 :]]
        if ids[target] != 1:
            expected.append(token_loss(model, read, target, window))
    found = bits_per_byte(
        model, letters_behind_bos(), texts=TEXTS, context=context, stride=stride, batch_size=3
    )
    assert found.score.tokens == len(expected)
    assert found.score.nll == pytest.approx(sum(expected) / len(expected), abs=1e-5)
    assert found.ends == sum(token == 2 for token in ids)


def test_score_does_not_depend_on_the_batch_size(
    model: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    found = [
        likelihood.score(model, tokenizer, documents=documents(TEXTS), context=9, batch_size=size)
        for size in (1, 2, 5, 100)
    ]
    assert all(other.nll == pytest.approx(found[0].nll, abs=1e-6) for other in found)
    assert len({(other.tokens, other.bytes) for other in found}) == 1


def test_bits_per_byte_of_a_uniform_model_is_that_of_the_alphabet() -> None:
    """Four letters by ones (4 ids), twos (16) or threes (64): always two bits a byte."""
    text = "abcdabddacbb" * 5
    for length in (1, 2, 3):
        tokens = [""]
        for _ in range(length):
            tokens = [token + letter for token in tokens for letter in "abcd"]
        vocabulary = {token: i for i, token in enumerate(tokens)}
        tokenizer = word_level(vocabulary, "." * length, "a" * length)
        model: Any = tiny.model("llama", vocab_size=len(tokens))
        torch.nn.init.zeros_(model.lm_head.weight)
        found = likelihood.score(model, tokenizer, documents=documents([text]))
        assert found.perplexity == pytest.approx(4**length)
        assert found.bits_per_byte == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("limit", "texts"),
    [
        (1, ["hello world"[:1]]),
        (5, ["hello"]),
        (11, ["hello world"]),
        (13, ["hello world", "n"]),
        (1000, TEXTS),
    ],
)
def test_eval_tokens_scores_the_passages_and_their_bytes(
    model: Any, tokenizer: PreTrainedTokenizerFast, limit: int, texts: list[str]
) -> None:
    """One token a character here, and all in one passage, as they are short."""
    found = likelihood.score(model, tokenizer, documents=documents(TEXTS), eval_tokens=limit)
    assert found == likelihood.score(model, tokenizer, documents=documents(texts))
    assert found.tokens == len(stream(tokenizer, texts)) - 1 <= limit
    assert found.bytes == sum(len(text.encode()) for text in texts)


def test_a_capped_score_speaks_for_every_document(
    model: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    """A text whose first half is easy for the model and whose second half is hard."""
    losses = {
        c: likelihood.score(model, tokenizer, documents=documents([c * 200])).nll
        for c in "abcdefgh"
    }
    easy, hard = min(losses, key=losses.__getitem__), max(losses, key=losses.__getitem__)
    texts = [letter * 100 for letter in (easy, hard) for _ in range(160)]
    whole = likelihood.score(model, tokenizer, documents=documents(texts))
    sample = likelihood.score(model, tokenizer, documents=documents(texts), eval_tokens=8000)
    assert 7990 <= sample.tokens <= 8000
    assert sample.nll == pytest.approx(whole.nll, rel=0.05)
    assert losses[hard] > 1.2 * losses[easy]


def test_nll_equals_the_loss_of_transformers(model: Any) -> None:
    ids = tiny.ids(7, 12)
    expected = float(model(input_ids=ids, labels=ids).loss.detach())
    for size in (1, 3, 7, 50):
        assert likelihood.nll(model, ids, batch_size=size) == pytest.approx(expected, abs=1e-6)


def test_large_logits_are_taken_in_parts(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = tiny.ids(5, 12)
    whole = likelihood.nll(model, ids)
    monkeypatch.setattr(likelihood, "LOGITS_AT_A_TIME", 1)
    assert likelihood.nll(model, ids) == pytest.approx(whole, abs=1e-7)


def test_measuring_leaves_no_trace(model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    model.train()
    model.model.layers[1].eval()
    modes = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    likelihood.nll(model, tiny.ids())
    likelihood.score(model, tokenizer, documents=documents(TEXTS))
    assert [module.training for module in model.modules()] == modes
    assert torch.is_grad_enabled()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    model.forward = None  # a model that fails in mid-measurement
    with pytest.raises(TypeError):
        likelihood.nll(model, tiny.ids())
    assert [module.training for module in model.modules()] == modes


def test_nll_passes_nan_through_and_score_names_the_damage(
    model: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = math.nan
    assert math.isnan(likelihood.nll(model, tiny.ids()))
    with pytest.raises(DataError, match=r"not finite.*layers\.1\.mlp\.down_proj\.weight"):
        likelihood.score(model, tokenizer, documents=documents(TEXTS))


def test_nll_refuses_shapes_without_a_prediction(model: Any) -> None:
    for shape in [(4, 1), (0, 5), (5,)]:
        with pytest.raises(DataError, match="windows of shape"):
            likelihood.nll(model, torch.zeros(shape, dtype=torch.long))


def test_models_without_a_next_token_loss_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(CompatibilityError, match="causal language model"):
        likelihood.score(tiny.model("bert"), tokenizer, documents=documents(TEXTS))
    config = AutoConfig.for_model(
        "bert", vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    with pytest.raises(CompatibilityError, match="causal language model"):
        likelihood.score(
            AutoModelForMaskedLM.from_config(config), tokenizer, documents=documents(TEXTS)
        )


def test_a_model_that_sees_later_tokens_is_refused(
    model: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    for layer in model.model.layers:
        layer.self_attn.is_causal = False
    forward = model.model.forward

    def two_sided(input_ids: torch.Tensor, **options: Any) -> Any:
        rows, length = input_ids.shape
        mask = torch.zeros(rows, 1, length, length)
        return forward(input_ids=input_ids, **options | {"attention_mask": mask})

    model.model.forward = two_sided
    with pytest.raises(CompatibilityError, match="sees later tokens"):
        likelihood.score(model, tokenizer, documents=documents(TEXTS))


@pytest.mark.parametrize("family", tiny.CAUSAL)
def test_every_family_can_be_scored(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    found = likelihood.score(tiny.model(family), tokenizer, documents=documents(TEXTS))
    assert math.isfinite(found.nll)


def test_misfits_are_refused(model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    small: Any = tiny.model("llama", vocab_size=10)
    with pytest.raises(CompatibilityError, match="does not fit"):
        likelihood.score(small, tokenizer, documents=documents(TEXTS))
    with pytest.raises(ConfigError, match="64 positions"):
        likelihood.score(model, tokenizer, documents=documents(TEXTS), context=65)
    with pytest.raises(ConfigError, match="stride"):
        likelihood.score(model, tokenizer, documents=documents(TEXTS), context=8, stride=9)
    with pytest.raises(ConfigError, match="batch_size"):
        likelihood.score(model, tokenizer, documents=documents(TEXTS), batch_size=0)
    with pytest.raises(ConfigError, match="eval_tokens"):
        likelihood.score(model, tokenizer, documents=documents(TEXTS), eval_tokens=0)
    with pytest.raises(DataError, match="no text to score"):
        likelihood.score(model, tokenizer, documents=documents(["", ""]))
    with pytest.raises(DataError, match="column 'text'"):
        likelihood.score(model, tokenizer, documents=Dataset.from_dict({"body": TEXTS}))
    raw = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    bare = PreTrainedTokenizerFast(tokenizer_object=raw)
    with pytest.raises(DataError, match="end-of-text"):
        likelihood.score(model, bare, documents=documents(TEXTS))


def test_score_to_dict_has_the_derived_figures() -> None:
    found = Score(nll=math.log(2), tokens=30, bytes=10).to_dict()
    assert found == {
        "nll": math.log(2),
        "tokens": 30,
        "bytes": 10,
        "perplexity": pytest.approx(2.0),
        "bits_per_byte": pytest.approx(3.0),
    }
    assert Score(nll=1e4, tokens=1, bytes=1).perplexity == math.inf


@pytest.mark.parametrize("shape", ["12 in window", "12", "12 in 6 in window"])
def test_what_is_scored_is_what_is_trained_on(shape: str) -> None:
    tokenizer, texts = made(shape), sources(150_000)[:3]
    model = small_model(tokenizer)
    _, ids = likelihood.score_with_ids(
        model, tokenizer, documents=Dataset.from_dict({"text": texts}), context=64
    )
    stream = tokenizer.encode_documents(texts).tolist()
    if shape == "12":  # an end before the first, which is not predicted, and none after the last
        assert ids.tolist() == [tokenizer.eos_token_id, *stream[:-1]]
    else:
        assert ids.tolist() == stream
    with torch.no_grad():
        model.lm_head.weight.zero_()
    found = bits_per_byte(model, tokenizer, texts=texts, context=64)
    assert found.ends == (2 if shape == "12" else 3)
    size = sum(len(text.encode()) for text in texts)
    whole = tokenizer.window_bits // tokenizer.token_bits
    first = round(len(tokenizer.decode_bytes(stream[:whole])) / whole) if shape != "12" else 0
    assert found.score.bytes == size - first
    wanted = np.log2(tokenizer.vocab_size + (shape == "12")) * (len(ids) - 1) / (size - first)
    assert found.uniform == pytest.approx(wanted)
