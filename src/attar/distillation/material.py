"""A teacher, and the texts on which a student of a budget learns from it."""

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path

from datasets import DatasetDict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.compatibility import check_encoder, check_trained
from attar.data.data import Data
from attar.data.labelled.load import load_labelled
from attar.data.labelled.task import Task, TaskKind
from attar.errors import CompatibilityError, ConfigError
from attar.heads import task_of
from attar.methods.distiller.config import DistillConfig
from attar.models import require_context

logger = logging.getLogger(__name__)

_WHOLE_TEXTS = ("single_label", "multi_label", "regression")


@dataclass(frozen=True)
class Material:
    """What a student is made from.

    Attributes:
        teacher: trained on the task.
        tokenizer: the teacher's.
        documents: the splits of `load_labelled`.
        task: what is learnt.
    """

    teacher: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    documents: DatasetDict
    task: Task

    @classmethod
    def load(
        cls,
        teacher: str | Path | PreTrainedModel,
        data: Data,
        *,
        task: TaskKind | None,
        config: DistillConfig,
    ) -> "Material":
        """Load both, and check that they fit together.

        Raises:
            CompatibilityError: the teacher is no encoder, was not trained on this task, or the task
                is not one of whole texts.
            ConfigError: the teacher has no folder to find its tokenizer in.
            DataError: the teacher or the data cannot be read.
        """
        name = checkpoint.name_of(teacher)
        if not name:
            raise ConfigError(
                "expected a teacher with a folder or a name, where its tokenizer is; found a model "
                "without one: save both with attar.save first"
            )
        read = isinstance(teacher, str | Path)
        head = checkpoint.read_config(teacher) if read else teacher.config
        check_encoder("teacher", head, name=name)
        known = task_of(head)
        # checked before the data, which would seem to lack a column of labels
        if known is None and head.architectures:
            raise CompatibilityError(
                f"expected a teacher with a head that classifies or rates whole texts; {name} is "
                f"{head.architectures[0]}: train one with attar distill {name} --data DATA "
                "--config distiller/teacher -o TEACHER"
            )
        model = checkpoint.model_of(teacher)
        documents, described = load_labelled(
            data,
            task=task,
            known=known,
            limit_labels=config.limit_labels,
            seed=config.seed,
        )
        if described.kind not in _WHOLE_TEXTS:
            raise CompatibilityError(
                f"a student of a budget classifies or rates whole texts, found {described.kind}; "
                "distil a student of the teacher's own shape with student_layers"
            )
        check_trained("teacher", model, task=described)
        require_context(model, config.context)
        return cls(model, checkpoint.load_tokenizer(name), documents, described)

    @property
    def texts(self) -> list[str]:
        """Of the training split alone, from which a tokenizer may learn; of pairs the first."""
        return self.documents["train"]["text"][:]

    @property
    def pairs(self) -> list[str] | None:
        """The second texts; None: there are none."""
        return self.documents["train"]["text_pair"][:] if self.task.pair else None


def with_copies_that_are_read(config: DistillConfig, *, rows: int) -> DistillConfig:
    """The same options with no more augmented copies of each text than the training reads: the
    teacher reads every copy once, which of many texts would take longer than the training.

    A pass (`num_train_epochs`) is over as many rows as there are texts, copies among them. Labels
    alone teach nothing about copies, so that none are made then. Copies in the batch of their text
    (`repeated`) are always read.

    Args:
        config: how a student is trained.
        rows: of the training split.
    """
    if not config.augment or config.repeated:
        return config
    if not config.taught:
        return replace(config, augment=())
    if config.num_train_epochs is not None:
        steps = math.ceil(config.num_train_epochs * rows / config.rows_per_step)
        config = replace(config, max_steps=max(1, steps), num_train_epochs=None)
    most = max(0, config.rows_seen // rows - 1)
    if most >= config.copies:
        return config
    logger.info(
        "augmented copies of each text: %s in place of %s, as %s steps read no more",
        most,
        config.copies,
        config.max_steps,
    )
    return replace(config, copies=most) if most else replace(config, augment=())
