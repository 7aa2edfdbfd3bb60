"""The students that a search proposes, with what each costs and why it was chosen."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from attar.methods.compressor.space import EncoderShape
from attar.report.units import count, milliseconds, size


@dataclass(frozen=True)
class StudentPlan:
    """An encoder that a search proposes.

    Attributes:
        shape: the encoder.
        parameters: all of them, exact.
        parts: bytes of `weights`, `tokenizer`, `config` and `overhead`.
        macs: multiply-accumulates of one text.
        milliseconds: of one text, predicted; None: not known.
        read: the share of the characters of the texts that is read; None: not known.
        fitness: what the search maximised.
        why: one sentence that says why this and not the next.
    """

    shape: EncoderShape
    parameters: int
    parts: Mapping[str, int]
    macs: int
    milliseconds: float | None
    read: float | None
    fitness: float
    why: str

    @property
    def bytes(self) -> int:
        """Of the whole folder."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        figures = [
            size(self.bytes),
            f"{count(self.parameters)} parameters",
            f"{count(self.macs)} multiply-accumulates",
        ]
        if self.milliseconds is not None:
            figures.append(milliseconds(self.milliseconds))
        if self.read is not None:
            figures.append(f"{self.read:.0%} of the text read")
        return f"{self.shape}: {', '.join(figures)}"

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts and numbers; `bytes` is told for people."""
        return asdict(self) | {"parts": dict(self.parts), "bytes": self.bytes}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "StudentPlan":
        """Read what `to_dict` gave."""
        values: dict[str, Any] = {**stored, "shape": EncoderShape.from_dict(stored["shape"])}
        del values["bytes"]
        return cls(**values)
