"""Prompts: of tables as they are, of text cut within its documents."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from tokenizers.processors import TemplateProcessing

import scene
from attar.data.data import Data
from attar.data.prompts import Prompt, load_prompts, read_prompts
from attar.data.text import stdlib_files
from attar.errors import ConfigError, DataError

LENGTHS = {"prompt_tokens": 6, "completion_tokens": 5}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scene.write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture
def tokenizer(text: Path) -> Any:
    return scene.tokenizer(text)


def rows(count: int, **more: Any) -> Dataset:
    prompts = [f"def return {i} class" for i in range(count)]
    return Dataset.from_dict({"prompt": prompts, **{k: [v] * count for k, v in more.items()}})


def test_pieces_joined_are_the_documents(text: Path, tokenizer: Any) -> None:
    documents = ["def return import class self none true range\n" * i for i in (1, 3, 2)]
    data = DatasetDict(
        {name: Dataset.from_dict({"text": documents}) for name in ("train", "validation", "test")}
    )
    found = load_prompts(data, tokenizer, **LENGTHS)["train"]
    streams = [
        [*ids, tokenizer.eos_token_id]
        for ids in tokenizer(documents, add_special_tokens=False)["input_ids"]
    ]
    pieces = [list(prompt.ids + prompt.completion) for prompt in found]
    for stream in streams:  # no piece goes from one document to the next
        count = sum(1 for start in range(0, len(stream) - 6, 11))
        own, pieces = pieces[:count], pieces[count:]
        joined = [token for piece in own for token in piece]
        assert joined == stream[: len(joined)]
        assert len(stream) - len(joined) <= 6
    assert not pieces
    assert all(len(prompt.ids) == 6 and 1 <= len(prompt.completion) <= 5 for prompt in found)


def test_every_source_of_text_has_prompts(
    text: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_prompts(text, tokenizer, **LENGTHS)
    assert set(found) == {"train", "validation", "test"}
    assert len(found["train"]) > 100
    parts = {split: (path, split, file) for path, split, file in stdlib_files()}
    monkeypatch.setattr("attar.data.text.stdlib_files", parts.values)  # a file a split
    assert set(load_prompts("python-stdlib", tokenizer, **LENGTHS)) == set(found)


def test_a_table_of_prompts(tokenizer: Any) -> None:
    found = load_prompts(rows(40, completion="self none"), tokenizer, **LENGTHS)
    assert sum(map(len, found.values())) == 40
    after = tokenizer("self none", add_special_tokens=False)["input_ids"]
    for prompt in found["train"]:
        assert prompt.completion == tuple([*after, tokenizer.eos_token_id][:5])
        assert len(prompt.ids) <= 6
    talk = [{"role": "assistant", "content": "self none"}]
    told = load_prompts(rows(40, completion=talk), tokenizer, **LENGTHS)
    assert told == found
    bare = load_prompts(rows(40), tokenizer, **LENGTHS)
    assert bare["train"][0].completion == ()
    assert [p.ids for p in bare["train"]] == [p.ids for p in found["train"]]


def test_a_long_prompt_loses_its_beginning(tokenizer: Any) -> None:
    whole = tokenizer("def return 7 class")["input_ids"]
    found = load_prompts(rows(40), tokenizer, prompt_tokens=3, completion_tokens=5)
    prompts = {prompt.ids for split in found.values() for prompt in split}
    assert tuple(whole[-3:]) in prompts


def test_conversations_go_through_the_template(tmp_path: Path, tokenizer: Any) -> None:
    talk = [
        [{"role": "user", "content": f"import {i}"}, {"role": "assistant", "content": "true"}]
        for i in range(40)
    ]
    file = tmp_path / "talk.jsonl"
    file.write_text("\n".join(json.dumps({"messages": one}) for one in talk))
    with pytest.raises(DataError, match="no chat template"):
        load_prompts(file, tokenizer, **LENGTHS)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    found = load_prompts(file, tokenizer, prompt_tokens=60, completion_tokens=5)
    texts = {tokenizer.decode(prompt.ids) for split in found.values() for prompt in split}
    assert "[user] import 3\n[assistant] " in texts
    assert tokenizer.decode(found["train"][0].completion).startswith("true")


def test_bos_stands_before_every_prompt_where_the_tokenizer_puts_it(text: Path) -> None:
    tokenizer = scene.tokenizer(text)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{tokenizer.bos_token} $A",
        special_tokens=[(tokenizer.bos_token, tokenizer.bos_token_id)],
    )
    for data in (text, rows(60)):
        found = load_prompts(data, tokenizer, **LENGTHS)["train"]
        assert all(prompt.ids[0] == tokenizer.bos_token_id for prompt in found)
        assert all(len(prompt.ids) <= 6 for prompt in found)
        assert tokenizer.bos_token_id not in found[0].ids[1:]


def test_an_encoder_s_prompt_ends(text: Path, tokenizer: Any) -> None:
    found = load_prompts(text, tokenizer, encoder_decoder=True, **LENGTHS)
    assert all(prompt.ids[-1] == tokenizer.eos_token_id for prompt in found["train"])


@pytest.mark.parametrize("follow", [3, ["self none"], [{"role": "assistant", "content": 3}]])
def test_what_follows_is_text_or_messages(follow: Any, tokenizer: Any) -> None:
    with pytest.raises(DataError, match="row 1"):
        load_prompts(rows(40, completion=follow), tokenizer, **LENGTHS)


@pytest.mark.parametrize("value", ["a text", None])
def test_a_column_of_messages_holds_messages(value: Any, tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ messages }}"
    data = Dataset.from_dict({"messages": [value] * 40})
    with pytest.raises(DataError, match="expected messages such as"):
        load_prompts(data, tokenizer, **LENGTHS)


def test_files_of_other_columns(tmp_path: Path, tokenizer: Any) -> None:
    file = tmp_path / "asked.csv"
    rows(40).rename_column("prompt", "question").to_csv(file)
    found = load_prompts(Data(file, prompt_column="question"), tokenizer, **LENGTHS)
    assert sum(map(len, found.values())) == 40
    with pytest.raises(DataError, match=r"column of prompts 'query'.*question"):
        load_prompts(Data(file, prompt_column="query"), tokenizer, **LENGTHS)
    with pytest.raises(DataError, match=r"prompt or messages.*found the columns question"):
        load_prompts(file, tokenizer, **LENGTHS)


def test_what_cannot_be_is_told(text: Path, tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="at least 1 token"):
        load_prompts(text, tokenizer, prompt_tokens=0, completion_tokens=4)
    with pytest.raises(DataError, match="too little text"):
        load_prompts(text, tokenizer, prompt_tokens=100_000, completion_tokens=4)
    with pytest.raises(DataError, match="expected text or messages"):
        load_prompts(Dataset.from_dict({"prompt": [1, 2, 3]}), tokenizer, **LENGTHS)
    with pytest.raises(DataError, match="plain text"):
        load_prompts(Data(text, prompt_column="prompt"), tokenizer, **LENGTHS)
    with pytest.raises(DataError, match="no file or folder"):
        load_prompts("nowhere.jsonl", tokenizer, **LENGTHS)
    assert Prompt((1,)).completion == ()


LINES = "\ufeff a \x0c b\x0b\u2028c\x85d\u2029 \r\n\r\n \x0c\rdef f(\n\ttail\x1c!"


def test_only_line_ends_end_a_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [" a \x0c b\x0b\u2028c\x85d\u2029 ", "def f(", "\ttail\x1c!"]
    (tmp_path / "p.txt").write_bytes(LINES.encode())
    assert read_prompts(tmp_path / "p.txt") == expected
    monkeypatch.setattr("sys.stdin", io.StringIO(LINES, newline=""))
    assert read_prompts(Path("-")) == expected


def test_a_closed_stdin_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stdin in (None, closed):
        monkeypatch.setattr("sys.stdin", stdin)
        with pytest.raises(DataError, match="standard input is closed"):
            read_prompts(Path("-"))


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.csv", "p.parquet"])
@pytest.mark.parametrize("column", ["prompt", "text"])
def test_the_prompts_of_a_table_are_its_column(tmp_path: Path, name: str, column: str) -> None:
    prompts, file = [f"def\u2028{i}(\n  " for i in range(3)], tmp_path / name
    rows = Dataset.from_dict({"id": [0, 1, 2], column: prompts})
    write = {".csv": rows.to_csv, ".parquet": rows.to_parquet}.get(file.suffix, rows.to_json)
    write(str(file))
    assert read_prompts(file) == prompts


def test_prompts_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("def", encoding="utf-16")
    (tmp_path / "p.jsonl").write_text('{"messages": "def"}')
    for name, message in (
        ("p.txt", "cannot read prompts .*utf-8.*; give a text in UTF-8"),
        ("none.jsonl", "cannot read prompts .*No such file"),
        ("p.jsonl", "expected a column prompt or text .* found the columns messages; rename"),
        (".", "cannot read prompts .*directory"),
    ):
        with pytest.raises(DataError, match=message):
            read_prompts(tmp_path / name)
