"""Tables and printed runs say what the records say."""

import re

import pytest

from attar.report.record import Run
from attar.report.tables import Table, comparison, run_table
from attar.report.verdict import conclusion, pareto_points, scored_apart
from records import HOSTILE, cost, make, quality


def test_comparison_holds_the_parent_once_and_ratios_to_it() -> None:
    again = {"before": cost(1.0) | {"prefill": {"median": 17.0, "spread": 1}}, "after": cost(0.25)}
    table = comparison([make("bonsai", 0.5), make("flap", 0.25, cost=again)])
    assert [(r["run"], r["role"]) for r in table.records] == [
        ("parent-1m", "parent"),
        ("bonsai", "result"),
        ("random", "baseline"),
        ("flap", "result"),
        ("random", "baseline"),
    ]
    parent, bonsai = table.records[:2]
    assert parent["prefill"] == pytest.approx(256 * 2 * 1000 / 16)
    assert parent["decode"] == pytest.approx(2 * 1000 / 2)
    assert bonsai["bytes_ratio"] == 0.5
    assert bonsai["decode_ratio"] == pytest.approx(2.0)
    assert bonsai["bits_per_byte"] == 1.2
    blocks = table.columns.index("blocks")
    assert [row[blocks] for row in table.rows] == ["100%", "50%", "50%", "25%", "25%"]


def healed(bits: float, size: int) -> Run:
    """A model that was pruned to `half` and healed, scored on so many bytes beside its teacher."""
    text = {"bytes": size, "tokens": size // 3}
    run = make("heal", 0.5, model="runs/half", settings={"teacher": "someone/parent-1m"})
    run.cost = {"before": cost(0.5), "after": cost(0.5)}
    run.quality = {w: quality(b) | text for w, b in (("before", 1.3), ("after", bits))}
    teacher = quality(1.1 if size != 300 else 1.0) | text
    run.baselines = [{"name": "teacher", "cost": cost(1.0), "quality": teacher}]
    return run


def test_a_healed_model_is_compared_with_the_parent_of_what_was_pruned() -> None:
    table = comparison([make("bonsai", 0.5), healed(1.1, 300)], names=["half", "healed"])
    assert [(r["run"], r["role"]) for r in table.records] == [
        ("parent-1m", "parent"),
        ("half", "result"),
        ("random", "baseline"),
        ("healed", "result"),
    ]
    assert table.records[-1]["bytes_ratio"] == 0.5
    assert table.records[-1]["bits_per_byte_ratio"] == pytest.approx(1.1)
    alone = healed(1.1, 300)
    alone.baselines = []  # trained on the text alone: known from the run that pruned it
    table = comparison([make("bonsai", 0.5), alone], names=["half", "healed"])
    assert table.records[-1]["bits_per_byte_ratio"] == pytest.approx(1.1)
    alone.quality["after"]["bytes"] = 299
    last = comparison([make("bonsai", 0.5), alone], names=["half", "healed"]).records[-1]
    assert (last["bytes_ratio"], last["bits_per_byte_ratio"]) == (0.5, None)


def test_a_parent_is_held_against_its_pruned_self_on_one_text() -> None:
    runs, names = [make("bonsai", 0.5), healed(1.1, 200)], ["half", "healed"]
    records = {r["run"]: r for r in comparison(runs, names=names).records}
    parents = ["parent-1m (300 bytes)", "parent-1m (200 bytes)"]  # half is there on both texts
    assert list(records) == [parents[0], "half", "random", parents[1], "healed"]
    assert records["healed"]["bits_per_byte_ratio"] == pytest.approx(1.0)
    said = scored_apart(runs, names=names)
    assert said is not None
    assert "parent-1m (300 bytes) and half on 300 bytes of python-stdlib" in said
    assert "healed on 200 bytes of python-stdlib" in said
    points = pareto_points(runs, names=names, text=records["healed"]["scored_on"])
    assert [point.label for point in points] == [parents[1], "half", "healed"]
    table = comparison([healed(1.0, 200)], names=["healed"])
    assert [(r["run"], r["role"]) for r in table.records] == [
        ("parent-1m", "parent"),
        ("half", "baseline"),
        ("healed", "result"),
    ]
    assert table.records[-1]["bytes_ratio"] == 0.5


def test_a_single_timing_is_no_fact() -> None:
    run = make()
    for which in ("before", "after"):
        run.cost[which]["decode"]["spread"] = 0.0
    table = comparison([run])
    assert table.records[1]["decode"] is None
    assert "64 k ±3.1%" in table.rows[1]
    run.baselines[0]["cost"]["decode"] = {"median": 1.0, "spread": 0.1}
    table = comparison([run])
    assert dict(zip(table.columns, table.rows[1], strict=True))["decode tok/s"] == "not measured"
    assert "±3.1%" in str(run)


def test_a_trained_model_is_held_against_its_teacher_or_target() -> None:
    same = {"before": cost(0.5), "after": cost(0.5)}
    healed = make("heal", 0.5, cost=same)
    healed.baselines = [{"name": "teacher", "cost": cost(1.0), "quality": {"bits_per_byte": 1.0}}]
    drafted = make("draft train", 0.5, cost=same, details={"target": {"cost": cost(1.0)}})
    drafted.baselines = []
    for run, heading in ((healed, "ratio to teacher"), (drafted, "ratio to target")):
        table = run_table(run)
        assert table.columns[-1] == heading
        assert {row[0]: row[-1] for row in table.rows}["bytes"] == "0.50"


def test_the_peak_memory_of_a_model_is_held_against_its_parent_s() -> None:
    run = make(cost={"before": {"peak_memory": 8_000_000}, "after": {"peak_memory": 2_000_000}})
    assert ["peak memory", "8 MB", "2 MB", "0.25"] in run_table(run).rows


def test_the_conclusion_is_one_sentence_a_result() -> None:
    said = conclusion([make("bonsai", 0.5)])
    assert said is not None
    assert re.fullmatch(
        r"bonsai is 50% smaller than its parent and has [\d.]+% more bits per byte\.", said
    )
    assert conclusion([Run("pretrain", cost={"after": cost(1.0)})]) is None
    scores = {"before": {"f1_macro": 0.8}, "after": {"f1_macro": 0.76}}
    taught = make("distiller", details={"primary": "f1_macro"}, quality=scores, baselines=[])
    said = "distiller is 50% smaller than its parent and has 95.0% of its f1 macro."
    assert conclusion([taught]) == said


def test_a_model_made_from_nothing_has_no_parent() -> None:
    quality = {"before": {"bits_per_byte": 3.5}, "after": {"bits_per_byte": 1.5}}
    table = comparison([Run("pretrain", cost={"after": cost(1.0)}, quality=quality)])
    assert [(r["run"], r["role"]) for r in table.records] == [("pretrain", "result")]


def test_runs_scored_on_other_text_are_told_apart() -> None:
    def scored(data: str, size: int | None) -> Run:
        return Run("prune", data=data, quality={"after": {} if size is None else {"bytes": size}})

    assert scored_apart([scored("a", 10), scored("a", 10), scored("b", None)]) is None
    assert scored_apart([]) is None
    other = scored("a", 10)
    other.details = {"split": "validation"}
    found = scored_apart([scored("a", 10), other])
    assert found is not None
    assert "prune 1 on 10 bytes of a; prune 2 on 10 bytes of the validation split of a" in found
    found = scored_apart([scored("a", 10), scored("a", 2000)])
    assert found is not None
    assert "10 bytes of a; prune 2 on 2,000 bytes of a" in found
    assert scored_apart([scored("a", 10), scored("b", 10)]) is not None
    assert scored_apart([scored("a", 10), scored("./a", 10)]) is None
    taught = [
        Run("distill", data="a", details={"test_rows": n}, quality={"after": {"accuracy": 0.5}})
        for n in (60, 60, 1821)
    ]
    assert scored_apart(taught[:2]) is None
    found = scored_apart(taught)
    assert found is not None
    assert "60 examples of a; distill 3 on 1,821 examples of a" in found
    read = [scored("a", 10), scored("a", 10)]
    read[1].quality["after"]["tokens"] = 3
    read[0].quality["after"]["tokens"] = 4
    assert "compare their bits per byte" in (scored_apart(read) or "")


def test_columns_that_nothing_fills_are_left_out() -> None:
    bare = {"params": 10, "bytes": 40, "prefill": None}
    table = comparison([Run("pretrain", cost={"after": bare})])
    assert table.columns == ["run", "params", "bytes"]
    assert table.rows == [["pretrain", "10", "40 B"]]
    assert comparison([make()], ratios=False).columns[-1] == "decode tok/s"


def test_other_figures_of_quality_have_a_column() -> None:
    own = {"before": {"accuracy": 0.5, "name": "x"}, "after": {"accuracy": 0.25}}
    run = make(quality=own, baselines=[])
    assert comparison([run]).records[1]["accuracy_ratio"] == 0.5
    assert "accuracy" in comparison([run]).columns
    assert re.search(r"accuracy +0.500 +0.250 +0.50", str(run))


def test_table_forms_agree_and_escape() -> None:
    table = Table(["name", "x"], [[HOSTILE, "1"], ["b", "22"]])
    text, markdown, html = table.text(), table.markdown(), table.html()
    assert {len(line) for line in text.splitlines()} == {len(HOSTILE) + 4}
    assert "<script>" not in markdown + html
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in markdown.splitlines())
    assert "&lt;script&gt;" in html
    assert table._repr_html_() == html


def test_a_printed_run_says_whether_the_budget_holds() -> None:
    name = "Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz"
    text = str(make(hardware={"processor": name, "threads": 128, "gpu": "NVIDIA H200"}))
    assert name in text
    assert "blocks<=50%: met" in text
    assert re.search(r"params of blocks\s+399,990 <= 400,000", text)  # rounded they would be equal
    assert re.search(r"bytes\s+2,000,100 > 2,000,000", text)
    assert "Ada One et al." in text
    assert "1 min 15 s" in text
    assert max(map(len, text.splitlines())) < 130
    assert "<table" in make()._repr_html_()


def test_parts_of_what_is_no_single_model_are_no_baselines_of_it() -> None:
    """A training of supernets has a teacher before it, and several networks after it."""
    run = make("autodistil", 0.5)
    run.cost, run.quality = {"before": cost(1.0)}, {}
    parts = [row[0] for row in comparison([run]).rows]
    assert parts == ["parent-1m", "autodistil", "  random"]
    assert run_table(run).columns == ["", "before"]
    assert comparison([make("bonsai", 0.5)]).rows[-1][0] == "  vs random"
