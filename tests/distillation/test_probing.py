"""Short trainings: what is trained, what is compared, and what a killed run knows."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attar.distillation.probing import Probe, probe
from attar.methods.distiller.config import DistillConfig

AGREEMENT = {"a": 0.5, "b": 0.75, "c": 0.75}
CONFIG = DistillConfig(num_train_epochs=3.0, max_steps=1000, context=20)


@dataclass(frozen=True)
class Task:
    """A training that is only noted down."""

    job: Any
    config: DistillConfig

    def train(self) -> None:
        self.job.trained.append((self.job.name, self.config))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The trainings so far."""

    def compared(job: Any, rows: str, *, context: int) -> dict[str, Any]:
        assert (rows, context) == ("validation rows", 20)
        assert job.trained[-1][0] == job.name
        return {"agreement": AGREEMENT[job.name]}

    monkeypatch.setattr("attar.distillation.probing.compared", compared)
    monkeypatch.setattr("attar.distillation.probing.place", lambda model: None)
    return []


def start(trained: list[Any]) -> Any:
    documents = {name: f"{name} rows" for name in ("train", "validation", "test")}
    return lambda name: Task(
        SimpleNamespace(
            name=name, documents=documents, trained=trained, student="student", teacher="teacher"
        ),
        CONFIG,
    )


def test_the_plan_that_agrees_best_comes_first_and_of_equals_the_earlier(
    trained: list[Any],
) -> None:
    candidates: Any = ["a", "b", "c"]
    found = probe(candidates, start(trained), steps=7)
    assert found == [Probe(2, 0.75), Probe(3, 0.75), Probe(1, 0.5)]
    assert [name for name, _ in trained] == ["a", "b", "c"]
    assert {(config.max_steps, config.num_train_epochs) for _, config in trained} == {(7, None)}


def test_what_is_known_is_not_tried_again(trained: list[Any], tmp_path: Path) -> None:
    kept, candidates = tmp_path / "probes.json", ["a", "b", "c"]
    whole: Any = probe(candidates, start(trained), steps=7, kept=kept)  # pyright: ignore
    kept.write_text(json.dumps({"1": 0.5, "2": 0.75}))
    trained.clear()
    assert probe(candidates, start(trained), steps=7, kept=kept) == whole  # pyright: ignore
    assert [name for name, _ in trained] == ["c"]
    assert json.loads(kept.read_text()) == {"1": 0.5, "2": 0.75, "3": 0.75}
