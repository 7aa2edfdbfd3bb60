"""Drafts through transformers: `custom_generate`, as a function and from a folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, StopStringCriteria

import scene
import tiny
from attar.decode.ngram_build import build_store
from attar.decode.ngrams import NGramStore
from attar.errors import ConfigError
from attar.methods.superposed import SuperposedConfig, SuperposedDecoder, save_custom_generate

CONFIG = SuperposedConfig(heal=False, min_hit_rate=0, temperature=0.5, max_new_tokens=6)
PROMPTS = [tiny.ids(1, n, seed=n)[0].tolist() for n in (12, 5)]


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return scene.tokenizer(scene.write_text(tmp_path_factory.mktemp("text")), vocab_size=320)


def test_transformers_takes_it_as_a_function(bpe: PreTrainedTokenizerFast) -> None:
    model: Any = tiny.model(vocab_size=len(bpe))
    decoder = SuperposedDecoder(model, bpe, config=CONFIG)
    ids = torch.tensor([PROMPTS[0]])
    drafts = model.generate(ids, custom_generate=decoder, num_drafts=3, max_new_tokens=5)
    assert drafts.shape == (3, 17)
    assert torch.equal(drafts[:, :12], ids.expand(3, -1))
    ours = SuperposedDecoder(model, bpe, config=replace(CONFIG, max_new_tokens=5))
    found = {draft.token_ids for draft in ours.generate(PROMPTS[0]).drafts}
    assert found == {tuple(row) for row in drafts[:, 12:].tolist()}
    padded = torch.tensor([PROMPTS[0], [0] * 7 + PROMPTS[1]])
    mask = torch.tensor([[1] * 12, [0] * 7 + [1] * 5])
    both = model.generate(
        padded, attention_mask=mask, custom_generate=decoder, num_drafts=3, max_new_tokens=5
    )
    assert torch.equal(both[:3], drafts)
    assert {tuple(row) for row in both[3:, 12:].tolist()} == {
        draft.token_ids for draft in ours.generate(PROMPTS[1]).drafts
    }
    with pytest.raises(ConfigError, match="RepetitionPenalty"):
        model.generate(
            ids, custom_generate=decoder, num_drafts=3, max_new_tokens=5, repetition_penalty=1.2
        )
    with pytest.raises(ConfigError, match="StopString"):
        model.generate(
            ids,
            custom_generate=decoder,
            max_new_tokens=5,
            stopping_criteria=[StopStringCriteria(bpe, ["x"])],
        )
    with pytest.raises(ConfigError, match="k must be at least 1"):
        model.generate(ids, custom_generate=decoder, num_drafts=0, max_new_tokens=5)
    other: Any = tiny.model(vocab_size=len(bpe), seed=1)
    with pytest.raises(ConfigError, match="another model"):
        other.generate(ids, custom_generate=decoder, max_new_tokens=5)


def test_drafts_end_where_transformers_says(bpe: PreTrainedTokenizerFast) -> None:
    model: Any = tiny.model(vocab_size=len(bpe), eos_token_id=None)
    decoder = SuperposedDecoder(model, bpe, config=CONFIG)
    ids = torch.tensor([PROMPTS[0]])
    assert model.generate(ids, custom_generate=decoder, max_length=15).shape == (3, 15)
    whole = model.generate(ids, custom_generate=decoder, max_new_tokens=8)
    assert whole.shape == (3, 20)
    asked: dict[str, Any] = {"custom_generate": decoder, "max_new_tokens": 8}
    assert model.generate(ids, **asked, max_time=0.0).shape == (3, 13)
    end = int(whole[0, 13])
    ended = model.generate(ids, **asked, eos_token_id=end, pad_token_id=0)
    assert whole[0].tolist() not in ended.tolist()
    for row in ended[:, 12:].tolist():
        assert end not in row or not any(row[row.index(end) + 1 :])


def test_transformers_finds_it_in_a_folder(bpe: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model: Any = tiny.model(vocab_size=len(bpe), eos_token_id=None)
    model.save_pretrained(tmp_path / "model")
    bpe.save_pretrained(tmp_path / "model")
    build_store(["def return import class self none"] * 3, bpe, output_dir=tmp_path / "store")
    save_custom_generate(tmp_path / "model")
    ids = torch.tensor([bpe("def return import class")["input_ids"]])
    here = str(tmp_path / "model")
    asked = {"num_drafts": 2, "max_new_tokens": 4, "store": tmp_path / "store"}
    asked |= {"superposed": {"alpha": 0.3, "anchor_first": True}}
    config = SuperposedConfig(k=2, alpha=0.3, anchor_first=True)
    decoder = SuperposedDecoder(
        model, bpe, config=config, store=NGramStore.load(tmp_path / "store")
    )
    expected = model.generate(ids, custom_generate=decoder, max_new_tokens=4)
    given = model.generate(
        ids, custom_generate=here, trust_remote_code=True, tokenizer=bpe, **asked
    )
    assert torch.equal(given, expected)
    loaded: Any = AutoModelForCausalLM.from_pretrained(here, trust_remote_code=True)
    assert torch.equal(loaded.generate(ids, **asked), expected)  # the folder's own way, now
    assert torch.equal(loaded.generate(input_ids=ids, **asked), expected)
    with pytest.raises(ValueError, match="trust_remote_code"):
        model.generate(ids, custom_generate=here, trust_remote_code=False, tokenizer=bpe)
