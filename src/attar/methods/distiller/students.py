"""Students: an encoder with fewer layers, cut out of its teacher or with random weights."""

import copy
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from attar import checkpoint
from attar.data.labelled import Task
from attar.errors import CompatibilityError, ConfigError
from attar.methods.distiller.config import StudentInit
from attar.train.tasks import has_head, head_options, model_class, new_head


def depth(model: PreTrainedModel) -> int:
    """Blocks of a model."""
    return int(model.config.get_text_config().num_hidden_layers)


def width(model: PreTrainedModel) -> int:
    """Width of a model's hidden states."""
    return int(model.config.get_text_config().hidden_size)


def make_student(
    teacher: PreTrainedModel,
    *,
    layers: int,
    width: int | None = None,
    init: StudentInit = "cut",
    seed: int = 0,
) -> PreTrainedModel:
    """A model of the teacher's class with fewer layers, and if it starts at random, narrower ones.

    Args:
        teacher: an encoder with a head; it stays as it is.
        layers: blocks of the student.
        width: of its hidden states, for random weights only; its heads are as wide as the
            teacher's, and its feed-forward layers narrower by the same factor. None: as the
            teacher.
        init: `cut` copies embeddings, head and evenly spread blocks, the last among them; `random`
            copies nothing.
        seed: draws the random weights.

    Raises:
        ConfigError: the number of layers is not between 1 and the teacher's; a width for a cut, or
            one that is no whole number of heads.
        CompatibilityError: the blocks of this model cannot be found.
    """
    whole = depth(teacher)
    if not 1 <= layers <= whole:
        raise ConfigError(
            f"student_layers must be between 1 and the teacher's {whole}, but it is {layers}"
        )
    kept = [(i + 1) * whole // layers - 1 for i in range(layers)]
    config = _config(teacher.config, kept)
    if width is not None:
        if init == "cut":
            raise ConfigError(
                "a cut keeps the teacher's width, as its weights are copied; set student_init to "
                "random for a narrower student, or leave student_width out"
            )
        _narrow(config, width)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        student = type(teacher)(config)
    student.float()  # whatever the teacher's weights are: training in half precision loses steps
    if init == "cut":
        prefix = _blocks(teacher)
        numbers = {f"{prefix}.{new}.": f"{prefix}.{old}." for new, old in enumerate(kept)}
        stored = teacher.state_dict()
        wanted = {name: stored[_source(name, numbers)] for name in student.state_dict()}
        student.load_state_dict(wanted)
    return student.eval()


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


def _config(config: Any, kept: list[int]) -> Any:
    """The teacher's configuration for the blocks that are kept."""
    found = copy.deepcopy(config)
    whole = config.num_hidden_layers
    for name, value in config.to_dict().items():
        if isinstance(value, list) and len(value) == whole and name.startswith("layer"):
            setattr(found, name, [value[i] for i in kept])  # such as layer_types
    found.num_hidden_layers = len(kept)
    return found


def _narrow(config: Any, width: int) -> None:
    """Set another width, with heads of the same size."""
    before = config.hidden_size
    head = before // config.num_attention_heads
    if not 1 <= width <= before or width % head:
        raise ConfigError(
            f"student_width must be a multiple of {head}, the width of a head, up to the teacher's "
            f"{before}, but it is {width}"
        )
    config.hidden_size, config.num_attention_heads = width, width // head
    for name in ("intermediate_size", "hidden_dim"):  # DistilBERT has the second
        if hasattr(config, name):
            setattr(config, name, max(1, getattr(config, name) * width // before))


def _blocks(model: PreTrainedModel) -> str:
    """The name of the list that holds a model's blocks."""
    count = depth(model)
    lists = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    if len(lists) != 1:
        raise CompatibilityError(
            f"expected one list of {count} blocks in {type(model).__name__}, found {len(lists)}; "
            "give a student of your own instead of a cut of the teacher"
        )
    return lists[0]


def _source(name: str, numbers: dict[str, str]) -> str:
    for new, old in numbers.items():
        if name.startswith(new):
            return re.sub(rf"^{re.escape(new)}", old, name)
    return name
