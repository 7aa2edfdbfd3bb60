"""llama.cpp itself computes what the checkpoint does, from the file that was exported."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import attar
import cuts
import tiny
from attar.conversion.gguf_shape import FORMS
from attar.slicing import slice_model
from ggufs import LLAMA3
from llamacpp import LlamaCpp

ROWS = 320
EVERY = list(FORMS)
PER_LAYER = ["llama", "mistral", "qwen2"]
#: its GELU is a table in float16
CLOSE = {"gemma": 1e-2, "gemma2": 1e-2, "gemma3_text": 1e-2}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}
YARN |= {"original_max_position_embeddings": 32}
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
pytestmark = pytest.mark.slow


def export(
    model: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerFast, **options: Any
) -> LlamaCpp:
    run = attar.export(model, tokenizer=tokenizer, output_dir=folder, **options)
    return LlamaCpp(folder / run.details["file"])


def assert_same(
    model: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerFast, *, close: float = 1e-3
) -> None:
    """llama.cpp gives every next token the probability that the model gives it."""
    ids = torch.randint(3, 300, (1, 50), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = model(ids).logits[0, -1].log_softmax(-1)
    server = export(model, folder, tokenizer, quantize="f32")
    token: Any = tokenizer.convert_tokens_to_ids("e")
    told = server.log_probabilities(ids[0].tolist(), rows=ROWS, printable=token)
    torch.testing.assert_close(torch.tensor(told), ours, atol=close, rtol=0)


def model_of(family: str, **changes: Any) -> PreTrainedModel:
    return tiny.model(family, vocab_size=ROWS, **changes)


@pytest.mark.parametrize("family", EVERY)
def test_whole_models(family: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    assert_same(model_of(family), tmp_path / "out", tokenizer, close=CLOSE.get(family, 1e-3))


@pytest.mark.parametrize("family", EVERY)
def test_uniform_results(family: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = model_of(family)
    sliced = slice_model(model, cuts.random_plan(model, uniform=True))
    assert_same(sliced, tmp_path / "out", tokenizer, close=CLOSE.get(family, 1e-3))


@pytest.mark.parametrize("family", PER_LAYER)
@pytest.mark.parametrize("seed", [0, 1])
def test_per_layer_results(
    family: str, seed: int, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = model_of(family)
    assert_same(slice_model(model, cuts.random_plan(model, seed=seed)), tmp_path / "o", tokenizer)


CHANGED: dict[str, tuple[str, dict[str, Any]]] = {
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "linear": ("llama", {"rope_parameters": LINEAR}),
    "llama3": ("llama", {"rope_parameters": LLAMA3}),
    "yarn": ("llama", {"rope_parameters": YARN}),
    "yarn of qwen3": ("qwen3", {"rope_parameters": YARN}),
    "llama3 of qwen2": ("qwen2", {"rope_parameters": LLAMA3}),
    "scales of granite": (
        "granite",
        {
            "logits_scaling": 3.0,
            "residual_multiplier": 0.5,
            "embedding_multiplier": 2.0,
            "attention_multiplier": 0.3,
        },
    ),
    "layers without positions": ("smollm3", {"num_hidden_layers": 5}),
    "narrow windows": ("gemma2", {"sliding_window": 8}),
    "narrow windows of gemma 3": ("gemma3_text", {"sliding_window": 8, "num_hidden_layers": 7}),
    "scale of queries": ("gemma2", {"query_pre_attn_scalar": 9}),
    "scale of normed queries": ("gemma3_text", {"query_pre_attn_scalar": 9}),
    "scale by width": ("gemma2", {"num_hidden_layers": 46, "query_pre_attn_scalar": 9}),
    "scale of normed queries by width": (
        "gemma3_text",
        {"num_hidden_layers": 62, "query_pre_attn_scalar": 9},
    ),
    "gemma 3 stretched": (
        "gemma3_text",
        {
            "num_hidden_layers": 7,
            "rope_parameters": {
                "full_attention": LINEAR,
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            },
        },
    ),
    "no caps": ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
}


@pytest.mark.parametrize("case", CHANGED)
def test_what_configs_say(case: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    family, changes = CHANGED[case]
    model = model_of(family, **changes)
    assert_same(model, tmp_path / "out", tokenizer, close=CLOSE.get(family, 1e-3))
    if family in PER_LAYER:
        sliced = slice_model(model, cuts.random_plan(model, seed=1))
        assert_same(sliced, tmp_path / "sliced", tokenizer)


@pytest.mark.parametrize("quantize", ["f16", "bf16", "q8_0", "q4_0"])
def test_every_type_is_read(
    quantize: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = model_of("llama", hidden_size=64, intermediate_size=96)
    sliced = slice_model(model, cuts.random_plan(model, seed=1))
    server = export(sliced, tmp_path / "out", tokenizer, quantize=quantize)
    answer = server.ask("/completion", prompt=[5, 6, 7], n_predict=4, ignore_eos=True)
    assert answer["tokens_predicted"] == 4
