"""Large texts: the same whoever works, whole after a kill."""

import multiprocessing
import os
import shutil
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset

import processes
from attar.data import encoded, shards
from attar.data.corpus import decode_corpus, encode_corpus, encoded_table
from attar.data.encoded import load_encoded
from attar.data.text import load_text
from attar.errors import ConfigError, DataError, ResourceError
from attar.methods.equal_info.config import PAPER, EqualInfoConfig
from attar.methods.equal_info.tokenizer import make_tokenizer
from attar.report.record import Run
from scene import sources, tokenizer, write_text
from windows import made

WRITE_TABLE = shards.parquet.write_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made().save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text")


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "SHARD_BYTES", 200)
    monkeypatch.setattr(shards, "FEW_SHARDS", 100)  # one worker encodes them in this process


@pytest.fixture
def light_processes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Workers that need not load the libraries; how each pool of them would have been started."""
    asked: list[str] = []
    monkeypatch.setattr(
        shards, "get_context", lambda method: (asked.append(method), processes.context())[1]
    )
    return asked


def table(folder: Path) -> Path:
    """Several documents a split, one of them empty."""
    folder.mkdir()
    for split in ("train", "validation", "test"):
        rows = [f"{split} document number {i}: <|endoftext|> ☕" * (i % 4) for i in range(12)]
        Dataset.from_dict({"text": rows}).to_json(folder / f"{split}.jsonl")
    return folder


def killed_after(
    count: int, patch: pytest.MonkeyPatch, *, error: Exception | None = None
) -> list[Path]:
    """The files that are written from now on; behind so many, half a file and an error."""
    written: list[Path] = []

    def write(shard: Any, file: Path, **options: Any) -> None:
        if len(written) == count:
            file.write_bytes(b"half of it")
            raise error or RuntimeError("killed")
        written.append(file)
        WRITE_TABLE(shard, file, **options)

    patch.setattr(shards.parquet, "write_table", write)
    return written


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.parquet"))}


def test_documents_come_back(folder: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "table")
    found = encode_corpus(folder, data, output_dir=tmp_path / "ids [a-z]")
    count = decode_corpus(tmp_path / "ids [a-z]", output_file=tmp_path / "back.jsonl").details[
        "documents"
    ]
    back: Any = load_dataset("json", data_files=str(tmp_path / "back.jsonl"), split="train")
    wanted = [
        (split, text) for split, rows in load_text(data).items() for text in rows["text"] if text
    ]
    assert list(zip(back["split"], back["text"], strict=True)) == wanted
    assert count == len(wanted)
    sizes = {s: sum(len(t.encode()) for p, t in wanted if p == s) for s in ("train", "test")}
    assert found.quality["train"]["bytes"] == sizes["train"]
    assert found.quality["test"]["ids"] == sum(
        map(len, load_encoded(tmp_path / "ids [a-z]")["test"]["input_ids"])
    )


def test_shards_do_not_depend_on_the_number_of_workers(
    folder: Path,
    tmp_path: Path,
    small_shards: None,
    light_processes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = table(tmp_path / "table")
    encode_corpus(folder, data, output_dir=tmp_path / "here")
    here = contents(tmp_path / "here")
    assert len(here) > 3
    assert light_processes == []
    monkeypatch.setattr(shards, "FEW_SHARDS", 3)  # so that a single worker is a process, too
    for workers in (1, 2):
        encode_corpus(folder, data, output_dir=tmp_path / str(workers), workers=workers)
        assert contents(tmp_path / str(workers)) == here
    assert light_processes == ["spawn", "spawn"]


def test_a_killed_run_goes_on_to_the_same_bytes(
    folder: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = table(tmp_path / "table")
    encode_corpus(folder, data, output_dir=tmp_path / "whole")
    killed_after(2, monkeypatch)
    with pytest.raises(RuntimeError, match="killed"):
        encode_corpus(folder, data, output_dir=tmp_path / "ids")
    (tmp_path / "ids.partial" / "state" / "train-00002-of-00009.parquet.1").write_bytes(b"half")
    assert len(contents(tmp_path / "ids.partial")) == 2
    left = killed_after(1000, monkeypatch)
    encode_corpus(folder, data, output_dir=tmp_path / "ids", resume=True)
    assert contents(tmp_path / "ids") == contents(tmp_path / "whole")
    assert len(left) == len(contents(tmp_path / "whole")) - 2
    rows: Any = load_dataset(str(tmp_path / "ids"), split="train")
    assert rows[:] == load_encoded(tmp_path / "whole")["train"][:]


def test_a_folder_with_another_tokenizer_by_now_gives_its_ids(folder: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "table")
    encode_corpus(folder, data, output_dir=tmp_path / "a")
    shutil.rmtree(folder)
    made("12 in window").save_pretrained(folder)
    encode_corpus(folder, data, output_dir=tmp_path / "b", context=4)
    ids = [i for row in load_encoded(tmp_path / "b")["test"]["input_ids"] for i in row]
    assert made("12 in window").decode_documents(ids)[0] == load_text(data)["test"]["text"][1]


def test_ids_of_two_meanings_are_not_mixed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = table(tmp_path / "table")
    with monkeypatch.context() as patch:
        killed_after(0, patch)
        with pytest.raises(RuntimeError, match="killed"):
            encode_corpus(folder, data, output_dir=tmp_path / "ids")
    config = EqualInfoConfig(window_bits=12, token_bits=6, order=4)
    make_tokenizer(sources(150_000), config=config).save_pretrained(folder)
    with pytest.raises(ConfigError, match="was started with tokenizer="):
        encode_corpus(folder, data, output_dir=tmp_path / "ids", resume=True)


def test_a_shard_that_is_missing_or_damaged_is_told(folder: Path, tmp_path: Path) -> None:
    encode_corpus(folder, table(tmp_path / "table"), output_dir=tmp_path / "ids")
    shard = next((tmp_path / "ids").glob("test-*.parquet"))
    whole = shard.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 8] ^= 1  # in the page of ids, not in the description behind it
    shard.write_bytes(flipped)
    with pytest.raises(DataError, match="a file may be damaged"):
        load_encoded(tmp_path / "ids")
    shard.write_bytes(b"PAR1 damaged")
    with pytest.raises(DataError, match="a file may be damaged"):
        decode_corpus(tmp_path / "ids", output_file=tmp_path / "back.jsonl")
    shard.unlink()
    with pytest.raises(DataError, match="files of the split test"):
        decode_corpus(tmp_path / "ids", output_file=tmp_path / "back.jsonl")
    assert not (tmp_path / "back.jsonl").exists()


def test_blocks_longer_than_the_text_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one row of ids in the split"):
        encode_corpus(
            folder, table(tmp_path / "table"), output_dir=tmp_path / "ids", context=100_000
        )


def test_a_text_that_changed_is_not_gone_on_with(
    folder: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = table(tmp_path / "table")
    killed_after(0, monkeypatch)
    with pytest.raises(RuntimeError, match="killed"):
        encode_corpus(folder, data, output_dir=tmp_path / "ids")
    Dataset.from_dict({"text": ["another text"] * 30}).to_json(data / "train.jsonl")
    with pytest.raises(ConfigError, match="the text has changed"):
        encode_corpus(folder, data, output_dir=tmp_path / "ids", resume=True)


def test_a_full_disk_is_told_and_shards_stay(
    folder: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = table(tmp_path / "table")
    killed_after(2, monkeypatch, error=OSError(28, "No space left on device"))
    with pytest.raises(ResourceError, match=r"the disk is full; make room .*--resume"):
        encode_corpus(folder, data, output_dir=tmp_path / "ids")
    assert len(contents(tmp_path / "ids.partial")) == 2
    assert (tmp_path / "ids.partial" / "state" / "plan.json").exists()


def test_bytes_of_blocks_are_those_of_the_text(tmp_path: Path, text: Path) -> None:
    config = EqualInfoConfig(window_bits=12, token_bits=8, order=4)
    make_tokenizer(sources(150_000), config=config).save_pretrained(tmp_path / "tokenizer")
    data = table(tmp_path / "table")
    sizes = [
        encode_corpus(
            tmp_path / "tokenizer", data, output_dir=tmp_path / str(size), context=size
        ).quality["train"]["bytes"]
        for size in (None, 1)
    ]
    assert sizes[0] == sizes[1]


def test_a_killed_worker_is_told_and_shards_stay(
    folder: Path,
    tmp_path: Path,
    small_shards: None,
    light_processes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(ProcessPoolExecutor):
        def submit(self, *_: Any) -> Any:
            return super().submit(os._exit, 9)

    data = table(tmp_path / "table")
    with monkeypatch.context() as patch:
        patch.setattr(shards, "ProcessPoolExecutor", Broken)
        with pytest.raises(ResourceError, match=r"memory ran out; continue with resume"):
            encode_corpus(folder, data, output_dir=tmp_path / "ids", workers=2)
    encode_corpus(folder, data, output_dir=tmp_path / "ids", resume=True)


def test_blocks_are_of_one_length_and_ends_lie_inside_windows(tmp_path: Path, text: Path) -> None:
    made("12 in window").save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ConfigError, match="expected a context"):
        encode_corpus(tmp_path / "tokenizer", text, output_dir=tmp_path / "ids")
    encode_corpus(tmp_path / "tokenizer", text, output_dir=tmp_path / "ids", context=50)
    rows = load_encoded(tmp_path / "ids")["train"]["input_ids"]
    assert {len(row) for row in rows} == {50}
    stream = made("12 in window").decode([i for row in rows for i in row])
    whole = "".join(t + "<|endoftext|>" for t in load_text(text)["train"]["text"])
    assert whole.startswith(stream.rstrip("\ufffd"))
    assert len(stream) > 0.9 * len(whole)
    with pytest.raises(ConfigError, match="found rows of one length"):
        decode_corpus(tmp_path / "ids", output_file=tmp_path / "back.jsonl")


def test_bad_input_is_one_sentence(folder: Path, text: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers must be 1 or more; found 0"):
        encode_corpus(folder, text, output_dir=tmp_path / "ids", workers=0)
    with pytest.raises(ConfigError, match="context must be 1 or more; found 0"):
        encode_corpus(folder, text, output_dir=tmp_path / "ids", context=0)
    with pytest.raises(DataError, match="expected a folder that attar tokenizer encode wrote"):
        decode_corpus(folder, output_file=tmp_path / "back.jsonl")
    empty = tmp_path / "empty.txt"
    empty.touch()
    with pytest.raises(DataError, match="empty"):
        encode_corpus(folder, empty, output_dir=tmp_path / "ids")


def test_the_record_names_what_made_the_tokenizer(folder: Path, text: Path, tmp_path: Path) -> None:
    plain = encode_corpus(folder, text, output_dir=tmp_path / "a")
    assert (plain.method, plain.paper) == (None, None)
    Run("tokenizer train", method="equal_info", paper=PAPER).save(folder)
    run = encode_corpus(folder, text, output_dir=tmp_path / "b")
    assert (run.method, run.paper) == ("equal_info", PAPER)
    named = [Path(name or "").name for name in (run.command, run.model, run.data)]
    assert named == ["tokenizer encode", folder.name, text.name]
    assert Run.load(tmp_path / "b").to_dict() == run.to_dict()
    assert not (tmp_path / "b" / "README.md").exists()
    table = encoded_table(run)
    assert f"{run.quality['train']['ids']:,}" in table
    assert "Bytes per id" in table


@pytest.mark.parametrize("key", ["context", "block_size"])
def test_rows_of_one_length_are_not_decoded_whoever_wrote_them(
    key: str, folder: Path, text: Path, tmp_path: Path
) -> None:
    run = encode_corpus(folder, text, output_dir=tmp_path / "ids")
    run.settings.pop("context")
    run.settings[key] = 8
    run.save(tmp_path / "ids")
    with pytest.raises(ConfigError, match="found rows of one length"):
        decode_corpus(tmp_path / "ids", output_file=tmp_path / "back.jsonl")


def test_an_ordinary_tokenizer_encodes_no_corpus(text: Path, tmp_path: Path) -> None:
    tokenizer(text).save_pretrained(tmp_path / "bpe")
    with pytest.raises(DataError, match=r"expected a tokenizer of equal-information windows in"):
        encode_corpus(tmp_path / "bpe", text, output_dir=tmp_path / "ids")
    assert not (tmp_path / "ids").exists()


def encode_for_ever(folder: Path, data: Path, out: Path) -> None:
    """Encode with two workers, in a group of processes of their own, and never come to the end."""
    os.setsid()
    write = WRITE_TABLE

    def writes_once(*args: Any, **options: Any) -> None:
        while list(Path(f"{out}.partial").glob("*.parquet")):
            time.sleep(1)
        write(*args, **options)

    encoded.SHARD_BYTES, shards.parquet.write_table = 200, writes_once
    shards.get_context = lambda _: multiprocessing.get_context("fork")  # they inherit this
    encode_corpus(folder, data, output_dir=out, workers=2, resume=True)


@pytest.mark.slow
def test_kill_minus_nine_and_resume(folder: Path, tmp_path: Path, small_shards: None) -> None:
    data, out = table(tmp_path / "table"), tmp_path / "ids"
    encode_corpus(folder, data, output_dir=tmp_path / "whole")
    started = processes.start(encode_for_ever, folder, data, out)
    partial = tmp_path / "ids.partial"
    for _ in range(6000):
        if list(partial.glob("*.parquet")) or not started.is_alive():
            break
        time.sleep(0.02)
    started.kill()
    started.join()
    assert 0 < len(list(partial.glob("*.parquet"))) < len(contents(tmp_path / "whole"))
    for _ in range(6000):  # its processes end with it, once they have begun
        try:
            os.killpg(started.pid or 0, 0)
        except ProcessLookupError:
            break
        time.sleep(0.02)
    else:
        os.killpg(started.pid or 0, signal.SIGKILL)
        pytest.fail("a killed run left processes behind")
    encode_corpus(folder, data, output_dir=out, resume=True)
    assert contents(out) == contents(tmp_path / "whole")
    assert all(contents(out).values())
