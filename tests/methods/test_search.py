"""Searching pipelines: every trial once, whoever runs it; a study goes on after a death."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import encoders
from attar import checkpoint
from attar.errors import ConfigError
from attar.methods.distiller import DistillConfig, SearchConfig, distill, search
from attar.methods.distiller.search import STUDY_FILE, configured
from attar.methods.distiller.space import Pipeline
from attar.methods.distiller.study import Row, read_study

TRAINING = DistillConfig(
    max_steps=8, per_device_train_batch_size=8, learning_rate=3e-3, logging_steps=8, max_length=32
)
SEARCH = SearchConfig(trials=6, seed=3)


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


def run(root: Path, out: Path, config: SearchConfig = SEARCH, **changes: Any) -> list[Row]:
    options: dict[str, Any] = {"training": TRAINING, "student_layers": 1} | changes
    return search(root / "data", teacher=root / "teacher", output_dir=out, config=config, **options)


def test_a_study_holds_distinct_pipelines_and_what_they_scored(root: Path, tmp_path: Path) -> None:
    rows = run(root, tmp_path / "study")
    assert len({row.pipeline for row in rows}) == 6
    assert rows == read_study(tmp_path / "study" / STUDY_FILE)
    assert all(0 <= (row.score or 0) <= 1 and row.teacher_score > 0.8 for row in rows)
    assert all(row.test_score is not None for row in rows if row.state == "complete")
    assert {(row.dataset, row.teacher, row.student, row.init) for row in rows} == {
        ("data", "teacher", "1 layers", "cut")
    }
    again = run(root, tmp_path / "study")  # nothing is left to do
    assert again == rows
    other = run(root, tmp_path / "other")
    assert [row.pipeline for row in other] == [row.pipeline for row in rows]
    assert [row.score for row in other if row.state == "complete"] == [
        row.score for row, same in zip(rows, other, strict=True) if same.state == "complete"
    ]


WORKER = """
import logging
import sys
from pathlib import Path
import test_search as t
logging.basicConfig(level=logging.INFO, format="%(message)s")
t.run(Path(sys.argv[1]), Path(sys.argv[2]), t.replace(t.SEARCH, trials=8))
"""


def worker(root: Path, out: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(root), str(out)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_workers_run_every_trial_once(root: Path, tmp_path: Path) -> None:
    both = [worker(root, tmp_path / "study") for _ in range(2)]
    said = [one.communicate(timeout=240)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    rows = read_study(tmp_path / "study" / STUDY_FILE)
    assert len(rows) == len({row.pipeline for row in rows}) == 8
    assert all(row.state != "failed" for row in rows)
    ran = [re.findall(r"^trial (\d+):", text, re.MULTILINE) for text in said]
    assert sorted(int(number) for numbers in ran for number in numbers) == list(range(8))
    assert all(ran), "both of them worked"


def test_the_trial_of_a_killed_worker_is_run_again(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    dying = worker(root, out)
    while not (out / STUDY_FILE).exists():  # it has not finished a trial
        assert dying.poll() is None
        time.sleep(0.01)
    dying.send_signal(signal.SIGKILL)
    dying.communicate()
    rows = run(root, out, replace(SEARCH, trials=8))
    assert len({row.pipeline for row in rows}) == len(rows) == 8
    assert all(row.state != "failed" for row in rows)


def test_a_study_of_other_settings_is_refused(root: Path, tmp_path: Path) -> None:
    run(root, tmp_path / "study", replace(SEARCH, trials=1))
    with pytest.raises(ConfigError, match="another search"):
        run(root, tmp_path / "study", replace(SEARCH, trials=2))
    with pytest.raises(ConfigError, match="another training"):
        changed = replace(TRAINING, max_steps=9)
        run(root, tmp_path / "study", replace(SEARCH, trials=1), training=changed)
    with pytest.raises(ConfigError, match="one of the two"):
        run(root, tmp_path / "new", student=root / "plain")


def test_a_pipeline_sets_its_options_and_no_other() -> None:
    pipeline = Pipeline(
        intermediate="mi", alpha=0.5, mixup=True, augment=("swap",), copies=4, hard_weight=0.5
    )
    found = configured(TRAINING, pipeline)
    assert (found.intermediate, found.alpha, found.mixup_beta) == ("mi", 0.5, 0.4)
    assert (found.augment, found.copies, found.hard_weight) == (("swap",), 4, 0.5)
    searched = {name: getattr(TRAINING, name) for name in pipeline.to_dict() if name != "mixup"}
    assert replace(found, **searched, mixup_beta=None) == TRAINING
