"""`plan.json`: the best shapes for a budget, to look at, and to train from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar import artefacts
from attar.budget import Budget
from attar.distillation.config import CompressorConfig
from attar.errors import AttarError, DataError, expect
from attar.foreign import read_json
from attar.methods.compressor import StudentPlan

PLAN_FILE = "plan.json"
#: how the tokenizer and the files of a student are made
_MADE = ("storage", "vocabulary", "lowercase", "collapse_spaces", "context")


@dataclass(frozen=True)
class StoredPlans:
    """What a search for a budget found.

    Attributes:
        budget: what was asked for.
        made: what the plans rest on besides the space: `storage`, `vocabulary`, `lowercase`,
            `collapse_spaces` and `context`.
        about: the space and the objective, for who reads the file.
        plans: the shapes, best first.
    """

    budget: Budget
    made: Mapping[str, Any]
    about: Mapping[str, Any]
    plans: Sequence[StudentPlan]

    @classmethod
    def of(
        cls,
        plans: Sequence[StudentPlan],
        *,
        budget: Budget,
        options: CompressorConfig,
        context: int,
    ) -> "StoredPlans":
        """The plans of a search with these options."""
        made = {name: getattr(options, name) for name in _MADE[:-1]} | {"context": context}
        names = ("space", "objective", "search", "cost_model")
        return cls(budget, made, {name: getattr(options, name) for name in names}, plans)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers."""
        plans = [plan.to_dict() for plan in self.plans]
        return {"budget": self.budget.text, **self.made, **self.about, "plans": plans}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "StoredPlans":
        """Read what `to_dict` gave.

        Raises:
            AttarError: a value is missing, or is not what it should be.
        """
        for key in ("budget", *_MADE, "plans"):
            expect(key in stored, key, None, "there")
        expect(bool(stored["plans"]), "plans", stored["plans"], "a list of shapes")
        plans = [StudentPlan.from_dict(plan) for plan in stored["plans"]]
        about = {key: v for key, v in stored.items() if key not in ("budget", *_MADE, "plans")}
        made = {key: stored[key] for key in _MADE}
        return cls(Budget.parse(stored["budget"]), made, about, plans)

    def save(self, folder: Path) -> None:
        """Write `plan.json`."""
        artefacts.write_text(folder / PLAN_FILE, json.dumps(self.to_dict(), indent=2) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> "StoredPlans":
        """Read `plan.json`, or that of a folder.

        Raises:
            DataError: there is none, or it is damaged.
        """
        file = artefacts.expanded(path)
        file = file / PLAN_FILE if file.is_dir() else file
        if not file.is_file():
            raise DataError(
                f"no plan at {str(file)!r}; give a {PLAN_FILE} that attar distill --plan-only "
                "wrote, or its folder"
            )
        stored = read_json(file, "the plan")
        try:
            return cls.from_dict(stored)
        except (AttarError, TypeError, LookupError, AttributeError, ValueError) as error:
            raise DataError(
                f"the plan {str(file)!r} is damaged ({error}); make it again with --plan-only"
            ) from error
