"""Networks side by side: their losses and costs, as rows of a table on disk."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from attar import artefacts
from attar.arch import Arch
from attar.budget import Cost
from attar.errors import AttarError, DataError
from attar.search.pareto import pareto_front

RANKING = "rank.csv"
FRONT = "pareto.json"
_OBJECTIVES = ("params", "macs", "loss")
_COLUMNS: tuple[str, ...] = (
    "rank",
    "space",
    "loss",
    "params",
    "params_without_embeddings",
    "bytes",
    "macs",
    "published_params",
    "published_macs",
    "latency_ms",
    "prefill_ms",
    "arch",
)


@dataclass(frozen=True)
class Row:
    """A network of a supernet.

    Attributes:
        space: the name of its space.
        arch: its widths.
        loss: on held-out rows; None where it was not scored.
        cost: counted from its tensors; timed where that was asked for.
        embeddings: parameters of the embeddings, which are part of `cost.params`.
        published: parameters and multiply-accumulates by a paper's formulas, which need not be
            those of the tensors; None where there are none.
    """

    space: str
    arch: Arch
    loss: float | None
    cost: Cost
    embeddings: int
    published: tuple[int, int] | None = None

    def sizes(self) -> dict[str, Any]:
        """Its sizes by name: counted ones, and those of the paper's formulas where it has some."""
        counted = {
            "params": self.cost.params,
            "params_without_embeddings": self.cost.params - self.embeddings,
            "bytes": self.cost.bytes,
            "macs": self.cost.macs,
        }
        if self.published is not None:
            counted |= dict(
                zip(("published_params", "published_macs"), self.published, strict=True)
            )
        return counted

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        times = {
            f"{name}_ms": time.median
            for name, time in (("latency", self.cost.decode), ("prefill", self.cost.prefill))
            if time is not None
        }
        known = {"space": self.space, "loss": self.loss, **self.sizes(), **times}
        return known | {"arch": self.arch.to_dict()}


def embeddings_of(model: PreTrainedModel) -> int:
    """Parameters of a model's embeddings, of positions and types of tokens too."""
    tables = {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
    return sum(table.numel() for table in tables)


def by_loss(rows: Iterable[Row]) -> list[Row]:
    """Best first; of equal ones the smaller."""
    return sorted(rows, key=lambda row: (row.loss, row.cost.params))


def write_ranking(folder: Path, rows: Sequence[Row]) -> None:
    """Write `rank.csv`, best first, and `pareto.json`, those of its rows that no other beats in
    loss, parameters and multiply-accumulates."""
    ordered = by_loss(rows)
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    table.writeheader()
    numbered = [{"rank": rank, **row.to_dict()} for rank, row in enumerate(ordered, 1)]
    for row in numbered:
        table.writerow(row | {"arch": json.dumps(row["arch"])})
    artefacts.write_text(folder / RANKING, text.getvalue())
    best = pareto_front(numbered, {name: "minimise" for name in _OBJECTIVES})
    artefacts.write_text(folder / FRONT, json.dumps(best, indent=2) + "\n")


def read_ranking(path: str | Path) -> list[Mapping[str, Any]]:
    """The rows of a `rank.csv`, or of the one in a folder, with `arch` as an `Arch`.

    Raises:
        DataError: there is none, or it is damaged.
    """
    file = Path(path)
    file = file / RANKING if file.is_dir() else file
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        if not rows:
            raise ValueError("it has no rows")
        return [{**row, "arch": Arch.from_json(row["arch"])} for row in rows]
    except OSError as error:
        raise DataError(
            f"expected a folder that attar supernet search wrote, or its {RANKING}; {str(path)!r} "
            f"cannot be read ({error.strerror})"
        ) from error
    except (AttarError, KeyError, TypeError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise DataError(f"the ranking {file} is damaged ({error}); search again") from error


def with_times(row: Row, timed: Cost) -> Row:
    """The row with the timings of a measured cost."""
    cost = replace(row.cost, prefill=timed.prefill, decode=timed.decode, timed=timed.timed)
    return replace(row, cost=cost)
