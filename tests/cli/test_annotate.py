"""`attar annotate`: every command does what its function does, and a mistake is one sentence."""

import importlib.util
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("argon2")

import annotating
import attar
from attar.annotate import changes, charts
from attar.annotate.opening import open_project
from attar.cli.app import run
from attar.data.segments.formats import read_segments, write_segments
from attar.errors import AttarError, ConfigError, DataError, MissingExtraError
from attar.methods.active_segmentation.rules import Rule

#: a project that trains in a moment
SMALL = (
    "--dictionary none --iterations 8 --hash-bits 12 --reserve-minimum 12 --seed-sentences 8 "
    "--budget 120 --overlap-share 0.5 --low-water 0 --retrain-after 0 --guideline g1.md"
)


def typed(line: str) -> int:
    return run(["annotate", *shlex.split(line)])


def details(line: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `--json -` prints of a command."""
    capsys.readouterr()
    assert typed(f"{line} --json -") == 0
    return json.loads(capsys.readouterr().out)["details"]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, and a project in which two people have labelled what was drawn."""
    place = tmp_path_factory.mktemp("there")
    rows = annotating.sentences(60)
    write_segments(rows, place / "gold.txt", format="best")
    (place / "raw.txt").write_text("".join(f"{row.text}\n" for row in rows), encoding="utf-8")
    (place / "more.txt").write_text("กาปูตา\nกาปูตา\n", encoding="utf-8")
    (place / "wrong.jsonl").write_text('{"text": "กา", "cuts": [7]}\n', encoding="utf-8")
    (place / "utf16.txt").write_text("กา\n", encoding="utf-16")
    (place / "g1.md").write_text("# Words\n", encoding="utf-8")
    (place / "g2.md").write_text("# Other words\n", encoding="utf-8")
    (place / "no-list.yaml").write_text("batch: 1\n", encoding="utf-8")
    (place / "wrong-key.yaml").write_text("- {batch: 1, kind: pause, polycy: keep}\n", "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert typed(f"init thai {SMALL}") == 0
        assert typed("import thai --data gold.txt --snapshot w1") == 0
        for name in ("ann", "bob"):
            patch.setattr("sys.stdin", io.StringIO("long enough\n"))
            assert typed(f"user add thai {name}") == 0
        for _ in range(2):
            assert typed("draw thai") == 0
            with open_project("thai") as project:
                for name in ("ann", "bob", "ann"):
                    annotating.annotate(project, name)
            assert typed("train thai") == 0
        assert typed("init empty") == 0
    return place


@pytest.fixture(autouse=True)
def inside(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(there)


# ------------------------------------------------------------------------------------- a project


def test_a_project_from_init_to_curves(capsys: pytest.CaptureFixture[str]) -> None:
    said = details("status thai", capsys)
    assert said == json.loads(json.dumps(attar.annotate.status("thai").to_dict()["details"]))
    assert (said["sentences"], said["reserved"], said["evaluated"]) == (60, 12, 12)
    assert {arm["name"]: arm["open"] for arm in said["arms"]} == {"random": 0, "active": 0}
    model = attar.Segmenter.from_pretrained(said["models"]["union"])
    assert "".join(model.tokenize("กามานีโต")) == "กามานีโต"
    found = details("curve thai --x corrections", capsys)
    assert found == attar.annotate.curve("thai", x="corrections").to_dict()["details"]
    assert {(row["arm"], row["batch"]) for row in found["points"]} == {
        (arm, batch) for arm in ("random", "active", "union") for batch in (0, 1)
    }
    assert typed("curve thai") == 0
    assert "without the training interval" in capsys.readouterr().out
    assert typed("train thai --history") == 0
    assert "6 points of the past" in capsys.readouterr().out
    assert len(attar.annotate.curve("thai").details["points"]) == 6
    agreed = details("agree thai", capsys)["groups"]
    assert [one["kappa"] for one in agreed] == [1.0]
    assert len(details("transfer thai --kind pointwise --dictionary none", capsys)["points"]) == 3


def test_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("user add thai robot --role reviewer --token") == 0
    assert capsys.readouterr().out.startswith("attar_")
    assert typed("user role thai robot --role annotator") == 0
    users = details("user list thai", capsys)["users"]
    assert {one["name"]: one["role"] for one in users} == dict.fromkeys(
        ("ann", "bob", "robot"), "annotator"
    )
    with pytest.raises(ConfigError, match="expected a password"):
        attar.annotate.user.add("thai", "carl")


def test_labels_go_out_in_any_format_and_curves_come_back_from_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(f"export thai -o {tmp_path / 'labels.jsonl'}") == 0
    assert typed(f"export thai --format best -o {tmp_path / 'labels'}") == 0
    gold = {row.text: row.cuts for row in read_segments("gold.txt", format="best")}
    for name, form in (("labels.jsonl", "jsonl"), ("labels", "best")):
        rows = list(read_segments(tmp_path / name, format=form))
        assert len(rows) > 20
        assert {row.text: row.cuts for row in rows}.items() <= gold.items()
    attar.annotate.export("thai", output=tmp_path / "random.jsonl", arm="random")
    arms = [row.meta["arms"] for row in read_segments(tmp_path / "random.jsonl")]
    assert all("random" in one for one in arms)
    assert typed(f"export thai -o {tmp_path / 'all'}") == 0
    again, first = attar.annotate.curve(tmp_path / "all"), attar.annotate.curve("thai")
    assert again.details == first.details
    for end in ("png", "svg", "csv"):
        assert typed(f"curve {tmp_path / 'all'} -o {tmp_path / f'c.{end}'}") == 0
        assert (tmp_path / f"c.{end}").stat().st_size > 300
    capsys.readouterr()


def test_a_backup_is_the_same_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(f"backup thai -o {tmp_path / 'b.zip'}") == 0
    assert typed(f"backup {tmp_path / 'thai'} --restore {tmp_path / 'b.zip'}") == 0
    assert attar.annotate.curve(tmp_path / "thai").details == attar.annotate.curve("thai").details
    assert typed(f"upgrade {tmp_path / 'thai'}") == 0
    assert "this version already" in capsys.readouterr().out
    assert typed(f"doctor {tmp_path / 'thai'}") == 0
    with open_project(tmp_path / "thai") as project, project.write() as session:
        session.connection().exec_driver_sql("UPDATE sentence SET n = n + 1")
    assert typed(f"doctor {tmp_path / 'thai'}") == 1
    assert "WRONG" in capsys.readouterr().out


def test_events_change_what_they_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attar.annotate.backup("thai", output_file=tmp_path / "b.zip")
    place = shlex.quote(str(tmp_path / "copy"))
    assert typed(f"backup {place} --restore {tmp_path / 'b.zip'}") == 0
    line = f"event add {place} --kind strategy.change --change strategy=margin --change budget=90"
    assert typed(line) == 0
    assert typed(f"event add {place} --kind corpus.remove --scope w1") == 0
    rule = "join_prefix:กา,มา"
    change = f"--after g2 --guideline g2.md --policy migrate --rule {rule}"
    assert typed(f"event add {place} --kind guideline.change {change}") == 0
    assert typed(f"event add {place} --kind pause --note holidays") == 0
    events = details(f"event list {place}", capsys)["events"]
    assert [one["kind"] for one in events][-4:] == [
        *("strategy.change", "corpus.remove", "guideline.change", "pause")
    ]
    assert events[-2]["rule"] == {"kind": "join_prefix", "words": ["กา", "มา"]}
    state = attar.annotate.status(tmp_path / "copy").details
    assert (state["guideline"], state["paused"], state["sentences"]) == ("g2", True, 0)
    with open_project(tmp_path / "copy") as project:
        from attar.annotate.loading import load_study

        arms = load_study(project).config.arms
    assert (arms["active"].strategy, arms["random"].strategy) == ("margin", "random")
    assert (arms["active"].budget, arms["random"].budget) == (90, 90)


def test_import_counts_what_was_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attar.annotate.init(tmp_path / "p")
    found = attar.annotate.import_(tmp_path / "p", data="more.txt").details
    assert (found["new"], found["duplicate"], found["snapshot"]) == (1, 1, "s1")
    assert typed(f"import {tmp_path / 'p'} --data raw.txt") == 0
    assert "60 new" in capsys.readouterr().out


# ----------------------------------------------------------------------------------- no project


def test_convert_keeps_texts_and_cuts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(f"convert gold.txt -o {tmp_path / 'gold.jsonl'}") == 0
    assert "60 sentences" in capsys.readouterr().out
    attar.annotate.convert(tmp_path / "gold.jsonl", output_file=tmp_path / "again", to="best")
    assert (tmp_path / "again").read_bytes() == Path("gold.txt").read_bytes()


def test_a_simulation_is_that_of_python_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "events.yaml").write_text(
        "- {batch: 1, kind: guideline.change, after: g2, policy: drop, truth: 'split_prefix:กา'}\n",
        encoding="utf-8",
    )
    options = (
        "--seeds 2 --spend 120 --refits 2 --reserve-minimum 12 --seed-sentences 6 --budget 80 "
        f"--dictionary none --iterations 5 --hash-bits 12 --events {tmp_path / 'events.yaml'}"
    )
    found = details(f"simulate --data gold.txt {options} -o {tmp_path / 'sim'}", capsys)
    made = attar.annotate.simulate(
        "gold.txt",
        config=attar.SimulateConfig(
            seeds=2,
            spend=120,
            refits=2,
            reserve_minimum=12,
            seed_sentences=6,
            events=tmp_path / "events.yaml",
        ),
        drawing=attar.DrawConfig(budget=80),
        segmenter=attar.SegmenterConfig(dictionary=None, iterations=5, hash_bits=12),
    )
    assert found == json.loads(json.dumps(made.to_dict()["details"]))
    assert {row["epoch"] for row in found["points"]} == {0, 1}
    assert {row["arm"] for row in found["summary"]} == {"random", "mnlp", "union"}
    assert sorted(file.name for file in (tmp_path / "sim").iterdir()) == [
        *("attar.json", "curves.png", "points.csv")
    ]
    module = importlib.import_module("attar.annotate.simulating")
    whole, calls = module._one_seed, []

    def broken(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*args, **options)

    monkeypatch.setattr(module, "_one_seed", broken)
    line = f"simulate --data gold.txt {options} -o {tmp_path / 'cut'}"
    assert typed(line) == 130
    assert details(f"{line} --resume", capsys) == found
    assert len(calls) == 3


def test_rules_and_changes_are_read_as_they_are_typed() -> None:
    assert changes.parse_rule("replace:กา|มา,นี") == Rule("replace", ("กา|มา", "นี"))
    pairs = ["strategy=margin", "near-duplicates=none", "budget=90", "epsilon=0.5"]
    assert changes.parse_changes(pairs) == {
        "strategy": "margin",
        "near_duplicates": None,
        "budget": 90,
        "epsilon": 0.5,
    }


def test_all_strategies_can_be_simulated() -> None:
    from typing import get_args

    from attar.annotate.config import Strategy
    from attar.methods.active_segmentation.picks import STRATEGIES

    assert get_args(Strategy) == STRATEGIES


def test_lines_of_a_chart_never_join_seeds_or_epochs() -> None:
    rows = [
        {"arm": "a", "epoch": epoch, "seed": seed, "characters": 5 - at, "word_f1": 0.5, "low": 0.4}
        for epoch in (0, 1)
        for seed in (0, 1)
        for at in (1, 2)
    ]
    lines = charts.stretches(rows, x="characters")
    assert [[point[0] for point in line.points] for line in lines] == [[3.0, 4.0]] * 4


# ------------------------------------------------------------------------------------- mistakes

#: what is typed, and what is said
MISTAKES = {
    "init thai": r"new or empty folder; 'thai' is not empty",
    "init new --guideline absent.md": r"cannot read 'absent\.md'",
    "init new --guideline utf16.txt": r"expected UTF-8 text in 'utf16\.txt'",
    "init new --strategy mnpl": r"did you mean 'mnlp'",
    "init new --strategy boundaries": r"unit must be decisions for boundaries",
    "init new --database sqlite:///x": r"expected the URL of a PostgreSQL database",
    "init new --overlap-share 2": r"overlap_share must be between 0 and 1",
    "import nowhere --data raw.txt": r"'nowhere' holds no project\.yaml",
    "import thai --data absent.txt": r"found nothing at 'absent\.txt'",
    "import thai --data raw.txt --format beste": r"one of .*did you mean 'best'",
    "import thai --data wrong.jsonl": r"line 1 of wrong\.jsonl",
    "import thai --data utf16.txt": r"UTF-8",
    "import thai --data raw.txt --snapshot w1": r"a snapshot 'w1' already",
    "draw thai --arm best": r"arm must be one of random, active",
    "draw empty": r"found none; import text",
    "train empty": r"the training failed: expected labelled sentences",
    "status raw.txt": r"expected the folder of an annotation project; 'raw\.txt'",
    "curve empty": r"found none: label evaluation sentences",
    "curve thai --metric f2": r"one of .*word_f1.*; found 'f2'",
    "curve thai -o curve.pdf": r"ends in \.png, \.svg or \.csv; found 'curve\.pdf'",
    "curve thai -o raw.txt": r"ends in",
    "agree empty": r"two people have labelled, found none",
    "agree thai --by weather": r"weather",
    "transfer empty": r"label some first",
    "export thai": r"say where labels go",
    "export thai -o x.jsonl --arm best": r"arm must be one of random, active; found 'best'",
    "export thai -o x.jsonl --guideline g9": r"guideline must be one of g1; found 'g9'",
    "export thai -o x.zzz": r"format of 'x\.zzz' by its name: give --format one of",
    "export thai -o x --arm random": r"a folder gets everything",
    "export empty -o x.jsonl": r"found none: label some first",
    "convert gold.txt": r"say where the text goes",
    "convert gold.txt -o x.zzz": r"format of 'x\.zzz' by its name: give --to one of",
    "convert gold.txt -o raw.txt --to best": r"'raw\.txt' already exists",
    "convert absent.txt -o x.jsonl": r"found nothing at 'absent\.txt'",
    "convert wrong.jsonl -o x.txt --to best": r"line 1 of wrong\.jsonl",
    "simulate": r"say what to replay: --data",
    "simulate --data raw.txt": r"segmented as a whole, found none",
    "simulate --data gold.txt --arms random,random": r"arms must be one strategy or more",
    "simulate --data gold.txt --arms random,bets": r'Invalid value "bets"',
    "simulate --data gold.txt --events no-list.yaml": r"expected a YAML list of events",
    "simulate --data gold.txt --events wrong-key.yaml": r"'polycy'.*did you mean 'policy'",
    "simulate --data gold.txt --dictionary absent.txt": r"absent\.txt",
    "event add thai --kind guideline.change": r"needs the name of the new version and its text",
    "event add thai --kind guideline.change --after g2 --guideline g2.md --policy migrate": "rule",
    "event add thai --kind pause --rule join:กา": r"expected a rule as KIND:WORD,WORD",
    "event add thai --kind hyper.change --change budget": r"expected NAME=VALUE",
    "event add thai --kind hyper.change --change bugdet=3": r"did you mean 'budget'",
    "event add thai --kind hyper.change --change budget=none": r"budget must be",
    "event add thai --kind corpus.remove": r"corpus\.remove needs what goes",
    "event add thai --kind corpus.remove --scope w9": r"there is none called 'w9'",
    "user role thai zoe --role admin": r"there is no account 'zoe'",
    "backup thai -o raw.txt": r"must be one that ends in \.zip",
    "backup new --restore absent.zip": r"found no file 'absent\.zip'; check the path",
    "init new --language 9": r"language must be a tag of BCP 47",
    "serve thai --host 192.0.2.1": r"give an address of this machine",
    "backup new --restore raw.txt": r"raw\.txt",
    "upgrade nowhere": r"'nowhere' holds no project\.yaml",
    "doctor nowhere": r"'nowhere' holds no project\.yaml",
    "serve nowhere": r"'nowhere' holds no project\.yaml",
    "worker nowhere --once": r"'nowhere' holds no project\.yaml",
    "serve thai --public-url example": r"public_url must be an address",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_sentence(
    line: str, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file for file in there.rglob("*") if "thai" not in file.parts}
    assert typed(line) in (1, 2)
    out, said = capsys.readouterr()
    assert out == ""
    said = said[said.rindex("attar: ") :]
    assert re.fullmatch(r"attar: [^\n]+\n", said), said
    assert re.search(MISTAKES[line], said), said
    assert {file for file in there.rglob("*") if "thai" not in file.parts} - before <= {
        there / "empty" / "worker.lock"
    }


def test_a_damaged_model_is_one_sentence(tmp_path: Path) -> None:
    folder = Path(attar.annotate.status("thai").details["models"]["union"])
    for file in ("config.json", "model.safetensors"):
        copy = tmp_path / file
        copy.mkdir()
        for name in ("config.json", "model.safetensors"):
            content = (folder / name).read_bytes()
            (copy / name).write_bytes(content[: len(content) // 2] if name == file else content)
        with pytest.raises(AttarError, match=re.escape(file)):
            attar.Segmenter.from_pretrained(copy)
    with pytest.raises(AttarError):
        attar.Segmenter.from_pretrained(tmp_path / "nothing")


def test_what_is_missing_is_named_and_files_need_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = importlib.util.find_spec
    monkeypatch.setattr(
        "attar.annotate.find_spec", lambda name: None if name == "sqlalchemy" else whole(name)
    )
    assert typed("status thai") == 2
    assert "sqlalchemy; install it with `pip install 'attar[annotate]'`" in capsys.readouterr().err
    with pytest.raises(MissingExtraError):
        attar.annotate.init(tmp_path / "p")
    assert typed(f"convert gold.txt -o {tmp_path / 'gold.jsonl'}") == 0


def test_of_two_who_change_a_project_the_second_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attar.annotate.init(tmp_path / "p")
    event = importlib.import_module("attar.annotate.event")
    whole = event.changed

    def slow(settings: Any, change: Any) -> Any:
        monkeypatch.setattr(event, "changed", whole)
        attar.annotate.event.add(tmp_path / "p", kind="strategy.change", change={"budget": 70})
        return whole(settings, change)

    monkeypatch.setattr(event, "changed", slow)
    with pytest.raises(AttarError, match="somebody else has changed"):
        attar.annotate.event.add(tmp_path / "p", kind="strategy.change", change={"budget": 80})
    events = attar.annotate.event.list(tmp_path / "p").details["events"]
    assert [one["after"] for one in events] == ["budget=70"]


def test_errors_in_python_are_those_of_the_command_line() -> None:
    with pytest.raises(DataError, match="found none: label some first"):
        attar.annotate.export("empty", output="x.jsonl")
    with pytest.raises(AttributeError, match="no attribute 'sever'"):
        attar.annotate.sever  # noqa: B018 # pyright: ignore[reportAttributeAccessIssue]


def test_labels_of_before_come_along(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(f"init {tmp_path / 'new'} {SMALL}") == 0
    capsys.readouterr()
    assert typed(f"import {tmp_path / 'new'} --data gold.txt --annotator old") == 0
    assert "60 new, 12 reserved, 60 answers" in capsys.readouterr().out
    assert typed(f"import {tmp_path / 'new'} --data raw.txt --annotator old") == 2
    assert "none has its words" in capsys.readouterr().err
    assert typed(f"doctor {tmp_path / 'new'}") == 0


def test_a_segmenter_that_cannot_learn_from_boundaries_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    assert typed(f"init {new} --strategy boundaries --unit decisions --solver crfsuite") == 2
    assert "expected the solver own for the strategy boundaries" in capsys.readouterr().err
    assert not new.exists()
    assert typed(f"init {new} --strategy boundaries --unit decisions") == 0
    assert typed(f"event add {new} --kind hyper.change --change solver=crfsuite") == 2
    assert "expected the solver own for the strategy boundaries" in capsys.readouterr().err
