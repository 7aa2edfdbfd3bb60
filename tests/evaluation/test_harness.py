"""Task scores are those of our own losses."""

import importlib.util
import json
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from transformers import (
    PreTrainedTokenizerFast,
)

from attar.errors import ConfigError, MissingExtraError
from attar.evaluation.harness import figures, tasks
from attar.evaluation.model import evaluation_lines
from characters import stream, token_loss
from records import make

HARNESS = importlib.util.find_spec("lm_eval") is not None


@pytest.mark.skipif(HARNESS, reason="lm_eval is installed")
def test_tasks_name_the_missing_extra(model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[eval\]' in the checkout"):
        tasks(model, tokenizer, names=["arc_easy"])


@pytest.mark.skipif(not HARNESS, reason="needs lm_eval: pip install '.[eval]'")
@pytest.mark.filterwarnings("default")
def test_tasks_score_a_task_of_the_users_own(
    model: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """The harness's accuracy is that of choosing the likelier answer by our own losses."""
    rows = [
        {"q": f"is {a}", "choices": ["ab", "zz"], "gold": i % 2} for i, a in enumerate("abcdef")
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "letters.yaml").write_text(
        "task: letters\ndataset_path: json\noutput_type: multiple_choice\ntest_split: test\n"
        f"dataset_kwargs:\n  data_files:\n    test: {tmp_path / 'rows.jsonl'}\n"
        "doc_to_text: '{{q}}'\ndoc_to_target: '{{gold}}'\ndoc_to_choice: '{{choices}}'\n"
        "target_delimiter: ''\nmetric_list:\n  - metric: acc\n"
    )
    right = 0
    for row in rows:
        losses = []
        for choice in row["choices"]:
            question = stream(tokenizer, [row["q"]])[1:]
            ids = [*question, *stream(tokenizer, [choice])[1:]]
            losses.append(sum(token_loss(model, ids, t, 0) for t in range(len(question), len(ids))))
        right += losses.index(min(losses)) == row["gold"]
    found = tasks(model, tokenizer, names=[str(tmp_path / "letters.yaml")])
    assert found["letters"]["acc"] == pytest.approx(right / len(rows))
    assert tasks(model, tokenizer, names=["letters"], include_path=tmp_path) == found
    assert figures(found) == {"letters acc": found["letters"]["acc"]}
    file = tmp_path / "letters.yaml"
    file.write_text(f"group: all\ntask:\n  - {file.read_text().replace(chr(10), chr(10) + '    ')}")
    assert tasks(model, tokenizer, names=[str(file)])["all::letters"] == found["letters"]
    with pytest.raises(ConfigError, match="no task called 'nonsense'"):
        tasks(model, tokenizer, names=["nonsense"])


def test_the_number_of_documents_is_shown_as_such() -> None:
    scores = {"letters": {"sample_len": 6, "acc": 0.5}}
    run = make(details={"split": "test", "tasks": scores})
    assert evaluation_lines(run)[-2:] == [("letters", "documents 6"), ("letters", "acc 0.5")]


def test_a_file_that_names_no_task_is_refused(
    model: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attar.evaluation.harness.import_module", lambda name: MagicMock())
    (tmp_path / "bare.yaml").write_text("dataset_path: json\n")
    for name, message in (("bare.yaml", "a line 'task: NAME'"), ("none.yaml", "No such file")):
        with pytest.raises(ConfigError, match=message):
            tasks(model, tokenizer, names=[str(tmp_path / name)])


@pytest.mark.skipif(not HARNESS, reason="needs lm_eval: pip install '.[eval]'")
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("more", "limit", "message"),
    [
        ("", None, "cannot score letters "),
        ("dataset_path: json\ndataset_kwargs:\n  data_files: absent\n", None, "Unable to find"),
        ("", 0, "limit must be above 0"),
    ],
)
def test_tasks_that_the_harness_fails_on_are_one_sentence(
    more: str,
    limit: int | None,
    message: str,
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    (tmp_path / "letters.yaml").write_text(f"\ufefftask: letters\n{more}", encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        tasks(model, tokenizer, names=[str(tmp_path / "letters.yaml")], limit=limit)
