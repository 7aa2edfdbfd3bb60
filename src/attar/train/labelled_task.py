"""A student, its teacher, and the labelled rows that it learns from: loaded, and fit together."""

from dataclasses import dataclass
from pathlib import Path

from datasets import DatasetDict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.compatibility import (
    check_encoder,
    check_outputs,
    check_trained,
    same_inputs,
)
from attar.data.labelled.task import Task
from attar.errors import ConfigError
from attar.evaluation.labelled import score_on
from attar.heads import load_with_head
from attar.models import require_context
from attar.train.students import StudentShape, make_student


def require_student(student: object, teacher: object, *, layers: int | None) -> None:
    """Refuse to train nothing: without a student there must be a teacher to make one from.

    Raises:
        ConfigError: there is neither.
    """
    if student is None and (teacher is None or layers is None):
        raise ConfigError(
            "expected a student, or a teacher and student_layers to make one from it; name one"
        )


@dataclass(frozen=True, kw_only=True)
class LabelledTask:
    """A student, its teacher, and the rows that it learns from.

    Attributes:
        student: has a head for the task.
        tokenizer: the student's.
        documents: the splits of `load_labelled`.
        task: what is learnt.
        teacher: trained on this task; None: labels alone teach.
        teacher_tokenizer: None: the student's.
    """

    student: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    documents: DatasetDict
    task: Task
    teacher: PreTrainedModel | None = None
    teacher_tokenizer: PreTrainedTokenizerBase | None = None

    @classmethod
    def load(
        cls,
        student: str | Path | PreTrainedModel | None,
        teacher: str | Path | PreTrainedModel | None,
        *,
        documents: DatasetDict,
        task: Task,
        shape: StudentShape = StudentShape(),
        tokenizer: PreTrainedTokenizerBase | None = None,
        seed: int = 0,
    ) -> "LabelledTask":
        """Load encoders and their tokenizers, and check that each fits the task.

        Args:
            student: folder, Hub name, or a model with a head. None: `shape` is made of the teacher.
            teacher: folder, Hub name or model; None: there is none.
            documents: the splits of `load_labelled`.
            task: what is learnt.
            shape: of a student that is made.
            tokenizer: the student's; None: the one in its folder, or the teacher's. A teacher in
                memory without a folder shares it.
            seed: draws a new head, and the weights of a student that starts at random.

        Raises:
            ConfigError: there is neither student nor shape, the shape cannot be made, or a model in
                memory comes without a tokenizer.
            CompatibilityError: a model is no encoder, or is of another task.
            DataError: a model cannot be read.
        """
        for side, given in (("teacher", teacher), ("student", student)):
            if given is not None:
                read = isinstance(given, str | Path)
                config = checkpoint.read_config(given) if read else given.config
                check_encoder(side, config, name=checkpoint.name_of(given))
        parent = None if teacher is None else checkpoint.model_of(teacher)
        if parent is not None:
            check_trained("teacher", parent, task=task)
        if student is not None:
            own = student
            model = load_with_head(student, task, seed=seed)
            check_outputs("student", model, task=task)
        else:
            require_student(student, teacher, layers=shape.layers)
            assert parent is not None
            assert shape.layers is not None
            own = parent
            model = make_student(
                parent, layers=shape.layers, width=shape.width, init=shape.init, seed=seed
            )
        theirs = checkpoint.name_of(teacher)
        return cls(
            student=model,
            tokenizer=checkpoint.tokenizer_of(own, tokenizer),
            documents=documents,
            task=task,
            teacher=parent,
            teacher_tokenizer=checkpoint.load_tokenizer(theirs) if theirs else None,
        )

    @property
    def tokenizers(self) -> tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase]:
        """The student's and the teacher's."""
        return self.tokenizer, self.teacher_tokenizer or self.tokenizer

    @property
    def same_inputs(self) -> bool:
        """Whether one batch can be given to both models."""
        return same_inputs(*self.tokenizers, task=self.task)

    def require_context(self, context: int) -> None:
        """Refuse texts that are longer than a model has positions for.

        Raises:
            ConfigError: they are.
        """
        for model in (self.student, self.teacher):
            if model is not None:
                require_context(model, context)

    def score(self, split: str, *, context: int, teacher: bool = False) -> dict[str, float]:
        """The metrics of the student, or of its teacher, on a split; the primary one first.

        Raises:
            ConfigError: there is no teacher.
        """
        model = self.teacher if teacher else self.student
        if model is None:
            raise ConfigError("there is no teacher to score; name one")
        return score_on(
            model,
            self.documents[split],
            tokenizer=self.tokenizers[int(teacher)],
            task=self.task,
            context=context,
        )
