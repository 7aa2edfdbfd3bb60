"""Distiller's verb: students that follow teachers, exactly, and what is refused."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaForSequenceClassification,
)

import encoders
import processes
import tiny
from attar import checkpoint
from attar.data.labelled.task import Task
from attar.errors import CompatibilityError, ConfigError, DataError
from attar.heads import load_with_head
from attar.methods.distiller.config import DistillConfig
from attar.methods.distiller.distill import distill
from attar.methods.distiller.objective import Objective
from attar.report.record import Run
from attar.report.tables import comparison
from attar.train.outputs import CachedOutputs
from attar.train.students import width
from attar.train.trainer import Term

CONFIG = DistillConfig(
    max_steps=6,
    per_device_train_batch_size=8,
    learning_rate=1e-3,
    warmup_steps=0,
    logging_steps=2,
    save_steps=2,
    context=32,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A teacher that learnt the task, an encoder without a head, and the data as files."""
    root = tmp_path_factory.mktemp("distiller")
    for folder, documents in (("data", encoders.documents()), ("few", encoders.documents(12))):
        (root / folder).mkdir()
        for name, rows in documents.items():
            rows.to_csv(root / folder / f"{name}.csv")
    plain = encoders.encoder(hidden_size=32)
    checkpoint.save(plain.base_model, root / "plain", tokenizer=encoders.tokenizer())
    distill(
        root / "plain",
        root / "data",
        teacher=None,
        output_dir=root / "teacher",
        config=replace(CONFIG, hard_weight=1.0, max_steps=60, learning_rate=3e-3),
    )
    return {path.name: path for path in root.iterdir()}


def run(folders: dict[str, Path], out: Path, config: DistillConfig, **options: Any) -> Run:
    given: dict[str, Any] = {"student": None, "student_layers": 2, "teacher": folders["teacher"]}
    given |= {"output_dir": out, "config": config} | options
    if given["student"] is not None:
        given["student_layers"] = None
    return distill(given.pop("student"), given.pop("data", folders["data"]), **given)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where teachers' outputs were stored."""
    paths: list[Path] = []
    build = CachedOutputs.build

    def spy(*args: Any, path: Path, **options: Any) -> CachedOutputs:
        paths.append(path)
        return build(*args, path=path, **options)

    monkeypatch.setattr(CachedOutputs, "build", spy)
    return paths


def test_a_teacher_is_made_from_labels_and_a_student_follows_it(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    taught = Run.load(folders["teacher"])
    untrained = taught.baselines[0]["quality"]["accuracy"]
    assert taught.quality["after"]["accuracy"] > 0.95 > 0.7 > untrained
    config = replace(CONFIG, max_steps=60, learning_rate=3e-3, intermediate="mse")
    record = run(folders, tmp_path / "out", config, student_init="random")
    assert record.quality["after"]["accuracy"] > 0.9
    assert record.quality["before"] == taught.quality["after"]
    assert record.cost["before"] == taught.cost["after"]
    assert record.baselines[0]["name"] == "untrained"
    assert record.baselines[0]["quality"]["accuracy"] < 0.9
    card = (tmp_path / "out" / "README.md").read_text()
    assert "AutoModelForSequenceClassification.from_pretrained" in card
    shown = [row["run"] for row in comparison([taught, record]).records]
    assert shown == ["distill", "untrained", "teacher", "distiller", "untrained"]
    assert record.details["teacher_ratio"] == pytest.approx(
        record.quality["after"]["accuracy"] / taught.quality["after"]["accuracy"]
    )
    assert {"pred", "intermediate"} <= record.details["log"][0].keys()
    assert Run.load(tmp_path / "out").quality == record.quality


def test_a_student_needs_no_attar(folders: dict[str, Path], tmp_path: Path) -> None:
    run(folders, tmp_path / "out", replace(CONFIG, intermediate="mi"))
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert not [name for name in stored if "critic" in name or "projection" in name]
    assert "auto_map" not in (tmp_path / "out" / "config.json").read_text()
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    ids = AutoTokenizer.from_pretrained(tmp_path / "out")("a happy film", return_tensors="pt")
    model = checkpoint.load(tmp_path / "out")
    own = checkpoint.load_tokenizer(tmp_path / "out")("a happy film", return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(plain(**ids).logits, model(**own).logits)


@pytest.mark.parametrize(
    "change",
    [
        {"intermediate": "mi", "mixup_beta": 0.4},
        {"intermediate": "cos", "layer_map": "emd", "teacher_cache": False},
    ],
)
def test_an_interrupted_run_resumes_to_the_same_file(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    config, calls = replace(CONFIG, **change), iter(range(100))
    plain = Objective.__call__
    few: dict[str, Any] = {"data": folders["few"]}  # seen again: outputs are stored

    def interrupting(self: Objective, *inputs: Any) -> dict[str, Term]:
        if next(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, *inputs)

    with monkeypatch.context() as patch:
        patch.setattr(Objective, "__call__", interrupting)
        with pytest.raises(KeyboardInterrupt):
            run(folders, tmp_path / "cut", config, **few)
    assert not (tmp_path / "cut").exists()
    run(folders, tmp_path / "cut", config, resume=True, **few)
    run(folders, tmp_path / "whole", config, **few)
    first, second = (load_file(tmp_path / n / "model.safetensors") for n in ("cut", "whole"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_labels_alone_teach_from_labelled_rows_alone(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    config = replace(CONFIG, intermediate="none", pred_weight=0.0, hard_weight=1.0, limit_labels=16)
    record = run(folders, tmp_path / "out", config)
    assert record.details["rows"] == 16
    assert all(line["hard"] > 0 for line in record.details["log"])


@pytest.mark.parametrize("name", ["mse", "pkd", "mi"])
@pytest.mark.parametrize("layer_map", ["skip", "emd"])
def test_stored_outputs_teach_in_bfloat16(
    folders: dict[str, Path], tmp_path: Path, built: list[Path], name: Any, layer_map: str
) -> None:
    config = replace(CONFIG, intermediate=name, layer_map=layer_map, bf16=True, max_steps=2)
    record = run(folders, tmp_path / "out", config, data=folders["few"])
    assert record.details["steps"] == 2
    assert len(built) == 1


def test_a_narrow_student_is_made_at_random(folders: dict[str, Path], tmp_path: Path) -> None:
    narrow: dict[str, Any] = {"student_width": 16, "student_init": "random"}
    for name in ("mse", "mi", "pkd"):
        run(folders, tmp_path / name, replace(CONFIG, intermediate=name), **narrow)  # pyright: ignore[reportArgumentType]
        assert width(checkpoint.load(tmp_path / name)) == 16
    for wrong, said in (
        ({"student_init": "cut"}, "a cut keeps"),
        ({"student_width": 12}, "multiple of 8"),
    ):
        with pytest.raises(ConfigError, match=said):
            run(folders, tmp_path / "wrong", CONFIG, **(narrow | wrong))


def distil(root: Path, out: Path) -> None:
    folders = {path.name: path for path in root.iterdir()}
    for name in ("mse", "mi"):
        config = replace(CONFIG, intermediate=name, per_device_train_batch_size=4, hard_weight=0.3)  # pyright: ignore
        run(folders, out / name, config)


def test_two_processes_distil_like_one(folders: dict[str, Path], tmp_path: Path) -> None:
    """For mutual information too: each process compares its texts with those of both."""
    processes.in_two(distil, folders["teacher"].parent, tmp_path / "two")
    for name in ("mse", "mi"):
        config = replace(CONFIG, intermediate=name, hard_weight=0.3)  # pyright: ignore
        one = run(folders, tmp_path / "one" / name, config)
        two = Run.load(tmp_path / "two" / name)
        for a, b in zip(one.details["log"], two.details["log"], strict=True):
            for part in ("loss", "hard", "pred", "intermediate", "grad_norm"):
                assert a[part] == pytest.approx(b[part], rel=1e-3, abs=1e-5), (name, part)
        first, second = (
            load_file(tmp_path / n / name / "model.safetensors") for n in ("one", "two")
        )
        for key in first:
            torch.testing.assert_close(first[key], second[key], atol=5e-5, rtol=0)


# --------------------------------------------------------------------------------- what is refused


MISTAKES: dict[str, tuple[dict[str, Any], dict[str, Any], type[Exception], str]] = {
    "nothing teaches": ({}, {"teacher": None, "student": "plain"}, ConfigError, "hard_weight to 1"),
    "no student": ({}, {"student_layers": None}, ConfigError, "name one"),
    "too many layers": ({}, {"student_layers": 9}, ConfigError, "between 1 and 3 layers"),
    "map out of range": (
        {"intermediate": "mse", "layer_map": "0:0,5:1"},
        {},
        ConfigError,
        "are 0 to 2",
    ),
    "no map": (
        {"intermediate": "mse", "layer_map": "first"},
        {},
        ConfigError,
        "skip, last, final, emd",
    ),
    "one row a batch": (
        {"intermediate": "mi", "per_device_train_batch_size": 1},
        {},
        ConfigError,
        "at least 2",
    ),
    "one row a batch, for the loss that is chosen": (
        {"intermediate": "auto", "per_device_train_batch_size": 1},
        {},
        ConfigError,
        "at least 2",
    ),
    "mixup of words without a teacher": (
        {"hard_weight": 1.0, "mixup_beta": 0.4, "intermediate": "none"},
        {"teacher": None, "student": "plain", "data": "words"},
        ConfigError,
        "unset mixup_beta",
    ),
    "more tokens than positions": ({"context": 71}, {}, ConfigError, "at most 70"),
    "an untrained head": ({"pred_weight": 0.0}, {}, ConfigError, "above 0"),
    "augmented texts that nobody labels": (
        {"augment": ("swap",), "pred_weight": 0.0, "hard_weight": 1.0, "intermediate": "none"},
        {},
        ConfigError,
        "set pred_weight to 1",
    ),
    "a decoder as a student": (
        {"hard_weight": 1.0},
        {"teacher": None, "student": "decoder"},
        CompatibilityError,
        "must be an encoder.*of type llama",
    ),
    "a decoder as a teacher": ({}, {"teacher": "decoder"}, CompatibilityError, "use attar prune"),
    "copies of nothing": ({"repeated": True}, {}, ConfigError, "name augmenters"),
    "a mask model that is not named": ({"augment": ("mlm",)}, {}, ConfigError, "mlm"),
    "ce on one output": (
        {"pred_loss": "ce"},
        {"task": "regression"},
        ConfigError,
        "set pred_loss to mse",
    ),
    "no data": ({}, {"data": Path("/no/such")}, DataError, "/no/such"),
    "no teacher there": ({}, {"teacher": "/no/such"}, DataError, "/no/such"),
    "a teacher without this task": (
        {},
        {"teacher": "plain", "student_layers": 2},
        CompatibilityError,
        "no head",
    ),
}


def words() -> DatasetDict:
    """Every word is tagged as good or not."""
    made = {}
    for name, rows in encoders.documents().items():
        texts = [text.split() for text in rows["text"]]
        tags = [["GOOD" if word in encoders.GOOD else "O" for word in text] for text in texts]
        made[name] = Dataset.from_dict({"words": texts, "label": tags})
    return DatasetDict(made)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny.model("llama").config
    config.num_labels = 2
    folder = tmp_path_factory.mktemp("decoder")
    checkpoint.save(LlamaForSequenceClassification(config), folder, tokenizer=encoders.tokenizer())
    return folder


@pytest.mark.parametrize("name", MISTAKES)
def test_what_cannot_learn_is_refused_before_training(
    name: str, folders: dict[str, Path], tmp_path: Path, decoder: Path
) -> None:
    change, options, error, said = MISTAKES[name]
    given = folders | {"words": words(), "decoder": decoder}
    options = {k: given.get(v, v) if isinstance(v, str) else v for k, v in options.items()}
    with pytest.raises(error, match=said):
        run(folders, tmp_path / "out", replace(CONFIG, **change), **options)
    assert list(tmp_path.iterdir()) == []


def test_other_tokens_can_only_be_compared_text_by_text(
    folders: dict[str, Path], tmp_path: Path, built: list[Path]
) -> None:
    other = encoders.tokenizer()
    other.add_tokens(["zebra"])
    checkpoint.save(encoders.encoder(vocab_size=70), tmp_path / "s", tokenizer=other)
    with pytest.raises(CompatibilityError, match="text"):
        run(
            folders,
            tmp_path / "out",
            replace(CONFIG, intermediate="mse"),
            student=tmp_path / "s",
        )
    for name in ("none", "mi"):
        config = replace(CONFIG, intermediate=name, pool="mean", teacher_cache=False)  # pyright: ignore[reportArgumentType]
        record = run(folders, tmp_path / name, config, student=tmp_path / "s")
        assert record.details["steps"] == CONFIG.max_steps
    assert len(built) == 2  # a teacher that is run on every batch would read the student's tokens
    with pytest.raises(CompatibilityError, match="one batch for both"):
        changed = replace(CONFIG, intermediate="mi", mixup_beta=0.4)
        run(folders, tmp_path / "mixed", changed, student=tmp_path / "s")


def test_a_teacher_of_another_task_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    three = encoders.documents()
    for name, rows in three.items():
        labels = [i % 3 for i in range(len(rows))]
        three[name] = rows.remove_columns("label").add_column("label", labels)  # pyright: ignore
    with pytest.raises(CompatibilityError, match="takes 3 outputs, but the teacher has 2"):
        run(folders, tmp_path / "out", CONFIG, data=three)
    assert list(tmp_path.iterdir()) == []


def test_a_student_larger_than_its_teacher_is_told(
    folders: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.save(
        encoders.encoder(num_hidden_layers=5), tmp_path / "large", tokenizer=encoders.tokenizer()
    )
    config = replace(CONFIG, intermediate="none", max_steps=1)
    given = {"student": tmp_path / "large", "student_layers": None}
    with pytest.raises(CompatibilityError, match="swap the two, or set smaller_teacher"):
        run(folders, tmp_path / "out", config, **given)
    run(folders, tmp_path / "out", replace(config, smaller_teacher=True), **given)
    assert "more than its teacher's" in caplog.text


def test_a_chain_of_augmenters_may_be_one_word() -> None:
    for one in (("swap,delete",), ("swap+delete",), ("swap", "delete"), ["swap", "delete"]):
        assert DistillConfig(augment=one).augment == ("swap", "delete")  # pyright: ignore
    with pytest.raises(ConfigError, match="augment must be of swap"):
        DistillConfig(augment=("swap,wrong",))


def test_a_teacher_with_the_classes_in_another_order_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    turned = checkpoint.load(folders["teacher"])
    turned.config.id2label = {0: "1", 1: "0"}
    turned.config.label2id = {"1": 0, "0": 1}
    checkpoint.save(turned, tmp_path / "turned", tokenizer=encoders.tokenizer())
    with pytest.raises(CompatibilityError, match="another order"):
        run(folders, tmp_path / "out", CONFIG, teacher=tmp_path / "turned")


def test_mixup_of_pairs_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    config, typed = replace(CONFIG, mixup_beta=0.4), encoders.tokenizer()
    typed.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    pairs = encoders.documents(pair=True)
    with pytest.raises(ConfigError, match="token types"):
        run(folders, tmp_path / "out", config, data=pairs, tokenizer=typed)
    assert list(tmp_path.iterdir()) == []


def test_unlabelled_rows_learn_from_the_teacher_alone(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    config = replace(CONFIG, limit_labels=8, hard_weight=0.5, intermediate="none")
    record = run(folders, tmp_path / "out", config)
    assert record.details["rows"] == 160
    hard = [line["hard"] for line in record.details["log"]]
    assert 0 < max(hard) < 10


@pytest.mark.parametrize(
    "kind", ["regression", "token_classification", "multi_label", "question_answering"]
)
def test_other_tasks_distil_too(kind: str, tmp_path: Path) -> None:
    texts = {name: rows["text"] for name, rows in encoders.documents().items()}
    columns: dict[str, Callable[[list[str]], dict[str, Any]]] = {
        "regression": lambda t: {"text": t, "label": [len(x) / 50 for x in t]},
        "multi_label": lambda t: {"text": t, "label": [_properties(x) for x in t]},
        "question_answering": lambda t: {
            "question": ["last"] * len(t),
            "context": t,
            "answers": [{"text": [x.split()[-1]], "answer_start": [x.rindex(" ") + 1]} for x in t],
        },
    }
    data = words()
    if kind in columns:
        data = {name: Dataset.from_dict(columns[kind](t)) for name, t in texts.items()}
    data = DatasetDict(data)
    checkpoint.save(
        encoders.encoder().base_model, tmp_path / "plain", tokenizer=encoders.tokenizer()
    )
    config = replace(CONFIG, hard_weight=1.0, max_steps=20, learning_rate=3e-3)
    first = distill(
        tmp_path / "plain", data, teacher=None, output_dir=tmp_path / "teacher", config=config
    )
    assert first.details["task"]["kind"] == kind
    config = replace(CONFIG, intermediate="mse", hard_weight=0.1, limit_labels=40)
    if kind in ("regression", "multi_label"):  # a mixture with an unlabelled text has no label
        config = replace(config, mixup_beta=0.4)
    stored = first.details["task"]
    task = Task(**stored | {"labels": tuple(stored["labels"])})
    own, kept = checkpoint.load(tmp_path / "teacher"), load_with_head(tmp_path / "teacher", task)
    for name, value in own.state_dict().items():
        torch.testing.assert_close(kept.state_dict()[name], value)
    record = distill(
        None,
        data,
        teacher=tmp_path / "teacher",
        student_layers=2,
        output_dir=tmp_path / "out",
        config=config,
    )
    assert record.details["primary"] in record.quality["after"]
    log = record.details["log"]
    assert log[-1]["loss"] < log[0]["loss"]


def _properties(text: str) -> list[str]:
    good = any(word in encoders.GOOD for word in text.split())
    return ["good"] * good + ["long"] * (len(text) > 40)
