"""Augmentation: what is untouched stays, and what is drawn depends on the seed alone."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    BertTokenizer,
    set_seed,
)

from attar.data.augment.augment import AUGMENTERS, AugmentConfig, Resources, augment
from attar.data.augment.words import MaskedLM, Neighbours, Vocabulary, sample_top_p
from attar.data.tokens import train_bpe
from attar.errors import CompatibilityError, ConfigError, DataError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WHOLE = [
    *("the", "a", "cat", "dog", "film", "good", "bad"),
    *("was", "very", "king", "queen", "saw", "it", "not"),
]
PIECES = ["##ing", "##s", ",", ".", "!", "(", ")", "'", "-", "7"]
TEXTS = [
    "The film was good, very good.",
    "A cat saw (it)!",
    "it was  not\nthe KING - the queen was bad",
    "Bad.",
    "...",
    "the dog saw a cat, a cat saw the dog: it was not good, it was bad.",
]


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizer:
    vocab = {token: i for i, token in enumerate([*SPECIAL, *PIECES, *WHOLE, "filming"])}
    return BertTokenizer(vocab=vocab, model_max_length=64)


@pytest.fixture(scope="module")
def mlm(tokenizer: BertTokenizer) -> MaskedLM:
    set_seed(1)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=48,
        initializer_range=0.5,
    )
    return MaskedLM(BertForMaskedLM(config).eval(), tokenizer)


@pytest.fixture(scope="module")
def table(tokenizer: BertTokenizer) -> Neighbours:
    return Neighbours.of(_embeddings(tokenizer), tokenizer, k=3)


@pytest.fixture(scope="module")
def resources(mlm: MaskedLM, table: Neighbours) -> Resources:
    return Resources(mlm=mlm, neighbours=table)


def _embeddings(tokenizer: BertTokenizer) -> Tensor:
    return torch.randn(len(tokenizer), 8, generator=torch.Generator().manual_seed(3))


def _documents(texts: Sequence[str] = TEXTS, **columns: Any) -> Dataset:
    return Dataset.from_dict({"text": list(texts), "label": [0] * len(texts)} | columns)


def _texts(documents: Dataset, name: str = "text") -> list[Any]:
    return list(documents[name])


# ------------------------------------------------------------------------------------ augmentation

PLAIN = st.text(st.sampled_from("aBcé7 .,'\u2019-\n(") | st.characters(codec="utf-8"), max_size=40)
SETTINGS = settings(deadline=None, max_examples=60, derandomize=True)


@SETTINGS
@given(
    texts=st.lists(PLAIN, min_size=1, max_size=3),
    chain=st.permutations(AUGMENTERS),
    length=st.integers(0, 4),
)
def test_no_share_of_words_changes_no_text(
    texts: list[str], chain: list[str], length: int, resources: Resources
) -> None:
    config = AugmentConfig(chain=tuple(chain[:length]), p=0 if length else 0.5, copies=2)
    made = augment(_documents(texts), config=config, resources=resources)
    assert _texts(made) == [text for text in texts for _ in range(2)]


@SETTINGS
@given(text=PLAIN, p=st.floats(0.01, 1), seed=st.integers(0, 9))
def test_swapping_moves_words_and_nothing_else(text: str, p: float, seed: int) -> None:
    config = AugmentConfig(chain=("swap",), p=p, seed=seed)
    (made,) = _texts(augment(_documents([text]), config=config))
    assert Counter(made) == Counter(text)
    assert [c for c in made if c in " .,-\n("] == [c for c in text if c in " .,-\n("]


def test_as_many_words_are_swapped_as_asked() -> None:
    words = [f"w{i}" for i in range(20)]
    for p, moved in ((0.01, 2), (0.3, 6), (1.0, 20)):
        config = AugmentConfig(chain=("swap",), p=p)
        (made,) = _texts(augment(_documents([" ".join(words)]), config=config))
        assert sum(a != b for a, b in zip(made.split(), words, strict=True)) == moved


@SETTINGS
@given(n=st.integers(1, 12), p=st.floats(0.01, 1), seed=st.integers(0, 9))
def test_deletion_leaves_words_in_order_with_one_space(n: int, p: float, seed: int) -> None:
    words = [f"w{i}" for i in range(n)]
    config = AugmentConfig(chain=("delete",), p=p, seed=seed)
    (made,) = _texts(augment(_documents([" ".join(words)]), config=config))
    kept = made.split()
    assert made == " ".join(kept)
    assert kept == [word for word in words if word in set(kept)]
    assert len(kept) == max(1, n - max(1, int(p * n + 0.5)))


def test_deletion_keeps_punctuation_and_the_wider_space() -> None:
    text = '"One, two (three)\n\nfour five." Six'
    config = AugmentConfig(chain=("delete",), p=0.1, copies=60)
    made = set(_texts(augment(_documents([text]), config=config)))
    assert made == {
        '", two (three)\n\nfour five." Six',
        '"One, (three)\n\nfour five." Six',
        '"One, two ()\n\nfour five." Six',
        '"One, two (three)\n\nfive." Six',
        '"One, two (three)\n\nfour." Six',
        '"One, two (three)\n\nfour five."',
    }


def test_rows_are_the_same_whatever_the_batches_and_shards(
    mlm: MaskedLM, resources: Resources
) -> None:
    documents = _documents(text_pair=TEXTS[::-1], source=[7, 3, 12, 4, 0, 9])
    config = AugmentConfig(chain=("swap", "mlm", "neighbour", "delete"))
    whole = augment(documents, config=config, resources=resources).to_list()
    assert [row["text"] for row in whole] != TEXTS
    single = Resources(MaskedLM(mlm.model, mlm.tokenizer, batch_size=1), resources.neighbours)
    order = [4, 1, 5, 0, 3, 2]
    parts = [augment(documents.select([i]), config=config, resources=single) for i in order]
    assert [part.to_list() for part in parts] == [[whole[i]] for i in order]
    other = AugmentConfig(chain=config.chain, seed=1)
    assert augment(documents, config=other, resources=resources).to_list() != whole
    more = AugmentConfig(chain=config.chain, copies=3)
    again = augment(documents, config=more, resources=resources).to_list()
    assert again[::3] == whole
    assert again[1::3] != whole
    assert [row["source"] for row in again] == [s for s in documents["source"] for _ in range(3)]


def test_many_rows_are_cut_into_blocks_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    config = AugmentConfig(chain=("swap",), copies=2)
    whole = augment(_documents(), config=config).to_list()
    monkeypatch.setattr("attar.data.augment.augment.BLOCK", 3)
    assert augment(_documents(), config=config).to_list() == whole
    assert [row["source"] for row in whole] == [i for i in range(len(TEXTS)) for _ in range(2)]


def test_fields_of_a_pair_are_drawn_apart_and_the_chain_is_ordered(resources: Resources) -> None:
    text = "the cat saw the dog and the king saw it"
    documents = _documents([text], text_pair=[text])
    made = augment(documents, config=AugmentConfig(chain=("swap",)))
    assert _texts(made) != _texts(made, "text_pair")
    pair = ("delete", "neighbour")
    forth, back = (
        augment(documents, config=AugmentConfig(chain=chain), resources=resources)
        for chain in (pair, pair[::-1])
    )
    assert _texts(forth) != _texts(back)


def test_labels_are_neither_seen_nor_kept(resources: Resources) -> None:
    config = AugmentConfig(chain=AUGMENTERS)
    classes = Dataset.from_dict(
        {"text": TEXTS, "label": [0, 1, 0, 1, 0, 1]},
        features=Features({"text": Value("string"), "label": ClassLabel(names=["n", "y"])}),
    )
    made = augment(classes, config=config, resources=resources)
    assert set(made["label"]) == {-100}
    numbers = augment(_documents(label=[0.5] * 6), config=config, resources=resources)
    assert np.isnan(numbers["label"]).all()
    hot = augment(_documents(label=[[1, 0]] * 6), config=config, resources=resources)
    assert list(hot["label"]) == [[-100, -100]] * 6
    bare = augment(classes.remove_columns("label"), config=config, resources=resources)
    assert bare.to_list() == made.to_list()
    assert _texts(numbers) == _texts(hot) == _texts(made)
    with pytest.raises(DataError, match="labels as numbers"):
        augment(_documents(label=["good"] * 6), config=config, resources=resources)


def test_neighbours_are_the_nearest_whole_words_by_cosine(tokenizer: BertTokenizer) -> None:
    vectors = _embeddings(tokenizer)
    found = Neighbours.of(5 * vectors, tokenizer, k=4, chunk=3)
    assert set(found.vocabulary.words) == {*WHOLE, "filming"}
    ids = tokenizer.convert_tokens_to_ids(list(found.vocabulary.words))
    unit = (vectors[ids] / vectors[ids].norm(dim=1, keepdim=True)).numpy()
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    assert found.nearest.tolist() == np.argsort(-cosine, axis=1)[:, :4].tolist()
    assert Neighbours.of(vectors, tokenizer, k=99).nearest.shape == (15, 14)
    with pytest.raises(ConfigError, match="at least 1 neighbour"):
        Neighbours.of(vectors, tokenizer, k=0)


def test_a_word_becomes_one_of_its_neighbours_in_its_own_case(table: Neighbours) -> None:
    text = "The KING saw 7 kings, it's filming!"
    config = AugmentConfig(chain=("neighbour",), p=1, copies=60)
    made = _texts(augment(_documents([text]), config=config, resources=Resources(None, table)))
    words = table.vocabulary.words

    def near(word: str) -> set[str]:
        return {words[i] for i in table.nearest[table.vocabulary.index[word]]}

    parts = [row.split() for row in made]
    assert {p[0] for p in parts} == {w.capitalize() for w in near("the")}
    assert {p[1] for p in parts} == {w.upper() for w in near("king")}
    assert {p[2] for p in parts} == near("saw")
    assert {tuple(p[3:6]) for p in parts} == {("7", "kings,", "it's")}  # not words of one token
    assert {p[6] for p in parts} == {f"{w}!" for w in near("filming")}


def test_a_byte_level_vocabulary_offers_what_follows_a_space() -> None:
    text = "the cat and the catalogue and The CAT sat. " * 30
    trained = train_bpe(Dataset.from_dict({"text": [text]}), vocab_size=290, context=32)
    found = Vocabulary.of(trained, size=len(trained))
    assert "cat" in found.words
    tokens = trained.convert_ids_to_tokens(list(found.ids))
    assert tokens == [f"Ġ{word}" for word in found.words]
    assert Vocabulary.of(trained, size=10**6) == found
    spread = torch.randn(len(trained), 8, generator=torch.Generator().manual_seed(0))
    table = Neighbours.of(spread, trained, k=99)
    for word, near in zip(found.words, table.nearest, strict=True):  # "The" is none of "the"'s
        assert word.lower() not in {found.words[i].lower() for i in near}
    with pytest.raises(CompatibilityError, match="whole words"):
        Vocabulary.of(trained, size=4)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.8, 1.0])
def test_top_p_draws_from_the_likeliest_alone(p: float) -> None:
    probs = torch.tensor([0.1, 0.5, 0.15, 0.25])
    draws = (torch.arange(4000) + 0.5) / 4000
    drawn = sample_top_p(probs.log().expand(4000, 4), p=p, draws=draws)
    kept = {0.0: [1], 0.3: [1], 0.8: [1, 3, 2], 1.0: [1, 3, 2, 0]}[p]
    law = torch.zeros(4).index_put((torch.tensor(kept),), probs[kept] / probs[kept].sum())
    torch.testing.assert_close(drawn.bincount(minlength=4) / 4000, law, atol=1e-3, rtol=0)
    ruled_out = torch.tensor([[0.0, -torch.inf]]).expand(3, 2)
    assert sample_top_p(ruled_out, p=p, draws=torch.tensor([0.0, 0.5, 1.0])).tolist() == [0] * 3


def test_masks_are_filled_by_the_law_of_the_model(mlm: MaskedLM) -> None:
    words = mlm.vocabulary.words
    grid = ((torch.arange(200) + 0.5) / 200).tolist()
    text = "the [MASK] was very [MASK]."
    originals = [["cat", "good"]] * 200
    filled = mlm.fill([text] * 200, originals=originals, draws=[[u, u] for u in grid])
    inputs = mlm.tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        logits = mlm.model(**inputs).logits[0]
    for nth, at in enumerate((2, 5)):
        assert inputs["input_ids"][0, at] == mlm.tokenizer.mask_token_id
        likely = logits[at, list(mlm.vocabulary.ids)]
        likely[words.index(originals[0][nth])] = -torch.inf
        law = likely.softmax(0).sort(descending=True)
        kept = int((law.values.cumsum(0) < mlm.top_p).sum()) + 1
        expected = {words[i] for i in law.indices[:kept].tolist()}
        assert {row[nth] for row in filled} == expected
        assert originals[0][nth] not in expected


def test_filled_words_are_new_and_as_many_as_asked(mlm: MaskedLM, resources: Resources) -> None:
    config = AugmentConfig(chain=("mlm",), p=0.5, copies=8)
    made = _texts(augment(_documents(), config=config, resources=resources))
    for i, text in enumerate(TEXTS):
        words = text.replace("-", "").split()
        for row in made[8 * i : 8 * i + 8]:
            changed = [
                (a, b) for a, b in zip(words, row.replace("-", "").split(), strict=True) if a != b
            ]
            count = sum(any(c.isalpha() for c in word) for word in words)
            assert len(changed) == (max(1, int(0.5 * count + 0.5)) if count else 0)
            bare = [(a.strip("().,:!"), b.strip("().,:!")) for a, b in changed]
            assert all(a[0].isupper() == b[0].isupper() for a, b in bare)
            assert all(a.isupper() == b.isupper() for a, b in bare if min(len(a), len(b)) > 1)
            assert all(b.lower() in mlm.vocabulary.index for _, b in bare)


def test_what_the_masked_model_cannot_reach_stays(resources: Resources) -> None:
    long, marked = "cat " * 100 + "end", "the [MASK] was good"
    config = AugmentConfig(chain=("mlm",), p=1)
    made = _texts(augment(_documents([long, marked]), config=config, resources=resources))
    changed = [a != b for a, b in zip(made[0].split(), long.split(), strict=True)]
    assert changed == [True] * 46 + [False] * 55  # 48 positions less [CLS] and [SEP]
    assert made[1] == marked


def test_token_classification_replaces_one_word_by_one(resources: Resources) -> None:
    words = [["The", "king", "saw", "."], ["Cat"], ["7", ",", "It's", "very", "a dog"]]
    kind = Features({"words": List(Value("string")), "label": List(ClassLabel(names=["O", "B"]))})
    labels = [[0, 1, 0, 0], [1], [0, 0, 0, 1, 1]]
    documents = Dataset.from_dict({"words": words, "label": labels}, features=kind)
    config = AugmentConfig(chain=("neighbour", "mlm"), p=1, copies=2)
    made = augment(documents, config=config, resources=resources)
    for i, row in enumerate(made.to_list()):
        old = words[i // 2]
        assert row["label"] == [-100] * len(old)
        assert len(row["words"]) == len(old)
        same = [a == b for a, b in zip(row["words"], old, strict=True)]
        assert all(
            kept for word, kept in zip(old, same, strict=True) if word in (".", ",", "a dog")
        )
        assert not all(same)
    for name in ("swap", "delete"):
        with pytest.raises(ConfigError, match=f"{name} would move words"):
            augment(documents, config=AugmentConfig(chain=(name,)), resources=resources)


def test_what_cannot_be_augmented_is_refused_with_the_reason() -> None:
    answers = {"question": ["q"], "context": ["c"], "answers": [{"text": ["c"]}]}
    with pytest.raises(ConfigError, match="moves the answers"):
        augment(Dataset.from_dict(answers), config=AugmentConfig(chain=("swap",)))
    with pytest.raises(DataError, match="found other"):
        augment(Dataset.from_dict({"other": ["c"]}), config=AugmentConfig())
    with pytest.raises(ConfigError, match="as mlm"):
        augment(_documents(), config=AugmentConfig(chain=("mlm",)))
    with pytest.raises(ConfigError, match="table of near words"):
        augment(_documents(), config=AugmentConfig(chain=("neighbour",)))
    with pytest.raises(DataError, match="found None"):
        augment(_documents(["a", None]), config=AugmentConfig())  # pyright: ignore
    wrongs: list[tuple[dict[str, Any], str]] = [
        ({"chain": ("shuffle",)}, "found 'shuffle'"),
        ({"chain": ("neighbour", "neighbour")}, "at most once"),
        ({"p": 1.5}, "share of words"),
        ({"copies": 0}, "at least 1"),
    ]
    for wrong, reason in wrongs:
        with pytest.raises(ConfigError, match=reason):
            AugmentConfig(**wrong)


def test_a_masked_model_loads_only_with_its_head_and_mask(mlm: MaskedLM, tmp_path: Path) -> None:
    mlm.model.save_pretrained(tmp_path)
    mlm.tokenizer.save_pretrained(tmp_path)
    loaded = MaskedLM.load(tmp_path)
    asked: dict[str, Any] = {"originals": [["cat"]], "draws": [[0.4]]}
    assert loaded.fill(["a [MASK]"], **asked) == mlm.fill(["a [MASK]"], **asked)
    with pytest.raises(ConfigError, match="mlm must name"):
        MaskedLM.load(tmp_path / "absent")
    headless = tmp_path / "headless"
    config: Any = mlm.model.config
    BertModel(config).save_pretrained(headless)
    mlm.tokenizer.save_pretrained(headless)
    with pytest.raises(CompatibilityError, match="masked-LM head"):
        MaskedLM.load(headless)
    trained = train_bpe(Dataset.from_dict({"text": ["a b"]}), vocab_size=260, context=32)
    trained.save_pretrained(tmp_path)
    with pytest.raises(CompatibilityError, match="no mask token"):
        MaskedLM.load(tmp_path)
