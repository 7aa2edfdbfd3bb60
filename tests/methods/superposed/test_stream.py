"""Drafts while somebody types: equal to fresh ones, without reading the prompt again."""

import inspect
from dataclasses import replace
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

import scene
import tiny
from attar.decode.ngram_live import LiveStore
from attar.errors import ConfigError
from attar.methods.superposed import Completions, SuperposedConfig, SuperposedDecoder

CONFIG = SuperposedConfig(heal=False, temperature=0.5, max_new_tokens=5)
PROMPT = "def return import class self none true range print yield def"


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return scene.tokenizer(scene.write_text(tmp_path_factory.mktemp("text")), vocab_size=320)


def decoder_of(
    bpe: PreTrainedTokenizerFast, family: str = "llama", *, store: Any = None, **options: Any
) -> SuperposedDecoder:
    changes: dict[str, Any] = {"sliding_window": 8} if family == "mistral" else {}
    model = tiny.model(family, vocab_size=len(bpe), eos_token_id=None, **changes).double()
    return SuperposedDecoder(model, bpe, config=replace(CONFIG, **options), store=store)


def tokens(found: Completions) -> list[tuple[int, ...]]:
    return [draft.token_ids for draft in found.drafts]


def widths(decoder: SuperposedDecoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each pass from now on reads."""
    seen: list[int] = []
    model: Any = decoder.model
    plain = model.forward

    def forward(*args: Any, **inputs: Any) -> Any:
        read = inputs.get("input_ids")
        seen.append((inputs["inputs_embeds"] if read is None else read).shape[1])
        return plain(*args, **inputs)

    # `forward` decides by its signature what it is given
    forward.__signature__ = inspect.signature(plain)  # pyright: ignore[reportFunctionMemberAccess]
    monkeypatch.setattr(model, "forward", forward)
    return seen


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
@pytest.mark.parametrize("rescore", [None, "exact"])
def test_a_draft_that_is_taken_goes_on_as_if_it_had_been_typed(
    family: str,
    rescore: Any,
    bpe: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = LiveStore(bpe, order=3)
    store.add([bpe.decode(ids) for ids in tiny.ids(300, 20).tolist()])
    decoder = decoder_of(bpe, family, store=store, min_hit_rate=0.0, rescore=rescore)
    stream = decoder.open(PROMPT)
    first = stream.drafts()
    assert tokens(first) == tokens(decoder.generate(PROMPT))
    assert stream.drafts() is first
    ids = bpe(PROMPT)["input_ids"]
    for index, count in ((1, 3), (0, None), (0, 1)):
        draft = stream.drafts().drafts[index]
        taken = draft.token_ids[:count]
        ids = [*ids, *taken]
        before = stream.text
        read = widths(decoder, monkeypatch)
        found = stream.commit(index, n_tokens=count).drafts()
        assert read[0] == len(taken)  # and nothing of what was read before
        assert stream.text == before + (draft.text if count is None else bpe.decode(taken))
        fresh = decoder.generate(ids)
        assert tokens(found) == tokens(fresh)
        scores = [one.score for one in fresh.drafts]
        assert [one.score for one in found.drafts] == pytest.approx(scores, abs=1e-9)


@pytest.mark.parametrize("heal", [False, True])
def test_what_is_typed_is_read_like_a_new_prompt(
    heal: bool, bpe: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = decoder_of(bpe, heal=heal)
    stream = decoder.open(PROMPT)
    stream.drafts()
    read = widths(decoder, monkeypatch)
    for piece in (" ra", "nge", " (x) "):
        assert tokens(stream.type(piece).drafts()) == tokens(decoder.generate(stream.text))
        assert read[0] < 6 < len(bpe(PROMPT)["input_ids"])
        read.clear()
    text = stream.drafts().drafts[0].text
    assert stream.commit(0, chars=2).text == f"{PROMPT} range (x) {text[:2]}"
    assert tokens(stream.drafts()) == tokens(decoder.generate(stream.text))


def test_text_behind_the_cursor_stays_there(bpe: PreTrainedTokenizerFast) -> None:
    able = scene.tokenizer_with(bpe, ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"])
    model = tiny.model(vocab_size=len(able), eos_token_id=None).double()
    decoder = SuperposedDecoder(model, able, config=CONFIG)
    stream = decoder.open("def return", suffix=" class self")
    for move in (lambda: stream.commit(0, n_tokens=2), lambda: stream.type(" x")):
        before = stream.text
        move()
        assert stream.text.startswith(before)
        assert tokens(stream.drafts()) == tokens(
            decoder.generate(stream.text, suffix=" class self")
        )


def test_a_stop_is_not_taken_over(bpe: PreTrainedTokenizerFast) -> None:
    stop = decoder_of(bpe).generate(PROMPT).drafts[0].text.strip()[3:5]
    stream = decoder_of(bpe, stop=(stop,)).open(PROMPT)
    found = stream.drafts().drafts
    index = next(i for i, draft in enumerate(found) if draft.finish_reason == "stop")
    assert stream.commit(index).text == PROMPT + found[index].text
    assert stop not in stream.text[len(PROMPT) :]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"index": 3}, "index must be from 0 to"),
        ({"index": 0, "n_tokens": 9}, "n_tokens must be from 0 to 5"),
        ({"index": 0, "chars": 0}, "chars must be from 1 to"),
        ({"index": 0, "chars": 1, "n_tokens": 1}, "without n_tokens"),
    ],
)
def test_what_is_not_there_cannot_be_taken(
    wrong: dict[str, int], said: str, bpe: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(ConfigError, match=said):
        decoder_of(bpe).open(PROMPT).commit(wrong.pop("index"), **wrong)
