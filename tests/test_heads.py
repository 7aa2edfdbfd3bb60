"""Heads of encoders for labelled tasks."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

import encoders
from attar import checkpoint
from attar.data.labelled.task import Task, TaskKind
from attar.heads import load_with_head, new_head
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
