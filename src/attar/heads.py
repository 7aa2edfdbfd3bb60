"""Encoders with a head for a labelled task: which class, which config, and the head itself."""

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from attar import checkpoint
from attar.data.labelled.task import Task


def load_with_head(
    model: str | Path | PreTrainedModel, task: Task, *, seed: int = 0
) -> PreTrainedModel:
    """An encoder in float32 with a head for the task: its own where that has the labels of the
    task, else a new one.

    Raises:
        DataError: there is no such model.
    """
    if isinstance(model, PreTrainedModel):
        return model
    config = checkpoint.read_config(model)
    own, wanted = ((c or {}).values() for c in (config.id2label, head_options(task)["id2label"]))
    architecture = (config.architectures or [""])[0]
    if [str(v) for v in own] == list(wanted) and has_head(architecture, task):
        return checkpoint.load(model).float()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        loader: Any = model_class(task)
        return checkpoint.load_body(model, loader=loader, config=new_head(config, task))


# ------------------------------------------------------------------------------------------ heads


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


def new_head(config_or_path: Any, task: Task) -> Any:
    """A config for `model_class(task)`, with a head for the task; a config given stays as it is.

    Args:
        config_or_path: config of a model, or the folder or Hub name of one.
        task: what the head predicts.
    """
    if isinstance(config_or_path, str | Path):
        config = AutoConfig.from_pretrained(config_or_path)
    else:
        config = copy.deepcopy(config_or_path)
    for name, value in head_options(task).items():
        setattr(config, name, value)  # the number of labels follows
    return config
