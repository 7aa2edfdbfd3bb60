"""Searching pipelines, what mattered, and what to try first, through the door that users take."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

import encoders
import studies
from attar import checkpoint
from attar.cli import pipeline as searching
from attar.methods.distiller import autodistiller as recommender
from attar.methods.distiller.autodistiller import AutoDistiller, reading
from attar.methods.distiller.config import DistillConfig, with_pipeline
from attar.methods.distiller.distill import distill
from attar.methods.distiller.importance import importance
from attar.methods.distiller.pipelines import Pipeline, enumerate_all, narrow
from attar.methods.distiller.search import allowed_choices
from attar.methods.distiller.study import read_study
from attar.recipes import read_recipe
from attar.report.record import FILE_NAME, Run
from attar.search.predictors import HeldOut
from attar.search.storage import STUDY_FILE
from scene import run

QUICK = "--max-steps 2 --per-device-train-batch-size 8 --context 32 --learning-rate 0.003"
#: leaves some thousand pipelines, which are listed in no time
FEWER = "--only temperature=1 --only augment-p=0.1 --only copies=1 --only features=hidden"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, its data, and studies of other data."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "data").mkdir()
    for name, rows in encoders.documents(64).items():
        rows.to_csv(folder / "data" / f"{name}.csv")
    numbers = {"text": [f"word {i}" for i in range(60)], "label": [i / 7 for i in range(60)]}
    Dataset.from_dict(numbers).to_csv(folder / "numbers.csv")
    body: Any = encoders.encoder().base_model
    checkpoint.save(body, folder / "plain", tokenizer=encoders.tokenizer())
    config = DistillConfig(
        max_steps=30,
        per_device_train_batch_size=8,
        learning_rate=3e-3,
        context=32,
        hard_weight=1.0,
    )
    distill(
        folder / "plain",
        folder / "data",
        teacher=None,
        output_dir=folder / "teacher",
        config=config,
    )
    studies.write(folder / "several.jsonl", studies.several())
    studies.write(folder / "one" / STUDY_FILE, studies.study("a"))
    foreign = studies.trial(Pipeline(), 0.5).to_dict() | {"space": "0" * 12}
    (folder / "foreign.jsonl").write_text(json.dumps(foreign))
    (folder / "empty.jsonl").write_text("\n")
    (folder / "taken").mkdir()
    (folder / "taken" / "recipes.txt").write_text("pancakes")
    (folder / "searched.yaml").write_text(
        "pred-loss: ce\nmixup_beta: 0.4\nmax_steps: 7\nonly: [mixup=true]\n"
    )
    return folder


@pytest.fixture(autouse=True)
def shipped(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The studies that come with Attar, in these tests."""
    found = [root / "several.jsonl"]
    monkeypatch.setattr(recommender, "shipped", lambda: found)
    return found


def command(text: str, **places: Path) -> list[str]:
    return [part.format(**places) for part in shlex.split(text)]


def table(said: str, head: str) -> list[list[str]]:
    """The cells of the table whose first heading this is."""
    lines = said.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(head))
    rows = []
    for line in lines[first + 1 :]:
        if not line:
            break
        rows.append(re.split(r"\s{2,}", line.strip()))
    return [row for row in rows if set(row[0]) != {"-"}]


# ------------------------------------------------------------------------------------------- search


def test_search_finds_a_pipeline_that_its_recipe_trains_again(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = command(
        "pipeline search --data {root}/data --teacher {root}/teacher --student-layers 1 "
        "--student-init cut -o {out} --trials 4 --recommended 1 --only mixup=false --no-prune "
        f"--only pred-loss=MSE,ce {FEWER} {QUICK}",
        root=root,
        out=tmp_path / "my study",
    )
    assert run(given) == 0
    said = capsys.readouterr().out
    rows = read_study(tmp_path / "my study" / STUDY_FILE)
    assert len(rows) == 4
    assert not any(row.pipeline.mixup for row in rows)
    best = max(rows, key=lambda row: row.score or 0)
    shown = table(said, "differs from the default in")
    assert [float(cells[1]) for cells in shown] == sorted(
        [round(row.score or 0, 4) for row in rows], reverse=True
    )
    assert float(shown[0][2]) == pytest.approx(best.test_score, abs=1e-4)
    assert sorted(cells[-1] for cells in shown) == ["random"] * 3 + ["recommended"]
    for line in (
        "trials                 4, of which 0 pruned and 0 failed",
        f"teacher                {best.teacher_score:.4f}",
        f"hard labels            {best.hard_score:.4f}",
        f"best                   {best.score:.4f} ",
        "best of 3 random       0.",
    ):
        assert line in said
    assert re.search(r"best of 1 recommended  0\.\d{4}, .*the best of 1 random, 0\.\d{4}", said)

    recipe = read_recipe(str(tmp_path / "my study" / "best.yaml"))
    assert recipe.pop("verb") == "distill"
    wanted = DistillConfig(
        max_steps=2, per_device_train_batch_size=8, context=32, learning_rate=0.003
    )
    assert recipe["max_steps"] == 2
    assert DistillConfig(**recipe) == with_pipeline(wanted, best.pipeline)
    assert str(best.score)[:6] in (tmp_path / "my study" / "best.yaml").read_text()
    next_line = said.strip().splitlines()[-1]
    assert next_line.startswith("Next: attar run ")
    words = shlex.split(next_line.removeprefix("Next: attar "))
    assert run(words) == 0
    record = Run.load(Path(words[-1]) / FILE_NAME)
    # Trained again, it is the same model.
    assert record.details["validation"][record.details["primary"]] == pytest.approx(best.score)

    capsys.readouterr()
    assert run(given) == 0  # nothing is left to do
    assert capsys.readouterr().out == said

    more = list(given)
    at = more.index("--recommended")
    del more[at : at + 2]  # as many as the study began with
    more[more.index("--trials") + 1] = "5"
    assert run(more) == 0
    assert len(read_study(tmp_path / "my study" / STUDY_FILE)) == 5


def test_what_a_recipe_says_of_choices_is_left_to_the_search(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Enough(Exception):
        pass

    seen: list[Any] = []

    def capture(*_: Any, **given: Any) -> None:
        seen.append(given)
        raise Enough

    monkeypatch.setattr(searching, "search_pipelines", capture)
    basis = f"pipeline search s --data d --teacher t -o {tmp_path}/x --seed 5 --config"
    for recipe, steps in (("distiller/cpu-tiny", 1000), (str(root / "searched.yaml"), 7)):
        with pytest.raises(Enough):
            run([*basis.split(), recipe])
        assert seen[-1]["training"].max_steps == steps
        assert seen[-1]["training"].seed == 5
        said = capsys.readouterr().err
        assert "not used: the search chooses" in said
        assert "pred" in said
    defaults = DistillConfig(max_steps=7, seed=5)
    assert seen[-1]["training"] == defaults
    assert seen[-1]["config"].only == {"mixup": [True]}
    assert seen[-1]["config"].recommended is None
    with pytest.raises(Enough):
        run([*basis.split()[:-1], "--trials", "7", "--only", "augment=none,swap+mlm", "--prune"])
    assert seen[-1]["config"].only == {"augment": [(), ("swap", "mlm")]}
    assert seen[-1]["config"].trials == 7
    with pytest.raises(Enough):
        run([*basis.split()[:-1], "--only", "temperature=1,4.0", "--only=copies=4"])
    assert seen[-1]["config"].only == {"temperature": [1.0, 4.0], "copies": [4]}


# --------------------------------------------------------------------------------------- importance


def test_importance_shows_shares_and_what_they_come_from(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = studies.write(tmp_path / "few.jsonl", studies.study("few", 3))
    lost = [studies.trial(Pipeline(), None, state="failed", dataset="lost")]
    files = [root / "one", few, studies.write(tmp_path / "lost.jsonl", lost)]
    assert run(["pipeline", "evaluate", *map(str, files)]) == 0
    said = capsys.readouterr().out
    shares = importance(studies.study("a"))
    assert table(said, "choice") == [
        [name.replace("_", " "), f"{100 * share:.1f}%"] for name, share in shares.items()
    ]
    assert re.search(r"^a: .* used, 40 finished trials$", said, re.MULTILINE)
    assert re.search(r"^few: .* left out: 3 finished trials, fewer than 8$", said, re.MULTILINE)
    assert re.search(r"^lost: .* left out: 0 finished trials", said, re.MULTILINE)


# ----------------------------------------------------------------------------------------- evaluate


def test_an_encoder_is_evaluated_on_its_task(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["evaluate", str(root / "teacher"), "--data", str(root / "data"), "--no-speed"]
    assert run([*asked, "--context", "32", "--json", str(tmp_path / "scores.json")]) == 0
    recorded = Run.load(root / "teacher").quality["after"]
    stored = json.loads((tmp_path / "scores.json").read_text())
    assert stored["quality"]["after"] == recorded
    said = capsys.readouterr().out
    assert f"accuracy  {recorded['accuracy']:.4f}" in said
    assert "(test), 60 examples" in said
    assert run([*asked, "--context", "32", "--split", "all"]) == 0
    assert "(all), 164 examples" in capsys.readouterr().out
    other = ["evaluate", str(root / "teacher"), "--data", str(root / "numbers.csv")]
    assert run(other) == 2
    assert "the model has 2" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- recommend


def wanted(count: int, **only: Any) -> list[recommender.Recommendation]:
    """Of the pipelines that the studies were made of, as what ran comes before what did not."""
    left = studies.SMALL.narrow(only)
    learned = AutoDistiller.fit(studies.several())
    return learned.recommend(count, init="cut", candidates=enumerate_all(space=left))


def test_recommend_prints_pipelines_and_how_good_such_advice_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "recipes"
    assert run(["recommend", "--count", "3", "-o", str(out)]) == 0
    said = capsys.readouterr().out
    best = wanted(3)
    shown = table(said, "differs from the default in")
    assert [cells[0] for cells in shown] == ["1", "2", "3"]
    assert [float(cells[-3]) for cells in shown] == [round(one.predicted, 2) for one in best]
    assert [int(cells[-1].split()[0]) for cells in shown] == [one.ran_on for one in best]
    assert all("mlm" not in cells[1] for cells in shown)
    for one in best:
        assert f"{one.interval[0]:+.2f} to {one.interval[1]:+.2f}" in said
        assert f"{one.reasons[0][0]} {one.reasons[0][1]:+.2f}" in said
    judged = AutoDistiller.fit(studies.several()).evaluate()
    cells = table(said, "data set left out")
    assert [row[0] for row in cells] == [*"abcd", "mean", "mean, with the paper's target"]
    mean = next(row for row in judged if (row.dataset, row.target) == ("mean", "z"))
    assert cells[4][2:] == [
        f"{mean.spearman:+.2f}",
        f"{mean.percentile:.2f}",
        f"{mean.regret:.4f}",
        f"{mean.random_regret:.4f}",
        "-",  # these made-up trials know of no student without a teacher
    ]
    assert "the recommendation is better than chance" in said
    for number, one in enumerate(best, 1):
        recipe = read_recipe(str(out / f"{number}.yaml"))
        assert recipe.pop("verb") == "distill"
        config = with_pipeline(DistillConfig(), one.pipeline)
        assert DistillConfig(**recipe) == replace(config, intermediate=one.pipeline.intermediate)
    assert {file.name for file in out.iterdir()} == {*(f"{n}.yaml" for n in (1, 2, 3)), FILE_NAME}
    assert f"attar run {out}/1.yaml STUDENT --data DATA" in said


def test_every_pipeline_is_written_as_it_is_run() -> None:
    from attar.methods.distiller.config import options_of
    from attar.methods.distiller.pipelines import differences

    for pipeline in (Pipeline(), Pipeline(mixup=True, augment=("mlm", "swap"), copies=4)):
        assert DistillConfig(**options_of(pipeline)) == with_pipeline(DistillConfig(), pipeline)
    assert differences(Pipeline()) == "intermediate=mse"
    pipeline = Pipeline(intermediate="mi", alpha=0.5, temperature=4.0, augment=("swap", "mlm"))
    assert differences(pipeline) == "intermediate=mi alpha=0.5 augment=swap+mlm"


def test_recommend_keeps_to_what_the_task_leaves_open(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["recommend", "--data", str(root / "numbers.csv"), "--count", "2"]
    assert run([*asked, "-o", str(tmp_path / "recipes")]) == 0
    by_data = capsys.readouterr().out
    assert "Only pipelines for regression are listed" in by_data
    assert f"--data {root}/numbers.csv" in by_data
    found = [read_recipe(str(tmp_path / "recipes" / f"{n}.yaml")) for n in (1, 2)]
    best = wanted(2, pred_loss=["mse"])
    assert [one.pop("verb") for one in found] == ["distill"] * 2
    assert [DistillConfig(**one) for one in found] == [
        with_pipeline(DistillConfig(), one.pipeline) for one in best
    ]
    assert run(["recommend", "--task", "question_answering", "--count", "60"]) == 0
    shown = table(capsys.readouterr().out, "differs from the default in")
    assert len(shown) == 60
    assert not any("augment" in cells[1] or "mixup" in cells[1] for cells in shown)


def test_a_masked_language_model_opens_its_augmenter(tmp_path: Path, shipped: list[Path]) -> None:
    def effect(pipeline: Pipeline) -> float:
        return 3.0 * ("mlm" in pipeline.augment)

    rows = [
        studies.trial(one, 0.5 + 0.1 * effect(one), dataset=name, seed=i)
        for name in "abc"
        for i, one in enumerate([Pipeline(), Pipeline(augment=("mlm",)), Pipeline(mixup=True)] * 3)
    ]
    shipped[:] = [studies.write(tmp_path / "mlm.jsonl", rows)]
    for more, there in ((["--mlm", "my-mlm"], True), ([], False)):
        out = tmp_path / str(there)
        asked = ["recommend", "--task", "token_classification", "--count", "1", "-o", str(out)]
        assert run([*asked, *more]) == 0
        recipe = read_recipe(str(out / "1.yaml"))
        assert ("mlm" in recipe.get("augment", [])) == there
        assert recipe.get("mlm") == ("my-mlm" if there else None)


def test_recommend_says_what_it_cannot_tell(
    root: Path, shipped: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shipped.clear()
    asked = ["recommend", "--task", "question_answering", "--studies", str(root / "one")]
    assert run(asked) == 0
    said = capsys.readouterr().out
    assert "Learned from 40 trials on a." in said
    assert "cannot be told: expected trials on at least two data sets" in said
    assert "1  " in said
    assert run([*asked, str(root / "several.jsonl")]) == 0
    assert "on a, b, c, d." in capsys.readouterr().out


def test_recommend_learns_with_the_predictor_that_is_named(
    tmp_path: Path, shipped: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    few = studies.study("few", 4)
    shipped[:] = [studies.write(tmp_path / "few.jsonl", few)]
    asked = ["recommend", "--task", "question_answering", "--count", "2"]
    assert run([*asked, "--predictor", "extra_trees"]) == 0
    shown = table(capsys.readouterr().out, "differs from the default in")
    left = narrow(allowed_choices("question_answering", mlm=False))
    trees, line = (
        AutoDistiller.fit(few, model=model).recommend(
            2, init="cut", candidates=enumerate_all(space=left)
        )
        for model in ("extra_trees", "ridge")
    )
    predicted = [float(cells[-3]) for cells in shown]
    assert predicted == [round(one.predicted, 2) for one in trees]
    assert predicted != [round(one.predicted, 2) for one in line]


def test_a_recommendation_that_is_no_better_is_called_so() -> None:
    row = HeldOut("mean", "z", 9.0, 0.1, 0.5, 0.02, 0.01, 0.5)
    assert "NOT better than chance" in reading(row)
    assert "NOT better" in reading(replace(row, regret=0.01))
    assert "is better than chance" in reading(replace(row, regret=0.005))


# ----------------------------------------------------------------------------------------- mistakes

_SEARCH = (
    "pipeline search --data {root}/data --teacher {root}/teacher --student-layers 1 -o {out} "
    f"--trials 2 {FEWER} {QUICK}"
)
_NONE = _SEARCH.replace("--trials 2", "--trials 0")
MISTAKES = {
    "unknown choice": (f"{_SEARCH} --only loss=mse", "no choice named loss; choose among"),
    "unknown value": (f"{_SEARCH} --only pred_loss=mae", "pred_loss must be one of mse, ce; found"),
    "no values": (f"{_SEARCH} --only pred_loss", "--only must be a choice and its values"),
    "unknown augmenter": (f"{_SEARCH} --only augment=swap+shout", "augment must be"),
    "a choice as an option": (f"{_SEARCH} --pred-loss ce", "--pred-loss"),
    "without what it asks for": (f"{_SEARCH} --only augment=mlm", "masked language model"),
    "no trials": (_NONE, "trials must be at least 1; found 0"),
    "more than all": (f"{_SEARCH} --recommended 3", "between 0 and the number of trials, 2"),
    "no storage": (f"{_SEARCH} --storage mysql://me:secret@host/db", r"mysql://me:\*\*\*@host/db"),
    "no database": (f"{_SEARCH} --storage sqlite:////nowhere/x.db", "cannot be opened"),
    "no URL": (f"{_SEARCH} --storage nonsense", "cannot be opened"),
    "no teacher": ("pipeline search --data {root}/data -o {out}", "--teacher"),
    "no data": ("pipeline search --teacher {root}/teacher -o {out}", "--data"),
    "no output": ("pipeline search --data {root}/data --teacher t", "--output-dir"),
    "no student": (_SEARCH.replace("--student-layers 1 ", ""), "one of the two"),
    "an untrained teacher": (_SEARCH.replace("/teacher", "/plain"), "must be trained on this task"),
    "a taken folder": (_SEARCH.replace("{out}", "{root}/taken"), "something other than a study"),
    "a study of another space": (
        f"{_SEARCH} --recommended 1 --studies {{root}}/foreign.jsonl",
        r"foreign\.jsonl, line 1: expected the search space",
    ),
    "an empty study": (
        f"{_SEARCH} --recommended 1 --studies {{root}}/empty.jsonl",
        "has no trials",
    ),
    "no study like this": (
        f"{_SEARCH} --recommended 1 --student-init random",
        "add a study of such students",
    ),
    "importance of nothing": ("pipeline evaluate", "STUDIES|studies"),
    "importance of an empty study": ("pipeline evaluate {root}/empty.jsonl", "has no trials"),
    "importance in another space": ("pipeline evaluate {root}/foreign.jsonl", "search space"),
    "importance of no file": ("pipeline evaluate {root}/none.jsonl", "cannot read the study"),
    "advice from nowhere": ("recommend --studies {root}/none.jsonl", "cannot read the study"),
    "advice from an empty study": ("recommend --studies {root}/empty.jsonl", "has no trials"),
    "advice from another space": ("recommend --studies {root}/foreign.jsonl", "search space"),
    "no advice": ("recommend --count 0", "count must be 1 or more; found 0"),
    "advice for another start": ("recommend --student-init random", "add a study of such students"),
    "advice in a taken folder": ("recommend -o {root}/taken", "new or empty folder"),
    "advice on no data": ("recommend --data {root}/none.csv", r"none\.csv"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence_exit_code_2_and_leaves_nothing(
    mistake: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, sentence = MISTAKES[mistake]
    assert run(command(text, root=root, out=tmp_path / "out")) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.strip().splitlines()
    assert lines[-1].startswith("attar: ")
    assert re.search(sentence, lines[-1]), lines[-1]
    assert "Traceback" not in said.err
    assert "secret" not in said.err
    assert list(tmp_path.iterdir()) == []
    assert [file.name for file in (root / "taken").iterdir()] == ["recipes.txt"]


@pytest.mark.parametrize("text", ["recommend", f"{_SEARCH} --recommended 1", _SEARCH])
def test_without_a_shipped_study_one_must_be_given(
    text: str,
    root: Path,
    tmp_path: Path,
    shipped: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    shipped.clear()
    assert run(command(text, root=root, out=tmp_path / "out")) == 2
    assert "studies, such as" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
