"""Heads of encoders for labelled tasks."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

import encoders
from attar import checkpoint
from attar.data.labelled.task import Task, TaskKind
from attar.heads import load_with_head, new_head, task_of
from tasks import TASKS


@pytest.mark.parametrize("kind", TASKS)
def test_the_names_of_labels_travel_with_the_config(kind: TaskKind, tmp_path: Path) -> None:
    config = AutoConfig.for_model("bert", num_labels=7)
    new_head(config, TASKS[kind]).save_pretrained(tmp_path)
    stored = AutoConfig.from_pretrained(tmp_path)
    assert stored.num_labels == TASKS[kind].outputs
    if TASKS[kind].labels:
        names = tuple(stored.id2label[i] for i in range(stored.num_labels))
        assert names == TASKS[kind].labels
        assert [stored.label2id[name] for name in names] == list(range(len(names)))
    assert new_head(stored, TASKS["regression"]).problem_type == "regression"
    assert stored.num_labels == TASKS[kind].outputs


def test_the_head_of_another_task_is_drawn_anew(tmp_path: Path) -> None:
    checkpoint.save(encoders.encoder(), tmp_path, tokenizer=encoders.tokenizer())
    task = Task("single_label", ("no", "yes"))
    own = checkpoint.load(tmp_path)
    new, same = (load_with_head(tmp_path, task, seed=3) for _ in range(2))
    heads = [m.get_submodule("classifier").state_dict()["weight"] for m in (own, new, same)]
    assert not torch.equal(heads[0], heads[1])
    assert torch.equal(heads[1], heads[2])
    body, kept = (m.base_model.state_dict() for m in (own, new))
    assert all(torch.equal(body[name], kept[name]) for name in body)


@pytest.mark.parametrize("kind", TASKS)
def test_a_config_tells_the_task_of_whole_texts(kind: TaskKind, tmp_path: Path) -> None:
    task = TASKS[kind]
    config = new_head(AutoConfig.for_model("bert"), task)
    whole = kind in ("single_label", "multi_label", "regression")
    config.architectures = [f"BertFor{'Sequence' if whole else 'Token'}Classification"]
    assert task_of(config) == (replace(task, pair=False) if whole else None)
    config.save_pretrained(tmp_path)
    assert task_of(AutoConfig.from_pretrained(tmp_path)) == task_of(config)
    config.architectures = None
    assert task_of(config) is None


def test_a_config_that_says_little_is_of_classes_or_of_a_number() -> None:
    config = AutoConfig.for_model("bert", architectures=["BertForSequenceClassification"])
    config.id2label = {1: "no", 0: "yes", 10: "who", 2: "so"}
    assert task_of(config) == Task("single_label", ("yes", "no", "so", "who"))
    config.num_labels = 1
    assert task_of(config) == Task("regression")
    config.num_labels = 2
    config.problem_type = "regression"
    assert task_of(config) == Task("regression")
