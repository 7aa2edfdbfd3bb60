"""A segmenter as users meet it: any text, files, and what is wrong with them."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pythainlp import word_tokenize
from safetensors.numpy import load_file, save_file

from attar.data.segments.cuts import tokens_of
from attar.data.segments.legal import illegal
from attar.errors import CompatibilityError, ConfigError, DataError
from attar.methods.active_segmentation import (
    Segmenter,
    SegmenterConfig,
    character_cnn,
    fit,
    segmenter,
)
from thai_words import WORDS, sentences

PLAIN = SegmenterConfig(dictionary=None, hash_bits=12, iterations=30)
KINDS = {
    "crf": replace(PLAIN, bags=2),
    "pointwise": replace(PLAIN, kind="pointwise", bags=2),
    "character-cnn": replace(PLAIN, kind="character-cnn", epochs=2),
}
ODD = ["", "ก", "😰😰์", "👩‍👩‍👧x", "\u200b\ufeff", "เเเไ่่", "a\r\nb\0c", "กก" * 40, "ไเ|ลย"]


@pytest.fixture(scope="module")
def made():
    return {kind: fit(sentences(30), config=config) for kind, config in KINDS.items()}


@given(
    st.text(st.one_of(st.sampled_from("กาเะ่ๆ ไx1😰\u200d\u200b\n"), st.characters()), max_size=40)
)
@settings(max_examples=60, deadline=None)
def test_no_character_is_lost(made, text):
    for one in made.values():
        words = one.tokenize(text)
        assert "".join(words) == text
        assert all(words)
        beliefs = one.beliefs([text])[0]
        assert tokens_of(text, beliefs.cuts) == words
        n = max(len(text) - 1, 0)
        assert beliefs.cut_probabilities.shape == (n,)
        assert (beliefs.cut_probabilities[illegal(text)] == 0).all()
        assert not illegal(text)[[cut - 1 for cut in beliefs.cuts]].any()


def test_beliefs_agree_with_one_another(made):
    texts = [row.text for row in sentences(5, seed=3)]
    for one in made.values():
        for found in one.beliefs(texts, members=2, seed=1):
            p = found.cut_probabilities
            assert found.members is not None
            assert found.members.shape == (2, len(p))
            assert found.second_log_probability <= found.log_probability <= 0
            assert found.entropy >= 0
            if one.config.kind != "crf":  # positions do not depend on one another
                inner = p[(p > 0) & (p < 1)]
                each = inner * np.log(inner) + (1 - inner) * np.log(1 - inner)
                assert found.entropy == pytest.approx(-each.sum(), abs=1e-6)
                assert found.log_probability == pytest.approx(
                    np.log(np.maximum(p, 1 - p)).sum(), abs=1e-6
                )


@pytest.mark.parametrize("kind", KINDS)
def test_texts_do_not_depend_on_their_company(made, kind, monkeypatch):
    one, close = made[kind], {"rtol": 0, "atol": 0 if kind != "character-cnn" else 1e-5}
    texts = [*(row.text for row in sentences(6, seed=4)), *ODD]
    together = one.beliefs(texts, members=2, seed=5)
    monkeypatch.setattr(segmenter, "PIECE", 30)
    for found, text in zip(one.beliefs(texts[::-1], members=2, seed=5)[::-1], texts, strict=True):
        expected = together[texts.index(text)]
        np.testing.assert_allclose(found.cut_probabilities, expected.cut_probabilities, **close)
        np.testing.assert_allclose(found.members, expected.members, **close)
        assert found.cuts == expected.cuts
        assert found.entropy == pytest.approx(expected.entropy, abs=1e-4)
    assert one.segment(texts) == [found.cuts for found in together]
    assert one.embed(texts).shape == (len(texts), one.embed([]).shape[1])
    np.testing.assert_allclose(one.embed(texts)[0], one.embed(texts[:1])[0], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_line_is_cut_as_its_parts(made, kind):
    """Far from where two parts meet, nobody sees the difference."""
    one, part = made[kind], "".join(WORDS) * 3
    long = part * 200
    cuts = one.segment([long])[0]
    middle = [cut - 80 * len(part) for cut in cuts if 80 <= cut / len(part) < 82]
    again = [cut - 100 * len(part) for cut in cuts if 100 <= cut / len(part) < 102]
    assert middle == again
    assert cuts == one.beliefs([long])[0].cuts


def test_windows_of_a_network_overlap_by_what_matters(made, monkeypatch):
    one, text = made["character-cnn"], "".join(WORDS) * 4
    whole, vector = one.beliefs([text])[0].cut_probabilities, one.embed([text])
    monkeypatch.setattr(character_cnn, "_WINDOW", 21)
    np.testing.assert_allclose(one.beliefs([text])[0].cut_probabilities, whole, atol=1e-5)
    np.testing.assert_allclose(one.embed([text]), vector, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_comes_back(made, kind, tmp_path):
    one, texts = made[kind], [row.text for row in sentences(4, seed=6)]
    one.save_pretrained(tmp_path / "new")
    again = Segmenter.from_pretrained(tmp_path / "new")
    assert again.config == one.config
    for a, b in zip(one.beliefs(texts, members=1), again.beliefs(texts, members=1), strict=True):
        assert a.cuts == b.cuts
        assert (a.cut_probabilities == b.cut_probabilities).all()
        assert (a.members == b.members).all()
        assert a.entropy == b.entropy
    names = {file.name for file in (tmp_path / "new").iterdir()}
    assert names == {"config.json", "model.safetensors", "README.md"}
    again.save_pretrained(tmp_path / "new")  # over itself


def test_fitting_again_gives_the_same(made):
    texts = [row.text for row in sentences(3, seed=7)]
    for kind, config in KINDS.items():
        again = fit(sentences(30), config=config).beliefs(texts, members=2)
        for a, b in zip(made[kind].beliefs(texts, members=2), again, strict=True):
            assert (a.members == b.members).all()
            assert (a.cut_probabilities == b.cut_probabilities).all()


def test_members_differ_and_are_limited(made):
    text = sentences(1, seed=8)[0].text
    for one in made.values():
        found = one.beliefs([text], members=2)[0].members
        assert (found[0] != found[1]).any()
    with pytest.raises(ConfigError, match="bags=3"):
        made["crf"].beliefs([text], members=3)
    still = fit(sentences(5), config=replace(KINDS["character-cnn"], dropout=0.0, epochs=1))
    with pytest.raises(ConfigError, match="dropout must be above 0"):
        still.beliefs([text], members=1)


def test_a_single_text_is_no_list(made):
    for wrong in ("ฉันกิน", [1], [b"x"]):
        with pytest.raises(ConfigError, match="expected a list of texts"):
            made["crf"].segment(wrong)


def test_whitespace_as_in_pythainlp(made):
    text = "ฉัน กินข้าว  ที่บ้าน"
    words = made["crf"].tokenize(text, keep_whitespace=False)
    assert words == [w.strip() for w in made["crf"].tokenize(text) if w.strip()]
    theirs = word_tokenize(text, keep_whitespace=False)
    assert not any(word.isspace() for word in theirs)
    assert "".join(words) == "".join(theirs)
    assert made["crf"].tokenize("") == word_tokenize("") == []


def test_words_of_a_file_travel_and_those_of_pythainlp_do_not(tmp_path, caplog):
    words = tmp_path / "words.txt"
    words.write_text("\ufeffฉัน\nกิน\n\nข้าว\n", encoding="utf-8")
    config = replace(PLAIN, dictionary=str(words))
    one = fit(sentences(20), config=config)
    one.save_pretrained(tmp_path / "own")
    words.unlink()
    again = Segmenter.from_pretrained(tmp_path / "own")
    assert again.dictionary.words == ("กิน", "ข้าว", "ฉัน")
    text = "".join(WORDS)
    assert again.segment([text]) == one.segment([text])
    (tmp_path / "own" / "dictionary.txt").write_text("ไป\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"dictionary\.txt is not the one"):
        Segmenter.from_pretrained(tmp_path / "own")

    fit(sentences(20), config=replace(PLAIN, dictionary="pythainlp")).save_pretrained(
        tmp_path / "theirs"
    )
    assert not (tmp_path / "theirs" / "dictionary.txt").exists()
    caplog.set_level(logging.WARNING)
    Segmenter.from_pretrained(tmp_path / "theirs")
    assert not caplog.records
    change(tmp_path / "theirs", dictionary_sha256="0" * 64)
    Segmenter.from_pretrained(tmp_path / "theirs")
    assert "another version of pythainlp's word list" in caplog.text


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot read the dictionary"), (b"\n \n", "found none"), (b"\xff\xfe", "UTF-8")],
)
def test_broken_dictionaries(tmp_path, content, words):
    file = tmp_path / "words.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=words):
        fit(sentences(3), config=replace(PLAIN, dictionary=str(file)))


def change(folder, **facts):
    file = folder / "config.json"
    stored = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(stored | facts), encoding="utf-8")


def test_damaged_and_foreign_folders(made, tmp_path):
    def broken(kind="crf"):
        folder = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        made[kind].save_pretrained(folder)
        return folder

    def refused(folder, words, error=DataError):
        with pytest.raises(error, match=words) as found:
            Segmenter.from_pretrained(folder)
        assert "\n" not in str(found.value)

    refused(tmp_path / "none", "no segmenter at")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, r"has no config\.json")
    other = broken()
    change(other, model_type="bert")
    refused(other, "expected a segmenter of Attar", CompatibilityError)
    for facts in ({"kind": "hmm"}, {"hash_bits": 99}, {"dictionary": "/etc/passwd"}, {"c2": "x"}):
        folder = broken()
        change(folder, **facts)
        refused(folder, "is damaged")
    (cut := broken()).joinpath("config.json").write_text("{", encoding="utf-8")
    refused(cut, "cannot be read as JSON")
    (gone := broken()).joinpath("model.safetensors").unlink()
    refused(gone, r"model\.safetensors cannot be read")
    for kind in made:
        (short := broken(kind)).joinpath("model.safetensors").write_bytes(b"\x10" * 20)
        refused(short, r"model\.safetensors cannot be read")
    for kind, name, value in (
        ("crf", "weights", np.zeros((3, 2))),
        ("crf", "transitions", np.full((3, 2, 2), np.nan)),
        ("crf", "more", np.zeros(1)),
        ("crf", "features", None),
        ("character-cnn", "score.bias", np.full(1, np.inf, np.float32)),
        ("character-cnn", "score.bias", np.zeros(2, np.float32)),
    ):
        folder = broken(kind)
        tensors = load_file(folder / "model.safetensors")
        tensors[name] = tensors[name][::-1].copy() if value is None else value
        save_file(tensors, folder / "model.safetensors")
        refused(folder, "is damaged")


def test_a_place_that_cannot_be_written_to(made, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot make the output folder"):
        made["crf"].save_pretrained(tmp_path / "file" / "below")


def test_the_hub_gets_the_folder(made, monkeypatch):
    seen = {}

    class Hub:
        def __init__(self, token=None):
            seen["token"] = token

        def create_repo(self, name, *, private, exist_ok):
            seen["repo"] = (name, private, exist_ok)

        def upload_folder(self, *, repo_id, folder_path):
            seen["words"] = Segmenter.from_pretrained(folder_path).tokenize("ฉันกิน")
            return f"https://hub/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert made["crf"].push_to_hub("me/thai", private=True) == "https://hub/me/thai"
    assert seen["repo"] == ("me/thai", True, True)
    assert seen["words"] == made["crf"].tokenize("ฉันกิน")


def test_without_the_extra(monkeypatch):
    from attar.errors import MissingExtraError
    from attar.methods.active_segmentation import dictionary

    def gone(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(dictionary, "import_module", gone)
    with pytest.raises(MissingExtraError, match=r"ahocorasick; run pip install '\.\[thai\]'"):
        dictionary.Dictionary(["ก"], name="some")
