"""At a temperature the texts have the target's law, and each text its own random numbers."""

import itertools
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerFast

import decoders
import tiny
from attar.decode.distributions import Uniforms, Warp, draw
from attar.decode.drafters import PromptLookupDrafter, first_layers
from attar.decode.settings import SpecConfig
from attar.decode.speculative import SpeculativeDecoder
from attar.errors import CompatibilityError, ConfigError

SMALL: dict[str, Any] = {
    "vocab_size": 5,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
SAMPLED: dict[str, Any] = {"do_sample": True, "top_k": 0, "pad_token_id": 0}


def softer(model: Any) -> Any:
    """With logits small enough that every token has a chance."""
    with torch.no_grad():
        model.lm_head.weight.mul_(0.5)
    return model


def law(
    target: Any, prompt: list[int], length: int, *, top_k: int = 0
) -> dict[tuple[int, ...], float]:
    found: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(length):
        grown = {}
        for text, chance in found.items():
            with torch.no_grad():
                logits = target(input_ids=torch.tensor([[*prompt, *text]])).logits[0, -1].float()
            if top_k:
                logits[logits < logits.topk(top_k).values[-1]] = -torch.inf
            for token, p in enumerate(logits.softmax(-1).tolist()):
                grown[(*text, token)] = chance * p
        found = grown
    return found


DRAFTS: dict[str, Any] = {
    "model": lambda target: softer(tiny.model("llama", seed=7, num_hidden_layers=1, **SMALL)),
    "layers": lambda target: first_layers(target, 2),
    "lookup": lambda target: PromptLookupDrafter(),
}


@pytest.mark.parametrize("top_k", [0, 3])
@pytest.mark.parametrize("verification", ["token", "block"])
@pytest.mark.parametrize("draft", DRAFTS)
def test_texts_have_the_target_s_law(draft: str, verification: Any, top_k: int) -> None:
    target = softer(tiny.model("llama", **SMALL))
    prompt, rows, calls = [1, 3, 1, 3], 1000, 2
    counts: dict[tuple[int, ...], int] = dict.fromkeys(itertools.product(range(5), repeat=3), 0)
    for call in range(calls):
        config = SpecConfig(
            policy="constant", draft_tokens=2, verification=verification, seed=1000 * call
        )
        decoder = SpeculativeDecoder(target, DRAFTS[draft](target), config=config)
        found = decoder.generate(
            torch.tensor([prompt] * rows), max_new_tokens=3, **(SAMPLED | {"top_k": top_k})
        )
        for row in found.sequences[:, len(prompt) :].tolist():
            counts[tuple(row)] += 1
    expected = law(target, prompt, 3, top_k=top_k)
    for text, chance in expected.items():
        if not chance:
            assert not counts[text]
    kept = [text for text, chance in expected.items() if chance * rows * calls >= 5]
    rest = [text for text in expected if text not in kept]
    seen = [counts[text] for text in kept] + [sum(counts[text] for text in rest)]
    wanted = [expected[text] for text in kept] + [sum(expected[text] for text in rest)]
    if wanted[-1] < 1e-9:
        seen, wanted = seen[:-1], wanted[:-1]
    total = sum(wanted)
    assert chisquare(seen, [rows * calls * p / total for p in wanted]).pvalue > 1e-3


@pytest.mark.parametrize("verification", ["token", "block"])
def test_a_draft_that_is_the_target_is_always_right(verification: Any) -> None:
    target = decoders.model_of("llama")
    config = SpecConfig(policy="constant", draft_tokens=3, verification=verification, seed=1)
    decoder = SpeculativeDecoder(target, target, config=config)
    found = decoder.generate(tiny.ids(3, 5), max_new_tokens=24, min_new_tokens=24, **SAMPLED)
    assert set(found.stats.acceptance) == {1.0}
    assert found.stats.block_efficiency == 4


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
@pytest.mark.parametrize("policy", ["constant", "heuristic", "confidence"])
def test_a_row_does_not_depend_on_its_neighbours(family: str, policy: Any) -> None:
    target, rows = decoders.model_of(family), 4
    inputs = tiny.ids(rows, 6, seed=3)
    mask = torch.ones_like(inputs)
    for row in range(1, rows):
        inputs[row, :row], mask[row, :row] = 0, 0
    options = SAMPLED | {"max_new_tokens": 12, "temperature": 0.7}
    config = SpecConfig(policy=policy, draft_tokens=3, seed=50)
    draft = first_layers(target, 1)
    together = SpeculativeDecoder(target, draft, config=config).generate(
        inputs, attention_mask=mask, **options
    )
    for row in range(rows):
        config = SpecConfig(policy=policy, draft_tokens=3, seed=50 + row)
        alone = SpeculativeDecoder(target, draft, config=config).generate(
            inputs[row : row + 1, row:], **options
        )
        text = alone.sequences[0].tolist()
        found = together.sequences[row, row:].tolist()
        assert found[: len(text)] == text
        assert set(found[len(text) :]) <= {0}


def test_the_seed_decides() -> None:
    target, inputs = decoders.model_of("llama"), tiny.ids(2, 5)

    def texts(seed: int | None) -> list[list[int]]:
        decoder = SpeculativeDecoder(
            target, first_layers(target, 1), config=SpecConfig(policy="constant", seed=seed)
        )
        return decoder.generate(inputs, max_new_tokens=12, **SAMPLED).sequences.tolist()

    assert texts(1) == texts(1) != texts(2)
    torch.manual_seed(0)
    first = texts(None)
    torch.manual_seed(0)
    assert texts(None) == first


def test_a_padded_vocabulary_is_cut() -> None:
    """Of two embeddings of one tokenizer one may be padded; those rows are never drafted."""
    target = decoders.model_of("llama")
    for size in (56, 72):
        draft = tiny.model("llama", seed=4, num_hidden_layers=1, vocab_size=size)
        decoder = SpeculativeDecoder(target, draft, config=SpecConfig(policy="constant", seed=2))
        for options in (SAMPLED, {"do_sample": False, "pad_token_id": 0}):
            found = decoder.generate(tiny.ids(2, 5), max_new_tokens=16, **options)
            assert int(found.sequences.max()) < tiny.VOCAB
            if not options["do_sample"]:
                wanted = target.generate(tiny.ids(2, 5), max_new_tokens=16, **options)
                assert found.sequences.tolist() == wanted.tolist()


# ------------------------------------------------------------------------------------------ lossy


def kept(target: Any, **options: Any) -> tuple[list[list[int]], float]:
    config = SpecConfig(policy="constant", draft_tokens=3, seed=7, **options)
    draft = tiny.model("llama", seed=7, num_hidden_layers=1).double()
    decoder = SpeculativeDecoder(target, draft, config=config)
    found = decoder.generate(tiny.ids(6, 5), max_new_tokens=20, min_new_tokens=20, **SAMPLED)
    assert found.stats.lossy == options.get("lossy")
    return found.sequences.tolist(), found.stats.block_efficiency


@pytest.fixture(scope="module")
def plainly() -> tuple[Any, list[list[int]], float]:
    """A target, its texts by exact verification, and their block efficiency."""
    target = softer(softer(decoders.model_of("llama")))
    return target, *kept(target)


@pytest.mark.parametrize("lossy", ["lin", "sq", "exp", "ensemble"])
def test_a_lossy_verification_keeps_more_and_at_one_nothing_else(lossy: str, plainly: Any) -> None:
    target, exact, least = plainly
    assert kept(target, lossy=lossy, epsilon=1.0) == (exact, least)
    texts, mild = kept(target, lossy=lossy, epsilon=0.6)
    assert texts != exact
    _, much = kept(target, lossy=lossy, epsilon=0.05)
    assert least < mild < much


def test_typical_tokens_are_kept(plainly: Any) -> None:
    target, _, least = plainly
    assert kept(target, lossy="typical", epsilon=0.09)[1] > least


def test_a_lenient_greedy_text_takes_what_is_nearly_as_likely() -> None:
    target = softer(softer(decoders.model_of("llama")))
    options: dict[str, Any] = {"max_new_tokens": 32, "min_new_tokens": 32, "do_sample": False}
    options["pad_token_id"] = 0
    wanted = target.generate(tiny.ids(4, 5), **options)
    draft = tiny.model("llama", seed=7, num_hidden_layers=1).double()
    found = []
    for epsilon in (1.0, 0.5, 0.01):
        config = SpecConfig(policy="constant", lossy="lin", epsilon=epsilon)
        decoder = SpeculativeDecoder(target, draft, config=config)
        found.append(decoder.generate(tiny.ids(4, 5), **options))
    assert found[0].sequences.tolist() == wanted.tolist()
    assert found[0].stats.block_efficiency < found[2].stats.block_efficiency
    with torch.no_grad():  # every token is at least half as likely as the likeliest
        chances = target(input_ids=found[1].sequences).logits[:, 4:-1].softmax(-1)
    taken = chances.gather(-1, found[1].sequences[:, 5:, None])[..., 0]
    free = chances.clone()
    free[..., 2] = 0  # the end of the text was not allowed
    assert bool((taken >= 0.5 * free.amax(-1) - 1e-9).all())


# ------------------------------------------------------------------------------------------ draws


def test_draws_follow_the_law_and_never_the_impossible() -> None:
    chances = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25, 0.0])
    points = torch.tensor([0.0, 0.2499, 0.25, 0.7499, 0.75, 1 - 2**-24])
    assert draw(chances.expand(6, 6), points).tolist() == [1, 1, 3, 3, 4, 4]
    assert draw(7 * chances.expand(6, 6), points).tolist() == [1, 1, 3, 3, 4, 4]


def test_a_row_s_numbers_are_its_own() -> None:
    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in range(3)]

    one, other = Uniforms(generators()), Uniforms(generators())
    first = torch.cat([one.take([300, 2, 1])[0], one.take([5, 0, 700])[0][:5]])
    assert torch.equal(first, other.take([305, 1, 0])[0])
    other.select([2, 0])
    assert torch.equal(other.take([701, 0])[0], torch.rand(1024, generator=generators()[2])[:701])


# ---------------------------------------------------------------------------------------- refused


def test_what_cannot_be_taken_back_is_refused() -> None:
    target = decoders.model_of("llama")
    decoder = SpeculativeDecoder(target, first_layers(target, 1))
    with pytest.raises(CompatibilityError, match=r"UnbatchedClassifierFree.*keeps a state"):
        decoder.generate(tiny.ids(1, 4), max_new_tokens=4, guidance_scale=1.5)
    with pytest.raises(ConfigError, match="num_beams=2"):
        decoder.generate(tiny.ids(1, 4), max_new_tokens=4, num_beams=2)
    with pytest.raises(CompatibilityError, match="must be smaller"):
        SpeculativeDecoder(first_layers(target, 1), target)
    with pytest.raises(CompatibilityError, match="of one kind"):
        SpeculativeDecoder(decoders.encoder_decoder(), first_layers(target, 1))
    for changes, message in (
        ({"policy": "fast"}, "policy must be one of cost, constant"),
        ({"draft_tokens": 0}, "at least 1; found 0"),
        ({"threshold": 2.0}, "between 0 and 1; found 2"),
        ({"draft_temperature": -1.0}, "0 or more; found -1"),
        ({"lossy": "much"}, "lossy must be one of lin, sq"),
        ({"epsilon": 0.5}, "lossy is unset"),
        ({"lossy": "lin", "epsilon": 0.0}, "above 0 and at most 1; found 0"),
        ({"lossy": "lin", "verification": "block"}, "goes token by token"),
    ):
        with pytest.raises(ConfigError, match=message):
            SpecConfig(**changes)


def test_what_each_text_may_say_is_told_by_its_number() -> None:
    target = decoders.model_of("llama")

    def allowed(number: int, ids: Tensor) -> list[int]:
        return [10 + number, 20 + number, 30 + number]

    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    decoder = SpeculativeDecoder(target, first_layers(target, 1))
    found = decoder.generate(tiny.ids(3, 4), prefix_allowed_tokens_fn=allowed, **options)
    wanted = target.generate(tiny.ids(3, 4), prefix_allowed_tokens_fn=allowed, **options)
    assert found.sequences.tolist() == wanted.tolist()


def test_streams_and_returns_as_generate_does() -> None:
    target = decoders.model_of("llama")
    decoder = SpeculativeDecoder(target, first_layers(target, 2))
    said: list[int] = []

    class Streamer:
        def put(self, value: Tensor) -> None:
            said.extend(value.flatten().tolist())

        def end(self) -> None:
            said.append(-1)

    given = GenerationConfig(max_new_tokens=9, do_sample=False, return_dict_in_generate=True)
    inputs = tiny.ids(1, 4)
    found = target.generate(
        inputs,
        generation_config=given,
        custom_generate=decoder,
        text_streamer=Streamer(),
        pad_token_id=0,
    )
    assert said == [*found.sequences[0].tolist(), -1]
    plain = target.generate(inputs, max_new_tokens=9, do_sample=False, pad_token_id=0)
    assert found.sequences.tolist() == plain.tolist()
    said.clear()
    decoder.generate(inputs, streamer=Streamer(), max_new_tokens=9, do_sample=False, pad_token_id=0)
    assert said[:-1] == plain[0].tolist()
    with pytest.raises(ConfigError, match="one text at a time; found 2"):
        decoder.generate(tiny.ids(2, 4), max_new_tokens=4, streamer=Streamer())


def test_stop_strings_end_a_text_inside_a_block() -> None:
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    built.train_from_iterator(["some words"], trainers.BpeTrainer(initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=built)
    target = tiny.model("llama", vocab_size=len(tokenizer)).double()
    options: dict[str, Any] = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": 0}
    free = target.generate(tiny.ids(1, 4), **options)[0, 4:]
    words = [tokenizer.decode([token]) for token in free]
    place = next(i for i, word in enumerate(words) if i > 2 and word.isascii() and word.strip())
    stops = {"stop_strings": words[place], "tokenizer": tokenizer}
    decoder = SpeculativeDecoder(target, target, config=SpecConfig(policy="constant"))
    found = decoder.generate(tiny.ids(1, 4), **options, **stops)
    wanted = target.generate(tiny.ids(1, 4), **options, **stops)
    assert found.sequences.tolist() == wanted.tolist()
    assert wanted.shape[1] <= 5 + place
    with pytest.raises(ConfigError, match="give it as tokenizer"):
        decoder.generate(tiny.ids(1, 4), stop_strings="x", **options)


def test_the_draft_s_temperature_is_its_own() -> None:
    warp = Warp.of([], do_sample=True)
    assert warp.at(None) is warp
    assert warp.at(0.0).greedy
    assert not Warp.of([], do_sample=False).at(0.5).greedy


def test_what_it_does_not_return_or_read_is_told() -> None:
    target = tiny.model("llama")
    decoder = SpeculativeDecoder(target, first_layers(target, 1))
    ids = tiny.ids(1, 4)
    options: dict[str, Any] = {"max_new_tokens": 3, "pad_token_id": 0, "custom_generate": decoder}
    with pytest.raises(ConfigError, match="output_scores"):
        target.generate(ids, output_scores=True, return_dict_in_generate=True, **options)  # pyright: ignore
    with pytest.raises(ConfigError, match="inputs_embeds"):
        target.generate(inputs_embeds=torch.randn(1, 4, 32), **options)  # pyright: ignore
