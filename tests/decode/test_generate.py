"""The verb `generate`, whatever a checkpoint's own settings of generation ask for."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import attar
import scene
import tiny
from attar import checkpoint
from attar.decode.generate import GenerateConfig, generate
from attar.errors import ConfigError, DataError

CONFIG = GenerateConfig(max_new_tokens=4, batch_size=2)
PROMPTS = ["def return", "import class self"]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return scene.tokenizer(scene.write_text(tmp_path_factory.mktemp("text")))


def texts(model: Any, tokenizer: Any, *, prompts: Any = PROMPTS, **options: Any) -> list[str]:
    options = {"config": CONFIG} | options
    return generate(model, prompts, tokenizer=tokenizer, **options).details["texts"]


@pytest.mark.parametrize(
    "settings",
    [
        {"num_return_sequences": 2, "num_beams": 2},
        {"num_beams": 3},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"return_dict_in_generate": True},
        {"stop_strings": ["zzz"]},
        {"force_words_ids": [[5]]},
        {"return_dict_in_generate": True, "output_scores": True, "output_attentions": True},
        {"is_assistant": True, "token_healing": True},
        {"cache_implementation": "quantized"},
    ],
)
@pytest.mark.parametrize("draft", [None, "lookup"])
def test_the_settings_of_a_checkpoint_change_no_text(
    settings: dict[str, Any], draft: str | None, words: PreTrainedTokenizerFast
) -> None:
    model: Any = tiny.model(vocab_size=len(words))
    expected = texts(model, words)
    assert [text.startswith(prompt) for text, prompt in zip(expected, PROMPTS, strict=True)] == [
        True,
        True,
    ]
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    assert texts(model, words, draft=draft) == expected


@pytest.mark.parametrize("draft", [None, "lookup"])
@pytest.mark.parametrize("end", [2, None])
def test_prompts_of_other_lengths_without_a_token_for_padding(
    draft: str | None, end: int | None, words: PreTrainedTokenizerFast
) -> None:
    """The tokenizer's lies behind the model's last, or there is none and no end of text either."""
    model: Any = tiny.model(vocab_size=len(words), pad_token_id=None, eos_token_id=end)
    alone = [texts(model, words, prompts=[prompt])[0] for prompt in PROMPTS]
    bare = copy.deepcopy(words)
    if end is None:
        bare.eos_token = bare.pad_token = None
    else:
        bare.add_special_tokens({"pad_token": "[PAD]"})
    assert texts(model, bare, draft=draft) == alone
    assert bare.pad_token == (None if end is None else "[PAD]")
    if end is None:
        with pytest.raises(ConfigError, match="one prompt at a time"):
            texts(model, bare, draft=draft, config=replace(CONFIG, stop=("zzz",)))


def test_the_space_before_a_word_is_kept() -> None:
    """Sentencepiece marks words by a space before them, which it takes off the first of a text."""
    vocabulary = {f"▁{letter}": i for i, letter in enumerate("abcde")}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="▁a"))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("▁[^▁]*"), behavior="isolated")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    model: Any = tiny.model(vocab_size=5, eos_token_id=None, pad_token_id=None, bos_token_id=None)
    config = GenerateConfig(max_new_tokens=3)
    ids = model.generate(torch.tensor([[0, 1]]), max_new_tokens=3, do_sample=False)[0]
    [text] = texts(model, tokenizer, prompts=["a b"], config=config)
    assert text == tokenizer.decode(ids, skip_special_tokens=True)
    assert text.startswith("a b ")


@pytest.mark.parametrize("draft", [None, "lookup"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_weights_that_are_not_numbers_are_named(
    draft: str | None, temperature: float, words: PreTrainedTokenizerFast
) -> None:
    model: Any = tiny.model(vocab_size=len(words))
    torch.nn.init.constant_(model.model.norm.weight, torch.nan)
    with pytest.raises(DataError, match=r"are damaged, model\.norm\.weight"):
        texts(model, words, draft=draft, config=replace(CONFIG, temperature=temperature))


@pytest.mark.parametrize(
    ("template", "words_of"),
    [
        ("{{ raise_exception('roles must alternate') }}", "refuses these messages: roles must"),
        ("{{ messages[0]['content'] + 1 }}", "refuses these messages"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% for m in messages %}{{ m.content }", "refuses these messages"),
        ("{# nothing #}", "a prompt must be text of at least one token"),
        ({"rag": "{{ messages }}", "tools": "{{ messages }}"}, "no default"),
    ],
)
def test_a_chat_template_that_fails_is_one_sentence(
    template: Any, words_of: str, words: PreTrainedTokenizerFast
) -> None:
    model: Any = tiny.model(vocab_size=len(words))
    chatty = copy.deepcopy(words)
    chatty.chat_template = template
    config = replace(CONFIG, chat=True)
    with pytest.raises(ConfigError, match=words_of):
        texts(model, chatty, config=config)
    with pytest.raises(ConfigError, match=words_of):
        attar.generate(model, "def", drafts=2, tokenizer=chatty, config=config)


@pytest.mark.parametrize("draft", [None, "lookup"])
def test_settings_of_a_checkpoint_that_no_model_can_follow_are_named(
    draft: str | None, words: PreTrainedTokenizerFast
) -> None:
    model: Any = tiny.model(vocab_size=len(words))
    model.generation_config.repetition_penalty = 0.0
    with pytest.raises(ConfigError, match=r"strictly positive.*the generation_config\.json"):
        texts(model, words, draft=draft)
    again = replace(CONFIG, repetition_penalty=1.0)
    assert texts(model, words, draft=draft, config=again) == texts(
        tiny.model(vocab_size=len(words)), words
    )


def test_a_temperature_too_small_to_divide_by_is_greedy(words: PreTrainedTokenizerFast) -> None:
    model: Any = tiny.model(vocab_size=len(words))
    expected = texts(model, words)
    for draft in (None, "lookup"):
        cold = replace(CONFIG, temperature=1e-300)
        assert texts(model, words, draft=draft, config=cold) == expected
    with pytest.raises(ConfigError, match="temperature must be at least 1e-05; found 1e-300"):
        attar.generate(model, "def", drafts=2, tokenizer=words, config=cold)


def test_a_stop_string_has_letters() -> None:
    with pytest.raises(ConfigError, match="stop must be strings that are not empty"):
        GenerateConfig(stop=("x", ""))


def test_a_draft_is_a_folder_or_a_model(words: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model: Any = tiny.model(vocab_size=len(words))
    small: Any = tiny.model(vocab_size=len(words), num_hidden_layers=1)
    checkpoint.save(small, tmp_path / "small", tokenizer=words)
    expected = texts(model, words)
    for draft in (small, tmp_path / "small", str(tmp_path / "small")):
        assert texts(model, words, draft=draft) == expected
    for draft, meant in (("lookups", "lookup"), ("layer:2", "layers:N"), ("layers:x", "layers:N")):
        with pytest.raises(ConfigError, match=f"{draft!r}; do you mean {meant}"):
            texts(model, words, draft=draft)
    with pytest.raises(ConfigError, match="a folder, a name on the Hub, or a model"):
        texts(model, words, draft=3)


def test_a_model_in_bfloat16_is_computed_in_float32_where_that_is_asked_for(
    words: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attar.models.native_bfloat16", lambda: True)
    model: Any = tiny.model(vocab_size=len(words)).bfloat16()
    checkpoint.save(model, tmp_path / "model", tokenizer=words)
    exact = replace(CONFIG, dtype="float32")
    plain, drafted = (
        generate(tmp_path / "model", PROMPTS, draft=draft, config=exact)
        for draft in (None, "lookup")
    )
    assert plain.details["computed_in"] == drafted.details["computed_in"] == "float32"
    assert plain.details["texts"] == drafted.details["texts"] == texts(model.float(), words)
    in_its_own = generate(tmp_path / "model", PROMPTS, config=CONFIG)
    assert in_its_own.details["computed_in"] == "bfloat16"
    with pytest.raises(ConfigError, match="given by its name"):
        texts(model, words, config=exact)
