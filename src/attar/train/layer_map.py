"""Which layer of the student learns from which layer of the teacher: fixed pairs, or a transport
plan between all of them.

Hidden states are numbered as transformers returns them: 0 is the output of the embeddings, the
blocks follow from 1. Attention maps are numbered from 0.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from attar.errors import ConfigError, require
from attar.models import evenly_spaced

Features = Literal["hidden", "attention"]
Pair = tuple[int, int]
"""(student index, teacher index)."""

_PAIR = re.compile(r"\s*(\d+)\s*:\s*(\d+)\s*")


@dataclass(frozen=True)
class LayerMap:
    """The layers that are matched, checked against the depth of both models.

    Made by `skip`, `last`, `final`, `emd`, `explicit` or `parse`.

    Attributes:
        pairs: matched one to one, each with weight one, (student, teacher).
        student_layers: blocks of the student, L_S.
        teacher_layers: blocks of the teacher, L_T.
        features: what the indices count.
        transport: every block of the student is also matched with every block of the teacher, as
            much as the earth mover's distance says, with weight one in all.

    Raises:
        ConfigError: a model without layers, an index out of range, a pair given twice, or no pair.
    """

    pairs: tuple[Pair, ...]
    student_layers: int
    teacher_layers: int
    features: Features = "hidden"
    transport: bool = False

    def __post_init__(self) -> None:
        known = get_args(Features)
        require(self.features in known, "features", self.features, f"one of {', '.join(known)}")
        for side, layers in self._sides():
            if layers < 1:
                raise ConfigError(
                    f"a layer map needs a {side} with at least 1 layer, but it has {layers}; "
                    "give the number of its blocks."
                )
        if not self.pairs and not self.transport:
            raise ConfigError("a layer map needs at least one pair, such as 0:0, but it has none.")
        if len(set(self.pairs)) < len(self.pairs):
            raise ConfigError(
                f"a layer map must name each pair once, but it is {_text(self.pairs)}; leave out "
                "the copies."
            )
        for pair in self.pairs:
            for index, (side, layers) in zip(pair, self._sides(), strict=True):
                last = layers if self.features == "hidden" else layers - 1
                if not 0 <= index <= last:
                    raise ConfigError(
                        f"the {self.features} layers of the {side} are 0 to {last}, but the layer "
                        f"map {_text(self.pairs)} names {index}; give pairs within that range."
                    )

    def _sides(self) -> tuple[tuple[str, int], tuple[str, int]]:
        return ("student", self.student_layers), ("teacher", self.teacher_layers)

    @classmethod
    def skip(
        cls, student_layers: int, teacher_layers: int, *, features: Features = "hidden"
    ) -> "LayerMap":
        """The student's layers spread evenly over the teacher's, the last on the last.

        Hidden states: i = 0..L_S on floor(i L_T / L_S). Attention: i = 0..L_S - 1 on
        floor((i + 1) L_T / L_S) - 1, the end of the same stretch.
        """
        layers = evenly_spaced(student_layers, teacher_layers, first=False)
        if features == "hidden":
            layers = [0, *(layer + 1 for layer in layers)]
        return cls(tuple(enumerate(layers)), student_layers, teacher_layers, features)

    @classmethod
    def last(
        cls, student_layers: int, teacher_layers: int, *, features: Features = "hidden"
    ) -> "LayerMap":
        """The student's layers on the top layers of the teacher: i on L_T - L_S + i.

        So the student's embeddings are matched with hidden state L_T - L_S of the teacher.
        """
        count = student_layers + (features == "hidden")
        pairs = tuple((i, teacher_layers - student_layers + i) for i in range(count))
        return cls(pairs, student_layers, teacher_layers, features)

    @classmethod
    def final(
        cls, student_layers: int, teacher_layers: int, *, features: Features = "hidden"
    ) -> "LayerMap":
        """The student's last layer on the last of the teacher, whichever of them is deeper."""
        ends = [layers - (features == "attention") for layers in (student_layers, teacher_layers)]
        return cls(((ends[0], ends[1]),), student_layers, teacher_layers, features)

    @classmethod
    def emd(
        cls, student_layers: int, teacher_layers: int, *, features: Features = "hidden"
    ) -> "LayerMap":
        """Every block with every block, by a transport plan between them; embeddings, which are no
        block, are matched with each other.
        """
        pairs = ((0, 0),) if features == "hidden" else ()
        return cls(pairs, student_layers, teacher_layers, features, transport=True)

    @classmethod
    def explicit(
        cls,
        pairs: Iterable[Pair],
        *,
        student_layers: int,
        teacher_layers: int,
        features: Features = "hidden",
    ) -> "LayerMap":
        """These pairs, (student, teacher), in this order."""
        return cls(tuple((s, t) for s, t in pairs), student_layers, teacher_layers, features)

    @classmethod
    def parse(
        cls, text: str, *, student_layers: int, teacher_layers: int, features: Features = "hidden"
    ) -> "LayerMap":
        """Read `skip`, `last`, `final`, `emd`, or pairs such as `0:0,1:2,2:4`.

        Raises:
            ConfigError: the text is none of these, or what it says does not fit the models.
        """
        named = {"skip": cls.skip, "last": cls.last, "final": cls.final, "emd": cls.emd}
        if text.strip() in named:
            return named[text.strip()](student_layers, teacher_layers, features=features)
        pairs = []
        for part in text.split(","):
            match = _PAIR.fullmatch(part)
            if match is None:
                raise ConfigError(
                    "a layer map must be skip, last, final, emd or pairs of student:teacher such "
                    f"as 0:0,1:2,2:4, but it is {text!r}."
                )
            pairs.append((int(match[1]), int(match[2])))
        return cls.explicit(
            pairs, student_layers=student_layers, teacher_layers=teacher_layers, features=features
        )

    @property
    def blocks(self) -> tuple[range, range]:
        """The layers of student and teacher that a transport plan is made for."""
        first = int(self.features == "hidden")
        return (
            range(first, first + self.student_layers),
            range(first, first + self.teacher_layers),
        )

    def total(self, loss: Callable[[int, int], Tensor]) -> Tensor:
        """The loss over the whole map: sum over the pairs, plus the transport cost if asked for.

        The transport plan is that of the values given, summed: of one batch in one process.

        Args:
            loss: (student index, teacher index) -> values of one shape, such as (B, T) or ().

        Returns:
            Values of that shape.
        """
        terms = [loss(student, teacher) for student, teacher in self.pairs]
        if self.transport:
            students, teachers = self.blocks
            values = torch.stack([torch.stack([loss(s, t) for t in teachers]) for s in students])
            flow = emd_flow(values.reshape(len(students), len(teachers), -1).sum(-1))
            terms.append(torch.tensordot(flow, values.to(flow.dtype)))
        return torch.stack(terms).sum(0)


def emd_flow(cost: Tensor) -> Tensor:
    """The cheapest transport plan between uniform masses: (L_S, L_T) -> (L_S, L_T), float32.

    Rows sum to 1 / L_S and columns to 1 / L_T. A constant in the backward pass. Where a cost is not
    finite there is no plan, so the mass is spread evenly and the loss shows what is wrong.

    Source: Li et al. 2020, BERT-EMD, with masses that stay uniform.
    """
    rows, columns = cost.shape
    fixed = cost.detach().cpu().double()
    if not fixed.isfinite().all():
        return torch.full_like(cost, 1 / (rows * columns), dtype=torch.float32, requires_grad=False)
    # POT is slow to import and only needed here.
    from ot.lp import emd  # codespell:ignore ot

    # All mass is one: the shift moves every plan's cost alike, and the solver wants none below 0.
    plan = emd(
        np.full(rows, 1 / rows), np.full(columns, 1 / columns), (fixed - fixed.min()).numpy()
    )
    return torch.from_numpy(np.asarray(plan)).to(cost.device, torch.float32)


def _text(pairs: Iterable[Pair]) -> str:
    return ",".join(f"{student}:{teacher}" for student, teacher in pairs)
