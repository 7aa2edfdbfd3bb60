"""Passes of rounded shapes, replayed: the texts and logits of passes as they come.

A processor has nothing to capture, so that here the same function is called again, on the tensors
that a graph would read; test_gpu.py captures it.
"""

import logging
import random
from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor
from transformers import PreTrainedModel

import decoders
import tiny
from attar.decode import captured, static
from attar.decode.captured import Captured, obstacle
from attar.decode.settings import SpecConfig
from attar.decode.speculative import SpeculativeDecoder
from attar.decode.static import Static
from decode.test_cache import play
from decode.test_speculative import OPTIONS, assert_same, draft_of, plain, prompts
from decode.test_static import rows_of

Run = Callable[[], Tensor]


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Those that were captured."""
    seen: list[tuple[int, ...]] = []

    def capture(run: Run, **_: Any) -> Run:
        seen.append(tuple(run().shape))
        return run

    monkeypatch.setattr(captured, "capture", capture)
    monkeypatch.setattr(static, "FIRST", 16)
    return seen


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mistral"])
def test_the_logits_are_those_of_reading_afresh(family: str, shapes: list[Any]) -> None:
    model, rng = decoders.model_of(family), random.Random(family)
    passes = Captured(model)
    for size in (5, 2):
        play(model, Static(passes, size), rows_of(rng, size), rng)
    assert {shape[0] for shape in shapes} <= {2, 4, 5}
    assert {shape[1] for shape in shapes} <= {1, 2, 4, 8, 16}
    assert passes.size > 16


@pytest.mark.parametrize("draft", ["model", "layers", "lookup", "itself", None])
@pytest.mark.parametrize("rows", [1, 5])
def test_texts_are_the_target_s(draft: Any, rows: int, shapes: list[Any]) -> None:
    target = decoders.model_of("llama")
    drafter = draft and draft_of(draft, target)
    config = SpecConfig(policy="constant", draft_tokens=4)
    decoder = SpeculativeDecoder(target, drafter, config=config, compile=True)
    for _ in range(2):  # the second text finds the first one's cache
        found = decoder.generate(**prompts(rows), **OPTIONS)
        assert_same(found.sequences, plain(target, prompts(rows)))
    assert shapes
    assert draft != "itself" or found.stats.block_efficiency > 4


def test_drawn_texts_are_those_of_passes_as_they_come(shapes: list[Any]) -> None:
    target = decoders.model_of("llama")
    draft = draft_of("model", target)
    options = OPTIONS | {"do_sample": True, "temperature": 0.8, "top_k": 20}
    config = SpecConfig(policy="constant", draft_tokens=3, seed=5)
    texts = [
        SpeculativeDecoder(target, draft, config=config, compile=compile)
        .generate(**prompts(3), **options)
        .sequences
        for compile in (False, True)
    ]
    assert_same(*texts)
    assert shapes


def test_weights_that_move_are_captured_again(shapes: list[Any]) -> None:
    target: Any = decoders.model_of("llama")
    decoder = SpeculativeDecoder(target, None, compile=True)
    decoder.generate(**prompts(1), **OPTIONS)
    count = len(shapes)
    decoder.generate(**prompts(1), **OPTIONS)
    assert len(shapes) == count
    target.float().model.norm.weight.data *= -1
    found = decoder.generate(**prompts(1), **OPTIONS).sequences
    assert_same(found, plain(target, prompts(1)))
    assert len(shapes) == 2 * count


@pytest.mark.parametrize("wrong", [False, True])
def test_what_cannot_be_captured_is_run_as_it_comes(
    wrong: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def capture(run: Run, **_: Any) -> Run:
        if wrong:
            return lambda: run() + 1
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(captured, "capture", capture)
    target = decoders.model_of("llama")
    decoder = SpeculativeDecoder(target, None, compile=True)
    with caplog.at_level(logging.INFO):
        found = decoder.generate(**prompts(2), **OPTIONS).sequences
    assert_same(found, plain(target, prompts(2)))
    (said,) = [record.message for record in caplog.records if "captured" in record.message]
    assert ("other logits" if wrong else "stream is capturing") in said


def test_models_that_have_no_fixed_shapes() -> None:
    reasons: dict[str, PreTrainedModel] = {
        "encoder": decoders.encoder_decoder(),
        "rotary": tiny.model(
            rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
        ),
    }
    for word, model in reasons.items():
        assert word in str(obstacle(model))
    for family in tiny.CAUSAL:
        assert obstacle(tiny.model(family)) is None
    model: Any = tiny.model()
    model.config._attn_implementation = "flash_attention_2"
    assert "sdpa" in str(obstacle(model))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, when it loads its compiler
def test_a_processor_compiles_them() -> None:
    target = tiny.model(num_hidden_layers=1)
    decoder = SpeculativeDecoder(target, None, compile=True)
    found = decoder.generate(**prompts(1), **OPTIONS).sequences
    assert_same(found, plain(target, prompts(1)))
    passes = decoder._passes["target", "cpu"]
    assert isinstance(passes, Captured)
    assert passes._graphs
    assert not passes._fails


def test_processors_that_keep_a_state_are_left_to_transformers(shapes: list[Any]) -> None:
    target = decoders.model_of("llama")
    options = {"guidance_scale": 1.5, "max_new_tokens": 4}
    decoder = SpeculativeDecoder(target, None, compile=True)
    found = decoder.generate(**prompts(1), **OPTIONS | options).sequences
    assert_same(found, plain(target, prompts(1), **options))
    assert not shapes
