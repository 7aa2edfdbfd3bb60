"""What is written is what the target alone would write, whoever drafts."""

import copy
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

import decoders
import tiny
from attar.decode import cache as room
from attar.decode.cache import Holes
from attar.decode.distributions import Uniforms
from attar.decode.drafters import KeepDrafting, PromptLookupDrafter, Proposal, first_layers
from attar.decode.settings import SpecConfig
from attar.decode.speculative import SpeculativeDecoder
from attar.errors import CompatibilityError, ConfigError

PAD = 0


class Wrong:
    """Always proposes something else than the target wants."""

    def __init__(self, target: PreTrainedModel) -> None:
        self.target: Any = target

    def start(self, padding: Sequence[Sequence[int]], **extra: Any) -> None:
        pass

    def propose(
        self,
        rows: Sequence[Sequence[int]],
        counts: Sequence[int],
        *,
        uniforms: Uniforms,
        keep_drafting: KeepDrafting,
    ) -> Proposal:
        drafted = []
        for row, count in zip(rows, counts, strict=True):
            best = int(self.target(input_ids=torch.tensor([list(row)])).logits[0, -1].argmax())
            drafted.append([(best + 1) % tiny.VOCAB] * count)
        return Proposal(drafted, None, 0)

    def keep(self, lengths: Sequence[int]) -> None:
        pass

    def select(self, rows: Sequence[int]) -> None:
        pass


def draft_of(name: str, target: PreTrainedModel) -> Any:
    if name == "wrong":
        return Wrong(target)
    if name == "lookup":
        return PromptLookupDrafter()
    if name == "layers":
        return first_layers(target, 1)
    if name == "itself":
        return target
    return tiny.model("llama", seed=9, num_hidden_layers=1).to(target.dtype)


def padded(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[PAD] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return {"inputs": ids, "attention_mask": mask}


def prompts(count: int) -> dict[str, Tensor]:
    return padded([tiny.ids(1, 3 + 2 * i, seed=i)[0].tolist() for i in range(count)])


OPTIONS: dict[str, Any] = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": PAD}


def plain(target: Any, inputs: dict[str, Tensor], **options: Any) -> Tensor:
    return target.generate(**inputs, **(OPTIONS | options))


def assert_same(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize("draft", ["model", "layers", "lookup", "wrong", "itself"])
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("policy", ["cost", "constant", "heuristic", "confidence"])
def test_greedy_texts_are_the_target_s(draft: str, rows: int, policy: Any) -> None:
    target = decoders.model_of("llama")
    config = SpecConfig(policy=policy, draft_tokens=4)
    decoder = SpeculativeDecoder(target, draft_of(draft, target), config=config)
    found = decoder.generate(**prompts(rows), **OPTIONS)
    wanted = plain(target, prompts(rows))
    assert_same(found.sequences, wanted)
    lines = wanted[:, -24:].tolist()
    assert found.stats.tokens == sum(line.index(2) + 1 if 2 in line else 24 for line in lines)
    if draft == "wrong":
        assert sum(found.stats.accepted) == 0
    if draft == "itself" and policy == "constant":
        assert set(found.stats.acceptance) == {1.0}


@pytest.mark.parametrize("draft", ["model", "layers", "lookup"])
def test_gathering_the_cache_changes_nothing(draft: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keep, holes = Holes.keep, []

    def spy(self: Holes, lengths: Sequence[int]) -> None:
        keep(self, lengths)
        holes.append(self.slots.shape[1] - max(self.fed))

    monkeypatch.setattr(Holes, "keep", spy)
    target = decoders.model_of("llama")
    config = SpecConfig(policy="constant", draft_tokens=6)
    decoder = SpeculativeDecoder(target, draft_of(draft, target), config=config)
    options = OPTIONS | {"max_new_tokens": 40}
    most = []
    for few in (1000, 0):  # never, and as soon as there are more holes than tokens
        monkeypatch.setattr(room, "FEW_SLOTS", few)
        found = decoder.generate(**prompts(8), **options)
        assert_same(found.sequences, plain(target, prompts(8), **options))
        most.append(max(holes))
        holes.clear()
    assert most[1] < most[0]


@pytest.mark.parametrize("family", [f for f in tiny.CAUSAL if f != "llama"])
@pytest.mark.parametrize("rows", [1, 4])
def test_every_family(family: str, rows: int) -> None:
    target = decoders.model_of(family)
    config = SpecConfig(policy="constant", draft_tokens=3)
    decoder = SpeculativeDecoder(target, first_layers(target, 2), config=config)
    options = OPTIONS | {"max_new_tokens": 14}  # more than a window of 8
    found = decoder.generate(**prompts(rows), **options)
    assert_same(found.sequences, plain(target, prompts(rows), **options))


@pytest.mark.parametrize(
    ("family", "rope", "changes"),
    [
        (
            "phi3",
            {
                "rope_type": "longrope",
                "short_factor": [1.0] * 2,
                "long_factor": [3.0, 5.0],
                "original_max_position_embeddings": 32,
                "factor": 8.0,
            },
            {"original_max_position_embeddings": 32, "max_position_embeddings": 256},
        ),
        ("llama", {"rope_type": "dynamic", "factor": 4.0}, {"max_position_embeddings": 32}),
    ],
)
def test_rotary_embeddings_that_change_with_the_length(
    family: str, rope: dict[str, Any], changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    rope = rope | {"rope_theta": 10000.0}
    target: Any = tiny.model(family, rope_parameters=rope, **changes).double()
    config = SpecConfig(policy="constant", draft_tokens=4)
    decoder = SpeculativeDecoder(target, first_layers(target, 2), config=config)
    for new, drafted in ((20, True), (50, False)):
        inputs = {"inputs": tiny.ids(1, 12)}
        options = OPTIONS | {"max_new_tokens": new, "eos_token_id": None}
        found = decoder.generate(**inputs, **options)
        assert_same(found.sequences, plain(target, inputs, **options))
        assert bool(found.stats.drafted) is drafted
        assert ("nothing is drafted" in caplog.text) is not drafted


def test_padding_behind_a_prompt_is_refused() -> None:
    target = decoders.model_of("llama")
    decoder = SpeculativeDecoder(target, PromptLookupDrafter())
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    with pytest.raises(ConfigError, match="padded on the left"):
        decoder.generate(tiny.ids(2, 3), attention_mask=mask, **OPTIONS)


def test_an_encoder_decoder() -> None:
    target, draft = decoders.encoder_decoder(), decoders.encoder_decoder()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(draft.lm_head.weight.shape, generator=generator)
    with torch.no_grad():
        draft.lm_head.weight.add_(0.1 * noise)
    inputs = {"inputs": tiny.ids(3, 7), "attention_mask": torch.ones(3, 7, dtype=torch.long)}
    inputs["attention_mask"][1, 5:] = 0
    options = OPTIONS | {"eos_token_id": 1}
    decoder = SpeculativeDecoder(target, draft, config=SpecConfig(policy="constant"))
    found = decoder.generate(**inputs, **options)
    assert_same(found.sequences, target.generate(**inputs, **options))
    assert sum(found.stats.accepted) > 0
    begun = {"decoder_input_ids": tiny.ids(3, 2)}
    begun["decoder_attention_mask"] = torch.tensor([[1, 1], [1, 1], [0, 1]])
    with pytest.raises(ConfigError, match="decoder_attention_mask leaves tokens out"):
        decoder.generate(**inputs, **begun, **options)


def test_processors_see_the_text_of_each_position() -> None:
    target = decoders.model_of("llama")
    options = {"repetition_penalty": 1.7, "no_repeat_ngram_size": 2, "min_new_tokens": 6}
    for rows in (1, 3):
        decoder = SpeculativeDecoder(target, first_layers(target, 2))
        found = decoder.generate(**prompts(rows), **OPTIONS, **options)
        assert_same(found.sequences, plain(target, prompts(rows), **options))


def test_a_text_ends_inside_a_block() -> None:
    target = decoders.model_of("llama")
    free = plain(target, prompts(1))[0, 3:].tolist()
    config = SpecConfig(policy="constant")
    for place in (2, 5, 9):
        stop = free[place]
        decoder = SpeculativeDecoder(target, target, config=config)
        found = decoder.generate(**prompts(1), **(OPTIONS | {"eos_token_id": stop}))
        assert found.sequences[0, 3:].tolist() == free[: free.index(stop) + 1]
    for most in range(1, 9):
        decoder = SpeculativeDecoder(target, target, config=config)
        found = decoder.generate(**prompts(1), **(OPTIONS | {"max_new_tokens": most}))
        assert found.sequences[0, 3:].tolist() == free[:most]


def test_a_draft_of_fewer_positions_rests_behind_them() -> None:
    target = decoders.model_of("llama")
    draft = tiny.model("gpt2", n_positions=16, n_layer=1).double()
    for rows in (1, 4):
        decoder = SpeculativeDecoder(target, draft, config=SpecConfig(policy="constant"))
        found = decoder.generate(**prompts(rows), **OPTIONS)
        assert_same(found.sequences, plain(target, prompts(rows)))
        assert found.stats.draft_passes > 0
    with pytest.raises(ConfigError, match="the 256 positions of the model; found 3 and 254"):
        decoder.generate(**prompts(1), **(OPTIONS | {"max_new_tokens": 254}))


def tokenizer_of(words: Sequence[str]) -> PreTrainedTokenizerFast:
    built = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="u"))
    built.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=built, unk_token="u")


def renumbered(model: Any, order: list[int]) -> Any:
    """The same model for a tokenizer that numbers its words in another way."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name in ("get_input_embeddings", "get_output_embeddings"):
            weight = getattr(other, name)().weight
            weight.copy_(weight[order])
    return other


@pytest.mark.parametrize("family", ["llama", "mistral"])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_draft_with_other_tokens(family: str, rows: int) -> None:
    """It is the target but for the numbers of its words; then it lacks one."""
    target = decoders.model_of(family)
    words = ["u", *(f"w{i}" for i in range(1, tiny.VOCAB))]
    order = random.Random(1).sample(range(tiny.VOCAB), tiny.VOCAB)
    theirs = [words[i] for i in order]
    config = SpecConfig(policy="constant", draft_tokens=3)
    given = {"config": config, "tokenizer": tokenizer_of(words)}
    draft = renumbered(target, order)
    wanted = plain(target, prompts(rows))
    decoder = SpeculativeDecoder(target, draft, draft_tokenizer=tokenizer_of(theirs), **given)
    found = decoder.generate(**prompts(rows), **OPTIONS)
    assert_same(found.sequences, wanted)
    assert set(found.stats.acceptance) == {1.0}
    sampled = {**OPTIONS, "do_sample": True, "top_k": 0}
    assert set(decoder.generate(**prompts(rows), **sampled).stats.acceptance) == {1.0}
    lacking = int(wanted[0, prompts(rows)["inputs"].shape[1] + 2])  # it is never drafted
    theirs[order.index(lacking)] = "another"
    decoder = SpeculativeDecoder(target, draft, draft_tokenizer=tokenizer_of(theirs), **given)
    found = decoder.generate(**prompts(rows), **OPTIONS)
    assert_same(found.sequences, wanted)
    assert 0 < found.stats.acceptance[0] < 1
    strange = tokenizer_of(["u", *(f"x{i}" for i in range(60))])
    with pytest.raises(CompatibilityError, match="must share tokens"):
        SpeculativeDecoder(target, draft, draft_tokenizer=strange, **given)


@pytest.mark.parametrize(
    "option",
    [
        {"penalty_alpha": 0.6, "top_k": 4},
        {"dola_layers": "low"},
        {"prompt_lookup_num_tokens": 3},
        {"assistant_early_exit": 1},
        {"custom_generate": "transformers-community/dola"},
        {"assistant_model": "another"},
        {"assistant_tokenizer": "another"},
        {"position_ids": torch.tensor([[5, 6, 7]])},
        {"position_ids": torch.arange(4)[None]},
        {"token_type_ids": torch.ones(1, 3, dtype=torch.long)},
    ],
)
def test_what_would_be_left_out_in_silence_is_refused(option: dict[str, Any]) -> None:
    target = decoders.model_of("gpt2")
    decoder = SpeculativeDecoder(target, PromptLookupDrafter())
    with pytest.raises(ConfigError, match=next(iter(option))):
        decoder.generate(**prompts(1), **OPTIONS, **option)


def test_a_cache_that_holds_something_is_refused() -> None:
    target: Any = decoders.model_of("gpt2")
    decoder = SpeculativeDecoder(target, PromptLookupDrafter())
    ids = prompts(1)["inputs"]
    read = target(input_ids=ids[:, :2]).past_key_values
    settings = GenerationConfig(cache_implementation="quantized")
    with pytest.raises(ConfigError, match="cache_implementation is quantized"):
        decoder(target, ids, generation_config=settings)
    with pytest.raises(ConfigError, match="past_key_values holds 2 tokens"):
        decoder.generate(ids, past_key_values=read, **OPTIONS)
    own = {"token_type_ids": torch.zeros_like(ids), "position_ids": torch.arange(3)[None]}
    found = decoder.generate(ids, **own, **OPTIONS)
    assert_same(found.sequences, plain(target, prompts(1)))
