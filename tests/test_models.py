"""Facts read off a model: when it is cast, and what separates documents."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

import characters
import tiny
from attar import models
from attar.data.tokens import pack
from attar.errors import CompatibilityError, ConfigError, DataError
from attar.evaluation import likelihood
from attar.models import (
    AUTOCAST_FROM,
    DocumentTokenizer,
    autocast,
    evenly_spaced,
    keep_layers,
    separator,
)
from windows import made


def test_autocast_only_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    large = torch.nn.Linear(AUTOCAST_FROM, 1, bias=False)
    small = torch.nn.Linear(8, 8)
    ones = torch.ones(2, 2)
    monkeypatch.setattr(models, "native_bfloat16", lambda: True)
    with autocast(large):
        assert (ones @ ones).dtype == torch.bfloat16
    for module in (small, large.half(), torch.nn.Identity()):
        with autocast(module):
            assert (ones @ ones).dtype == torch.float32
    monkeypatch.setattr(models, "native_bfloat16", lambda: False)
    with autocast(large.float()):
        assert (ones @ ones).dtype == torch.float32


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_a_type_that_the_processor_emulates_is_computed_in_float32(
    stored: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "native_bfloat16", lambda: False)
    monkeypatch.setattr(models, "native_float16", lambda: False)
    model = tiny.model("qwen2").to(stored)
    wide: Any = model.model.rotary_emb
    wide.inv_freq = wide.inv_freq.float()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with models.computing(model), models.computing(model):
        assert models.computed_in(model) == "float32"
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        inside = float(likelihood.nll(model, tiny.ids()))
        cut = model.model.layers[0].mlp.up_proj.weight
        cut.data = cut.data[:5]
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert wide.inv_freq.dtype == torch.float32
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name][: len(weight)]), name
        assert weight.dtype == stored
    cut.data = before["model.layers.0.mlp.up_proj.weight"]
    assert likelihood.nll(model, tiny.ids()) == inside  # every score does so by itself
    assert likelihood.nll(model.float(), tiny.ids()) == inside


def test_what_the_processor_has_or_memory_forbids_is_computed_as_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny.model().bfloat16()
    monkeypatch.setattr(models, "native_bfloat16", lambda: True)
    assert models.computed_in(model) == "bfloat16"
    monkeypatch.setattr(models, "native_bfloat16", lambda: False)
    assert models.computed_in(model) == "float32"
    free = SimpleNamespace(available=1000)
    monkeypatch.setattr(models.psutil, "virtual_memory", lambda: free)
    assert models.computed_in(model) == "bfloat16"


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ({"eos_token": "a", "sep_token": "b", "bos_token": "c"}, "a"),
        ({"sep_token": "b", "bos_token": "c"}, "b"),
        ({"bos_token": "c"}, "c"),
    ],
)
def test_packing_and_scoring_part_documents_by_one_rule(
    tokens: dict[str, str], expected: str
) -> None:
    """EOS, else SEP, else BOS: after each document in training, before each in scoring."""
    backend = characters.letters().backend_tokenizer
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **tokens)
    between = tokenizer.convert_tokens_to_ids(expected)
    assert separator(tokenizer) == between
    texts = Dataset.from_dict({"text": ["hello", "x = 1"]})
    first, second = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts["text"]
    )
    packed = pack(texts, tokenizer, context=1)["input_ids"]
    assert [i for row in packed for i in row] == [*first, between, *second, between]
    _, ids = likelihood.score_with_ids(tiny.model("llama"), tokenizer, documents=texts)
    assert ids.tolist() == [between, *first, between, *second]


def test_a_tokenizer_without_a_separator_is_refused() -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=characters.letters().backend_tokenizer)
    with pytest.raises(DataError, match=r"expected a tokenizer with an end-of-text token"):
        separator(bare)


def test_windows_are_document_tokenizers_and_others_are_not() -> None:
    assert isinstance(made("12"), DocumentTokenizer)
    assert isinstance(made("24 in 8"), DocumentTokenizer)
    assert not isinstance(characters.letters(), DocumentTokenizer)


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
def test_a_model_reads_as_many_tokens_as_it_has_positions(family: str) -> None:
    model = tiny.model(family)
    most = models.positions_of(model)
    assert most is not None
    model(torch.full((1, most), 5))
    models.require_context(model, most)
    with pytest.raises(ConfigError, match=f"context must be at most {most}"):
        models.require_context(model, most + 1)
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, most + 1), 5))


@pytest.mark.parametrize(
    ("rope", "most"),
    [
        ({"rope_type": "dynamic", "factor": 4.0}, 256),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}, 128),
        ({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}, 64),
        ({"rope_type": "default"}, 64),
    ],
)
def test_stretched_rotary_embeddings_reach_further(rope: dict[str, Any], most: int) -> None:
    model = tiny.model("llama", rope_parameters=rope | {"rope_theta": 10000.0})
    assert models.positions_of(model) == most


def test_layers_are_spaced_evenly_with_or_without_the_first() -> None:
    both = [(evenly_spaced(n, 7, first=True), evenly_spaced(n, 7, first=False)) for n in (1, 2, 3)]
    assert both == [([0], [6]), ([0, 6], [2, 6]), ([0, 3, 6], [1, 3, 6])]
    for first in (True, False):
        assert evenly_spaced(7, 7, first=first) == list(range(7))
        assert evenly_spaced(0, 7, first=first) == []


def test_a_config_keeps_what_it_lists_for_the_layers_that_stay() -> None:
    config = tiny.model("smollm3", num_hidden_layers=4, no_rope_layers=[1, 1, 1, 0]).config
    config.layer_types = ["full_attention"] * 4
    config.eos_token_id = [1, 2, 3, 4]
    keep_layers(config, [0, 3])
    assert config.num_hidden_layers == 2
    assert (config.no_rope_layers, len(config.layer_types)) == ([1, 0], 2)
    assert config.eos_token_id == [1, 2, 3, 4]  # by its name, no list of layers


def test_an_encoder_decoder_is_told_what_comes_first() -> None:
    with pytest.raises(CompatibilityError, match="an encoder-decoder such as a T5 is fine-tuned"):
        models.require_decoder(tiny.encoder_decoder("t5"))
    with pytest.raises(CompatibilityError, match=r"found BertModel, .* no next-token loss$"):
        models.require_decoder(tiny.model("bert"))
