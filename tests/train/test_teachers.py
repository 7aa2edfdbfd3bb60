"""Teachers: what is stored is what the live model says, and nothing else is accepted."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedModel

import tiny
from attar.data.tokens import train_bpe
from attar.divergences import reverse_kl
from attar.errors import CompatibilityError, DataError
from attar.train.shards import MANIFEST
from attar.train.teachers import CachedTeacher, LiveTeacher

WINDOWS = tiny.ids(7, 10)
ROWS = torch.tensor([6, 0, 3])
BATCH = {"input_ids": WINDOWS[ROWS], "rows": ROWS}


@pytest.fixture(scope="module")
def teacher() -> PreTrainedModel:
    return tiny.model("llama", num_hidden_layers=1, seed=1)


@pytest.fixture(scope="module")
def student_logits() -> torch.Tensor:
    with torch.no_grad():
        return tiny.model("llama", num_hidden_layers=1)(input_ids=BATCH["input_ids"]).logits[:, :-1]


def test_the_whole_vocabulary_cached_is_the_live_teacher(
    teacher: PreTrainedModel, student_logits: torch.Tensor, tmp_path: Path
) -> None:
    cached = CachedTeacher.build(teacher, WINDOWS, path=tmp_path, k=1000, shard=2, batch_size=3)
    assert cached.manifest["k"] == tiny.VOCAB
    live = LiveTeacher(teacher).distance(student_logits, BATCH)
    torch.testing.assert_close(cached.distance(student_logits, BATCH), live, atol=2e-3, rtol=2e-3)
    with torch.autocast("cpu", torch.bfloat16):  # as in training; it stacks no float16
        torch.testing.assert_close(
            cached.distance(student_logits, BATCH), live, atol=2e-3, rtol=2e-3
        )


def test_a_larger_top_comes_nearer_to_the_live_teacher(
    teacher: PreTrainedModel, student_logits: torch.Tensor, tmp_path: Path
) -> None:
    live = LiveTeacher(teacher).distance(student_logits, BATCH)
    errors = []
    for k in (1, 4, 16, 63):
        cached = CachedTeacher.build(teacher, WINDOWS, path=tmp_path / str(k), k=k)
        found = cached.distance(student_logits, BATCH)
        assert (found >= 0).all()
        assert (found <= live + 5e-3).all()
        errors.append((live - found).abs().mean().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 5e-3


def test_a_student_like_its_teacher_is_at_no_distance(
    teacher: PreTrainedModel, tmp_path: Path
) -> None:
    with torch.no_grad():
        own = teacher(input_ids=BATCH["input_ids"]).logits[:, :-1]
    cached = CachedTeacher.build(teacher, WINDOWS, path=tmp_path, k=8)
    assert LiveTeacher(teacher).distance(own, BATCH).max() < 1e-6
    assert LiveTeacher(teacher, divergence=reverse_kl).distance(own, BATCH).max() < 1e-6
    assert cached.distance(own, BATCH).max() < 1e-4


def test_a_killed_build_goes_on_where_it_stopped(teacher: PreTrainedModel, tmp_path: Path) -> None:
    whole = CachedTeacher.build(teacher, WINDOWS, path=tmp_path / "whole", k=4, shard=2)
    CachedTeacher.build(teacher, WINDOWS, path=tmp_path / "cut", k=4, shard=2)
    (tmp_path / "cut" / "00002.safetensors").unlink()
    (tmp_path / "cut" / "00002.partial").write_bytes(b"half")
    kept = (tmp_path / "cut" / "00001.safetensors").stat().st_mtime_ns
    with pytest.raises(DataError, match=r"lacks 1 of its 4 shards"):
        CachedTeacher(tmp_path / "cut")
    again = CachedTeacher.build(teacher, WINDOWS, path=tmp_path / "cut", k=4, shard=2)
    assert (tmp_path / "cut" / "00001.safetensors").stat().st_mtime_ns == kept
    every = torch.arange(7)
    for name, value in whole.lookup(every).items():
        assert torch.equal(value, again.lookup(every)[name])


def test_a_packed_data_set_serves_as_well_as_a_tensor(
    teacher: PreTrainedModel, tmp_path: Path
) -> None:
    packed = Dataset.from_dict({"input_ids": WINDOWS.tolist()})
    first = CachedTeacher.build(teacher, packed, path=tmp_path, k=4)
    second = CachedTeacher.build(teacher, WINDOWS, path=tmp_path, k=4)
    assert second.manifest == first.manifest


def test_other_teachers_windows_and_sizes_are_refused(
    teacher: PreTrainedModel, tmp_path: Path
) -> None:
    CachedTeacher.build(teacher, WINDOWS, path=tmp_path, k=4)
    with pytest.raises(CompatibilityError, match="another windows"):
        CachedTeacher.build(teacher, WINDOWS + 1, path=tmp_path, k=4)
    with pytest.raises(CompatibilityError, match="another k"):
        CachedTeacher.build(teacher, WINDOWS, path=tmp_path, k=5)
    other = tiny.model("llama", num_hidden_layers=1, seed=2)
    with pytest.raises(CompatibilityError, match="another teacher"):
        CachedTeacher.build(other, WINDOWS, path=tmp_path, k=4)
    for number, text in enumerate(("abab " * 50, "xyxy " * 50)):
        rows = Dataset.from_dict({"text": [text]})
        tokenizer = train_bpe(rows, vocab_size=270, context=32)
        if number == 0:
            CachedTeacher.build(teacher, WINDOWS, path=tmp_path / "t", k=4, tokenizer=tokenizer)
            continue
        with pytest.raises(CompatibilityError, match="another tokenizer"):
            CachedTeacher.build(teacher, WINDOWS, path=tmp_path / "t", k=4, tokenizer=tokenizer)


def test_another_vocabulary_is_refused(teacher: PreTrainedModel, tmp_path: Path) -> None:
    narrow = torch.zeros(3, 9, tiny.VOCAB - 1)
    cached = CachedTeacher.build(teacher, WINDOWS, path=tmp_path, k=4)
    for held in (LiveTeacher(teacher), cached):
        with pytest.raises(CompatibilityError, match="63 outputs and the teacher 64"):
            held.distance(narrow, BATCH)


def test_a_foreign_or_damaged_folder_is_no_cache(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a teacher cache"):
        CachedTeacher(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps({"format": 99}))
    with pytest.raises(DataError, match="format 99"):
        CachedTeacher(tmp_path)
