"""The options that all commands on labelled data share."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter

from attar.data.labelled.task import TaskKind
from attar.train.students import StudentInit


@dataclass(frozen=True)
class Columns:
    """How labelled data is read; the names are those of `attar.methods.distiller.distill`."""

    task: TaskKind | None = None
    """What is predicted; inferred from the labels when not given."""
    text_column: str | None = None
    """Column of the text; a usual name is looked for when not given, as for the next two."""
    pair_column: str | None = None
    """Column of the second text."""
    label_column: str | None = None
    """Column of the labels."""
    data_config: str | None = None
    """Configuration of a data set on the Hub."""


@dataclass(frozen=True)
class Student:
    """Which student is trained."""

    student: str | None = None
    """Folder or Hub name of the encoder to train."""
    student_layers: int | None = None
    """Instead of --student: this many layers of the teacher."""
    student_width: int | None = None
    """With --student-init random: the width of its hidden states; the teacher's when not given."""
    student_init: StudentInit = "cut"
    """cut copies the teacher's weights into those layers, random does not."""


ColumnOptions = Annotated[
    Columns, Parameter(name="*", group=Group("Columns of the data", sort_key=2))
]
StudentOptions = Annotated[Student, Parameter(name="*", group=Group("Student", sort_key=1))]
