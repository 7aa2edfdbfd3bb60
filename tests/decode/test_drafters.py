"""What followed in other texts is proposed, and what is written stays the target's."""

from pathlib import Path
from typing import Any

import pytest
import torch

import characters
import decoders
import tiny
from attar.decode.drafters import NGramDrafter, drafter_of
from attar.decode.ngram_build import build_store
from attar.decode.ngrams import NGramStore
from attar.decode.settings import SpecConfig
from attar.decode.speculative import SpeculativeDecoder
from attar.errors import CompatibilityError, ConfigError

#: a letter for each token of the tiny models from 3 on
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ012345678"
TOKEN = {letter: i for i, letter in enumerate(LETTERS, 3)}
LETTERED = characters.word_level({"</s>": 2} | TOKEN, ".", "</s>")
OPTIONS: dict[str, Any] = {"max_new_tokens": 40, "do_sample": False, "pad_token_id": 0}


def written(target: Any, ids: torch.Tensor) -> str:
    """What the target writes, as a text of which each character is a token."""
    row = target.generate(ids, attention_mask=torch.ones_like(ids), **OPTIONS)[0].tolist()
    return "".join(LETTERS[token - 3] for token in row if token >= 3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> NGramStore:
    target = decoders.model_of("llama")
    texts = [written(target, tiny.ids(1, 4, seed=seed)) for seed in range(3)]
    texts += [texts[0][:9] + letter for letter in "xyz"]  # other continuations, which are rarer
    place = tmp_path_factory.mktemp("ngrams") / "store"
    return build_store(texts * 2, LETTERED, output_dir=place)


@pytest.mark.parametrize("policy", ["constant", "confidence", "cost"])
def test_greedy_texts_are_the_target_s(store: NGramStore, policy: Any) -> None:
    target = decoders.model_of("llama")
    for seed in (0, 7):  # a text of the store, and another
        ids = tiny.ids(1, 4, seed=seed)
        options = OPTIONS | {"attention_mask": torch.ones_like(ids)}
        config = SpecConfig(policy=policy, draft_tokens=4)
        decoder = SpeculativeDecoder(target, NGramDrafter(store), config=config)
        found = decoder.generate(ids, **options)
        assert found.sequences.tolist() == target.generate(ids, **options).tolist()
        if policy == "constant" and not seed:
            assert sum(found.stats.accepted) > 10


def test_the_most_frequent_continuation_of_the_longest_context_is_drafted(
    store: NGramStore, tmp_path: Path
) -> None:
    texts = ["abcdef", "abcdef", "abcdgh", "dg", "dg", "dg"]
    small = build_store(texts, LETTERED, output_dir=tmp_path / "small")
    asked: list[tuple[int, int, float]] = []

    def keep(row: int, count: int, chance: float) -> bool:
        asked.append((row, count, chance))
        return True

    def draft(text: str, count: int, **options: Any) -> str:
        drafter = NGramDrafter(small, **options)
        row = [TOKEN[letter] for letter in text]
        found = drafter.propose([[], row], [0, count], uniforms=Any, keep_drafting=keep)  # pyright: ignore
        return "".join(LETTERS[one - 3] for one in found.tokens[1])

    assert draft("xbcd", 2) == "ef"  # after c and d; after d alone g is more frequent
    assert asked[0] == (1, 1, 2 / 3)
    assert draft("xd", 5) == "gh"
    assert draft("abc", 9) == "def"  # f ends the texts
    assert draft("abc", 9, stops=[TOKEN["e"]]) == "de"
    assert draft("abz", 3) == ""


def test_a_store_is_named_by_its_folder(store: NGramStore) -> None:
    target = decoders.model_of("llama")
    name = f"ngrams:{store.folder}"
    drafter, tokenizer = drafter_of(target, name, tokenizer=LETTERED)
    assert isinstance(drafter, NGramDrafter)
    assert tokenizer is None
    other = characters.word_level({"</s>": 0, "a": 1}, ".", "</s>")
    with pytest.raises(CompatibilityError, match="expected n-grams of the model's tokenizer"):
        drafter_of(target, name, tokenizer=other)
    for wrong in ("ngram:x", "ngrams", "ngrams:"):
        with pytest.raises(ConfigError, match="do you mean ngrams:FOLDER with a store"):
            drafter_of(target, wrong)
