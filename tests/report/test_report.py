"""Records come back as written; tables, charts, pages and cards say what the records say."""

import dataclasses
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from cyclopts import App
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from attar import report
from attar.cli.compare import compare
from attar.cli.output import write_json
from attar.cli.recipe import recipe
from attar.errors import ConfigError, DataError
from attar.recipes import recipes
from attar.report import units
from attar.report.charts import Point, importance_plot, pareto_front, pareto_plot, widths_plot
from attar.report.pages import html_report, model_card
from attar.report.record import Paper, Run
from attar.report.tables import Table, comparison, pareto_points, scored_apart

PAPER = Paper("Prune & <Rest>", ("Ada One", "Bo Two", "Cy Three"), 2024, "2402.05406")
HOSTILE = "<script>alert(1)</script> | *x*"


def cost(share: float) -> dict[str, Any]:
    return {
        "params": round(1_000_000 * share),
        "block_params": round(800_000 * share),
        "bytes": round(4_000_000 * share),
        "macs": round(1_000_000 * share),
        "kv_bytes": 2048,
        "peak_memory": None,
        "prefill": {"median": 16.0 * share, "spread": 0.5},
        "decode": {"median": 2.0 * share, "spread": 0.1},
        "timed": {"prompt_tokens": 256, "new_tokens": 32, "batch_size": 2, "threads": 1},
    }


def quality(bits: float) -> dict[str, Any]:
    nll = bits * 3 * math.log(2)
    return {
        "nll": nll,
        "tokens": 100,
        "bytes": 300,
        "perplexity": math.exp(nll),
        "bits_per_byte": bits,
    }


def make(method: str = "bonsai", share: float = 0.5, **changes: Any) -> Run:
    values: dict[str, Any] = {
        "method": method,
        "paper": PAPER,
        "model": "someone/parent-1m",
        "data": "python-stdlib",
        "settings": {"step": 0.05, "layers": (1, 2), "out": Path("x/y")},
        "budget": {
            "asked": "blocks<=50%",
            "met": True,
            "constraints": [
                {"key": "params of blocks", "limit": 4e5, "achieved": 399_990, "met": True},
                {"key": "bytes", "limit": 2_000_000, "achieved": 2_000_100, "met": False},
            ],
        },
        "cost": {"before": cost(1.0), "after": cost(share)},
        "quality": {"before": quality(1.0), "after": quality(1.2)},
        "baselines": [{"name": "random", "cost": cost(share), "quality": quality(1.9)}],
        "details": {
            "widths": {"KV groups": {"before": [4, 4], "after": [2, 4]}},
            "importance": {"attention": [0.1, math.nan], "FFN": [0.3, 0.2]},
        },
        "seed": 7,
        "seconds": 75.0,
    }
    return Run(f"prune {method}", **values | changes)


# ------------------------------------------------------------------------------------- the record

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(settings=st.dictionaries(st.text(), JSON, max_size=4), details=st.text())
def test_a_record_comes_back_as_it_was_written(
    tmp_path: Path, settings: dict[str, Any], details: str
) -> None:
    run = make(settings=settings, details={"text": details, "nan": math.nan, "inf": -math.inf})
    path = run.save(tmp_path)
    assert path == tmp_path / "attar.json"
    assert list(tmp_path.iterdir()) == [path]
    json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)  # strict JSON
    for place in (tmp_path, path, str(path)):
        assert repr(Run.load(place).to_dict()) == repr(run.to_dict())
    assert Run.load(path).paper == PAPER
    stored = path.read_bytes()
    write_json(str(path), run.to_dict())  # as --json does
    assert path.read_bytes() == stored


def test_settings_objects_are_stored_as_what_they_stand_for(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Settings:
        rate: float
        names: frozenset[str]

    import torch

    run = make(settings={"a": Settings(0.1, frozenset("ba")), "t": torch.arange(2), 3: Path("p")})
    run.details["dtype"] = torch.bfloat16
    stored = Run.load(run.save(tmp_path))
    assert stored.settings == {"a": {"rate": 0.1, "names": ["a", "b"]}, "t": [0, 1], "3": "p"}
    assert stored.details["dtype"] == "torch.bfloat16"


def test_a_record_knows_its_machine_and_time() -> None:
    run = Run("evaluate")
    assert set(run.versions) == {"python", "torch", "transformers", "attar"}
    assert run.hardware["threads"] >= 1
    assert run.hardware["processor"]
    assert run.date.endswith("+00:00")
    assert "evaluate" in str(run)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "no run record"),
        ("{", "cannot be read"),
        ("[]", "not an attar run record"),
        ('{"schema": 1}', "not an attar run record"),
        ('{"schema": 99, "command": "x"}', "schema 99"),
        ('{"schema": 1, "command": "x", "paper": {"title": 3}}', "damaged"),
        ('{"schema": 1, "command": "x", "cost": []}', "damaged"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_damaged_record_is_refused_in_one_sentence(
    tmp_path: Path, text: str | bytes | None, problem: str
) -> None:
    if text is not None:
        (tmp_path / "attar.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=problem):
        Run.load(tmp_path)


def test_a_failed_save_keeps_the_old_record(tmp_path: Path) -> None:
    run = make()
    path = run.save(tmp_path)
    old = path.read_text()
    run.details["loop"] = run.details
    with pytest.raises(RecursionError):
        run.save(tmp_path)
    assert path.read_text() == old
    assert list(tmp_path.iterdir()) == [path]


def test_reading_records_needs_no_torch() -> None:
    code = (
        "import sys, attar.report; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    )
    path = [str(Path(report.__file__).parents[2])]
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path}; {code}"], check=True, timeout=60
    )


# ----------------------------------------------------------------------------------------- tables


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


def test_a_healed_model_is_compared_with_the_parent_of_what_was_pruned() -> None:
    healed = make("heal", 0.5, model="half", cost={"before": cost(0.5), "after": cost(0.5)})
    healed.baselines = []
    table = comparison([make("bonsai", 0.5), healed], names=["half", "healed"])
    assert [(r["run"], r["role"]) for r in table.records] == [
        ("parent-1m", "parent"),
        ("half", "result"),
        ("random", "baseline"),
        ("healed", "result"),
    ]
    assert table.records[-1]["bytes_ratio"] == 0.5


def test_a_model_made_from_nothing_has_no_parent() -> None:
    quality = {"before": {"bits_per_byte": 3.5}, "after": {"bits_per_byte": 1.5}}
    table = comparison([Run("pretrain", cost={"after": cost(1.0)}, quality=quality)])
    assert [(r["run"], r["role"]) for r in table.records] == [("pretrain", "result")]


def test_runs_scored_on_other_text_are_told_apart() -> None:
    def scored(data: str, size: int | None) -> Run:
        return Run("prune", data=data, quality={"after": {} if size is None else {"bytes": size}})

    assert scored_apart([scored("a", 10), scored("a", 10), scored("b", None)]) is None
    assert scored_apart([]) is None
    found = scored_apart([scored("a", 10), scored("a", 2000)])
    assert found is not None
    assert "10 bytes of a, 2,000 bytes of a" in found
    assert scored_apart([scored("a", 10), scored("b", 10)]) is not None
    assert scored_apart([scored("a", 10), scored("./a", 10)]) is None
    taught = [
        Run("distill", data="a", details={"test_rows": n}, quality={"after": {"accuracy": 0.5}})
        for n in (60, 60, 1821)
    ]
    assert scored_apart(taught[:2]) is None
    found = scored_apart(taught)
    assert found is not None
    assert "60 examples of a, 1,821 examples of a" in found


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


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (units.size, 0, "0 B"),
        (units.size, 999, "999 B"),
        (units.size, 1_900_000, "1.90 MB"),
        (units.size, 999_999, "1 MB"),
        (units.count, 1_234_567, "1.23 M"),
        (units.count, 12, "12"),
        (units.milliseconds, 12.345, "12.3 ms"),
        (units.milliseconds, 0.01234, "0.0123 ms"),
        (units.milliseconds, 12_345, "12.3 s"),
        (units.duration, 59.2, "59.2 s"),
        (units.duration, 3599, "59 min 59 s"),
        (units.duration, 7800, "2 h 10 min"),
    ],
)
def test_figures_are_written_for_people(
    show: Callable[[float], str], value: float, text: str
) -> None:
    assert show(value) == text


@given(st.floats(0, 1e15))
def test_written_sizes_are_right_to_three_digits(value: float) -> None:
    number, unit = units.size(value).split()
    factor = 1000 ** ["B", "kB", "MB", "GB", "TB"].index(unit)
    assert float(number.replace(",", "")) * factor == pytest.approx(value, rel=6e-3, abs=1e-9)


# ----------------------------------------------------------------------------------------- charts

GRID = st.integers(0, 6).map(float)


@given(st.lists(st.tuples(GRID, GRID), max_size=12))
def test_pareto_front_is_that_of_brute_force(pairs: list[tuple[float, float]]) -> None:
    points = [Point(str(i), x, y) for i, (x, y) in enumerate(pairs)]
    beaten = {
        p.label
        for p in points
        for q in points
        if (q.x <= p.x and q.y <= p.y) and (q.x < p.x or q.y < p.y)
    }
    front = pareto_front(points)
    assert {(p.x, p.y) for p in front} == {(p.x, p.y) for p in points if p.label not in beaten}
    assert len({(p.x, p.y) for p in front}) == len(front)
    assert [p.x for p in front] == sorted(p.x for p in front)


def charts() -> dict[str, str]:
    runs = [make("bonsai", 0.5), make("flap <&>", 0.25)]
    return {
        "pareto": pareto_plot(pareto_points(runs), title="Loss & size"),
        "empty": pareto_plot([]),
        "widths": widths_plot(runs[0].details["widths"], title="Widths"),
        "importance": importance_plot(runs[0].details["importance"]),
    }


def test_charts_are_repeatable_svg_with_the_pages_ink() -> None:
    first = charts()
    assert first == charts()
    for svg in first.values():
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg")
        assert "currentColor" in svg
        assert "#010203" not in svg
        assert "<script" not in svg
        inks = re.findall(r"<text[^>]*fill: ([^;\"]+)", svg)
        assert set(inks) <= {"currentColor", "#ffffff", "#10243a"}
    text = "".join(ElementTree.fromstring(first["pareto"]).itertext())
    for label in ("parent-1m", "bonsai", "flap <&>", "random", "Loss & size", "bits per byte"):
        assert label in text


# ----------------------------------------------------------------------------------------- pages


class Page(HTMLParser):
    """Tags left open, all tags seen, and the addresses that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in ("meta", "br", "path", "rect", "use"):
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "xlink:href") or (name == "href" and tag != "a"):
                self.fetched.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("meta", "br", "path", "rect", "use"):
            assert self.open.pop() == tag


def test_html_report_is_whole_escaped_and_needs_no_network(tmp_path: Path) -> None:
    hostile = make(HOSTILE, model=HOSTILE, settings={HOSTILE: HOSTILE}, data=HOSTILE)
    path = html_report([make(), hostile], tmp_path / "new" / "r.html", title=HOSTILE)
    assert [file.name for file in path.parent.iterdir()] == ["r.html"]
    text = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert "script" not in page.tags
    assert all(address.startswith("#") for address in page.fetched)
    assert "url(http" not in text
    assert "@import" not in text
    assert text.count("<svg") >= 4
    assert "prefers-color-scheme: dark" in text
    assert "budget met" in text
    with pytest.raises(ConfigError, match="cannot write"):
        html_report([make()], path / "below" / "r.html")


def card_parts(text: str) -> tuple[dict[str, Any], str]:
    _, header, body = text.split("---\n", 2)
    return yaml.safe_load(header), body


def test_model_card_header_is_what_the_hub_expects() -> None:
    text = model_card(make(), license="apache-2.0", tags=["pruned"], datasets=["a/b"])
    header, body = card_parts(text)
    assert header == {
        "library_name": "transformers",
        "base_model": "someone/parent-1m",
        "license": "apache-2.0",
        "pipeline_tag": "text-generation",
        "datasets": ["a/b"],
        "tags": ["attar", "bonsai", "pruned"],
    }
    assert ModelCard(text).data.to_dict()["base_model"] == "someone/parent-1m"
    assert "AutoModelForCausalLM.from_pretrained" in body
    assert "eprint = {2402.05406}" in body
    assert "| bytes | 4 MB | 2 MB | 0.50 |" in body
    assert "random" in body


def test_model_card_tells_no_local_paths_and_keeps_markup_out(tmp_path: Path) -> None:
    run = make(model=str(tmp_path / "parent-1m"), data=str(tmp_path / "text.jsonl"))
    text = model_card(run, plain=False)
    assert str(tmp_path) not in text
    assert "base_model" not in card_parts(text)[0]
    assert "import attar" in text
    hostile = model_card(make(HOSTILE, model="x: [y\n---\n" + HOSTILE))
    assert isinstance(card_parts(hostile)[0], dict)
    assert "<script>" not in hostile.replace("\\<script\\>", "")


# ----------------------------------------------------------------------------------------- verbs


def verb(function: Callable[..., int], *arguments: str) -> Any:
    app = App(result_action="return_value")
    app.default(function)
    return app(arguments, exit_on_error=False, print_error=False)


def test_compare_prints_what_python_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [make("bonsai", 0.5), make("flap", 0.25)]
    places = [str(tmp_path / name / "out") for name in ("one", "two")]
    for run, place in zip(runs, places, strict=True):
        run.save(place)
    expected = comparison(runs, names=["one/out", "two/out"])
    page = tmp_path / "page.html"
    assert verb(compare, *places, "--html", str(page)) == 0
    assert capsys.readouterr().out == expected.text() + "\n"
    written = page.read_text()
    for option in ("--html", "--json"):
        with pytest.raises(ConfigError, match=r"page\.html' is there already"):
            verb(compare, *places, option, str(page))
    assert page.read_text() == written
    assert verb(compare, places[0] + "/attar.json", places[1], "--json", "-") == 0
    assert json.loads(capsys.readouterr().out) == expected.records
    assert verb(compare, *places, "--markdown") == 0
    assert capsys.readouterr().out == expected.markdown() + "\n"
    with pytest.raises(DataError, match="no run record"):
        verb(compare, str(tmp_path / "three"))


def test_recipes_are_listed_shown_and_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(recipe, "list") == 0
    listed = capsys.readouterr().out
    for name, file in recipes().items():
        assert name in listed
        assert verb(recipe, "show", name) == 0
        assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(file.read_text())
        assert verb(recipe, "copy", name, str(tmp_path)) == 0
        copy = tmp_path / f"{name.split('/')[1]}.yaml"
        assert copy.read_text() == file.read_text()
        with pytest.raises(ConfigError, match="exists already"):
            verb(recipe, "copy", name, str(tmp_path))
        copy.unlink()
    with pytest.raises(ConfigError, match="did you mean"):
        verb(recipe, "show", next(iter(recipes())) + "x")
    with pytest.raises(ConfigError, match="needs a name"):
        verb(recipe, "show")


def test_a_record_of_version_0_1_is_brought_to_today_s_words(tmp_path: Path) -> None:
    old = {
        "schema": 1,
        "command": "draft distill",
        "settings": {"block_size": 64, "max_tokens": 9, "seed": 1},
        "budget": {
            "asked": "params<=50%",
            "met": True,
            "constraints": [{"key": "params of blocks", "limit": 2, "achieved": 1, "met": True}],
        },
        "quality": {"after": {"tau at 0": 2.0, "alpha at 0": "NaN"}},
        "details": {"dpr": 0.9},
    }
    (tmp_path / "attar.json").write_text(json.dumps(old), encoding="utf-8")
    run = Run.load(tmp_path)
    assert (run.command, run.schema) == ("draft train", 2)
    assert run.settings == {"context": 64, "eval_tokens": 9, "seed": 1}
    assert run.budget is not None
    assert run.budget["constraints"][0]["key"] == "blocks"
    assert run.quality["after"]["block efficiency at T=0"] == 2.0
    assert math.isnan(run.quality["after"]["acceptance rate at T=0"])
    assert run.details == {"teacher_ratio": 0.9}
