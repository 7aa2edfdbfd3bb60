"""Objectives side by side: same spans, honest costs, and kept work."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import scene
import spans
from attar.errors import ConfigError, DataError
from attar.methods.spactor import SpacTorConfig
from attar.methods.spactor import training as stages
from attar.pretraining import arms as room
from attar.pretraining import compare as verb
from attar.pretraining.arms import CompareConfig
from attar.pretraining.compare import compare_objectives
from attar.pretraining.crossings import crossings, reached
from attar.pretraining.tables import comparison_table, reached_lines
from attar.report.record import Run
from attar.train.trainer import Term

CONFIG = replace(
    spans.CONFIG,
    num_hidden_layers=1,
    max_steps=4,
    per_device_train_batch_size=2,
    learning_rate=3e-3,
    warmup_steps=0,
    eval_tokens=200,
    bf16=False,
)
QUICK = CompareConfig(points=2, probe_steps=2, probe_batch_size=2, probe_examples=4, tune_steps=2)


def probe(folder: Path) -> Path:
    rows = [{"source": f"what is {i}?", "target": "odd" if i % 2 else "even"} for i in range(40)]
    file = folder / "parity.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def compared(out: Path, **options: Any) -> Run:
    options = {"compare": QUICK, "config": CONFIG, "spactor": SpacTorConfig(tau=2)} | options
    return compare_objectives(data=spans.texts(), output_dir=out, **options)


def test_three_objectives_are_compared_and_what_was_done_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {
        "probes": [probe(tmp_path)],
        "compare": replace(QUICK, seeds=2, learning_rates=(1e-3, 1e-2)),
    }
    trainings = 0
    train = room.method.train

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal trainings
        if trainings == 3:
            raise KeyboardInterrupt
        trainings += 1
        return train(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(room.method, "train", counted)
        with pytest.raises(KeyboardInterrupt):
            compared(tmp_path / "cut", **options)
    trainings = -(10**6)
    monkeypatch.setattr(room.method, "train", counted)
    held_out: set[str] = set()
    pair_loss = room.pair_loss

    def noted(model: Any, rows: Any) -> float:
        held_out.add(rows.fingerprint())
        return pair_loss(model, rows)

    monkeypatch.setattr(room, "pair_loss", noted)
    run = compared(tmp_path / "cut", **options, resume=True)
    assert trainings + 10**6 == 3 * (2 + 2) - 3  # two rates and two seeds of three arms
    assert len(held_out) == 1  # all seeds are scored on the same spans
    arms = run.details["arms"]
    assert list(arms) == ["span", "spactor", "hybrid"]
    for arm in arms.values():
        assert arm["learning_rate"] in (1e-3, 1e-2)
        assert [point["step"] for point in arm["points"]] == [2, 4]
        for point in arm["points"]:
            assert len(point["seconds"]) == len(point["span_nats"]) == 2
            assert all(0 <= one <= 1 for one in point["parity exact"])
            assert point["span_nats"][0] != point["span_nats"][1]
    flops = {name: [point["flops"] for point in arm["points"]] for name, arm in arms.items()}
    assert flops["span"][0] < flops["spactor"][0] == flops["hybrid"][0]
    assert flops["span"][1] < flops["spactor"][1] < flops["hybrid"][1]
    assert len(comparison_table(run).rows) == 6
    assert reached_lines(run)


def test_the_first_stage_alone_is_spactor_until_tau(tmp_path: Path) -> None:
    arms = compared(tmp_path / "out").details["arms"]
    first = {name: arm["points"][0]["span_nats"] for name, arm in arms.items()}
    assert first["spactor"] == first["hybrid"] != first["span"]
    last = {name: arm["points"][1]["span_nats"] for name, arm in arms.items()}
    assert last["spactor"] != last["hybrid"]


def test_the_cost_of_the_baselines_last_figure_lies_on_a_line_between_points() -> None:
    arms = {"span": arm(1, 2), "spactor": arm(1, 3), "hybrid": arm(0, 1.5)}
    for name in ("task", "span_nats"):
        found = crossings(arms, name)
        assert found["span"] == {"step": 1.0, "flops": 1.0, "seconds": 1.0}
        assert found["spactor"]["flops"] == 0.75  # at 15 of 20
        assert found["hybrid"]["flops"] is None
    assert reached({"hybrid": arms["hybrid"]}) == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"compare": {"seeds": 0}}, "seeds"),
        ({"compare": {"arms": ("span", "spanish")}}, "arms"),
        ({"compare": {"learning_rates": (0.1, -1.0)}}, "learning_rates"),
        ({"compare": {"probe_steps": 0}}, "probe_steps"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        CompareConfig(**options["compare"])


def test_without_a_first_stage_there_is_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a first stage"):
        compared(tmp_path / "out", spactor=SpacTorConfig(tau=0))
    with pytest.raises(ConfigError, match="tau within the run"):
        compared(tmp_path / "out", spactor=SpacTorConfig(tau=5))


def test_as_many_steps_as_the_run_leave_spactor_no_second_stage(tmp_path: Path) -> None:
    arms = compared(tmp_path / "out", spactor=SpacTorConfig(tau=4)).details["arms"]
    assert arms["spactor"]["points"][-1]["span_nats"] == arms["hybrid"]["points"][-1]["span_nats"]


def test_probes_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    both = [probe(tmp_path), probe(tmp_path / "a")]
    with pytest.raises(ConfigError, match="called alike"):
        compared(tmp_path / "out", probes=both)


def test_a_rate_at_which_training_diverges_is_not_taken(tmp_path: Path) -> None:
    compare = replace(QUICK, learning_rates=(1e-3, 1e30), arms=("span",))
    run = compared(tmp_path / "out", compare=compare)
    assert run.details["arms"]["span"]["learning_rate"] == 1e-3
    with pytest.raises(ConfigError, match="diverges at all learning_rates"):
        compared(tmp_path / "no", compare=replace(compare, learning_rates=(1e29, 1e30)))


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "processes", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(ConfigError, match="runs in one process, and was started in 2"):
        compared(tmp_path / "out")


def arm(*figures: float, **more: Any) -> dict[str, Any]:
    return {
        "learning_rate": 0.01,
        "points": [
            {"step": k, "flops": 10 * k, "seconds": [k], "span_nats": [5 - f], "task": [f]}
            for k, f in enumerate(figures, 1)
        ],
        **more,
    }


def lines(**arms: Any) -> list[str]:
    details = {"arms": arms, "reached": reached(arms)}
    return reached_lines(Run(command="pretrain compare", details=details))


def test_an_arm_that_diverges_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, span_loss = room.method.train, stages.span_loss
    trained: list[float] = []

    def diverging(model: Any, batch: Any) -> dict[str, Term]:
        return {"loss": Term(span_loss(model, batch)["loss"].values * float("nan"), per="labels")}

    def noted(*args: Any, spactor: SpacTorConfig, **options: Any) -> Any:
        trained.append(spactor.tau)
        if trained == [0, 2, 4]:
            raise KeyboardInterrupt
        with monkeypatch.context() as patch:
            if spactor.tau == 2:  # SpacTor's second stage
                patch.setattr(stages, "span_loss", diverging)
            return train(*args, spactor=spactor, **options)

    monkeypatch.setattr(room.method, "train", noted)
    with pytest.raises(KeyboardInterrupt):
        compared(tmp_path / "out")
    run = compared(tmp_path / "out", resume=True)
    assert trained == [0, 2, 4, 4]
    arms = run.details["arms"]
    steps = {name: [point["step"] for point in arm["points"]] for name, arm in arms.items()}
    assert steps == {"span": [2, 4], "spactor": [2], "hybrid": [2, 4]}
    assert list(run.details["reached"]["span_nats"]) == ["span", "hybrid"]
    assert len(comparison_table(run).rows) == 5
    assert reached_lines(run)[0].startswith(
        "spactor diverged with seed 0, the training loss became nan at step 3"
    )


def test_a_seed_that_diverges_leaves_the_points_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = room.method.train

    def breaking(model: Any, rows: Any, *, config: Any, **options: Any) -> Any:
        if config.seed == 1:
            config = replace(config, learning_rate=1e30)
        return train(model, rows, config=config, **options)

    monkeypatch.setattr(room.method, "train", breaking)
    compare = replace(QUICK, seeds=2, arms=("span",))
    run = compared(tmp_path / "out", compare=compare)
    found = run.details["arms"]["span"]
    assert [len(point["span_nats"]) for point in found["points"]] == [1, 1]
    assert "with seed 1" in found["diverged"][0]
    assert run.details["reached"] == {}


def test_seconds_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    files = {step: tmp_path / f"{step}.safetensors" for step in (2, 9)}

    def points(step: int) -> Any:
        made = room._Points(SimpleNamespace(), files)  # pyright: ignore[reportArgumentType]
        made.on_train_begin(None, SimpleNamespace(global_step=step), None)
        return made

    before = points(0)
    for step, seconds in ((2, 5.0), (4, 7.0), (6, 8.0)):
        before.seconds = seconds
        before.on_save(None, SimpleNamespace(global_step=step), None)
    assert [points(step).seconds for step in (0, 2, 4, 5, 6)] == [0, 5, 7, 7, 8]


def test_a_probe_whose_fine_tuning_diverges_is_not_solved(tmp_path: Path) -> None:
    compare = replace(QUICK, probe_learning_rate=1e30, probe_steps=4, points=1, arms=("span",))
    run = compared(tmp_path / "out", compare=compare, probes=[probe(tmp_path)])
    assert run.details["arms"]["span"]["points"][0]["parity exact"] == [0.0]


def test_a_figure_that_does_not_grow_concludes_nothing() -> None:
    said = lines(span=arm(2, 1, 2), spactor=arm(3, 3, 3))
    assert [line.split(":")[0] for line in said] == [
        "Nothing can be concluded from span nats",
        "Nothing can be concluded from task",
    ]
    said = lines(span=arm(0, 3, 2), spactor=arm(0, 2, 3))
    assert "spactor reaches the task of span corruption at its end with 67% of its steps" in said[2]
    assert "span itself reaches the task of span corruption at its end with 56% of its" in said[3]


def test_without_the_baseline_to_its_end_nothing_is_reached() -> None:
    said = lines(span=arm(1, diverged=["with seed 3, why"]), spactor=arm(1, 3))
    assert said == ["span diverged with seed 3, why."]


def test_probes_need_their_columns_and_rows(tmp_path: Path) -> None:
    for text, said in (
        ("text,label\na,b\n", "found the columns text, label; rename those of the probe wrong to"),
        ("source,target\n", "it has no rows"),
    ):
        (tmp_path / "wrong.csv").write_text(text)
        with pytest.raises(DataError, match=said):
            compared(tmp_path / "out", probes=[tmp_path / "wrong.csv"])


def test_an_objective_is_for_recipes_alone(tmp_path: Path) -> None:
    for objective in ("causal", "span"):
        with pytest.raises(ConfigError, match=f"leave out objective={objective}"):
            compared(tmp_path / "out", config=replace(CONFIG, objective=objective))


def test_a_comparison_among_runs_shows_its_arms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compared(tmp_path / "out", compare=replace(QUICK, points=1))
    capsys.readouterr()
    assert scene.run(["compare", str(tmp_path / "out")]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["run", "span_nats"]
    assert [row[0] for row in rows[2:]] == ["out", "span", "spactor", "hybrid"]
