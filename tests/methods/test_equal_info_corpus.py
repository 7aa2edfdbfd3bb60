"""Large texts and files: the same whoever works, whole after a kill, and damage that is told."""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

import tiny
from attar import checkpoint
from attar.coding.archive import compress, decompress
from attar.data import corpus
from attar.data.corpus import decode_corpus, encode_corpus
from attar.data.encoded import load_encoded
from attar.data.text import load_text
from attar.errors import ConfigError, DataError, ResourceError
from attar.methods.equal_info.config import EqualInfoConfig
from attar.methods.equal_info.tokenizer import fit_tokenizer, make_tokenizer
from attar.portable.tokenization_equal_info import EqualInfoTokenizer
from attar.report.record import Run
from attar.train.pretrain import PretrainConfig, pretrain
from scene import run, sources, write_text


@cache
def made(eos: Any = "document") -> EqualInfoTokenizer:
    config = EqualInfoConfig(window_bits=12, order=4, eos=eos)
    return make_tokenizer(sources(150_000), config=config)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made().save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text")


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "_SHARD", 200)
    monkeypatch.setattr(corpus, "_FEW", 8)


def table(folder: Path) -> Path:
    """Several documents a split, one of them empty."""
    folder.mkdir()
    for split in ("train", "validation", "test"):
        rows = [f"{split} document number {i}: <|endoftext|> ☕" * (i % 4) for i in range(12)]
        Dataset.from_dict({"text": rows}).to_json(folder / f"{split}.jsonl")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.parquet"))}


# ---------------------------------------------------------------------------------------- corpora


def test_documents_come_back(folder: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "table")
    found = encode_corpus(folder, data, output_dir=tmp_path / "ids")
    count = decode_corpus(tmp_path / "ids", output_file=tmp_path / "back.jsonl")
    back: Any = load_dataset("json", data_files=str(tmp_path / "back.jsonl"), split="train")
    wanted = [
        (split, text) for split, rows in load_text(data).items() for text in rows["text"] if text
    ]
    assert list(zip(back["split"], back["text"], strict=True)) == wanted
    assert count == len(wanted)
    sizes = {s: sum(len(t.encode()) for p, t in wanted if p == s) for s in ("train", "test")}
    assert found.quality["train"]["bytes"] == sizes["train"]
    assert found.quality["test"]["ids"] == sum(
        map(len, load_encoded(tmp_path / "ids")["test"]["input_ids"])
    )


def test_shards_do_not_hang_on_the_number_of_workers(
    folder: Path, tmp_path: Path, small_shards: None
) -> None:
    data = table(tmp_path / "table")
    for workers in (1, 2):
        encode_corpus(folder, data, output_dir=tmp_path / str(workers), workers=workers)
    one, two = contents(tmp_path / "1"), contents(tmp_path / "2")
    assert len(one) > 3
    assert one == two


def test_a_killed_run_goes_on_to_the_same_bytes(
    folder: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = table(tmp_path / "table")
    encode_corpus(folder, data, output_dir=tmp_path / "whole")
    encode_shard, done = corpus._encode_shard, []

    def stop(shard: Any, *args: Any) -> None:
        if len(done) == 2:
            raise RuntimeError("killed")
        done.append(shard)
        encode_shard(shard, *args)

    def here(shards: Any, documents: Any, *args: Any) -> None:
        for shard in shards:
            corpus._encode_shard(shard, documents[shard.split], *args[:-1])

    monkeypatch.setattr(corpus, "_encode_all", here)
    monkeypatch.setattr(corpus, "_encode_shard", stop)
    with pytest.raises(RuntimeError, match="killed"):
        encode_corpus(folder, data, output_dir=tmp_path / "ids")
    (tmp_path / "ids.partial" / "state" / "train-00002-of-00009.parquet.1").write_bytes(b"half")
    written: list[Any] = []
    monkeypatch.setattr(
        corpus, "_encode_shard", lambda s, *a: (written.append(s), encode_shard(s, *a))
    )
    encode_corpus(folder, data, output_dir=tmp_path / "ids", resume=True)
    assert contents(tmp_path / "ids") == contents(tmp_path / "whole")
    assert not {shard.file for shard in done} & {shard.file for shard in written}
    rows: Any = load_dataset(str(tmp_path / "ids"), split="train")
    assert rows[:] == load_encoded(tmp_path / "whole")["train"][:]


def test_a_folder_with_another_tokenizer_by_now_gives_its_ids(folder: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "table")
    encode_corpus(folder, data, output_dir=tmp_path / "a")
    shutil.rmtree(folder)
    made("in_window").save_pretrained(folder)
    encode_corpus(folder, data, output_dir=tmp_path / "b", block_size=4)
    ids = [i for row in load_encoded(tmp_path / "b")["test"]["input_ids"] for i in row]
    assert made("in_window").decode_documents(ids)[0] == load_text(data)["test"]["text"][1]


def test_ids_of_two_meanings_are_not_mixed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = table(tmp_path / "table")
    with monkeypatch.context() as patch:
        patch.setattr(
            corpus, "_encode_all", lambda *_: (_ for _ in ()).throw(RuntimeError("killed"))
        )
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
            folder, table(tmp_path / "table"), output_dir=tmp_path / "ids", block_size=100_000
        )


def test_a_text_that_changed_is_not_gone_on_with(
    folder: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = table(tmp_path / "table")
    monkeypatch.setattr(
        corpus, "_encode_all", lambda *_: (_ for _ in ()).throw(RuntimeError("killed"))
    )
    with pytest.raises(RuntimeError, match="killed"):
        encode_corpus(folder, data, output_dir=tmp_path / "ids")
    Dataset.from_dict({"text": ["another text"] * 30}).to_json(data / "train.jsonl")
    with pytest.raises(ConfigError, match="the text has changed"):
        encode_corpus(folder, data, output_dir=tmp_path / "ids", resume=True)


def test_a_full_disk_is_told_and_shards_stay(
    folder: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = table(tmp_path / "table")
    write, count = corpus.parquet.write_table, []

    def full(*args: Any, **kwargs: Any) -> None:
        count.append(1)
        if len(count) > 2:
            args[1].write_bytes(b"half of it")
            raise OSError(28, "No space left on device")
        write(*args, **kwargs)

    def here(shards: Any, documents: Any, *args: Any) -> None:
        for shard in shards:
            corpus._encode_shard(shard, documents[shard.split], *args[:-1])

    monkeypatch.setattr(corpus, "_encode_all", here)
    monkeypatch.setattr(corpus.parquet, "write_table", full)
    with pytest.raises(ResourceError, match=r"the disk is full; make room .* --resume"):
        encode_corpus(folder, data, output_dir=tmp_path / "ids")
    assert len(contents(tmp_path / "ids.partial")) == 2
    assert len(list((tmp_path / "ids.partial" / "state").iterdir())) == 2  # settings and plan


def test_bytes_of_blocks_are_those_of_the_text(tmp_path: Path, text: Path) -> None:
    config = EqualInfoConfig(window_bits=12, token_bits=8, order=4)
    make_tokenizer(sources(150_000), config=config).save_pretrained(tmp_path / "tokenizer")
    data = table(tmp_path / "table")
    sizes = [
        encode_corpus(
            tmp_path / "tokenizer", data, output_dir=tmp_path / str(size), block_size=size
        ).quality["train"]["bytes"]
        for size in (None, 1)
    ]
    assert sizes[0] == sizes[1]


def test_a_killed_worker_is_told_and_shards_stay(
    folder: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(ProcessPoolExecutor):
        def submit(self, *_: Any) -> Any:
            return super().submit(os._exit, 9)

    data = table(tmp_path / "table")
    with monkeypatch.context() as patch:
        patch.setattr(corpus, "ProcessPoolExecutor", Broken)
        with pytest.raises(ResourceError, match=r"for want of memory; go on with --resume"):
            encode_corpus(folder, data, output_dir=tmp_path / "ids", workers=2)
    encode_corpus(folder, data, output_dir=tmp_path / "ids", resume=True)


def test_blocks_are_of_one_length_and_ends_lie_inside_windows(tmp_path: Path, text: Path) -> None:
    made("in_window").save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ConfigError, match="expected a block_size"):
        encode_corpus(tmp_path / "tokenizer", text, output_dir=tmp_path / "ids")
    encode_corpus(tmp_path / "tokenizer", text, output_dir=tmp_path / "ids", block_size=50)
    rows = load_encoded(tmp_path / "ids")["train"]["input_ids"]
    assert {len(row) for row in rows} == {50}
    stream = made("in_window").decode([i for row in rows for i in row])
    whole = "".join(t + "<|endoftext|>" for t in load_text(text)["train"]["text"])
    assert whole.startswith(stream.rstrip("\ufffd"))
    assert len(stream) > 0.9 * len(whole)
    with pytest.raises(ConfigError, match="found blocks"):
        decode_corpus(tmp_path / "ids", output_file=tmp_path / "back.jsonl")


def test_bad_input_is_one_sentence(folder: Path, text: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 worker or more"):
        encode_corpus(folder, text, output_dir=tmp_path / "ids", workers=0)
    with pytest.raises(ConfigError, match="block_size of 1 or more"):
        encode_corpus(folder, text, output_dir=tmp_path / "ids", block_size=0)
    with pytest.raises(DataError, match="expected a folder that attar tokenizer encode wrote"):
        decode_corpus(folder, output_file=tmp_path / "back.jsonl")
    empty = tmp_path / "empty.txt"
    empty.touch()
    with pytest.raises(DataError, match="empty"):
        encode_corpus(folder, empty, output_dir=tmp_path / "ids")


# --------------------------------------------------------------------------------- training on it


def tiny_shape(**changes: Any) -> PretrainConfig:
    shape: dict[str, Any] = {
        "context": 32,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "eval_tokens": 500,
    }
    return PretrainConfig(**shape | changes)


def test_encoded_text_trains_as_text_with_the_tokenizer_does(
    folder: Path, text: Path, tmp_path: Path
) -> None:
    encode_corpus(folder, text, output_dir=tmp_path / "ids")
    of_ids = pretrain(tmp_path / "ids", config=tiny_shape(), output_dir=tmp_path / "a")
    of_text = pretrain(text, config=tiny_shape(), tokenizer=folder, output_dir=tmp_path / "b")
    assert of_ids.quality == of_text.quality
    assert isinstance(checkpoint.load_tokenizer(tmp_path / "a"), EqualInfoTokenizer)
    with pytest.raises(ConfigError, match="encoded with a tokenizer already"):
        pretrain(tmp_path / "ids", tokenizer=folder, output_dir=tmp_path / "c")


def test_a_model_that_trainer_trained_generates_text(
    folder: Path, text: Path, tmp_path: Path
) -> None:
    """With nothing of Attar but the tokenizer."""
    tokenizer = checkpoint.load_tokenizer(folder)
    rows = load_text(text)["train"].map(
        lambda row: tokenizer(row["text"], truncation=True, max_length=48),
        remove_columns=["text"],
    )
    model: Any = tiny.model(
        vocab_size=len(tokenizer),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"),
        max_steps=8,
        per_device_train_batch_size=4,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        dataloader_pin_memory=False,
    )
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    Trainer(model, arguments, train_dataset=rows, data_collator=collator).train()
    ids = tokenizer(["def ", "return self"], return_tensors="pt", padding=True, padding_side="left")
    written = model.generate(**ids, max_new_tokens=20, do_sample=True)
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    assert texts[0].startswith("def ")
    assert texts[1].startswith("return self")
    assert all(len(one) > 12 for one in texts)


# ------------------------------------------------------------------------------------------ files


@settings(max_examples=25, deadline=None)
@given(data=st.binary(max_size=3000))
def test_any_file_comes_back(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("file")
    (place / "a").write_bytes(data)
    before, after = compress(place / "a", tokenizer=made(), output_file=place / "a.eqiw")
    assert (before, after) == (len(data), (place / "a.eqiw").stat().st_size)
    found = decompress(place / "a.eqiw", tokenizer=made(), output_file=place / "b")
    assert (place / "b").read_bytes() == data
    assert (found.bytes, found.damage) == (len(data), ())


@pytest.fixture
def squeezed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, bytes]:
    from attar.coding import archive as files

    monkeypatch.setattr(files, "CHUNK", 1000)
    data = "".join(sources(150_000))[:4500].encode()
    (tmp_path / "a").write_bytes(data)
    compress(tmp_path / "a", tokenizer=made(), output_file=tmp_path / "a.eqiw")
    return tmp_path / "a.eqiw", data


def test_a_flipped_bit_changes_one_window_and_is_told(squeezed: tuple[Path, bytes]) -> None:
    file, data = squeezed
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 4
    file.write_bytes(raw)
    out = file.with_name("b")
    with pytest.raises(DataError, match=r"is damaged: chunk 2, .* --recover"):
        decompress(file, tokenizer=made(), output_file=out)
    assert not out.exists()
    found = decompress(file, tokenizer=made(), output_file=out, recover=True)
    assert len(found.damage) == 1
    back = out.read_bytes()
    same = next(i for i, (a, b) in enumerate(zip(data, back, strict=False)) if a != b)
    tail = next(i for i, (a, b) in enumerate(zip(data[::-1], back[::-1], strict=False)) if a != b)
    longest = int(made().dictionary.lengths.max())
    assert 2000 <= same < 3000
    assert len(data) - tail - same <= longest


def test_a_file_that_was_cut_off_gives_what_is_there(squeezed: tuple[Path, bytes]) -> None:
    file, data = squeezed
    raw = file.read_bytes()
    file.write_bytes(raw[: len(raw) * 3 // 5])
    with pytest.raises(DataError, match="is damaged"):
        decompress(file, tokenizer=made(), output_file=file.with_name("b"))
    found = decompress(file, tokenizer=made(), output_file=file.with_name("b"), recover=True)
    assert file.with_name("b").read_bytes()[:2000] == data[:2000]
    assert any("cut off" in one for one in found.damage)
    assert data.startswith(file.with_name("b").read_bytes())  # nothing is made up


def test_what_comes_after_the_end_is_told(squeezed: tuple[Path, bytes]) -> None:
    file, data = squeezed
    file.write_bytes(file.read_bytes() * 2)
    found = decompress(file, tokenizer=made(), output_file=file.with_name("b"), recover=True)
    assert file.with_name("b").read_bytes() == data
    assert "come after its end" in found.damage[0]


def test_another_tokenizer_and_other_files_are_refused(
    squeezed: tuple[Path, bytes], tmp_path: Path
) -> None:
    file, _ = squeezed
    other = made("in_window")
    with pytest.raises(DataError, match=r"the tokenizer that .* was written with"):
        decompress(file, tokenizer=other, output_file=tmp_path / "b")
    with pytest.raises(DataError, match="attar tokenizer compress wrote"):
        decompress(tmp_path / "a", tokenizer=made(), output_file=tmp_path / "b")
    with pytest.raises(DataError, match="found none at"):
        compress(tmp_path / "absent", tokenizer=made(), output_file=tmp_path / "b")
    with pytest.raises(ConfigError, match="is there already"):
        compress(tmp_path / "a", tokenizer=made(), output_file=file)
    with pytest.raises(DataError, match="cannot write"):
        compress(tmp_path / "a", tokenizer=made(), output_file=tmp_path / "a" / "x")
    assert not (tmp_path / "b").exists()


def test_a_full_disk_leaves_nothing_behind(
    squeezed: tuple[Path, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attar.coding import archive as files

    def full(*_: Any) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.Chunk, "to_bytes", full)
    with pytest.raises(DataError, match=r"No space left on device.* make room"):
        compress(tmp_path / "a", tokenizer=made(), output_file=tmp_path / "c.eqiw")
    assert not list(tmp_path.glob("c.*"))


# ------------------------------------------------------------------------------------------- verbs


def test_the_verbs_from_fit_to_decompress(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, data = str(tmp_path / "t"), str(text)
    tiny = ["--context", "32", "--hidden-size", "32", "--num-hidden-layers", "1"]
    tiny += ["--num-attention-heads", "2", "--num-key-value-heads", "2", "--max-steps", "3"]
    tiny += ["--intermediate-size", "64", "--per-device-train-batch-size", "4"]
    steps = [
        ["fit", "--data", data, "--window-bits", "10", "--order", "3", "-o", place],
        ["verify", place, "--data", data],
        ["report", place, "--data", data, "--baselines", "bytes,gzip"],
        ["encode", place, "--data", data, "-o", f"{place}-ids"],
        ["decode", f"{place}-ids", "-o", f"{place}.jsonl"],
        ["train-lm", place, "--data", data, "-o", f"{place}-lm", *tiny],
        ["compress", place, f"{place}.jsonl"],
        ["decompress", place, f"{place}.jsonl.eqiw", "-o", f"{place}-2.jsonl"],
    ]
    for step in steps:
        assert run(["tokenizer", *step]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "1,024 in order" in out
    assert "bpe" in out
    assert "all ids equal" in out
    assert Path(f"{place}-2.jsonl").read_bytes() == Path(f"{place}.jsonl").read_bytes()
    assert run(["evaluate", f"{place}-lm", "--data", data, "--bpb", "--no-speed"]) == 0
    assert "FLOPs per byte" in capsys.readouterr().out
    assert Run.load(place).quality["validation"]["bytes_per_window"] > 1
    for made in (place, f"{place}-ids", f"{place}-lm"):
        paper = Run.load(made).paper
        assert paper is not None
        assert paper.arxiv == "2404.03626"


def test_the_code_in_a_card_loads_the_model(text: Path, folder: Path, tmp_path: Path) -> None:
    pretrain(text, config=tiny_shape(), tokenizer=folder, output_dir=tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    assert "trust_remote_code=True" in code
    code = code.replace("PATH_OR_NAME", str(tmp_path / "model"))
    found: dict[str, Any] = {}
    exec(code, found)
    assert type(found["tokenizer"]).__name__ == "EqualInfoTokenizer"
    pretrain(text, config=tiny_shape(), output_dir=tmp_path / "plain")
    assert "trust_remote_code" not in (tmp_path / "plain" / "README.md").read_text()


def test_the_verb_fits_what_python_fits(text: Path, tmp_path: Path) -> None:
    config = EqualInfoConfig(window_bits=10, order=3)
    fit_tokenizer(text, output_dir=tmp_path / "python", config=config)
    argv = ["tokenizer", "fit", "--data", str(text), "--window-bits", "10", "--order", "3"]
    assert run([*argv, "-o", str(tmp_path / "verb")]) == 0
    files = [(tmp_path / way / "equal_info.safetensors").read_bytes() for way in ("python", "verb")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["fit", "--window-bits", "40", "-o", "x"], "windows of 8 to 32 bits"),
        (["fit", "--window-bits", "12", "--token-bits", "20", "-o", "x"], "ids of 1 to 12 bits"),
        (["fit"], "say where the result goes"),
        (["report", "absent"], "absent"),
        (["decompress", "t", "file"], "say where the result goes"),
    ],
)
def test_mistakes_are_one_sentence(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["tokenizer", *argv]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_is_not_compressed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tokenizer", "compress", str(folder), "."]) == 2
    assert "expected a file that you may read" in capsys.readouterr().err


def test_baselines_that_do_not_exist_are_refused(
    folder: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["tokenizer", "report", str(folder), "--data", str(text), "--baselines", "huffman"]
    assert run(argv) == 2
    assert "expected baselines among bytes, bpe" in capsys.readouterr().err


_KILLED = """
import sys
from pathlib import Path
from attar.methods.equal_info import corpus
corpus._SHARD = 200
if __name__ == "__main__":
    corpus.encode_corpus(*map(Path, sys.argv[1:3]), output_dir=sys.argv[3], workers=2, resume=True)
"""


@pytest.mark.slow
def test_kill_minus_nine_and_resume(folder: Path, tmp_path: Path, small_shards: None) -> None:
    data = table(tmp_path / "table")
    encode_corpus(folder, data, output_dir=tmp_path / "whole")
    (tmp_path / "killed.py").write_text(_KILLED)
    argv = [sys.executable, *(str(tmp_path / name) for name in ("killed.py", "tokenizer"))]
    argv += [str(data), str(tmp_path / "ids")]
    started = subprocess.Popen(argv, stderr=subprocess.DEVNULL, start_new_session=True)
    partial = tmp_path / "ids.partial"
    for _ in range(600):
        if list(partial.glob("*.parquet")) or started.poll() is not None:
            break
        time.sleep(0.05)
    started.kill()
    started.wait()
    for _ in range(2400):  # its processes end with it, once they have begun
        try:
            os.killpg(started.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        os.killpg(started.pid, signal.SIGKILL)
        pytest.fail("a killed run left processes behind")
    if not (tmp_path / "ids").exists():
        encode_corpus(folder, data, output_dir=tmp_path / "ids", resume=True)
    assert contents(tmp_path / "ids") == contents(tmp_path / "whole")
    shutil.rmtree(tmp_path / "ids")
    assert np.all([len(one) for one in contents(tmp_path / "whole").values()])
