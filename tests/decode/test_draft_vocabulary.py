"""A draft that proposes from part of its vocabulary changes speed, and nothing that is written."""

from pathlib import Path
from typing import Any

import pytest
import torch

import decoders
import tiny
from attar import checkpoint
from attar.decode.agreement import Texts
from attar.decode.bench import profile
from attar.decode.draft_vocabulary import ShortHead, shortened, sufficient_vocabulary
from attar.decode.drafters import first_layers
from attar.decode.settings import SpecConfig
from attar.decode.speculative import SpeculativeDecoder
from attar.errors import ConfigError

SIZE = 20


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "t5", "phi"])
def test_the_first_tokens_keep_their_logits_and_all_weights_are_shared(family: str) -> None:
    coded = family == "t5"
    draft: Any = decoders.encoder_decoder() if coded else decoders.model_of(family)
    short: Any = shortened(draft, SIZE)
    ids = tiny.ids(2, 7)
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if coded else {})
    with torch.no_grad():
        whole, part = draft(**inputs).logits, short(**inputs).logits
    assert part.shape == whole.shape
    torch.testing.assert_close(part[..., :SIZE], whole[..., :SIZE])
    assert (part[..., SIZE:] < whole.min()).all()
    own = {weight.data_ptr() for weight in draft.parameters()}
    assert {weight.data_ptr() for weight in short.parameters()} <= own
    assert isinstance(short.get_output_embeddings(), ShortHead)
    assert not isinstance(draft.get_output_embeddings(), ShortHead)


def test_nothing_is_cut_where_there_is_nothing_to_cut() -> None:
    draft = decoders.model_of("llama")
    assert shortened(draft, None) is draft
    assert shortened(draft, tiny.VOCAB) is draft
    short = shortened(draft, SIZE)
    assert shortened(short, SIZE) is short
    with pytest.raises(ConfigError, match="draft_vocabulary must be at least 1; found 0"):
        SpecConfig(draft_vocabulary=0)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_what_is_written_stays_the_same(temperature: float) -> None:
    target: Any = decoders.model_of("llama")
    options: dict[str, Any] = {"max_new_tokens": 24, "pad_token_id": 0, "do_sample": False}
    if temperature:
        options |= {"do_sample": True, "temperature": temperature, "top_k": 1}
    wanted = target.generate(tiny.ids(3, 5), **options)
    config = SpecConfig(policy="constant", draft_tokens=3, draft_vocabulary=SIZE, seed=1)
    decoder = SpeculativeDecoder(target, target, config=config)
    found = decoder.generate(tiny.ids(3, 5), **options)
    assert found.sequences.tolist() == wanted.tolist()
    # the draft is the target: it is wrong only where the token is none of its own
    written = wanted[:, 5:]
    assert (written >= SIZE).any()
    assert (written < SIZE).any()
    assert 1 < found.stats.block_efficiency < 4


@pytest.mark.parametrize("do_sample", [False, True])
def test_a_draft_that_is_left_no_token_proposes_none(do_sample: bool) -> None:
    target = decoders.model_of("llama")
    config = SpecConfig(policy="constant", draft_tokens=3, draft_vocabulary=SIZE, seed=1)
    decoder = SpeculativeDecoder(target, first_layers(target, 1), config=config)

    options: dict[str, Any] = {"do_sample": do_sample, "pad_token_id": 0, "max_new_tokens": 8}
    for banned in (SIZE, SIZE - 1):
        found = decoder.generate(tiny.ids(2, 4), suppress_tokens=list(range(banned)), **options)
        assert (found.sequences[:, 4:] >= banned).all()
        assert bool(sum(found.stats.drafted)) == (banned < SIZE)


@pytest.mark.parametrize(("last", "size"), [(5_000, 8_192), (9_000, 10_000), (20_000, None)])
def test_the_smallest_part_that_loses_nothing_suffices(last: int, size: int | None) -> None:
    target: Any = tiny.model("llama", vocab_size=20_000, num_hidden_layers=2)
    with torch.no_grad():
        target.lm_head.weight[: last - 1_000] *= 0.01
        target.lm_head.weight[last:] *= 0.01
    texts = Texts.of(target, tiny.ids(4, 5).tolist(), temperature=0.0, max_new_tokens=12)
    assert sufficient_vocabulary(target, target, texts=texts, length=3) == size
    small = tiny.model("llama")
    assert sufficient_vocabulary(small, small, texts=texts, length=3) is None


def test_what_was_found_to_suffice_is_used(tmp_path: Path) -> None:
    draft = tiny.model("llama")
    draft.config.draft_vocabulary = SIZE
    checkpoint.save(draft, tmp_path / "draft", tokenizer=None)
    loaded = checkpoint.load(tmp_path / "draft")
    decoder: Any = SpeculativeDecoder(decoders.model_of("llama").float(), loaded)
    assert isinstance(decoder.draft.get_output_embeddings(), ShortHead)
    assert not isinstance(shortened(loaded, tiny.VOCAB).get_output_embeddings(), ShortHead)
    for odd in ("many", 0, None):
        draft.config.draft_vocabulary = odd
        assert shortened(draft, None) is draft


def test_a_profile_measures_the_draft_that_is_used() -> None:
    target = decoders.model_of("llama")
    prompts = tiny.ids(2, 6).tolist()
    options: dict[str, Any] = {"prompts": prompts, "temperature": 1.0, "rounds": 0}
    options |= {"max_new_tokens": 8, "lengths": [2]}
    whole = profile(target, target, **options)
    part = profile(target, target, config=SpecConfig(draft_vocabulary=SIZE), **options)
    assert whole.alpha == pytest.approx(1.0)
    assert part.alpha < 0.9
