"""What is predicted of labelled examples."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from attar.errors import ConfigError

TaskKind = Literal[
    "single_label", "regression", "multi_label", "token_classification", "question_answering"
]
UNLABELLED = -100
"""The label of a row, word or answer that has none; in regression it is NaN."""


@dataclass(frozen=True)
class Task:
    """What is predicted: its kind, the names of the labels in the order of their numbers (none for
    regression and question answering), and whether the input is a pair of texts."""

    kind: TaskKind
    labels: tuple[str, ...] = ()
    pair: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(TaskKind):
            raise ConfigError(
                f"expected a task of {', '.join(get_args(TaskKind))}, found {self.kind!r}; "
                "name one of them"
            )
        named = self.kind not in ("regression", "question_answering")
        if named != bool(self.labels) or len(set(self.labels)) < len(self.labels):
            raise ConfigError(
                f"expected {'distinct names of labels' if named else 'no names of labels'} for "
                f"{self.kind}, found {list(self.labels)}; give "
                f"{'each label once' if named else 'none'}"
            )

    @property
    def outputs(self) -> int:
        """Numbers that a model predicts for one item: labels, one value, or start and end."""
        return len(self.labels) or (1 if self.kind == "regression" else 2)

    def to_dict(self) -> dict[str, Any]:
        """As JSON knows it."""
        return asdict(self) | {"labels": list(self.labels)}
