"""The tokenizer as users of Hugging Face have it: any text, any call, also without Attar."""

import ast
import json
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, DataCollatorForLanguageModeling

import alone
import processes
from attar import checkpoint
from attar.errors import ConfigError, DataError
from attar.methods.equal_info.config import EqualInfoConfig
from attar.methods.equal_info.tokenizer import make_tokenizer
from attar.portable import tokenization_equal_info
from attar.portable.tokenization_equal_info import EqualInfoTokenizer, codec_hash
from scene import sources
from windows import SHAPES, made, small_model

PORTABLE = Path(tokenization_equal_info.__file__).parent
FIXED = settings(max_examples=40, deadline=None)


TEXT = "naïve café ☕ def f(x):\n\treturn x  # 日本語\r\n"


@pytest.fixture(params=SHAPES)
def tokenizer(request: pytest.FixtureRequest) -> EqualInfoTokenizer:
    return made(request.param)


@FIXED
@given(text=st.text(max_size=80), shape=st.sampled_from(list(SHAPES)))
def test_any_text_comes_back(text: str, shape: str) -> None:
    ids = made(shape)(text)["input_ids"]
    assert made(shape).decode(ids) == text


@FIXED
@given(data=st.binary(max_size=120), shape=st.sampled_from(list(SHAPES)))
def test_any_bytes_come_back(data: bytes, shape: str) -> None:
    ids = made(shape).encode_bytes(data)
    assert made(shape).decode_bytes(ids) == data
    assert len(ids) == 0 or ids.max() < made(shape).vocab_size


def test_bytes_that_are_not_text_come_in_as_surrogates(tokenizer: EqualInfoTokenizer) -> None:
    data = bytes(range(256)) * 2
    text = data.decode("utf-8", "surrogateescape")
    assert tokenizer.decode_bytes(tokenizer(text)["input_ids"]) == data


@FIXED
@given(ids=st.lists(st.integers(0, 2**12 + 5), max_size=30))
def test_any_ids_decode(ids: list[int]) -> None:
    assert isinstance(made().decode(ids), str)
    assert isinstance(made().decode(ids, skip_special_tokens=True), str)


def test_ids_are_the_longest_matches(tokenizer: EqualInfoTokenizer) -> None:
    if tokenizer.one_string_an_id:
        pieces = [tokenizer.decode_bytes([i]) for i in tokenizer(TEXT)["input_ids"]]
        assert b"".join(pieces).decode() == TEXT
        strings = {tokenizer.decode_bytes([i]) for i in range(tokenizer.vocab_size)}
        for piece, after in pairwise(pieces):
            assert piece + after[:1] not in strings


def test_special_tokens_stand_between_windows(tokenizer: EqualInfoTokenizer) -> None:
    text = f"one{tokenizer.eos_token}two"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_special_tokens=True) == "onetwo"
    other = tokenizer("one<|pad|>two<|pad|>x")["input_ids"]
    assert tokenizer.decode_bytes(other) == b"onetwox"
    assert tokenizer.decode_bytes([-100, *other, -100]) == b"onetwox"
    literal = tokenizer(text, split_special_tokens=True)["input_ids"]
    assert tokenizer.decode_bytes(literal) == text.encode()
    if tokenizer.codec["eos"] == "document":
        own = [tokenizer(part)["input_ids"] for part in ("one", "two")]
        assert ids == [*own[0], tokenizer.eos_token_id, *own[1]]


def test_the_end_inside_windows_has_an_id_of_its_own() -> None:
    tokenizer = made("12 in window")
    assert tokenizer.eos_token_id < tokenizer.vocab_size
    assert tokenizer.decode([tokenizer.eos_token_id]) == tokenizer.eos_token
    assert tokenizer.convert_tokens_to_ids(tokenizer.eos_token) == tokenizer.eos_token_id
    documents = ["a document", "", "and one more"]
    ids = tokenizer("".join(text + tokenizer.eos_token for text in documents))["input_ids"]
    parts = tokenizer.decode(ids).split(tokenizer.eos_token)
    assert parts == [*documents, ""]


def test_tokens_and_ids_are_one_to_one(tokenizer: EqualInfoTokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    assert sorted(vocabulary.values()) == list(range(len(tokenizer)))
    ids = tokenizer(TEXT)["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert tokens == tokenizer.tokenize(TEXT)
    assert tokenizer.convert_tokens_to_ids(tokens) == ids
    assert tokenizer.convert_tokens_to_string(tokens) == TEXT


def test_ids_that_no_token_has_are_refused(tokenizer: EqualInfoTokenizer) -> None:
    last = len(tokenizer) - 1
    assert tokenizer.convert_ids_to_tokens([last]) == [tokenizer.convert_ids_to_tokens(last)]
    for wrong in (-1, -100, last + 1):
        with pytest.raises(IndexError, match=f"ids of 0 to {last}, found {wrong}"):
            tokenizer.convert_ids_to_tokens([0, wrong])


def test_words_are_encoded_as_they_stand_and_there_may_be_none(
    tokenizer: EqualInfoTokenizer,
) -> None:
    assert not tokenizer.add_prefix_space
    rows: Any = tokenizer([["naïve", "café"], [], ["x"]], is_split_into_words=True)
    words = ["naïve", "café", "x"]
    first, second, third = (tokenizer(word)["input_ids"] for word in words)
    assert rows["input_ids"] == [first + second, [], third]
    pair = tokenizer([], ["x"], is_split_into_words=True)["input_ids"]
    assert pair == third
    assert tokenizer([], is_split_into_words=True)["input_ids"] == []


def test_added_tokens_are_found_in_text() -> None:
    tokenizer = make_tokenizer(
        sources(150_000),
        config=EqualInfoConfig(window_bits=12, order=4),
        special_tokens={"bos_token": "<|start|>", "eos_token": "<|stop|>"},
    )
    tokenizer.add_tokens(["<think>"])
    ids = tokenizer("<|start|>a<think>b<|stop|>")["input_ids"]
    assert [i for i in ids if i >= tokenizer.vocab_size] == tokenizer.convert_tokens_to_ids(
        ["<|start|>", "<think>", "<|stop|>"]
    )
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a<think>b"


def test_a_special_token_that_is_a_string_of_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="'e' is also the string of a window"):
        made().add_tokens(["e"])
    with pytest.raises(ConfigError, match="'e' is also the string of a window"):
        make_tokenizer(
            sources(150_000),
            config=EqualInfoConfig(window_bits=12, order=4),
            special_tokens={"eos_token": "e"},
        )


def test_a_batch_is_padded_and_cut(tokenizer: EqualInfoTokenizer) -> None:
    texts = ["short", TEXT]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    alone = [tokenizer(text)["input_ids"] for text in texts]
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert batch["attention_mask"].sum(dim=1).tolist() == [len(ids) for ids in alone]
    assert batch["input_ids"][0, : len(alone[0])].tolist() == alone[0]
    cut = tokenizer(texts, truncation=True, max_length=3)["input_ids"]
    assert cut == [ids[:3] for ids in alone]
    left = tokenizer(texts, padding=True, padding_side="left")["input_ids"]
    assert left[0][-len(alone[0]) :] == alone[0]
    assert tokenizer("") == {"input_ids": [], "attention_mask": []}


def test_offsets_cover_the_text(tokenizer: EqualInfoTokenizer) -> None:
    text = f"{TEXT}{tokenizer.eos_token}x"
    found = tokenizer(text, return_offsets_mapping=True)
    spans = found["offset_mapping"]
    assert len(spans) == len(found["input_ids"])
    covered = {at for start, stop in spans for at in range(start, stop)}
    assert covered == set(range(len(text)))
    assert spans == sorted(spans)
    if tokenizer.one_string_an_id and tokenizer.codec["eos"] == "document":
        for (start, stop), i in zip(spans, found["input_ids"], strict=True):
            piece = tokenizer.decode([i])
            assert "\ufffd" in piece or text[start:stop] == piece


def test_offsets_are_cut_and_padded_as_ids_are(tokenizer: EqualInfoTokenizer) -> None:
    whole = tokenizer(TEXT, return_offsets_mapping=True)["offset_mapping"]
    batch = tokenizer(
        [TEXT, "ab"],
        return_offsets_mapping=True,
        padding=True,
        truncation=True,
        max_length=8,
        padding_side="left",
    )
    assert batch["offset_mapping"][0] == whole[:8]
    assert [len(row) for row in batch["offset_mapping"]] == [len(r) for r in batch["input_ids"]]
    assert batch["offset_mapping"][1][0] == (0, 0)
    alone = tokenizer(TEXT, return_offsets_mapping=True, max_length=60, padding="max_length")
    assert len(alone["offset_mapping"]) == len(alone["input_ids"])


def test_a_stream_gives_the_text_and_never_half_a_character(
    tokenizer: EqualInfoTokenizer,
) -> None:
    ids = tokenizer(TEXT * 3)["input_ids"]
    decoder = tokenizer.stream_decoder()
    parts = [decoder.put([i]) for i in ids]
    parts.append(decoder.end())
    assert "".join(parts) == TEXT * 3
    assert not any("\ufffd" in part for part in parts)
    cut = tokenizer.stream_decoder()
    head = cut.put(tokenizer.encode_bytes("☕".encode()[:2]))
    assert head + cut.end() == "\ufffd"


def test_healing_takes_back_the_last_id_and_offers_what_begins_with_it() -> None:
    tokenizer = made()
    ids = tokenizer("def prin")["input_ids"]
    kept, processor = tokenizer.heal(ids)
    assert kept == ids[:-1]
    dropped = tokenizer.decode_bytes(ids[-1:])
    scores = processor(torch.tensor([kept]), torch.zeros(1, len(tokenizer)))
    allowed = torch.isfinite(scores[0]).nonzero().flatten().tolist()
    wanted = [
        i for i in range(tokenizer.vocab_size) if tokenizer.decode_bytes([i]).startswith(dropped)
    ]
    assert allowed == wanted
    later = processor(torch.tensor([ids]), torch.zeros(1, len(tokenizer)))
    assert torch.isfinite(later).all()
    assert tokenizer.heal([]) == ([], None)
    assert tokenizer.heal([tokenizer.eos_token_id])[1] is None


def test_canonical_generation_gives_what_encoding_gives() -> None:
    tokenizer, model = made(), small_model(made())
    forbid = [i for i in range(tokenizer.vocab_size, len(tokenizer))]
    ids = torch.tensor([tokenizer("import os\n")["input_ids"]])
    options: Any = {"do_sample": True, "max_new_tokens": 60, "suppress_tokens": forbid}
    torch.manual_seed(1)
    free = model.generate(ids, **options)[0].tolist()
    torch.manual_seed(1)
    held = model.generate(ids, logits_processor=[tokenizer.canonical()], **options)[0].tolist()
    again = [tokenizer.encode_bytes(tokenizer.decode_bytes(one)).tolist() for one in (free, held)]
    assert again[0] != free
    assert again[1] == held


def test_ids_that_are_no_strings_have_no_healing() -> None:
    with pytest.raises(ValueError, match="token healing expects an id for every window"):
        made("12 in 6").heal([1, 2])


@pytest.mark.parametrize("shape", ["12", "12 in 6", "12 in window"])
def test_the_folder_loads_where_attar_is_not(shape: str, tmp_path: Path) -> None:
    tokenizer = made(shape)
    folder = tmp_path / "tokenizer"
    tokenizer.save_pretrained(folder)
    assert {file.name for file in folder.iterdir()} >= {
        "codec.json",
        "equal_info.safetensors",
        "equal_info_generation.py",
        "equal_info_windows.py",
        "tokenization_equal_info.py",
        "tokenizer_config.json",
    }
    found = processes.elsewhere(alone.run_tokenizer, str(folder), TEXT)
    assert found == ("EqualInfoTokenizer", tokenizer(TEXT)["input_ids"], TEXT)


def test_windows_too_long_for_a_table_ask_for_attar(tmp_path: Path) -> None:
    made("24 in 8").save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"load this tokenizer with attar\.load_tokenizer\(folder\)"
    ):
        AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=True)
    with pytest.raises(ValueError, match="expected windows of at most 20 bits"):
        EqualInfoTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("file", sorted(PORTABLE.glob("*.py")), ids=lambda file: file.name)
def test_files_that_travel_import_nothing_of_attar(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not any(name.name.partition(".")[0] == "attar" for name in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 1 or (node.module or "").partition(".")[0] != "attar"
            assert node.level < 2
        if isinstance(node, ast.Call):
            assert "import_module" not in ast.unparse(node.func)


def test_a_saved_tokenizer_is_the_same(tokenizer: EqualInfoTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded: Any = checkpoint.load_tokenizer(tmp_path)
    assert isinstance(loaded, EqualInfoTokenizer)
    assert loaded.codec == tokenizer.codec
    assert loaded.dictionary.digest == tokenizer.dictionary.digest
    assert loaded(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]
    assert loaded.get_vocab() == tokenizer.get_vocab()
    loaded.save_pretrained(tmp_path / "again")
    files = [
        (folder / "equal_info.safetensors").read_bytes()
        for folder in (tmp_path, tmp_path / "again")
    ]
    assert files[0] == files[1]


def test_a_dictionary_of_another_tokenizer_or_format_is_refused(tmp_path: Path) -> None:
    made().save_pretrained(tmp_path)
    other = make_tokenizer(sources(80_000), config=EqualInfoConfig(window_bits=12, order=3))
    other.dictionary.save(tmp_path / "equal_info.safetensors")
    with pytest.raises(DataError, match="expected a dictionary with the hash"):
        checkpoint.load_tokenizer(tmp_path)
    (tmp_path / "equal_info.safetensors").write_bytes(b"broken")
    with pytest.raises(DataError, match="may be damaged"):
        checkpoint.load_tokenizer(tmp_path)
    codec = json.loads((tmp_path / "codec.json").read_text())
    for change in ({"token_bits": 8}, {"eos": "in_window"}, {"corpus": None}):
        (tmp_path / "codec.json").write_text(json.dumps(codec | change))
        with pytest.raises(DataError, match="expected a codec with the hash that it names"):
            checkpoint.load_tokenizer(tmp_path)
    damaged = codec | {"token_bits": 40}
    damaged["codec_sha256"] = codec_hash(damaged)
    (tmp_path / "codec.json").write_text(json.dumps(damaged))
    with pytest.raises(DataError, match=r"expected ids of 1 to 12 bits .* found 40"):
        checkpoint.load_tokenizer(tmp_path)
    (tmp_path / "codec.json").write_text(json.dumps(codec | {"format": 2}))
    with pytest.raises(DataError, match="expected a tokenizer of format 1, found 2"):
        checkpoint.load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["codec.json", "equal_info.safetensors"])
def test_a_folder_that_lacks_a_file_runs_no_code_of_its_own(name: str, tmp_path: Path) -> None:
    made().save_pretrained(tmp_path)
    (tmp_path / "tokenization_equal_info.py").write_text("raise SystemExit('was run')\n")
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"lacks {name}"):
        checkpoint.load_tokenizer(tmp_path)


def test_pickles_are_small_and_do_not_change(tokenizer: EqualInfoTokenizer) -> None:
    first = pickle.dumps(tokenizer)
    tokenizer(TEXT), tokenizer.get_vocab(), tokenizer.tokenize(TEXT)
    assert len(pickle.dumps(tokenizer)) == len(first)
    assert pickle.loads(first)(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]


def test_labels_that_are_left_out_and_unknown_symbols() -> None:
    ids = made()("some text")["input_ids"]
    assert made().decode([-100, *ids, -100]) == "some text"
    with pytest.raises(ValueError, match="symbols of 0 to 255, found 256"):
        made().encode_symbols(np.asarray([104, 256, 105]))


def test_documents_and_their_ends_come_back(tokenizer: EqualInfoTokenizer) -> None:
    texts = ["one", "zwei ☕", "", "drei"]
    ids = tokenizer.encode_documents(texts)
    assert tokenizer.decode_documents(ids) == texts
    assert tokenizer.decode_documents(ids.tolist()) == texts


def test_collators_leave_the_end_of_a_text_in_the_loss() -> None:
    collator = DataCollatorForLanguageModeling(made(), mlm=False)
    batch = collator([made()("ab<|endoftext|>"), made()("a longer text")])
    assert made().eos_token_id in batch["labels"][0].tolist()
    assert -100 in batch["labels"][0].tolist()


def test_offsets_of_tensors_and_what_has_none() -> None:
    found = made()(TEXT, return_offsets_mapping=True, return_tensors="pt")
    assert found["offset_mapping"].shape == (*found["input_ids"].shape, 2)
    with pytest.raises(ValueError, match="offsets are given for texts"):
        made()("a", "b", return_offsets_mapping=True)
