"""The verbs of `attar tokenizer`: the whole way, and mistakes in one sentence."""

import json
import re
from pathlib import Path

import pytest

from attar.methods.equal_info.config import EqualInfoConfig
from attar.methods.equal_info.tokenizer import make_tokenizer, train_tokenizer
from attar.report.record import Run
from scene import run, write_text
from windows import made


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made().save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


TEXT = "Call me Ishmael, said the sailor, and sat down beside the fire in the inn. " * 40


def test_the_verbs_from_train_to_decompress(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, data = str(tmp_path / "t"), str(text)
    tiny = ["--context", "32", "--hidden-size", "32", "--num-hidden-layers", "1"]
    tiny += ["--num-attention-heads", "2", "--num-key-value-heads", "2", "--max-steps", "3"]
    tiny += ["--intermediate-size", "64", "--per-device-train-batch-size", "4"]
    steps = [
        ["train", "--data", data, "--window-bits", "10", "--order", "3", "-o", place],
        ["evaluate", place, "--data", data, "--baselines", "bytes,gzip", "--verify"],
        ["encode", place, "--data", data, "-o", f"{place}-ids"],
        ["decode", f"{place}-ids", "-o", f"{place}.jsonl"],
        ["compress", place, f"{place}.jsonl"],
        ["decompress", place, f"{place}.jsonl.eqiw", "-o", f"{place}-2.jsonl"],
    ]
    for step in steps:
        assert run(["tokenizer", *step]) == 0, capsys.readouterr().err
    train = ["pretrain", "--tokenizer", place, "--data", data, "-o", f"{place}-lm", *tiny]
    assert run(train) == 0
    out = capsys.readouterr().out
    assert re.search(r"strings +1,024", out)
    assert "bpe" in out
    assert Path(f"{place}-2.jsonl").read_bytes() == Path(f"{place}.jsonl").read_bytes()
    assert run(["evaluate", f"{place}-lm", "--data", data, "--bits", "--no-speed"]) == 0
    assert "FLOPs per byte" in capsys.readouterr().out
    assert Run.load(place).quality["validation"]["bytes_per_window"] > 1
    for folder in (place, f"{place}-ids", f"{place}-lm"):
        paper = Run.load(folder).paper
        assert paper is not None
        assert paper.arxiv == "2404.03626"


def test_the_verb_trains_what_python_trains(text: Path, tmp_path: Path) -> None:
    config = EqualInfoConfig(window_bits=10, order=3)
    train_tokenizer(text, output_dir=tmp_path / "python", config=config)
    argv = ["tokenizer", "train", "--data", str(text), "--window-bits", "10", "--order", "3"]
    assert run([*argv, "-o", str(tmp_path / "verb")]) == 0
    files = [(tmp_path / way / "equal_info.safetensors").read_bytes() for way in ("python", "verb")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "--window-bits", "40", "-o", "x"], "windows of 8 to 32 bits"),
        (["train", "--window-bits", "12", "--token-bits", "20", "-o", "x"], "ids of 1 to 12 bits"),
        (["train"], "say where the result goes"),
        (["evaluate", "absent"], "absent"),
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
    argv = ["tokenizer", "evaluate", str(folder), "--data", str(text), "--baselines", "huffman"]
    assert run(argv) == 2
    assert "expected baselines among bytes, bpe" in capsys.readouterr().err


def test_of_little_text_it_warns_and_of_none_it_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = make_tokenizer(
        [TEXT], config=EqualInfoConfig(window_bits=9, order=2, precision_bits=12)
    )
    tokenizer.save_pretrained(tmp_path / "t")
    (tmp_path / "a.txt").write_text(TEXT * 5, encoding="utf-8")
    argv = ["tokenizer", "evaluate", str(tmp_path / "t"), "--data", str(tmp_path / "a.txt")]
    assert run([*argv, "--baselines", "bytes", "--json", "-"]) == 0
    found = capsys.readouterr()
    assert "bytes only, figures are rough" in caplog.text
    rows = json.loads(found.out)["details"]["rows"]
    assert [row["name"] for row in rows] == ["equal-info", "bytes", "bpe"]
    assert all(0 < row["stability"] < 1 and row["bytes"] == rows[0]["bytes"] for row in rows)
    assert run([*argv, "--max-bytes", "0"]) == 2
    assert "max_bytes must be 1 or more; found 0" in capsys.readouterr().err
