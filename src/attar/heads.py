"""The head of an encoder for a labelled task: its class in transformers, its config, its weights.

A head here is what transformers puts on a body to predict labels: `...ForSequenceClassification`,
`...ForTokenClassification` or `...ForQuestionAnswering`.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from attar import checkpoint
from attar.data.labelled.task import Task


def model_class(task: Task) -> type:
    """The class of transformers whose head fits the task."""
    return {
        "token_classification": AutoModelForTokenClassification,
        "question_answering": AutoModelForQuestionAnswering,
    }.get(task.kind, AutoModelForSequenceClassification)


def has_head(architecture: str, task: Task) -> bool:
    """Whether a class of transformers, by its name, predicts what the task asks for."""
    kind = {
        "token_classification": "ForTokenClassification",
        "question_answering": "ForQuestionAnswering",
    }.get(task.kind, "ForSequenceClassification")
    return architecture.endswith(kind)


def head_options(task: Task) -> dict[str, Any]:
    """What a model's config says of its head: its labels, and which loss transformers takes."""
    names = task.labels or tuple(f"LABEL_{i}" for i in range(task.outputs))
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
        "problem_type": {
            "single_label": "single_label_classification",
            "multi_label": "multi_label_classification",
            "regression": "regression",
        }.get(task.kind),
    }


def new_head(config: PreTrainedConfig, task: Task) -> PreTrainedConfig:
    """A copy of a model's config for `model_class(task)`, with a head for the task."""
    changed = copy.deepcopy(config)
    for name, value in head_options(task).items():
        setattr(changed, name, value)  # the number of labels follows
    return changed


def task_of(config: PreTrainedConfig) -> Task | None:
    """The task of whole texts that a model was trained on, as its config says; None: it has no head
    for one."""
    architecture = (config.architectures or [""])[0]
    if not architecture.endswith("ForSequenceClassification"):
        return None
    if config.problem_type == "regression" or config.num_labels == 1:
        return Task("regression")
    several = config.problem_type == "multi_label_classification"
    names = {int(i): str(name) for i, name in (config.id2label or {}).items()}
    labels = tuple(names[i] for i in sorted(names))
    return Task("multi_label" if several else "single_label", labels)


def load_with_head(
    model: str | Path | PreTrainedModel, task: Task, *, seed: int = 0
) -> PreTrainedModel:
    """An encoder with a head for the task: its own where that has the labels of the task, else a
    new one.

    Args:
        model: folder or Hub name; a model in memory is returned as it is.
        task: what the head predicts.
        seed: draws the weights of a new head.

    Raises:
        DataError: there is no such model.
    """
    if isinstance(model, PreTrainedModel):
        return model
    config = checkpoint.read_config(model)
    own_labels = [str(label) for label in (config.id2label or {}).values()]
    task_labels = list(head_options(task)["id2label"].values())
    architecture = (config.architectures or [""])[0]
    if own_labels == task_labels and has_head(architecture, task):
        return checkpoint.load(model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        loader: Any = model_class(task)
        return checkpoint.load_body(model, loader=loader, config=new_head(config, task))
