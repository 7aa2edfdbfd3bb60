"""From a budget to limits, and from a plan to a student."""

import math
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import encoders
from attar.budget import Budget, Latency
from attar.data.labelled.task import Task
from attar.data.vocabulary import vocabulary_files
from attar.distillation import formats
from attar.distillation.config import CompressorConfig
from attar.distillation.material import Material
from attar.distillation.planning import Planner
from attar.errors import ConfigError
from attar.measure.cost import cost_of
from attar.methods.compressor import (
    EncoderShape,
    EncoderSpace,
    Limits,
    PlanConfig,
    ShapeArrays,
    StudentPlan,
    search_shapes,
)

SPACE = EncoderSpace((260, 264, 270, 5000), (1, 2), (8, 16), (16, 24), (1, 2), context=32)
DOCUMENTS = encoders.documents(64)
TASK = Task("single_label", ("poor", "fine"))


def planner(*, context: int = 32, seed: int = 0, task: Task = TASK, **options: Any) -> Planner:
    documents = encoders.documents(64, pair=True) if task.pair else DOCUMENTS
    material = Material(encoders.encoder(task=task), encoders.tokenizer(), documents, task)
    return Planner(material, CompressorConfig(**options), context=context, seed=seed)


def plan(shape: EncoderShape) -> StudentPlan:
    return StudentPlan(
        shape, parameters=0, parts={}, macs=0, milliseconds=None, read=None, fitness=0.0, why=""
    )


def test_a_budget_becomes_limits() -> None:
    found = planner(context=20).limits(Budget.parse("bytes<=3MB, params<=2M, macs<=1M"))
    assert found == Limits(bytes=3e6, params=2e6, macs=20e6)
    for text in ("latency<=5ms, prefill<=7ms", "prefill<=5ms, latency<=7ms", "latency<=5ms"):
        assert planner().limits(Budget.parse(text)) == Limits(milliseconds=5)


def test_a_percentage_is_of_the_teachers_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    made, calls = planner(), list[int]()
    cost = cost_of(made.material.teacher)

    def timed(model: Any, *, prompt_tokens: int) -> Any:
        calls.append(prompt_tokens)
        return replace(cost, prefill=Latency(8.0, 0.0))

    monkeypatch.setattr("attar.distillation.planning.measure", timed)
    assert made.limits(Budget.parse("bytes<=50%")).bytes == cost.bytes / 2
    for _ in range(2):  # counted before, and timed once
        found = made.limits(Budget.parse("bytes<=50%, latency<=25%"))
        assert found == Limits(bytes=cost.bytes / 2, milliseconds=2)
    assert calls == [32]
    absolute = Budget.parse("bytes<=3MB")
    assert made.resolved(absolute) is absolute


def test_vocabularies_whose_embeddings_alone_are_too_large_are_left_out() -> None:
    made = planner()
    for limits, sizes in (
        (Limits(bytes=265 * 8 * 4), (260, 264)),
        (Limits(params=265 * 8), (260, 264)),
        (Limits(bytes=1e9, params=264 * 8), (260, 264)),
        (Limits(bytes=1.0), (260,)),  # which the search then refuses
        (Limits(milliseconds=1.0), (260, 264, 270)),  # the texts have no more
    ):
        assert made.facts(SPACE, limits).sizes == sizes
    assert planner(storage="float16").facts(SPACE, Limits(bytes=265 * 16)).sizes == (260, 264)


@pytest.mark.parametrize("task", [TASK, replace(TASK, pair=True)])
def test_a_candidate_has_the_tokenizer_that_was_counted(task: Task) -> None:
    options: dict[str, Any] = {
        "lowercase": True,
        "collapse_spaces": True,
        "vocabulary": "wordpiece",
    }
    made = planner(task=task, **options)
    candidate = made.candidate(plan(EncoderShape(264, 2, 8, 16, 1)))
    assert len(candidate.tokenizer) == 264
    assert (
        candidate.tokenizer.decode(
            candidate.tokenizer("A\n FILM", add_special_tokens=False)["input_ids"]  # pyright: ignore
        )
        == " a film"
    )
    facts = made.facts(SPACE, Limits(bytes=265 * 8 * 4))
    files = vocabulary_files(candidate.tokenizer)
    assert facts.bytes_at(264) == sum(len(text.encode()) for text in files.values())
    assert candidate.plan.parts["tokenizer"] == facts.bytes_at(264)
    assert made.candidate(plan(EncoderShape(264, 1, 8, 16, 2))).tokenizer is candidate.tokenizer


def test_a_student_is_of_its_plan_task_and_seed() -> None:
    shape = EncoderShape(264, 2, 8, 16, 1)
    made = planner(dropout=0.5)
    before = torch.random.get_rng_state()
    one, same = (made.student(plan(shape)) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    other = planner(dropout=0.5, seed=1).student(plan(shape))
    states = [model.state_dict() for model in (one, same, other)]
    name = "classifier.dense.weight"
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])
    config = one.config
    assert (config.id2label, config.problem_type) == (
        {0: "poor", 1: "fine"},
        "single_label_classification",
    )
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.5, 0.1)
    assert config.max_position_embeddings == 34
    gentle = planner(dropout=0.05).student(plan(shape)).config
    assert (gentle.hidden_dropout_prob, gentle.attention_probs_dropout_prob) == (0.05, 0.05)
    number = planner(task=Task("regression")).student(plan(shape)).config
    assert (number.num_labels, number.problem_type) == (1, "regression")


@pytest.mark.parametrize(
    ("objective", "budget", "is_timed"),
    [
        ("flops", "bytes<=34KB", False),
        ("-flops", "bytes<=34KB", False),
        ("latency", "bytes<=34KB", True),
        ("pareto", "bytes<=34KB", True),
        ("flops", "bytes<=34KB, prefill<=15s", True),
    ],
)
def test_encoders_are_timed_where_time_counts(
    objective: str,
    budget: str,
    is_timed: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    seen: list[Any] = []

    class Latencies:
        error = "none"

        def __call__(self, *, heads: Any, hidden: Any, intermediate: Any, layers: Any) -> Any:
            return heads * 1.0 + hidden * 10.0 + intermediate * 100.0 + layers * 1e4

    def timings(shapes: Any, *, tokens: int, threads: int) -> Latencies:
        seen.append((shapes, tokens, threads))
        return Latencies()

    monkeypatch.setattr("attar.distillation.planning.measure_encoders", timings)
    (tmp_path / "space.yaml").write_text(
        "vocab_size: [260, 264]\nnum_attention_heads: [1, 2]\nhidden_size: [8, 16]\n"
        "intermediate_size: [16, 24]\nnum_hidden_layers: [1, 2]\n"
    )
    made = planner(objective=objective, space=str(tmp_path / "space.yaml"), plans=2)
    found = made.search(Budget.parse(budget))
    assert bool(seen) == is_timed
    for one in found:
        assert one.plan.bytes <= 34_000
        assert sum(one.plan.parts.values()) == one.plan.bytes
        assert (one.plan.milliseconds is not None) == is_timed
    if not is_timed:
        return
    ((shapes, tokens, threads),) = seen
    assert (tokens, threads) == (32, torch.get_num_threads())
    assert {a for a, *_ in shapes} <= {1, 2}
    assert {h for _, h, *_ in shapes} <= {8, 16}
    for one in found:
        _, a, h, i, n = astuple(one.plan.shape)
        assert one.plan.milliseconds == a + 10 * h + 100 * i + 1e4 * n
        assert "prefill" not in budget or one.plan.milliseconds <= 15_000


def test_options_out_of_range_are_refused() -> None:
    for wrong in ({"plans": 0}, {"probe": -1}, {"dropout": 1.0}, {"dropout": -0.1}, {"space": ""}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            CompressorConfig(**wrong)
    CompressorConfig(plans=1, probe=0, dropout=0.0)


def test_shapes_of_arrays_are_counted_with_the_outputs_of_the_task() -> None:
    three = planner(task=Task("single_label", ("a", "b", "c")))
    facts = three.facts(SPACE, Limits(bytes=1e9))
    shapes = ShapeArrays.of([EncoderShape(264, 2, 8, 16, 1)])
    counted = three.costs(facts).of(shapes, SPACE)
    model = three.student(plan(EncoderShape(264, 2, 8, 16, 1)))
    assert counted.parameters.item() == sum(p.numel() for p in model.parameters())
    assert math.isclose(float(counted.tokenizer.item()), float(facts.bytes_at(264)))


@pytest.mark.parametrize("task", [TASK, replace(TASK, pair=True)])
def test_a_student_begins_with_embeddings_from_its_teacher_and_is_else_random(task: Task) -> None:
    made, random = planner(task=task), planner(task=task, embeddings="random")
    candidate = made.candidate(plan(EncoderShape(320, 2, 8, 16, 1)))
    taught, again, drawn = (
        made.initial_student(candidate),
        made.initial_student(candidate),
        random.initial_student(candidate),
    )
    name = "roberta.embeddings.word_embeddings.weight"
    states = [model.state_dict() for model in (taught, again, drawn)]
    changed = [key for key in states[0] if not torch.equal(states[0][key], states[2][key])]
    assert changed == [name]
    assert torch.equal(states[0][name], states[1][name])
    assert torch.equal(states[0][name][:4], states[2][name][:4])  # special tokens are no text
    assert torch.equal(states[2][name], random.student(candidate.plan).state_dict()[name])


def spaced(tmp_path: Path, **options: Any) -> Planner:
    """A planner for a small space, of which the largest vocabulary is beyond the texts."""
    names = [field.name for field in fields(EncoderShape)]
    axes = {name: list(axis) for name, axis in zip(names, SPACE.axes, strict=True)}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(axes))
    usual = {"space": str(tmp_path / "space.yaml"), "objective": "flops"}
    return planner(**(usual | options))


def test_a_vocabulary_is_no_larger_than_the_texts_are_enough_for(tmp_path: Path) -> None:
    found = spaced(tmp_path, plans=5).search(Budget.parse("bytes<=1MB"))
    assert max(one.plan.shape.vocab_size for one in found) == 270


def test_uniform_shrinks_the_shape_that_the_teacher_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, search = list[EncoderShape | None](), search_shapes

    def spy(*given: Any, config: PlanConfig, **others: Any) -> Any:
        seen.append(config.teacher)
        return search(*given, config=config, **others)

    monkeypatch.setattr("attar.distillation.planning.search_shapes", spy)
    for objective in ("uniform", "flops"):
        spaced(tmp_path, plans=1, objective=objective).search(Budget.parse("bytes<=1MB"))
    assert seen == [EncoderShape(encoders.VOCAB, 4, 32, 48, 3), None]


def test_a_plan_whose_files_turn_out_larger_is_planned_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = spaced(tmp_path, plans=1).search(Budget.parse("bytes<=1MB"))[0].plan
    honest = formats.costs
    monkeypatch.setattr(  # a few hundred bytes too few
        "attar.distillation.formats.costs", lambda storage: replace(honest(storage), config_bytes=0)
    )
    budget = most.bytes - 1
    [found] = spaced(tmp_path, plans=1).search(Budget.parse(f"bytes<={budget}"))
    assert budget - 9_000 < found.plan.bytes <= budget
