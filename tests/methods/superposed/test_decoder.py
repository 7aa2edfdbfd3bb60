"""Drafts from a model: identities with plain decoding, ends, batches, and what a store adds."""

import copy
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    MambaConfig,
    PreTrainedTokenizerFast,
    T5Config,
)

import characters
import far
import scene
import tiny
from attar.decode.ngram_live import LiveStore
from attar.errors import CompatibilityError, ConfigError
from attar.methods.superposed import SuperposedConfig, SuperposedDecoder
from attar.methods.superposed.core import Draft, Row, mixing_weights
from attar.methods.superposed.reader import Reader
from counted import Counted

CONFIG = SuperposedConfig(heal=False, min_hit_rate=0, temperature=0.5, max_new_tokens=6)
PROMPTS = [tiny.ids(1, n, seed=n)[0].tolist() for n in (12, 5, 9)]
WORDS = characters.letters()


def decoder_of(model: Any, *, store: Any = None, **options: Any) -> SuperposedDecoder:
    return SuperposedDecoder(model, WORDS, config=replace(CONFIG, **options), store=store)


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return scene.tokenizer(scene.write_text(tmp_path_factory.mktemp("text")), vocab_size=320)


def watched(decoder: SuperposedDecoder, prompt: Sequence[int]) -> tuple[Row, list[Row]]:
    """The row behind the last step, and before each."""
    seen: list[Row] = []
    rows, _ = decoder.search(
        decoder.reader(1),
        [decoder.prompt(prompt)],
        config=decoder.config,
        watch=lambda rows: seen.extend(rows),
    )
    return rows[0], seen


# ----------------------------------------------------------------- the model, and plain decoding


class Kept(Reader):
    """A reader that keeps the logits of each pass."""

    def read(self, rows: Sequence[Row]) -> torch.Tensor:
        self.kept = [] if not self.forwards else self.kept
        self.kept.append(super().read(rows))
        return self.kept[-1]


@pytest.mark.parametrize("family", tiny.CAUSAL)
def test_one_draft_is_greedy_decoding_in_every_family(family: str) -> None:
    """At any temperature; and the embedding of a token, unmixed, does what its id does."""
    model: Any = tiny.model(family)
    for tau, prompt in zip((0.06, 1.0, 3.0), PROMPTS, strict=True):
        ids = torch.tensor([prompt])
        plain = model.generate(
            ids, do_sample=False, max_new_tokens=6, output_logits=True, return_dict_in_generate=True
        )
        decoder = decoder_of(model, k=1, candidates=4, temperature=tau, refill=False)
        reader = Kept(model, 1)
        (ours,) = decoder.complete(reader, [decoder.prompt(prompt)])
        assert ours.drafts[0].token_ids == tuple(plain.sequences[0, len(prompt) :].tolist())
        for one, other in zip(reader.kept, plain.logits, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("family", tiny.CAUSAL)
def test_a_one_hot_mixture_is_the_id_bit_for_bit(family: str) -> None:
    model = tiny.model(family)
    tokens = PROMPTS[0]
    by_id, mixed = (Reader(model, 1) for _ in range(2))
    first = Row((), 3, lambda _: False)
    with torch.no_grad():
        for reader in (by_id, mixed):
            reader.begin([tokens])
            reader.read([first])
        alive = (Draft((9,), 0.0), Draft((11,), -4000.0), Draft((12,), -4000.0))
        expected = by_id.read([replace(first, alive=alive[:1])])
        given = mixed.read([replace(first, alive=alive, exact=False)])
    assert mixing_weights([draft.score for draft in alive]).tolist() == [1, 0, 0]
    assert torch.equal(given, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_kept(dtype: torch.dtype) -> None:
    """One draft is greedy decoding in it; the model is given mixtures of its own type."""
    model: Any = tiny.model("llama", eos_token_id=None).to(dtype)
    ids = torch.tensor([PROMPTS[0]])
    plain = model.generate(ids, do_sample=False, max_new_tokens=6)[0, 12:].tolist()
    (only,) = decoder_of(model, k=1, candidates=4).generate(PROMPTS[0]).drafts
    assert list(only.token_ids) == plain
    drafts = decoder_of(model, rescore="exact").generate(PROMPTS[0]).drafts
    sums = [log_prob(model.float(), PROMPTS[0], draft.token_ids) for draft in drafts]
    assert [draft.logprob for draft in drafts] == pytest.approx(sums, rel=0.1)


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_on_another_device_the_drafts_are_the_same(
    family: str, bpe: PreTrainedTokenizerFast
) -> None:
    """Every tensor is made where its inputs lie, whatever torch's default device is."""
    model: Any = tiny.model(family, vocab_size=len(bpe), eos_token_id=None).double()
    store = LiveStore(bpe)
    store.add(["def return import class self none"] * 3)
    away = far.moved(copy.deepcopy(model))
    short = replace(CONFIG, max_new_tokens=4)

    def drafts(model: Any) -> list[Any]:
        made = []
        for config in (replace(short, reset_every=2), replace(short, rescore="exact", heal=True)):
            decoder = SuperposedDecoder(model, bpe, config=config, store=store)
            found = decoder.generate_all(["def return r", "x = ("])
            stream = decoder.open("def return import")
            found += [stream.drafts(), stream.commit(0, n_tokens=2).drafts()]
            made += [[(one.token_ids, one.score, one.logprob) for one in f.drafts] for f in found]
        return made

    expected = drafts(model)
    for default in (nullcontext(), far.DEVICE):
        with far.device(), default:
            assert drafts(away) == expected


def test_a_model_in_training_mode_writes_without_dropout_and_stays_in_it() -> None:
    model = tiny.model("gpt2", resid_pdrop=0.5, eos_token_id=None)
    expected = decoder_of(model).generate(PROMPTS[0]).drafts
    model.train()
    assert decoder_of(model).generate(PROMPTS[0]).drafts == expected
    assert model.training


def test_models_that_cannot_read_mixtures_are_refused() -> None:
    state = MambaConfig(
        vocab_size=tiny.VOCAB, hidden_size=16, state_size=4, num_hidden_layers=1, pad_token_id=0
    )
    with pytest.raises(CompatibilityError, match=r"mamba .*(running state|decoder)"):
        decoder_of(AutoModelForCausalLM.from_config(state))
    coded = AutoModelForSeq2SeqLM.from_config(
        T5Config(vocab_size=64, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    )
    with pytest.raises(CompatibilityError, match="t5 is not a decoder"):
        decoder_of(coded)
    layered = tiny.model()
    layered.config.hidden_size_per_layer_input = 8  # as Gemma 3n and 4 have it
    with pytest.raises(CompatibilityError, match="in every layer, by its id"):
        decoder_of(layered)
    scaled: Any = tiny.model()
    inner = scaled.model.forward

    def forward(input_ids: Any = None, inputs_embeds: Any = None, **inputs: Any) -> Any:
        if input_ids is not None:  # scales what it looks up itself
            inputs_embeds = 3 * scaled.get_input_embeddings()(input_ids)
        return inner(inputs_embeds=inputs_embeds, **inputs)

    scaled.model.forward = forward
    with pytest.raises(CompatibilityError, match="other logits for the embedding"):
        decoder_of(scaled)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_passes_and_cache_do_not_depend_on_the_number_of_drafts(k: int) -> None:
    decoder = decoder_of(tiny.model(eos_token_id=None), k=k)
    found = decoder.generate(PROMPTS[0])
    assert (found.forwards, found.cache_length) == (6, len(PROMPTS[0]) + 5)
    row, _ = watched(decoder, PROMPTS[0])
    assert len({draft.tokens for draft in row.alive}) == k
    assert [len(draft.tokens) for draft in row.alive] == [6] * k
    scores = [draft.score for draft in found.drafts]
    assert scores == sorted(scores, reverse=True)
    assert found.drafts[0].score_perplexity >= 1


@pytest.mark.parametrize(
    ("family", "changes"),
    [("llama", {}), ("gpt2", {}), ("mistral", {"sliding_window": 8})],
)
def test_rows_of_a_batch_are_as_they_would_be_alone(family: str, changes: dict[str, Any]) -> None:
    model: Any = tiny.model(family, **changes).double()
    store = Counted([prompt * 3 for prompt in PROMPTS])
    # a token that ends the drafts of some rows early
    some = decoder_of(model, store=store).generate(PROMPTS[1]).drafts[0].token_ids[2]
    model.generation_config.eos_token_id = some
    for options in ({}, {"refill": False}, {"reset_every": 2}, {"rescore": "exact"}):
        decoder = decoder_of(model, store=store, **options)
        together = decoder.generate_all(PROMPTS)
        for prompt, found in zip(PROMPTS, together, strict=True):
            alone = decoder.generate(prompt)
            assert [d.token_ids for d in found.drafts] == [d.token_ids for d in alone.drafts]
            scores = [d.score for d in alone.drafts]
            assert [d.score for d in found.drafts] == pytest.approx(scores, abs=1e-9)


# ---------------------------------------------------------------------------------- where it ends


def test_a_draft_that_ends_is_returned_and_neither_extended_nor_mixed() -> None:
    model: Any = tiny.model()
    model.generation_config.eos_token_id = (
        decoder_of(model).generate(PROMPTS[0]).drafts[1].token_ids[1]
    )
    end = model.generation_config.eos_token_id
    decoder = decoder_of(model)
    row, before = watched(decoder, PROMPTS[0])
    assert row.finished
    for draft in row.finished:
        assert draft.tokens[-1] == end
        assert end not in draft.tokens[:-1]
    for one in before:
        assert len(one.alive) == 3 or one.exact  # another draft has taken its place
        assert not any(end in draft.tokens for draft in one.alive)
    found = decoder.generate(PROMPTS[0]).drafts
    ended = [draft for draft in found if draft.finish_reason == "stop"]
    assert {draft.token_ids for draft in ended} <= {draft.tokens for draft in row.finished}
    best = sorted(row.finished + row.alive, key=lambda one: -one.mean_score)
    assert found[0].token_ids == best[0].tokens  # compared by score per token
    closed, before = watched(decoder_of(model, refill=False), PROMPTS[0])
    assert len(closed.alive) + len(closed.finished) == 3
    assert min(len(one.alive) for one in before[1:]) < 3


def test_nothing_is_read_once_all_drafts_have_ended() -> None:
    model: Any = tiny.model()
    model.generation_config.eos_token_id = list(range(tiny.VOCAB))
    found = decoder_of(model, refill=False).generate(PROMPTS[0])
    assert found.forwards == 1
    assert [len(draft.token_ids) for draft in found.drafts] == [1]  # all say nothing
    assert found.drafts[0].text == ""


def test_a_stop_string_ends_a_draft_before_it(bpe: PreTrainedTokenizerFast) -> None:
    model = tiny.model(vocab_size=len(bpe), eos_token_id=None)
    plain = SuperposedDecoder(model, bpe, config=CONFIG).generate("def return class")
    text = next(draft.text for draft in plain.drafts if len(draft.text.strip()) > 3)
    stop = text[2:4]
    config = replace(CONFIG, stop=(stop,))
    found = SuperposedDecoder(model, bpe, config=config).generate("def return class").drafts
    assert any(draft.finish_reason == "stop" for draft in found)
    assert not any(stop in draft.text for draft in found)
    texts = [draft.text.strip() for draft in found]
    assert len(texts) == len({*texts})


def test_drafts_of_one_text_are_one_draft() -> None:
    model: Any = tiny.model()
    model.generation_config.eos_token_id = list(range(3, tiny.VOCAB))
    drafts = decoder_of(model, k=4).generate(PROMPTS[0]).drafts
    assert [draft.text.strip() for draft in drafts].count("") == 1


def test_drafts_that_differ_in_spaces_around_them_are_one() -> None:
    decoder = decoder_of(tiny.model(), k=4)
    texts = [WORDS(text)["input_ids"] for text in ("word ", "word", "words", " word")]
    alive = tuple(Draft(tuple(ids), -float(n) * len(ids)) for n, ids in enumerate(texts))
    prompt = decoder.prompt(PROMPTS[0])
    short = Draft(tuple(WORDS("no")["input_ids"]), -5.0, ended=True)  # -2.5 a token
    row = Row(prompt.context, 4, lambda _: False, alive, (short,))
    chosen = [draft.tokens for draft in decoder._chosen(row, prompt)]
    assert chosen == [alive[0].tokens, alive[2].tokens, short.tokens]


def test_a_caller_can_end_it_early() -> None:
    asked: list[int] = []
    decoder = decoder_of(tiny.model(eos_token_id=None))
    (found,) = decoder.generate_all([PROMPTS[0]], until=lambda: len(asked) == 2 or asked.append(1))
    assert [len(draft.token_ids) for draft in found.drafts] == [3, 3, 3]
    assert found.forwards == 3


# ------------------------------------------------------------------------------------- extensions


@torch.no_grad()
def log_prob(model: Any, prompt: Sequence[int], tokens: Sequence[int]) -> float:
    rows = model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0].log_softmax(-1)
    return sum(float(rows[len(prompt) - 1 + i, token]) for i, token in enumerate(tokens))


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_exact_scores_are_the_models_own_and_rank_the_drafts(family: str) -> None:
    changes = {"sliding_window": 8} if family == "gemma3_text" else {}
    decoder = decoder_of(model := tiny.model(family, **changes).double(), rescore="exact", k=4)
    for prompt, found in zip(PROMPTS, decoder.generate_all(PROMPTS), strict=True):
        assert found.forwards == 7
        sums = [log_prob(model, prompt, draft.token_ids) for draft in found.drafts]
        assert [draft.logprob for draft in found.drafts] == pytest.approx(sums)
        means = [one / len(draft.token_ids) for one, draft in zip(sums, found.drafts, strict=True)]
        assert means == sorted(means, reverse=True)


def test_each_first_token_keeps_a_draft_where_they_are_anchored() -> None:
    model = tiny.model(eos_token_id=None)
    likeliest = model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1].topk(5).indices
    anchored, _ = watched(decoder_of(model, k=5, anchor_first=True), PROMPTS[0])
    assert {draft.tokens[0] for draft in anchored.alive} == {*likeliest.tolist()}
    free, _ = watched(decoder_of(model, k=5), PROMPTS[0])
    assert len({draft.tokens[0] for draft in free.alive}) < 5


def test_a_reset_goes_on_from_one_draft_as_if_it_were_the_prompt() -> None:
    model = tiny.model(eos_token_id=None).double()
    decoder = decoder_of(model, reset_every=3, seed=4)
    row, before = watched(decoder, PROMPTS[0])
    assert [one.exact for one in before] == [True, False, False] * 2
    (kept,) = before[3].alive
    assert len(kept.tokens) == 3
    fresh = decoder_of(model, max_new_tokens=3).generate([*PROMPTS[0], *kept.tokens])
    assert [(*kept.tokens, *draft.token_ids) for draft in fresh.drafts] == [
        draft.tokens for draft in row.alive
    ]
    assert decoder.generate(PROMPTS[0]).cache_length == 12 + 5
    assert watched(decoder, PROMPTS[0])[0].alive == row.alive
    drawn = {
        watched(decoder_of(model, reset_every=3, seed=n), PROMPTS[0])[1][3].alive for n in range(9)
    }
    assert len(drawn) > 1
    # by weight: one draft has nearly all of it
    sure = [decoder_of(model, reset_every=3, seed=n, temperature=0.002) for n in range(5)]
    assert len({watched(one, PROMPTS[0])[1][3].alive for one in sure}) == 1


# ------------------------------------------------------------------------------ prompts and stores


def test_a_word_that_was_typed_in_part_is_taken_up(bpe: PreTrainedTokenizerFast) -> None:
    model = tiny.model(vocab_size=len(bpe), eos_token_id=None)
    decoder = SuperposedDecoder(model, bpe, config=replace(CONFIG, heal=True, k=2))
    for text in ("def return r", "def return "):
        prompt = decoder.prompt(text)
        whole = bpe(text)["input_ids"]
        assert prompt.ids == tuple(whole[:-1])
        assert bpe.decode(whole[-1:]) == prompt.typed == text[-len(prompt.typed) :]
        found = decoder.generate(text)
        for draft in found.drafts:
            full = bpe.decode([*prompt.ids, *draft.token_ids])
            assert full == text + draft.text  # nothing twice, nothing lost
    # in a batch each is as it would be alone
    model.double()
    texts = ["x = (", "def return r"]
    for text, found in zip(texts, decoder.generate_all(texts), strict=True):
        alone = decoder.generate(text).drafts
        assert [draft.token_ids for draft in found.drafts] == [one.token_ids for one in alone]
    # what is whole, or given as ids, is read as it is
    assert decoder.prompt("x = (").ids == tuple(bpe("x = (")["input_ids"])
    assert decoder.prompt([5, 6]).typed == ""
    plain = SuperposedDecoder(model, bpe, config=CONFIG)
    assert plain.prompt("def return r").ids == tuple(bpe("def return r")["input_ids"])


def test_text_behind_the_cursor_needs_tokens_for_it(bpe: PreTrainedTokenizerFast) -> None:
    model = tiny.model(vocab_size=len(bpe) + 4, eos_token_id=None)
    with pytest.raises(CompatibilityError, match="suffix needs a model that was trained to fill"):
        SuperposedDecoder(model, bpe, config=CONFIG).generate("def ", suffix="return")
    able = scene.tokenizer_with(bpe, ["<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<fim_pad>"])
    decoder = SuperposedDecoder(model, able, config=replace(CONFIG, max_new_tokens=2))
    before, behind = (able(text)["input_ids"] for text in ("def (", "return"))
    prefix, suffix, middle, pad = (
        able.get_vocab()[f"<fim_{name}>"] for name in ("prefix", "suffix", "middle", "pad")
    )
    prompt = decoder.prompt("def (", suffix="return")
    assert prompt.ids == (prefix, *before, suffix, *behind, middle)
    assert prompt.context == tuple(before)  # what a store and a decoder of tokens go by
    assert {pad, middle} <= prompt.ends
    assert decoder.prompt(prompt.ids) == prompt
    begun = able("(x")["input_ids"]
    assert decoder.prompt([*prompt.ids, *begun]).context == (*before, *begun)
    assert decoder.prompt(prompt.ids[:-1]).context == prompt.ids[:-1]  # asks for nothing
    assert decoder.generate("def (", suffix="return").drafts
    healing = SuperposedDecoder(model, able, config=replace(CONFIG, heal=True))
    healed = healing.prompt("def return r", suffix="return")
    *kept, last = able("def return r")["input_ids"]
    assert healed.typed == able.decode([last])
    assert (healed.ids[: len(kept) + 2], healed.context) == ((prefix, *kept, suffix), tuple(kept))
    with pytest.raises(ConfigError, match="suffix needs a prompt of text"):
        decoder.generate([4, 5], suffix="return")


def test_bos_is_for_the_model_and_not_for_the_store() -> None:
    tokenizer = characters.letters_behind_bos()
    decoder = SuperposedDecoder(tiny.model(), tokenizer, config=CONFIG)
    prompt = decoder.prompt("hello")
    assert prompt.ids[0] == 1
    assert prompt.context == prompt.ids[1:]


def test_a_store_of_another_domain_is_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny.model(eos_token_id=None)
    store, other = Counted([PROMPTS[0] * 2]), Counted([PROMPTS[1] * 2])
    with caplog.at_level(logging.WARNING):
        found = decoder_of(model, store=other, min_hit_rate=0.1).generate(PROMPTS[0])
    assert "the store knows 0% of the 4-grams" in caplog.text
    assert (found.store_hit_rate, found.store_used) == (0, False)
    assert found.drafts == decoder_of(model).generate(PROMPTS[0]).drafts
    caplog.clear()
    found = decoder_of(model, store=store, min_hit_rate=0.1).generate(PROMPTS[0])
    assert (found.store_hit_rate, found.store_used) == (1, True)
    for draft in found.drafts:
        text, n = [*PROMPTS[0], *draft.token_ids], len(PROMPTS[0])
        seen = [bool(store.seen(text[: n + i])[2:].any()) for i in range(len(draft.token_ids))]
        assert draft.ngram_hit_rate == pytest.approx(sum(seen) / len(seen))
        assert 0 < sum(seen) < len(seen)
    assert not caplog.text
    told = decoder_of(model, store=other, min_hit_rate=0.1)
    for one in (told, told.with_config(replace(told.config, k=2)), told):
        one.generate(PROMPTS[0])
    assert caplog.text.count("the store knows") == 1
    short = decoder_of(model, store=other, min_hit_rate=0.1).generate(PROMPTS[0][:2])
    assert (short.store_hit_rate, short.store_used) == (None, True)
    threes = Counted([PROMPTS[0] * 2], order=3)  # tell nothing of a domain
    found = decoder_of(model, store=threes, min_hit_rate=0.1).generate(PROMPTS[0])
    assert (found.store_hit_rate, found.store_used) == (None, True)
    assert found.drafts[0].ngram_hit_rate is None


def test_prompts_that_do_not_fit_are_refused() -> None:
    decoder = decoder_of(tiny.model())
    with pytest.raises(ConfigError, match="a prompt must be text of at least one token"):
        decoder.generate([])
    with pytest.raises(ConfigError, match="64 positions"):
        decoder.generate([3] * 60)
    with pytest.raises(CompatibilityError, match="64 embeddings"):
        decoder.generate([70])
