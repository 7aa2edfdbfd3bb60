"""Files that lie, explode or are of another kind get one sentence, and nothing large is made."""

import gzip
import json
import logging
import os
import shutil
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import attar
import tiny
import windows
from attar import checkpoint
from attar.cli.app import _Lines, run
from attar.cli.output import show
from attar.data.prompts import read_prompts
from attar.data.text import load_text
from attar.errors import AttarError, printable
from attar.foreign import parse_json
from attar.methods.distiller.study import read_study
from attar.recipes import read_recipe
from attar.report.compare import compare
from attar.report.pages import html_report
from attar.report.record import Run
from attar.slicing import SlicePlan
from records import make

#: as deep as JSON may be
DEEPER = json.loads('{"a":' * 900 + "1" + "}" * 900)
DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    tiny.model().save_pretrained(folder)
    return folder


def refused(call: Callable[[], Any], *words: str) -> str:
    """The one sentence, without a control character."""
    with pytest.raises(AttarError) as caught:
        call()
    said = str(caught.value)
    assert said.isprintable()
    for word in words:
        assert word in said
    return said


# ------------------------------------------------------------------------------------------ models


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 200_000}, "at most 2000 for num_hidden_layers"),
        ({"num_hidden_layers": 10**30}, "found 1e+30"),
        ({"text_config": {"n_layer": 10**9}}, "at most 2000 for n_layer"),
        ({"hidden_size": 100_000}, "does not fit its config"),
        ({"vocab_size": 10**12}, "does not fit its config"),
        ({"intermediate_size": 10**10}, "does not fit its config"),
        ({"hidden_size": 0}, "checkpoint"),
        ({"hidden_size": -8}, "negative"),
        ({"vocab_size": "many"}, "vocab_size"),
        ({"num_attention_heads": None}, "num_attention_heads"),
    ],
)
def test_absurd_widths_are_refused_before_anything_is_allocated(
    changes: dict[str, Any], words: str, stored: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(stored, tmp_path / "m")
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    refused(lambda: checkpoint.load(folder), words)


@pytest.mark.parametrize("map_to", [{}, {"AutoConfig": "configuration_mine.MineConfig"}])
def test_a_class_that_transformers_lacks_needs_custom_code(
    map_to: dict[str, str], stored: Path, tmp_path: Path
) -> None:
    config = {"model_type": "mine", "architectures": ["Mine"], "auto_map": map_to}
    (tmp_path / "config.json").write_text(json.dumps(config))
    said = refused(lambda: checkpoint.load(tmp_path), "'mine'", "trust_remote_code")
    assert said.startswith("needs custom code")
    own = {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}}
    folder = shutil.copytree(stored, tmp_path / "m")
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
    (folder / "mine.py").write_text("raise SystemExit")
    said = refused(lambda: checkpoint.load_tokenizer(folder))
    assert said.startswith("needs custom code")


def shards(folder: Path, names: Any) -> None:
    """Weights beside the folder, under an index that says where they are."""
    (folder / "model.safetensors").rename(folder.parent / "x.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


@pytest.mark.parametrize(
    "names", [{"a": "../x.safetensors"}, {"a": "/etc/passwd"}, {"a": "b"}, {"a": 3}, [], None]
)
def test_an_index_names_shards_that_lie_beside_it(names: Any, stored: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(stored, tmp_path / "m")
    shards(folder, names)
    refused(lambda: checkpoint.load(folder), "index.json")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", DEEP),
        ("config.json", b'{"a":' + b"9" * 5000 + b"}"),
        ("config.json", b" " * 2**24 + b"{}"),
        ("generation_config.json", DEEP),
        ("generation_config.json", b'{"eos_token_id": [1, "a"]}'),
        ("model.safetensors.index.json", DEEP),
        ("model.safetensors.index.json", b'{"weight_map": {}, "weight_map": {}}'),
        ("model.safetensors", b""),
        ("model.safetensors", struct.pack("<Q", 10**15) + b"{}"),
        ("model.safetensors", struct.pack("<Q", 99_000_000) + b"{}"),
        ("model.safetensors", struct.pack("<Q", 2) + b"[]"),
    ],
)
def test_damaged_files_of_a_checkpoint_are_one_sentence(
    file: str, content: bytes, stored: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(stored, tmp_path / "m")
    (folder / file).write_bytes(content)
    refused(lambda: checkpoint.load(folder), str(folder))


# -------------------------------------------------------------------------------------- tokenizers


def test_a_tokenizer_of_another_model_is_refused_before_it_writes() -> None:
    tokenizer: Any = windows.made("12")
    refused(lambda: attar.generate(tiny.model(), "a text", tokenizer=tokenizer), "64 embeddings")


def test_a_dictionary_whose_strings_explode_is_refused(tmp_path: Path) -> None:
    windows.made("12").save_pretrained(tmp_path)
    parent = np.arange(-1, 2**16 - 1, dtype=np.int32)  # each string one longer than the last
    parent[:256] = -1
    symbol = np.arange(2**16).astype(np.uint16) % 256
    save_file({"parent": parent, "symbol": symbol}, tmp_path / "equal_info.safetensors")
    codec = json.loads((tmp_path / "codec.json").read_text()) | {"window_bits": 16}
    del codec["codec_sha256"]
    from attar.portable.tokenization_equal_info import codec_hash

    codec["codec_sha256"] = codec_hash(codec)
    (tmp_path / "codec.json").write_text(json.dumps(codec))
    began = time.monotonic()
    refused(lambda: checkpoint.load_tokenizer(tmp_path), "33554432 symbols")
    assert time.monotonic() - began < 5


def test_counts_of_another_alphabet_are_refused(tmp_path: Path) -> None:
    windows.made("24 in 8").save_pretrained(tmp_path)
    file = tmp_path / "equal_info.safetensors"
    arrays = load_file(file)
    arrays["shape"][0] = 10**12
    save_file(arrays, file)
    refused(lambda: checkpoint.load_tokenizer(tmp_path), "256 or 257")


# -------------------------------------------------------------------------------------------- text


@pytest.fixture
def small_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What unpacks to more than 100 kB is looked at."""
    monkeypatch.setattr("attar.data.files._BOMB", 100_000)
    monkeypatch.setattr("attar.data.files.PIECE", 2**14)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("a.txt.gz", b"a"),
        ("a.csv.gz", b"text\n"),
        ("a.jsonl.gz", b'{"text": "a row"}\n'),
        ("a.parquet.gz", b"PAR1"),
    ],
)
def test_what_never_ends_unpacking_is_refused(
    name: str, row: bytes, tmp_path: Path, small_bombs: None
) -> None:
    (tmp_path / name).write_bytes(gzip.compress(row * (2**22 // len(row))))
    refused(lambda: load_text(tmp_path / name), name, "in ", "50 times")


def test_an_honest_packed_text_is_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_bombs: None
) -> None:
    text = "".join(f"line {i} of {i * i}\n" for i in range(20_000))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    monkeypatch.setattr("attar.data.text.LARGE", 100_000)
    monkeypatch.setattr("attar.data.text.read_text", None)
    splits = load_text(tmp_path / "a.txt.gz")
    assert "".join("".join(splits[name]["text"]) for name in splits) == text


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (b'{"text": "a", "b": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n", "too deeply"),
        (b'{"text": "' + b"a " * 100_000 + b'"}\n', "more than 99,999 bytes"),
        (b'{"text": "a", "n": ' + b"9" * 5000 + b"}\n", "a.jsonl"),
        ('{"text": "a"}\n'.encode("utf-16"), "a.jsonl"),
        ('{"text": "a", "b": ["olé"]}\n'.encode("cp1252"), "byte 0xe9; convert the file to UTF-8"),
        (b"null\n", "found null"),
        (b'\xef\xbb\xbf{"text": "a"}\n', "a byte order mark"),
        (b"1\n[]\n", "a.jsonl"),
    ],
)
def test_rows_that_no_table_holds_are_one_sentence(
    row: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "99,999" in words:
        monkeypatch.setattr("attar.data.files.JSON_BYTES", 99_999)
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "fine"}\n' * 40 + row)
    refused(lambda: load_text(tmp_path / "a.jsonl"), words)
    if "deeply" in words:
        (tmp_path / "a.json").write_bytes(row)
        refused(lambda: read_prompts(tmp_path / "a.json"), "a.json")


def test_links_in_a_circle_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a line of text\n" * 60)
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "b.txt").symlink_to(tmp_path / "b.txt")
    assert len(load_text(tmp_path)["train"]) == 1
    (tmp_path / "c").symlink_to(tmp_path / "c")
    refused(lambda: load_text(tmp_path / "c"), "no file or folder")


# ----------------------------------------------------------------------------------------- records

NAMES = ["\x1b[31mred\x1b[0m", "a\x00b\x07", "a\u202eb\u2066", "two\nlines\r", "c1\x9b31m"]


@pytest.mark.parametrize("name", NAMES)
def test_names_from_files_are_shown_without_what_moves_the_cursor(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = make(name, model=name, data=name, settings={name: {name: name}}, seed=1)
    bad.baselines[0]["name"] = name
    bad.quality["after"][name] = 0.5
    bad.details = {"widths": {name: {"after": [1, 2]}}, "importance": {name: [0.1, 0.2]}}
    bad.save(tmp_path / "run")
    found = Run.load(tmp_path / "run")
    page = html_report([found], tmp_path / "r.html", title=name, names=[name]).read_text()
    table = compare([found]).table
    for text in (str(found), table.text(), table.markdown(), table.html(), page):
        assert printable(text.replace("\n", "")) == text.replace("\n", "")
        assert name not in text
    assert run(["compare", str(tmp_path / "run")]) == 0
    assert run(["compare", str(tmp_path / name.replace("\x00", ""))]) == 2
    for text in capsys.readouterr():
        assert all(line.isprintable() for line in text.splitlines())
        assert text.count("\n") == len(text.splitlines())


def test_a_name_of_any_script_is_shown_as_it_is() -> None:
    for name in ("Größe", "名前", "\u0645\u06cc\u200c\u062e", "👩\u200d🔬", "a b"):
        assert printable(name) == name


@pytest.mark.parametrize(
    "changes",
    [
        {"cost": {"after": {"bytes": "x"}}},
        {"cost": {"after": 3}},
        {"quality": {"after": {"bits_per_byte": [1]}}},
        {"quality": {"after": {"bytes": "many"}}},
        {"budget": {"constraints": [3]}},
        {"budget": 3},
        {"versions": {"a": None}, "hardware": [1]},
        {"seconds": 10**400},
        {"settings": {}, "data": {}, "details": DEEPER},
        {"cost": {"after": {"params": 10**400}}},
        {"details": [1]},
    ],
)
def test_a_record_that_cannot_be_shown_is_damaged(changes: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "attar.json").write_text(json.dumps({"schema": 2, "command": "prune"} | changes))
    refused(lambda: compare([tmp_path], html=tmp_path / "r.html"), "attar.json")
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    "details",
    [
        {"widths": {"a": {"after": [1] * 200_000}}},
        {"widths": {str(i): {"after": [1]} for i in range(1000)}},
        {"widths": {"a": {"after": ["x", None]}}},
        {"widths": {"a": [1, 2]}},
        {"widths": {"a": {"after": [1e400]}}},
        {"importance": {"a": [[1]]}},
        {"importance": {"a": {"b": [1]}}},
        {"importance": {"a": [10**400]}},
        {"importance": {"a": [0.5] * 200_000}},
    ],
)
def test_what_is_no_chart_is_not_drawn(details: dict[str, Any], tmp_path: Path) -> None:
    make(details=details, cost={}, quality={}, baselines=[]).save(tmp_path)
    page = html_report([Run.load(tmp_path)], tmp_path / "r.html").read_text()
    assert "What is left of each layer" not in page
    assert "Importance of each module" not in page


# -------------------------------------------------------------------------------------------- JSON

BAD_JSON = [DEEP, b"9" * 5000, b'{"a": 1, "a": 2}', b"\xff{}", b"", b"[1, 2"]


@pytest.mark.parametrize("text", BAD_JSON)
def test_bad_json_is_one_sentence_wherever_it_is_read(text: bytes, tmp_path: Path) -> None:
    for name in ("attar.json", "plan.json", "study.jsonl", "modules.json"):
        (tmp_path / name).write_bytes(text)
    refused(lambda: compare([tmp_path]), "attar.json")
    refused(lambda: attar.prune(tiny.model(), apply=tmp_path, output_dir=tmp_path / "o"), "plan")
    refused(lambda: read_study(tmp_path), "study.jsonl")
    refused(lambda: SlicePlan.from_json(text.decode("latin-1")), "plan")
    assert not (tmp_path / "o").exists()


def test_a_recipe_of_great_depth_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("a: " + "[" * 2000)
    refused(lambda: read_recipe(str(tmp_path / "r.yaml")), "r.yaml")


def test_a_pipe_is_no_record(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "attar.json")
    refused(lambda: compare([tmp_path]), "is a pipe")


def test_json_in_any_encoding_is_read() -> None:
    for code in ("utf-8-sig", "utf-16", "utf-32"):
        assert parse_json('{"a": "ö"}'.encode(code), "it") == {"a": "ö"}


def test_a_text_cannot_move_the_cursor_of_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for terminal, seen in ((False, "a\x1b[31m\tb\nc\n"), (True, "a\\x1b[31m\tb\nc\n")):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal)
        show("a\x1b[31m\tb\nc")
        assert capsys.readouterr().out == seen


def test_progress_lines_show_names_escaped() -> None:
    record = logging.LogRecord("attar", logging.INFO, "", 0, "%s: half", ("a\x1b[31m",), None)
    assert _Lines("%(message)s").format(record) == "a\\x1b[31m: half"
