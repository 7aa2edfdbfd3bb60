"""Students: encoders with a head for the task."""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from attar import checkpoint
from attar.data.labelled import Task
from attar.train.tasks import has_head, head_options, model_class, new_head


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
