"""Counts of the store on disk, of several and of the live one are those of a dictionary."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

import characters
from attar.decode import ngram_build, ngram_files, ngram_index
from attar.decode.ngram_build import Build, build_store, dtype_for
from attar.decode.ngram_live import LiveStore, compact
from attar.decode.ngrams import MergedStore, NGramStore
from attar.errors import AttarError, CompatibilityError, ConfigError, DataError
from scene import sources

END = 2
ORDER = 6
_rng = np.random.default_rng(0)
#: few letters, so that long contexts come again; a document of one letter, and an empty one
TEXTS = ["".join(_rng.choice(list("abcd"), size)) for size in (400, 1, 37, 900, 3)] + ["", "abcab"]
FILES = ("tokens.bin", "pos.bin", "starts.bin", "csr_2.bin", "csr_3.bin", "meta.json")


def tokenizer() -> PreTrainedTokenizerFast:
    return characters.letters()


def ids(text: str) -> list[int]:
    return list(next(iter(ngram_build.encode([text], tokenizer())), []))


def windows(texts: Sequence[str], n: int) -> Counter[tuple[int, ...]]:
    """Every run of n tokens that lies in one document, counted."""
    return Counter(
        tuple(one[at : at + n]) for one in map(ids, texts) for at in range(len(one) - n + 1)
    )


NAIVE = {n: windows(TEXTS, n) for n in range(2, ORDER + 1)}
BEFORE = {n: Counter(key[:-1] for key in NAIVE[n].elements()) for n in NAIVE}
#: contexts of which many occur and some do not
CONTEXTS = st.lists(st.sampled_from(ids("abcdz")), max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ngrams") / "store"
    build_store(TEXTS, tokenizer(), output_dir=place)
    return place


@pytest.fixture(scope="module")
def store(folder: Path) -> NGramStore:
    return NGramStore.load(folder, tokenizer=tokenizer())


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> NGramStore:
    """A store with lists of what follows short contexts, even those that are not frequent."""
    place = tmp_path_factory.mktemp("listed") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngram_index, "FREQUENT", 20)
        return build_store(TEXTS, tokenizer(), output_dir=place)


def live_of(texts: Sequence[str], order: int = ORDER) -> LiveStore:
    live = LiveStore(tokenizer(), order=order)
    live.add(texts)
    return live


@cache
def live_of_all() -> LiveStore:
    return live_of(TEXTS)


@given(context=CONTEXTS)
def test_counts_are_those_of_a_dictionary(store: NGramStore, context: list[int]) -> None:
    candidates = [*ids("abcdz"), END, 10_000]
    for one in (store, live_of_all()):
        found = one.counts(context, candidates)
        for n in range(2, ORDER + 1):
            key = tuple(context[len(context) - n + 1 :]) if len(context) >= n - 1 else (END,)
            assert found[n - 2].tolist() == [NAIVE[n][*key, v] for v in candidates]
            whole = BEFORE[n][key]
            assert found[n - 2].sum() == whole  # sum over v of c(context, v) = c(context)
            assert one.seen(context)[n - 2] == (whole > 0)
            expected = [NAIVE[n][*key, v] / max(1, whole) for v in candidates]
            assert one.probabilities(context, candidates)[n - 2].tolist() == expected


@given(context=CONTEXTS)
def test_what_follows_is_listed_by_how_often_it_does(
    store: NGramStore, listed: NGramStore, context: list[int]
) -> None:
    assert listed.meta["frequent"]["3"] > 4
    for one in (store, listed):
        for n in range(2, ORDER + 1):
            key = tuple(context[len(context) - n + 1 :]) if len(context) >= n - 1 else (END,)
            expected = [(-NAIVE[n][*key, v], v) for v in range(64) if NAIVE[n][*key, v]]
            tokens, counts = one.following(context, n)
            found = list(zip((-counts).tolist(), tokens.tolist(), strict=True))
            assert found == sorted(expected)


def test_nothing_is_counted_across_documents(store: NGramStore) -> None:
    end, begin = ids(TEXTS[0])[-3:], ids(TEXTS[1])[0]
    alone = windows([TEXTS[0]], 4)[*end, begin] + sum(
        windows([text], 4)[*end, begin] for text in TEXTS[1:]
    )
    assert store.counts(end, [begin])[2, 0] == alone
    assert not store.counts([END], [begin]).any()
    # what comes before an end of text says nothing
    assert (store.counts([*end, END, begin], ids("abcd"))[1:] == 0).all()
    assert (store.counts([*end, END, begin], ids("abcd"))[0] > 0).any()


def test_special_tokens_are_not_counted(store: NGramStore, tmp_path: Path) -> None:
    begun = build_store(TEXTS, characters.letters_behind_bos(), output_dir=tmp_path / "bos")
    assert begun.tokens.tolist() == store.tokens.tolist()


@pytest.mark.parametrize("build", [Build(workers=3), Build(shard_tokens=50, workers=2)])
def test_shards_and_workers_leave_the_files_as_they_are(
    listed: NGramStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: Build
) -> None:
    monkeypatch.setattr(ngram_build, "_CHARACTERS", 300)
    monkeypatch.setattr(ngram_index, "FREQUENT", 20)
    other = build_store(TEXTS, tokenizer(), output_dir=tmp_path / "other", build=build)
    for name in FILES:
        assert (other.folder / name).read_bytes() == (listed.folder / name).read_bytes(), name


@pytest.mark.parametrize("texts", [["a"], ["ab"], ["abab", "c"]])
def test_a_text_shorter_than_its_ngrams_is_counted(texts: list[str], tmp_path: Path) -> None:
    short, live = build_store(texts, tokenizer(), output_dir=tmp_path / "short"), live_of(texts)
    for context in ("a", "b", "ab", "aba", "c"):
        found = short.counts(ids(context), ids("abc"))
        assert found.tolist() == live.counts(ids(context), ids("abc")).tolist()


def test_a_text_that_has_changed_is_not_resumed(tmp_path: Path) -> None:
    rows = [Dataset.from_dict({"text": texts}) for texts in (TEXTS, TEXTS[:-1])]
    filled: dict[str, Any] = {"tokenizer": tokenizer(), "build": Build(), "state": tmp_path}
    ngram_build.fill(tmp_path, rows[0], **filled)
    ngram_build.fill(tmp_path, rows[0], **filled)
    with pytest.raises(ConfigError, match="the text has changed"):
        ngram_build.fill(tmp_path, rows[1], **filled)


def test_a_large_vocabulary_takes_four_bytes_and_counts_the_same(tmp_path: Path) -> None:
    assert [dtype_for(size) for size in (2**16, 2**16 + 1)] == ["uint16", "uint32"]
    far = {"a": 2**16 + 5, "b": 2**17 + 1, "c": 3, "d": 200_000}  # by their low bits in other order
    wide = build_store(
        TEXTS, characters.word_level({"</s>": 2} | far, ".", "</s>"), output_dir=tmp_path / "wide"
    )
    assert wide.meta["dtype"] == "uint32"
    for at in range(30):
        text = TEXTS[3][at : at + 5]
        found = wide.counts([far[letter] for letter in text], list(far.values()))
        assert found.tolist() == live_of_all().counts(ids(text), ids("abcd")).tolist()
        tokens, _ = wide.following([far[letter] for letter in text], 3)
        assert sorted(tokens) == sorted(far.values())


@given(context=CONTEXTS, weight=st.floats(0.1, 10))
def test_a_merged_store_is_the_weighted_mean(
    store: NGramStore, context: list[int], weight: float
) -> None:
    short, candidates = live_of(["abcabcabd"], order=3), ids("abcd")
    merged = MergedStore([store, short], [weight, 1.0])
    mean = weight / (weight + 1) * store.probabilities(context, candidates)
    mean[:2] += short.probabilities(context, candidates) / (weight + 1)
    assert np.allclose(merged.probabilities(context, candidates), mean)
    assert merged.order == ORDER
    assert merged.seen(context)[2:].tolist() == store.seen(context)[2:].tolist()
    twice = MergedStore([store, store], [weight, 1.0])
    same = twice.probabilities(context, candidates)
    assert np.allclose(same, store.probabilities(context, candidates))


def test_a_live_store_comes_back_from_a_file_and_grows(tmp_path: Path) -> None:
    live = live_of(TEXTS[:3], order=4)
    live.save(tmp_path / "live")
    live.add(TEXTS[3])
    live.save(tmp_path / "live")
    again = LiveStore.load(tmp_path / "live", tokenizer())
    context = ids(TEXTS[3])[:4]
    assert again.order == 4
    assert again.counts(context, ids("abcd")).tolist() == live.counts(context, ids("abcd")).tolist()
    assert (
        live.counts(context, ids("abcd")).sum()
        > live_of(TEXTS[:3], 4).counts(context, ids("abcd")).sum()
    )
    LiveStore(tokenizer()).save(tmp_path / "empty")
    assert not LiveStore.load(tmp_path / "empty", tokenizer()).documents


def test_compaction_is_a_build_from_all_texts(folder: Path, tmp_path: Path) -> None:
    first = build_store(TEXTS[:3], tokenizer(), output_dir=tmp_path / "first")
    compact(first, live_of(TEXTS[3:]), output_dir=tmp_path / "both")
    for name in FILES:
        assert (tmp_path / "both" / name).read_bytes() == (folder / name).read_bytes(), name


# ---------------------------------------------------------------------------------------- mistakes


def other() -> PreTrainedTokenizerFast:
    return characters.word_level({"</s>": 0, "a": 1, "b": 2}, ".", "</s>")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("tokens.bin", lambda raw: raw[:-2], "tokens.bin has .* bytes, expected"),
        ("pos.bin", lambda raw: b"\0" * len(raw), "the checksum of pos.bin"),
        ("csr_2.bin", None, "csr_2.bin has 0 bytes"),
        ("meta.json", lambda raw: raw[:40], "cannot be read as JSON"),
        ("meta.json", lambda raw: b"[]", "lacks what a store has"),
        ("meta.json", lambda raw: raw.replace(b"ngrams-1", b"ngrams-9"), "names the format"),
        ("meta.json", lambda raw: raw.replace(b"uint16", b"object"), "of the type 'object'"),
        ("meta.json", None, "no meta.json in"),
    ],
)
def test_a_damaged_store_is_refused(
    folder: Path, tmp_path: Path, name: str, change: Any, said: str
) -> None:
    place = Path(shutil.copytree(folder, tmp_path / "damaged"))
    if change is None:
        (place / name).unlink()
    else:
        (place / name).write_bytes(change((place / name).read_bytes()))
    with pytest.raises(DataError, match=said) as error:
        NGramStore.load(place)
    assert str(error.value).count(". ") == 0


def test_a_position_that_is_damaged_reads_nothing_beside_the_file(
    folder: Path, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(folder, tmp_path / "damaged"))
    raw = np.fromfile(place / "pos.bin", np.uint32)
    raw[::3] = 2**32 - 1
    raw.tofile(place / "pos.bin")
    meta = json.loads((place / "meta.json").read_text())
    meta["files"]["pos.bin"]["crc32"] = ngram_files.checksum(place / "pos.bin")
    (place / "meta.json").write_text(json.dumps(meta))
    store = NGramStore.load(place)
    store.counts(ids(TEXTS[3]), ids("abcd"))
    store.following(ids(TEXTS[3]), 2)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda f, t: NGramStore.load(f, tokenizer=other()), "found those of another in"),
        (lambda f, t: build_store([], tokenizer(), output_dir=t), "found none; give more text"),
        (lambda f, t: build_store(["", ""], tokenizer(), output_dir=t), "found none"),
        (lambda f, t: Build(order=1), "order must be 2 to 8; found 1"),
        (lambda f, t: Build(workers=0), "workers must be 1 or more"),
        (lambda f, t: LiveStore(tokenizer(), order=9), "order must be 2 to 8"),
        (lambda f, t: NGramStore.load(f).following([1], 7), "n must be 2 to 6"),
        (lambda f, t: MergedStore([]), "a number above 0 for each store"),
        (lambda f, t: MergedStore([NGramStore.load(f)], [0.0]), "a number above 0"),
        (lambda f, t: MergedStore([NGramStore.load(f), LiveStore(other())]), "found several"),
        (
            lambda f, t: compact(NGramStore.load(f), LiveStore(other()), output_dir=t),
            "found those of another",
        ),
        (lambda f, t: LiveStore.load(f / "pos.bin", tokenizer()), "found none that can be read"),
        (lambda f, t: LiveStore.load(f / "absent", tokenizer()), "found none that can be read"),
    ],
)
def test_mistakes_are_one_sentence(folder: Path, tmp_path: Path, call: Any, said: str) -> None:
    with pytest.raises(AttarError, match=said) as error:
        call(folder, tmp_path / "out")
    assert isinstance(error.value, ConfigError | DataError | CompatibilityError)
    assert not list(tmp_path.iterdir())


def test_a_live_store_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    live_of(["ab"]).save(tmp_path / "live")
    with pytest.raises(CompatibilityError, match="begin a new store"):
        LiveStore.load(tmp_path / "live", other())


def test_real_text_takes_few_bytes_and_is_counted_right(tmp_path: Path) -> None:
    texts = sources(400_000)
    large = build_store(texts, tokenizer(), output_dir=tmp_path / "code")
    assert large.meta["frequent"]["2"] > 20
    figures = ngram_build.figures(large)
    known = [token for text in texts for token in ids(text) if token != END]
    assert figures["tokens"] == len(known)
    assert large.data_bytes / len(large.tokens) < 6.2
    pairs = windows(texts, 2)
    tokens, counts = large.following(ids("e"), 2)
    assert [pairs[ids("e")[0], int(v)] for v in tokens] == counts.tolist()
    assert counts[0] == max(counts) > ngram_files.FREQUENT
