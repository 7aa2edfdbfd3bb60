"""What a store knows of held-out text, and the weights that suit it best."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attar
from attar.decode import ngram_build, ngram_index
from attar.decode.ngram_evaluation import bits_per_token, passages, tuned_weights
from attar.errors import AttarError, ConfigError
from attar.report.record import Run
from scene import run, tokenizer, write_text


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("data") / "text")


@pytest.fixture(scope="module")
def model(text: Path) -> Path:
    """A folder with nothing but a tokenizer."""
    folder = text.parent / "tokenizer"
    tokenizer(text).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def store(text: Path, model: Path) -> Path:
    folder = text.parent / "store"
    attar.ngrams.train(model, text, licence="CC0", output_dir=folder)
    return folder


@given(
    rows=st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=30),
    others=st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
)
def test_no_other_weights_make_the_text_likelier(
    rows: list[list[float]], others: list[float]
) -> None:
    chances = np.asarray([*rows, [0.0, 0.0, 0.0]])
    weights = tuned_weights(chances[:-1], uniform=0.01)
    assert np.isclose(weights.sum(), 1)
    other = np.asarray(others) / sum(others)
    best = bits_per_token(chances, weights, uniform=0.01)
    assert best <= bits_per_token(chances, other, uniform=0.01) + 0.01


def test_the_record_says_what_a_dictionary_finds(store: Path, text: Path, tmp_path: Path) -> None:
    found = attar.ngrams.evaluate(store, text, eval_tokens=300, output_dir=tmp_path / "record")
    assert Run.load(tmp_path / "record").details == found.details
    loaded = attar.ngrams.NGramStore.load(store)
    tokens = attar.load_tokenizer(store / "tokenizer")
    rows = passages([(text / "test.txt").read_text(encoding="utf-8")], tokens, tokens=300)
    train = loaded.tokens.tolist()
    pairs, known = set(pairwise(train)), set(train[:-1])
    after = [(a, b) for ids in rows for a, b in pairwise(ids)]
    first = found.details["orders"][0]
    assert first["hit_rate"] == np.mean([a in known for a, _ in after])
    assert first["known"] == np.mean([pair in pairs for pair in after])
    orders = found.details["orders"]
    assert [row["n"] for row in orders] == [2, 3, 4, 5, 6]
    assert np.isclose(sum(row["lambda"] for row in orders), 0.5)
    ratios = {row["lambda"] / row["weight"] for row in orders if row["weight"] > 1e-9}
    assert max(ratios) - min(ratios) < 1e-6
    assert 0 < found.quality["test"]["bits_per_token"] < found.details["uniform_bits_per_token"]
    assert found.quality["test"]["tokens"] == len(after)
    assert found.details["lookup_microseconds"] > 0


def test_a_store_that_knows_nothing_of_the_text_gives_no_weights(
    model: Path, text: Path, tmp_path: Path
) -> None:
    words = attar.load_tokenizer(model)
    attar.ngrams.build_store(["7"], words, output_dir=tmp_path / "store")
    found = attar.ngrams.evaluate(tmp_path / "store", text, eval_tokens=100)
    for row in found.details["orders"]:
        assert (row["known"], row["weight"], row["lambda"]) == (0, 0, 0)


def test_the_verbs_do_what_python_does(
    store: Path, text: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "store")
    argv = ["ngrams", "train", str(model), "--data", str(text), "--licence", "CC0"]
    assert run([*argv, "--workers", "2", "--shard-tokens", "900", "-o", out]) == 0
    assert f"Next: attar ngrams evaluate {out} --data {text}" in capsys.readouterr().out
    for name in ("tokens.bin", "pos.bin", "starts.bin", "csr_2.bin", "csr_3.bin", "meta.json"):
        assert (tmp_path / "store" / name).read_bytes() == (store / name).read_bytes(), name
    meta = json.loads((store / "meta.json").read_text())
    assert (meta["licence"], meta["sources"]) == ("CC0", [str(text)])
    assert (meta["documents"], meta["tokens"]) == tuple(
        Run.load(store).quality["train"][name] for name in ("documents", "tokens")
    )
    argv = ["ngrams", "evaluate", out, "--data", str(text), "--eval-tokens", "300"]
    assert run([*argv, "--json", str(tmp_path / "found.json")]) == 0
    shown = capsys.readouterr().out
    assert "Hit rate" in shown
    assert "bits per token on" in shown
    said = json.loads((tmp_path / "found.json").read_text())
    python = attar.ngrams.evaluate(store, text, eval_tokens=300)
    assert said["quality"] == python.quality
    assert said["details"]["orders"] == python.details["orders"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["train", "MODEL", "--order", "1", "-o", "OUT"], "order must be 2 to 8; found 1"),
        (["train", "MODEL", "--workers", "0", "-o", "OUT"], "workers must be 1 or more"),
        (["train", "MODEL"], "say where the result goes"),
        (["train", "absent", "-o", "OUT"], "absent"),
        (["evaluate", "MODEL"], "no meta.json in"),
        (["evaluate", "STORE", "--eval-tokens", "1"], "eval_tokens must be 2 or more"),
    ],
)
def test_mistakes_are_one_sentence(
    argv: list[str],
    said: str,
    model: Path,
    store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = {"MODEL": str(model), "STORE": str(store), "OUT": str(tmp_path / "out")}
    assert run(["ngrams", *(named.get(word, word) for word in argv)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_store_with_another_tokenizer_in_it_is_refused(store: Path, tmp_path: Path) -> None:
    place = shutil.copytree(store, tmp_path / "store")
    words = write_text(tmp_path / "other", seed=5)
    tokenizer(words, vocab_size=270).save_pretrained(place / "tokenizer")
    with pytest.raises(AttarError, match="found those of another"):
        attar.ngrams.evaluate(place, words)


def test_an_interrupted_run_goes_on_where_text_was_encoded(
    text: Path, model: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngram_build, "_CHARACTERS", 4000)
    real, calls = ngram_build.encode, []

    def fails(texts: list[str], tokens: object) -> object:
        calls.append(texts)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(texts, tokens)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(ngram_build, "encode", fails)
    again = {"licence": "CC0", "output_dir": tmp_path / "store"}
    with pytest.raises(KeyboardInterrupt):
        attar.ngrams.train(model, text, **again)
    kept = list((tmp_path / "store.partial" / "state").glob("tokens-*.bin"))
    assert len(kept) == 1
    written = kept[0].stat().st_mtime_ns
    calls[:] = [[]] * 9
    with monkeypatch.context() as sorting:  # and once more, while positions are sorted
        sorting.setattr(ngram_index, "checksum", lambda file: [][0])
        with pytest.raises(IndexError):
            attar.ngrams.train(model, text, **again, resume=True)
    assert not (tmp_path / "store").exists()  # nothing that looks like a store
    assert kept[0].stat().st_mtime_ns == written  # what was encoded was not encoded again
    attar.ngrams.train(model, text, **again, resume=True)
    for name in ("tokens.bin", "pos.bin", "meta.json"):
        assert (tmp_path / "store" / name).read_bytes() == (store / name).read_bytes()
    with pytest.raises(ConfigError, match="not empty"):
        attar.ngrams.train(model, text, **again)
