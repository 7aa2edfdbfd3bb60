from dataclasses import replace
from pathlib import Path

import pytest

from attar import checkpoint
from attar.cli import demo_llm
from attar.cli.app import run
from attar.report.record import Run
from scene import write_parent, write_text


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    text = tmp_path / "text"
    write_text(text)
    short = {"max_steps": 2, "per_device_train_batch_size": 2}
    drafting = {"prompt_tokens": 8, "max_new_tokens": 4, "eval_prompts": 2}
    monkeypatch.setattr(demo_llm, "DATA", str(text))
    monkeypatch.setattr(demo_llm, "DRAFT_LAYERS", 1)
    monkeypatch.setattr(demo_llm, "DRAFT", replace(demo_llm.DRAFT, **short, **drafting))
    monkeypatch.setattr(demo_llm, "SPEED", replace(demo_llm.SPEED, **drafting))
    quick = {"context": 16, "evaluations": 4, "step": 0.5, "round_to": 8}
    monkeypatch.setattr(demo_llm, "SEARCH", replace(demo_llm.SEARCH, **quick))
    healing = replace(demo_llm.HEALING, **short, context=16, eval_tokens=200)
    monkeypatch.setattr(demo_llm, "HEALING", healing)
    monkeypatch.setattr(demo_llm, "ANSWER", replace(demo_llm.ANSWER, max_new_tokens=4))
    monkeypatch.setattr(demo_llm, "TIMED", (8, 2))
    monkeypatch.setattr(demo_llm, "ROUNDS", 1)
    # rows of the feed-forward network that q8_0 can hold
    return write_parent(tmp_path / "model", text, intermediate_size=64, max_position_embeddings=128)


def test_your_own_model_goes_through_the_demo(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "demo"
    assert run(["demo", str(small), "--output-dir", str(folder)]) == 0
    said = capsys.readouterr().out
    assert said.count(demo_llm.QUESTION) == 3  # the model, what was made of it, what to try next
    assert (folder / "report.html").exists()
    assert len(list((folder / "gguf").glob("*.gguf"))) == 1
    for name in ("draft", "flap", "bonsai", "healed"):
        checkpoint.load(folder / name)
    assert Run.load(folder / "bonsai").budget["met"]
    assert "tokens per pass of the model" in said
    made = (folder / "bonsai" / "model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(demo_llm, "HEAL_UNTIL", 0.0)  # no time: but it was healed before
    assert run(["demo", str(small), "--output-dir", str(folder)]) == 0
    assert "already in" in capsys.readouterr().err
    assert (folder / "bonsai" / "model.safetensors").stat().st_mtime_ns == made


def test_without_the_package_there_is_no_gguf_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("attar.conversion.export.find_spec", lambda name: None)
    demo_llm._written(tmp_path / "bonsai", tmp_path / "gguf")
    assert "No GGUF file: writing GGUF needs the package gguf" in capsys.readouterr().out


def test_a_missing_file_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["demo", "absent.gguf", "--output-dir", str(tmp_path / "demo")]) == 2
    assert "no GGUF file at 'absent.gguf'" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
