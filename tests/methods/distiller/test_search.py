"""Searching pipelines: every trial once, whoever runs it; a study goes on after a death."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

import encoders
import studies
from attar import checkpoint
from attar.data.data import Data, DataLike
from attar.data.labelled.task import TaskKind
from attar.errors import AttarError, ConfigError, DataError
from attar.methods.distiller import autodistiller as recommender
from attar.methods.distiller.autodistiller import AutoDistiller
from attar.methods.distiller.config import DistillConfig, with_pipeline
from attar.methods.distiller.distill import distill
from attar.methods.distiller.pipelines import SPACE, Pipeline, enumerate_all, narrow
from attar.methods.distiller.runner import TrialRunner
from attar.methods.distiller.search import SearchConfig, allowed_choices, search
from attar.methods.distiller.study import STUDY_FILE, Trial, read_study, study_lines, study_summary
from attar.recipes import read_recipe
from attar.report.record import Run
from attar.search.statistics import expected_best
from attar.search.summary import Best, Summary
from attar.search.trials import Outcome

TRAINING = DistillConfig(
    max_steps=8,
    per_device_train_batch_size=8,
    learning_rate=3e-3,
    logging_steps=8,
    context=32,
    seed=3,
)
SEARCH = SearchConfig(trials=6, recommended=0, only=studies.ONLY)
#: leaves eight pipelines
FEW = {
    "intermediate": ["none"],
    "pred_loss": ["mse"],
    "hard_weight": [0.0],
    "augment": [("swap",), ("delete",)],
    "augment_p": [0.1],
    "copies": [1, 4],
}
room = sys.modules[search.__module__]  # the package has a function of that name


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher and its data, as files."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "data").mkdir()
    for name, rows in encoders.documents(64).items():
        rows.to_csv(folder / "data" / f"{name}.csv")
    body: Any = encoders.encoder().base_model
    checkpoint.save(body, folder / "plain", tokenizer=encoders.tokenizer())
    distill(
        folder / "plain",
        folder / "data",
        teacher=None,
        output_dir=folder / "teacher",
        config=replace(TRAINING, hard_weight=1.0, max_steps=40),
    )
    return folder


def run(
    root: Path,
    out: Path,
    config: SearchConfig = SEARCH,
    *,
    model: Path | None = None,
    data: DataLike | None = None,
    **changes: Any,
) -> list[Trial]:
    """Search, and read the trials that have ended."""
    options: dict[str, Any] = {
        "teacher": root / "teacher",
        "student_layers": 1,
        "config": config,
        "training": TRAINING,
        "output_dir": out,
    }
    search(model, root / "data" if data is None else data, **options | changes)
    return read_study(out)


def test_a_study_holds_distinct_pipelines_and_what_they_scored(root: Path, tmp_path: Path) -> None:
    config = replace(SEARCH, trials=3)
    rows = run(root, tmp_path / "study", config)
    assert len({row.pipeline for row in rows}) == 3
    assert rows == read_study(tmp_path / "study" / STUDY_FILE)
    assert all(0 <= (row.score or 0) <= 1 and row.teacher_score > 0.8 for row in rows)
    assert all(row.test_score is not None for row in rows if row.state == "complete")
    assert {(row.dataset, row.teacher, row.student, row.init) for row in rows} == {
        ("data", "teacher", "1 layers", "cut")
    }
    again = run(root, tmp_path / "study", config)  # nothing is left to do
    assert again == rows
    other = run(root, tmp_path / "other", config)
    assert [row.pipeline for row in other] == [row.pipeline for row in rows]
    assert [row.score for row in other if row.state == "complete"] == [
        row.score for row, same in zip(rows, other, strict=True) if same.state == "complete"
    ]


def test_a_pipeline_that_breaks_fails_alone_and_an_interrupted_one_is_run_again(
    root: Path, tmp_path: Path, quick: list[Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, errors = TrialRunner.train, [RuntimeError("out of memory"), KeyboardInterrupt()]

    def breaks(runner: Any, *rest: Any) -> Any:
        if errors:
            raise errors.pop(0)
        return plain(runner, *rest)

    monkeypatch.setattr(TrialRunner, "train", breaks)
    with pytest.raises(KeyboardInterrupt):
        run(root, tmp_path / "study")
    trials = run(root, tmp_path / "study")
    assert [trial.state for trial in trials].count("failed") == 1
    assert len({trial.pipeline for trial in trials}) == len(trials) == 6
    assert len(quick) == 5
    record = Run.load(tmp_path / "study")
    assert (record.details["failed"], record.details["trials"]) == (1, 6)


def test_other_tokens_leave_what_compares_whole_texts(
    root: Path, tmp_path: Path, quick: list[Pipeline]
) -> None:
    other = encoders.tokenizer(reverse=True)
    checkpoint.save(encoders.encoder(), tmp_path / "s", tokenizer=other)
    given: dict[str, Any] = {"model": tmp_path / "s", "student_layers": None}
    rows = run(root, tmp_path / "study", replace(SEARCH, trials=20), **given)
    assert all(row.state != "failed" for row in rows)
    assert {pipeline.intermediate for pipeline in quick} == {"none", "pkd", "mi"}
    assert not any(pipeline.mixup for pipeline in quick)


def test_what_is_stored_for_the_trials_goes_with_the_last(root: Path, tmp_path: Path) -> None:
    config = SearchConfig(trials=2, recommended=0, only=FEW | {"mixup": [False]})
    run(root, tmp_path / "study", config)
    assert not (tmp_path / "study" / "teacher").exists()


def test_contexts_tell_data_and_trainings_apart(
    root: Path, tmp_path: Path, quick: list[Pipeline]
) -> None:
    one = run(root, tmp_path / "one", replace(SEARCH, trials=1))
    longer = replace(TRAINING, max_steps=9)
    other = run(root, tmp_path / "other", replace(SEARCH, trials=1), training=longer)
    reseeded = replace(TRAINING, seed=9)
    same = run(root, tmp_path / "same", replace(SEARCH, trials=1), training=reseeded)
    assert one[0].context == same[0].context != other[0].context
    (tmp_path / "data").mkdir()
    encoders.documents(400)["train"].to_csv(tmp_path / "data" / "train.csv")
    single = run(
        root,
        tmp_path / "file",
        replace(SEARCH, trials=1),
        data=Data(tmp_path / "data" / "train.csv", label_column="label"),
    )
    assert single[0].dataset == "data/train.csv, label"


def test_a_study_may_be_given_more_trials(
    root: Path, tmp_path: Path, quick: list[Pipeline]
) -> None:
    first = run(root, tmp_path / "study", replace(SEARCH, trials=2))
    rows = run(root, tmp_path / "study", replace(SEARCH, trials=5))
    assert rows[:2] == first
    assert len(quick) == len({row.pipeline for row in rows}) == 5
    assert run(root, tmp_path / "study", replace(SEARCH, trials=2)) == rows


def test_a_study_of_other_settings_is_refused(
    root: Path, tmp_path: Path, quick: list[Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(root, tmp_path / "study", replace(SEARCH, trials=1))
    with pytest.raises(ConfigError, match="prune True, now False"):
        run(root, tmp_path / "study", replace(SEARCH, trials=1, prune=False))
    file = root / "data" / "train.csv"
    rows = file.read_text()
    try:
        file.write_text(rows.replace("film", "movie", 1))
        with pytest.raises(ConfigError, match=r"rows [0-9a-f]+, now [0-9a-f]+"):
            run(root, tmp_path / "study", replace(SEARCH, trials=1))
    finally:
        file.write_text(rows)
    with pytest.raises(ConfigError, match="max_steps 8, now 9"):
        changed = replace(TRAINING, max_steps=9)
        run(root, tmp_path / "study", replace(SEARCH, trials=1), training=changed)
    with pytest.raises(ConfigError, match="max_steps, and leave num_train_epochs out"):
        run(root, tmp_path / "new", training=replace(TRAINING, num_train_epochs=1.0))
    with monkeypatch.context() as patch:
        patch.setattr(room, "space_id", lambda: "an older one")
        with pytest.raises(ConfigError, match=r"space [0-9a-f]+, now an older one"):
            run(root, tmp_path / "study", replace(SEARCH, trials=1))
    with pytest.raises(ConfigError, match="one of the two"):
        run(root, tmp_path / "new", model=root / "plain")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"teacher": "nowhere"}, DataError, "nowhere"),
        ({"teacher": None}, ConfigError, "a teacher"),
        ({"student_layers": 9}, ConfigError, "between 1 and 3 layers"),
        ({"config": replace(SEARCH, only={"augment": [("mlm",)]})}, ConfigError, "augment was"),
        (
            {"config": SearchConfig(trials=9, recommended=0, only=FEW)},
            ConfigError,
            "9 pipelines .* found 8",
        ),
        ({"config": replace(SEARCH, recommended=2)}, ConfigError, "studies, such as"),
        ({"config": replace(SEARCH, storage="foo://x:secret@y")}, ConfigError, r"foo://x:\*\*\*@y"),
        ({"training": replace(TRAINING, mlm="nowhere")}, ConfigError, "nowhere"),
    ],
)
def test_what_cannot_be_searched_leaves_nothing(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr(recommender, "shipped", list)
    with pytest.raises(error, match=message) as caught:
        run(root, tmp_path / "study", **changes)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_left_alone(root: Path, tmp_path: Path) -> None:
    (tmp_path / "recipes.txt").write_text("pancakes")
    for place in (tmp_path, tmp_path / "recipes.txt"):
        with pytest.raises(ConfigError, match=r"something other than a study|is a file"):
            run(root, place)
    assert [file.name for file in tmp_path.iterdir()] == ["recipes.txt"]


def test_bad_numbers_and_choices_are_refused() -> None:
    for changes, message in (
        ({"trials": 0}, "trials must be at least 1; found 0"),
        ({"trials": 3, "recommended": 4}, "between 0 and the number of trials, 3; found 4"),
        ({"recommended": -1}, "found -1"),
        ({"only": {"loss": ["mse"]}}, "no choice named loss"),
        ({"only": {"pred_loss": ["mae"]}}, "pred_loss must be one of mse, ce; found 'mae'"),
    ):
        with pytest.raises(ConfigError, match=message):
            SearchConfig(**changes)


# ----------------------------------------------------------------------------------- recommended


@pytest.fixture
def prior(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AutoDistiller:
    """Learned from the studies that are shipped in this test, of cut and of random students."""

    def other(pipeline: Pipeline) -> float:
        return 2.0 * (pipeline.intermediate == "mi")

    rows = [
        row
        for name in "abc"
        for row in studies.study(name) + studies.study(name, effect=other, init="random")
    ]
    file = studies.write(tmp_path / "prior" / "shipped.jsonl", rows)
    monkeypatch.setattr(recommender, "shipped", lambda: [file])
    return AutoDistiller.fit(rows)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Pipeline]:
    """Trials that are told their score instead of being trained, and so are the students that they
    are compared with; what has run."""
    ran: list[Pipeline] = []

    def references(_: Any, study: Any) -> None:
        study.set_user_attr("teacher_score", 0.9)
        study.set_user_attr("hard_score", 0.4)

    def train(_: Any, pipeline: Pipeline, trial: Any) -> Outcome:
        ran.append(pipeline)
        return Outcome(_told(pipeline), details={"test_score": 0.5})

    monkeypatch.setattr(TrialRunner, "measure_references", references)
    monkeypatch.setattr(TrialRunner, "train", train)
    return ran


def _told(pipeline: Pipeline) -> float:
    return 0.5 + 0.05 * studies.quality(pipeline) + 0.001 * pipeline.alpha


def origins(found: Summary) -> dict[Pipeline, str]:
    return {row.pipeline: origin for row, origin in found.ranked}


@pytest.mark.parametrize(
    ("given", "init"),
    [
        ({}, "cut"),
        ({"student_init": "random"}, "random"),
        ({"model": "plain", "student_layers": None, "student_init": "random"}, "cut"),
    ],
)
def test_the_recommended_come_first_and_the_drawn_are_the_baseline(
    root: Path,
    tmp_path: Path,
    prior: AutoDistiller,
    quick: list[Pipeline],
    given: dict[str, Any],
    init: str,
) -> None:
    out, only = tmp_path / "study", studies.ONLY | {"pred_loss": ["ce"]}
    if "model" in given:
        given = given | {"model": root / given["model"]}
    rows = run(root, out, SearchConfig(trials=8, recommended=3, only=only), **given)
    # Nothing that needs a masked language model, which is not there.
    left = enumerate_all(space=narrow(allowed_choices("single_label", mlm=False) | only))
    wanted = [found.pipeline for found in prior.recommend(3, init=init, candidates=left)]
    assert quick[:3] == [row.pipeline for row in rows][:3] == wanted
    assert {row.init for row in rows} == {init}
    found = study_summary(out)
    assert [origins(found)[pipeline] for pipeline in quick] == ["recommended"] * 3 + ["random"] * 5
    scores = [_told(pipeline) for pipeline in quick]
    assert found.ranked[0][0].score == max(scores)
    assert found.recommended == Best(3, max(scores[:3]))
    assert found.random == Best(5, pytest.approx(expected_best(scores[3:], 5)))
    assert found.same_budget == Best(3, pytest.approx(expected_best(scores[3:], 3)))
    # The seed of the training draws the others, and only those.
    again = run(
        root,
        tmp_path / "other",
        SearchConfig(trials=8, recommended=3, only=only),
        training=replace(TRAINING, seed=4),
        **given,
    )
    assert [row.pipeline for row in again][:3] == wanted
    assert not {row.pipeline for row in again[3:]} & {row.pipeline for row in rows[3:]}


def test_how_many_are_recommended_is_settled_once(
    root: Path, tmp_path: Path, prior: AutoDistiller, quick: list[Pipeline]
) -> None:
    config = replace(SEARCH, recommended=None)
    run(root, tmp_path / "study", replace(config, trials=4))
    run(root, tmp_path / "study", config)  # as many as the study began with
    origins = [origin for _, origin in study_summary(tmp_path / "study").ranked]
    assert sorted(origins) == ["random"] * 4 + ["recommended"] * 2
    run(root, tmp_path / "study", replace(config, trials=1))  # there are more than that
    assert len(quick) == 6


def test_ones_own_studies_are_learned_from_too(
    root: Path, tmp_path: Path, prior: AutoDistiller, quick: list[Pipeline]
) -> None:
    def turned(pipeline: Pipeline) -> float:
        return -5 * studies.quality(pipeline)

    rows = [row for name in "xyzuvw" for row in studies.study(name, 60, effect=turned)]
    own = studies.write(tmp_path / "own" / STUDY_FILE, rows)
    config = replace(SEARCH, trials=2, recommended=2)
    run(root, tmp_path / "one", config)
    run(root, tmp_path / "two", replace(config, studies=(str(own),)))
    assert {pipeline.intermediate for pipeline in quick[:2]} == {"mse"}
    assert {pipeline.intermediate for pipeline in quick[2:]} == {"none"}


def test_a_trial_that_is_run_again_is_still_recommended(
    root: Path,
    tmp_path: Path,
    prior: AutoDistiller,
    quick: list[Pipeline],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    out, config = tmp_path / "study", replace(SEARCH, trials=4, recommended=2)
    with monkeypatch.context() as patch:
        patch.setattr(TrialRunner, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(root, out, config)
    assert run(root, out, config) == read_study(out / STUDY_FILE)
    assert sorted(origins(study_summary(out)).values()) == ["random"] * 2 + ["recommended"] * 2
    assert len(quick) == 4


def test_a_summary_is_read_from_a_database_too(
    root: Path, tmp_path: Path, quick: list[Pipeline]
) -> None:
    config = replace(SEARCH, trials=3, storage=f"sqlite:///{tmp_path}/trials.db")
    trials = run(root, tmp_path / "study", config)
    summary = study_summary(tmp_path / "study", storage=config.storage)
    assert [trial for trial, _ in summary.ranked] == sorted(trials, key=lambda t: -(t.score or 0))
    with pytest.raises(ConfigError, match="no study 'attar-other'"):
        study_summary(tmp_path / "other", storage=config.storage)
    with pytest.raises(ConfigError, match="no study in"):
        study_summary(tmp_path / "study")


def test_the_record_says_what_the_best_is_worth(
    root: Path, tmp_path: Path, quick: list[Pipeline]
) -> None:
    given = {"teacher": root / "teacher", "student_layers": 1, "training": TRAINING}
    config = replace(SEARCH, only=None)  # the whole space
    record = search(
        data=root / "data", config=config, output_dir=tmp_path / "study", recipe="mine", **given
    )
    trials = read_study(tmp_path / "study")
    best = max(trials, key=lambda trial: trial.score or 0)
    assert Run.load(tmp_path / "study").to_dict() == record.to_dict()
    assert record.quality == {
        "before": {"accuracy": best.teacher_score},
        "after": {"accuracy": best.score},
    }
    assert record.baselines[0]["quality"] == {"accuracy": best.hard_score}
    assert record.details["best"] == best.to_dict()
    assert (record.details["trials"], record.details["missing"]) == (6, 0)
    assert record.settings["recipe"] == "mine"
    assert (record.command, record.model) == ("pipeline search", "teacher")
    options = read_recipe(str(tmp_path / "study" / "best.yaml"))
    assert next(iter(options)) == "verb"
    assert options.pop("verb") == "distill"
    assert DistillConfig(**options) == with_pipeline(TRAINING, best.pipeline)
    lines = dict(study_lines(study_summary(tmp_path / "study")))
    assert lines["best"].startswith(f"{best.score:.4f}")
    assert lines["teacher"] == f"{best.teacher_score:.4f}"
    assert [*lines][:5] == ["trials", "teacher", "hard labels", "best", "gap closed"]


def test_while_others_run_all_that_is_left_there_is_no_best(
    root: Path, tmp_path: Path, quick: list[Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_workers_run_it(queue: Any, *_: Any, **__: Any) -> None:
        assert queue.take() is not None

    with monkeypatch.context() as patch:
        patch.setattr("attar.search.search.run_trials", other_workers_run_it)
        given = {"teacher": root / "teacher", "student_layers": 1, "training": TRAINING}
        record = search(data=root / "data", config=SEARCH, output_dir=tmp_path / "study", **given)
    assert "after" not in record.quality
    assert (record.details["best"], record.details["missing"]) == (None, 6)
    assert not (tmp_path / "study" / "best.yaml").exists()


def test_a_search_of_which_nothing_comes_to_its_end_says_so(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(TrialRunner, "train", breaks)
    with pytest.raises(AttarError, match="none of the 6 trials"):
        run(root, tmp_path / "study")
    assert [trial.state for trial in read_study(tmp_path / "study")] == ["failed"] * 6


def test_the_choices_that_a_task_leaves_open() -> None:
    chains = {kind: allowed_choices(kind, mlm=True)["augment"] for kind in get_args(TaskKind)}
    assert {name for chain in chains["token_classification"] for name in chain} == {
        "neighbour",
        "mlm",
    }
    assert chains["question_answering"] == [()]
    assert allowed_choices(None, mlm=True) == {"augment": list(SPACE["augment"])}
    assert not any("mlm" in chain for chain in allowed_choices(None, mlm=False)["augment"])
    assert allowed_choices("regression", mlm=False)["pred_loss"] == ["mse"]
    for kind, pair, fine in (("single_label", True, False), ("single_label", False, True)):
        assert ("mixup" not in allowed_choices(kind, pair=pair, mlm=False)) == fine


def test_a_pipeline_sets_its_options_and_no_other() -> None:
    pipeline = Pipeline(
        intermediate="mi", alpha=0.5, mixup=True, augment=("swap",), copies=4, hard_weight=0.5
    )
    found = with_pipeline(TRAINING, pipeline)
    assert (found.intermediate, found.alpha, found.mixup_beta) == ("mi", 0.5, 0.4)
    assert (found.augment, found.copies, found.hard_weight) == (("swap",), 4, 0.5)
    searched = {name: getattr(TRAINING, name) for name in pipeline.to_dict() if name != "mixup"}
    rows = TRAINING.per_device_train_batch_size
    assert found.per_device_train_batch_size == rows // 2  # and as many mixtures
    searched["per_device_train_batch_size"] = rows
    assert replace(found, **searched, mixup_beta=None) == TRAINING
    repeated = replace(TRAINING, repeated=True)
    assert with_pipeline(repeated, pipeline).repeated
    assert not with_pipeline(repeated, Pipeline()).repeated  # there is no copy to put anywhere
