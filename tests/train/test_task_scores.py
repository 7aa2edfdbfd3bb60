"""Scores of the harness before and after, in the records of the verbs and where runs compare."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

import talk
import tiny
from attar import checkpoint
from attar.errors import ConfigError
from attar.methods.bonsai import BonsaiConfig, prune
from attar.report.compare import compare
from attar.report.tables import run_text
from attar.train.heal import HealConfig, heal


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the harness: a score that tells which model was asked, as its first weight
    does."""

    def tasks(
        model: PreTrainedModel, tokenizer: Any, *, names: Sequence[str], **options: Any
    ) -> dict[str, dict[str, float]]:
        assert names == ["letters", "words"]
        assert options["limit"] == 7
        weight = float(next(model.parameters()).detach().float().sum())
        return {name: {"acc": weight, "acc_stderr": 0.1} for name in names}

    monkeypatch.setattr("attar.evaluation.harness.tasks", tasks)


ASKED: dict[str, Any] = {"tasks": "letters, words", "limit": 7}


def test_pruning_and_healing_score_tasks_before_and_after(tmp_path: Path, harness: None) -> None:
    checkpoint.save(
        tiny.model(vocab_size=talk.VOCAB), tmp_path / "parent", tokenizer=talk.tokenizer()
    )
    data = talk.rows(200)
    pruned = prune(
        tmp_path / "parent",
        data,
        budget="blocks<=80%",
        method="magnitude",
        config=BonsaiConfig(windows=1, context=16, timing=False, **ASKED),
        output_dir=tmp_path / "pruned",
    )
    healed = heal(
        tmp_path / "pruned",
        data,
        teacher=tmp_path / "parent",
        config=HealConfig(max_steps=2, context=64, **ASKED),
        output_dir=tmp_path / "healed",
    )
    for run in (pruned, healed):
        for when in ("before", "after"):
            assert {"letters acc", "words acc"} < run.quality[when].keys()
            assert "letters acc_stderr" not in run.quality[when]
        assert "letters acc" in run_text(run)
    assert pruned.quality["after"]["letters acc"] == healed.quality["before"]["letters acc"]
    assert healed.quality["after"]["letters acc"] != healed.quality["before"]["letters acc"]
    assert healed.baselines[0]["quality"]["words acc"] == pruned.quality["before"]["words acc"]
    table = compare([tmp_path / "pruned", tmp_path / "healed"]).table
    assert {"letters acc", "words acc"} < set(table.columns)
    assert "letters acc" in (tmp_path / "healed" / "README.md").read_text()


def test_encoders_have_no_tasks_of_the_harness(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave tasks out"):
        prune(
            tiny.model("bert", vocab_size=talk.VOCAB),
            talk.rows(200),
            budget="blocks<=80%",
            method="magnitude",
            tokenizer=talk.tokenizer(),
            config=BonsaiConfig(windows=1, context=16, timing=False, **ASKED),
        )
