"""`attar distill` with a budget: what is planned, what is written, and what is refused."""

import importlib.util
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import attar
import encoders
from attar import checkpoint
from attar.budget import Budget
from attar.data.data import Data
from attar.data.labelled.task import Task
from attar.data.vocabulary import content_hash
from attar.distillation import compress as compression
from attar.distillation.config import CompressorConfig
from attar.distillation.embeddings import embed_entries, entry_vectors, readable_entries
from attar.distillation.formats import ONNX_FOLDER, bytes_on_disk
from attar.distillation.material import Material
from attar.distillation.plan_files import PLAN_FILE, StoredPlans
from attar.distillation.planning import Planner
from attar.distillation.tables import report_lines
from attar.errors import (
    AttarError,
    BudgetError,
    CompatibilityError,
    ConfigError,
    DataError,
    MissingExtraError,
)
from attar.evaluation.labelled import predict_rows
from attar.measure.text_latency import text_latency
from attar.methods.compressor import StudentPlan
from attar.methods.distiller.config import DistillConfig
from attar.report.record import Run
from attar.train.outputs import CachedOutputs
from scene import run

SPACE = {
    "vocab_size": [260, 264, 270],
    "num_attention_heads": [1, 2],
    "hidden_size": [8, 16],
    "intermediate_size": [16, 24],
    "num_hidden_layers": [1, 2],
}
CONFIG = DistillConfig(
    max_steps=6,
    per_device_train_batch_size=8,
    learning_rate=1e-2,
    warmup_steps=0,
    pred_loss="kl",
    intermediate="pkd",
    layer_map="final",
    context=32,
    save_steps=6,
)
BUDGET = "bytes<=34KB"
HALF = CompressorConfig(storage="float16")


#: texts that are timed here, each once, in place of fifty; where other processes compute as well,
#: answers of two threads take most of a test
TEXTS = 2


@pytest.fixture(scope="module", autouse=True)
def few_texts_are_timed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("attar.distillation.report.TIMED", TEXTS)
        once = partial(text_latency, repeats=1)
        patched.setattr("attar.distillation.report.text_latency", once)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that learnt the task, its data, and a space of shapes that the data suffice for."""
    folder = tmp_path_factory.mktemp("compressor")
    (folder / "data").mkdir()
    for name, rows in encoders.documents().items():
        rows.to_csv(folder / "data" / f"{name}.csv")
    body: Any = encoders.encoder().base_model
    checkpoint.save(body, folder / "plain", tokenizer=encoders.tokenizer())
    config = replace(CONFIG, pred_loss="mse", intermediate="none", hard_weight=1.0, max_steps=60)
    attar.distill(
        folder / "plain",
        folder / "data",
        config=replace(config, learning_rate=3e-3),
        output_dir=folder / "teacher",
    )
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
    return folder


def distilled(root: Path, out: Path | None, **options: Any) -> Run:
    given: dict[str, Any] = {"teacher": root / "teacher", "data": root / "data", "config": CONFIG}
    if not {"budget", "plan"} & options.keys():
        given["budget"] = BUDGET
    given["compressor"] = CompressorConfig(space=str(root / "space.yaml"), plans=3)
    return attar.distill(**given | options, output_dir=out)


@pytest.fixture(scope="module")
def small(root: Path) -> tuple[Path, Run]:
    out = root / "small"
    return out, distilled(root, out)


@pytest.fixture(scope="module")
def probed(root: Path) -> tuple[Path, Run]:
    """A student of the better of two plans."""
    out = root / "probed"
    return out, distilled(root, out, compressor=probing(root))


def probing(root: Path) -> CompressorConfig:
    return CompressorConfig(space=str(root / "space.yaml"), plans=2, probe=2)


@pytest.fixture(scope="module")
def halved(root: Path) -> tuple[Path, Run]:
    """Of half the bytes a number, bounded in time, and of texts that are taken for code."""
    out, code = root / "halved", importlib.util.find_spec("tree_sitter_python")
    options = CompressorConfig(
        space=str(root / "space.yaml"),
        plans=1,
        storage="float16",
        code=None if code is None else "python",
    )
    budget = f"{BUDGET}, latency<=10s"
    return out, distilled(root, out, compressor=options, budget=budget)


def test_training_starts_from_embeddings_of_the_teacher_unless_random(root: Path) -> None:
    tables = {}
    for start in ("teacher", "random"):
        options = CompressorConfig(space=str(root / "space.yaml"), plans=1, embeddings=start)
        still = replace(CONFIG, max_steps=1, learning_rate=1e-12)
        out = root / f"from-{start}"
        distilled(root, out, compressor=options, config=still)
        student, tokenizer = checkpoint.load(out), AutoTokenizer.from_pretrained(out)
        tables[start] = student.get_input_embeddings().weight.detach().clone()
    assert not torch.allclose(tables["random"], tables["teacher"], atol=1e-3)
    teacher = checkpoint.load(root / "teacher")
    theirs = checkpoint.load_tokenizer(root / "teacher")
    entries = readable_entries(tokenizer, teacher=theirs, known=encoders.VOCAB)
    embed_entries(
        student, [*entries], entry_vectors(teacher, theirs, texts=[*entries.values()], context=32)
    )
    assert torch.allclose(student.get_input_embeddings().weight, tables["teacher"], atol=1e-6)


def test_probes_and_training_read_the_same_augmented_texts_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, build = list[Path](), CachedOutputs.build

    def spy(*given: Any, path: Path, **others: Any) -> None:
        built.append(path)
        build(*given, path=path, **others)

    monkeypatch.setattr(CachedOutputs, "build", spy)
    config = replace(CONFIG, max_steps=60, augment=("delete",), copies=2)
    record = distilled(root, root / "augmented", compressor=probing(root), config=config)
    assert len(built) == 3
    assert len(set(built)) == 1
    assert record.details["rows"] == 3 * len(encoders.documents()["train"])
    assert record.details["copies"] == 2


def test_a_student_is_a_plain_checkpoint_within_the_budget(
    root: Path, small: tuple[Path, Run]
) -> None:
    out, record = small
    model = AutoModelForSequenceClassification.from_pretrained(out).eval()
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert type(model).__name__ == "RobertaForSequenceClassification"
    assert (tokenizer.pad_token_id, model.config.pad_token_id) == (1, 1)
    assert model.config.max_position_embeddings == CONFIG.context + 2
    assert model.config.vocab_size == len(tokenizer)
    held = sum(bytes_on_disk(out, storage="float32").values())
    assert held == sum(record.details["report"]["bytes"].values()) <= 34_000
    assert record.budget is not None
    assert record.budget["met"]
    assert record.budget["constraints"][0]["achieved"] == held
    assert record.details["plans"][0]["bytes"] == held  # as it was promised
    # what the record says of it is what transformers makes of it
    texts = encoders.documents()["test"]
    with torch.no_grad():
        read = tokenizer(texts["text"][:], return_tensors="pt", padding=True, truncation=True)
        said = model(**read).logits
    right = (said.argmax(-1) == torch.tensor(texts["label"][:])).float().mean().item()
    assert right == pytest.approx(record.quality["after"]["accuracy"])


def test_the_tokenizer_saw_the_training_texts_alone(small: tuple[Path, Run]) -> None:
    config = json.loads((small[0] / "tokenizer_config.json").read_text())
    assert config["trained_on"] == content_hash(encoders.documents()["train"]["text"])


def test_the_report_compares_with_the_teacher(root: Path, small: tuple[Path, Run]) -> None:
    out, record = small
    report = record.details["report"]
    student, teacher = record.quality["after"]["accuracy"], record.quality["before"]["accuracy"]
    rows = encoders.documents()["test"].add_column("source", list(range(60)))  # pyright: ignore
    said = []
    for folder in (out, root / "teacher"):
        logits, _ = predict_rows(
            checkpoint.load(folder),
            rows,
            tokenizer=checkpoint.load_tokenizer(folder),
            task=encoders.BINARY,
            context=CONFIG.context,
        )
        said.append(torch.stack(logits).argmax(-1))
    assert report["agreement"] == pytest.approx((said[0] == said[1]).float().mean().item())
    assert report["chance"] == 0.5
    assert report["kept"] == pytest.approx(student / teacher)
    assert report["kept_above_chance"] == pytest.approx((student - 0.5) / (teacher - 0.5))
    assert [row["threads"] for row in report["latency"]] == [1, 2]
    for row in report["latency"]:
        for side in ("student", "teacher"):
            assert 1 <= row[side]["texts"] <= TEXTS  # as many as there was time for
            assert 0 < row[side]["p50"] <= row[side]["p95"]


def test_padding_does_not_change_what_a_student_says(small: tuple[Path, Run]) -> None:
    model, tokenizer = checkpoint.load(small[0]), checkpoint.load_tokenizer(small[0])
    model.eval()
    alone = tokenizer("a happy play", return_tensors="pt")
    padded = tokenizer("a happy play", padding="max_length", max_length=32, return_tensors="pt")
    with torch.no_grad():
        assert torch.allclose(model(**alone).logits, model(**padded).logits, atol=1e-5)


def test_every_parameter_learns(root: Path, small: tuple[Path, Run]) -> None:
    """The published scripts left biases and norms out of the optimiser."""
    material = Material.load(root / "teacher", Data.of(root / "data"), task=None, config=CONFIG)
    planner = Planner(material, CompressorConfig(), context=CONFIG.context, seed=CONFIG.seed)
    plan = StudentPlan.from_dict(small[1].details["plans"][0])
    before, after = planner.student(plan).state_dict(), checkpoint.load(small[0]).state_dict()
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_plans_alone_write_no_model_and_one_is_taken_by_its_rank(
    root: Path, tmp_path: Path
) -> None:
    """What a plan rests on is in its file, whatever options come with it later."""
    budget = f"{BUDGET}, macs<=1M"
    space = str(root / "space.yaml")
    made = CompressorConfig(space=space, plans=2, storage="float16", lowercase=True)
    options: dict[str, Any] = {"compressor": made, "config": replace(CONFIG, context=24)}
    options |= {"budget": budget, "plan_only": True}
    planned = distilled(root, tmp_path / "plans", **options)
    names = {path.name for path in (tmp_path / "plans").iterdir()}
    assert names == {PLAN_FILE, "attar.json"}
    stored = StoredPlans.read(tmp_path / "plans")
    assert [plan.to_dict() for plan in stored.plans] == planned.details["plans"]
    assert planned.details["plans"] == distilled(root, None, **options).details["plans"]
    unset = replace(CONFIG, context=DistillConfig().context)
    given: dict[str, Any] = {"plan": tmp_path / "plans", "budget": None, "rank": 2, "config": unset}
    taken = distilled(root, tmp_path / "second", **given)
    assert taken.settings["context"] == 24  # the plan's
    shape, model = stored.plans[1].shape, checkpoint.load(tmp_path / "second")
    assert all(getattr(model.config, name) == value for name, value in shape.to_dict().items())
    assert model.config.max_position_embeddings == 24 + 2
    assert model.dtype == torch.float16
    read = checkpoint.load_tokenizer(tmp_path / "second")
    assert read("FILM")["input_ids"] == read("film")["input_ids"]
    assert sum(taken.details["report"]["bytes"].values()) == stored.plans[1].bytes
    assert taken.budget is not None
    assert taken.budget["asked"] == budget
    row = taken.budget["constraints"][1]
    assert (row["key"], row["met"]) == ("macs", True)
    assert row["achieved"] == math.ceil(stored.plans[1].macs / 24)
    for other in ({"config": CONFIG}, {"compressor": CompressorConfig(storage="int8")}):
        with pytest.raises(
            ConfigError, match=r"expected (context 24|storage float16), as the plan"
        ):
            distilled(root, tmp_path / "third", **given | other)


def test_a_budget_that_is_given_comes_before_that_of_the_plan(root: Path) -> None:
    made = dict.fromkeys(("lowercase", "collapse_spaces"), False)
    made |= {"storage": "float32", "vocabulary": "bpe", "context": 24}
    stored = StoredPlans(Budget.parse("bytes<=1MB"), made, {}, [])
    for given in (None, Budget.parse("bytes<=2MB")):
        order = compression.Order(budget=given, plan="plan.json", config=DistillConfig())
        found = compression._as_planned(order, stored)
        assert found.budget == (given or stored.budget)
        assert found.config.context == 24
    with pytest.raises(ConfigError, match="a plan is there already"):
        compression.Order(budget=None, plan="plan.json", plan_only=True)


@pytest.mark.parametrize(
    ("changed", "kind", "said"),
    [
        ({"budget": "bytes<=20KB"}, BudgetError, r"20,000 bytes; plan 1 takes \d"),
        ({"budget": "params<=900"}, BudgetError, "900 parameters; plan 1 takes"),
        ({"compressor": CompressorConfig(storage="float16")}, ConfigError, "storage float32, as"),
        ({"compressor": CompressorConfig(lowercase=True)}, ConfigError, "lowercase False, as"),
        ({"config": replace(CONFIG, context=24)}, ConfigError, "context 32, as.*found 24"),
    ],
)
def test_a_plan_for_something_else_is_refused_before_training(
    root: Path, tmp_path: Path, changed: dict[str, Any], kind: type[AttarError], said: str
) -> None:
    distilled(root, tmp_path / "plans", plan_only=True)
    with pytest.raises(kind, match=said):
        distilled(root, tmp_path / "out", plan=tmp_path / "plans", **{"budget": None} | changed)
    assert not (tmp_path / "out").exists()


def test_a_plan_brings_its_context(root: Path, tmp_path: Path) -> None:
    distilled(root, tmp_path / "plans", plan_only=True)
    usual = replace(CONFIG, context=DistillConfig().context)
    record = distilled(root, tmp_path / "out", plan=tmp_path / "plans", budget=None, config=usual)
    assert record.settings["context"] == CONFIG.context


def test_texts_alone_do_not_hide_that_a_teacher_has_no_head(root: Path, tmp_path: Path) -> None:
    encoders.documents()["train"].remove_columns("label").to_csv(tmp_path / "texts.csv")
    with pytest.raises(CompatibilityError, match="distiller/teacher"):
        distilled(root, tmp_path / "out", teacher=root / "plain", data=tmp_path / "texts.csv")


def test_the_command_line_does_the_same(
    root: Path, small: tuple[Path, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["distill", "--teacher", root / "teacher", "--data", root / "data", "--plans", 3]
    words += ["--budget", BUDGET, "--space", root / "space.yaml", "-o", tmp_path / "out"]
    changed = {n: v for n, v in vars(CONFIG).items() if v != getattr(DistillConfig(), n)}
    words += [word for n, v in changed.items() for word in (f"--{n.replace('_', '-')}", v)]
    recipe = {"weight_decay": DistillConfig().weight_decay, "temperature": 1.0}
    words += [word for n, v in recipe.items() for word in (f"--{n.replace('_', '-')}", v)]
    assert run([str(word) for word in words]) == 0
    shown = capsys.readouterr().out
    assert "agreement" in shown
    assert "above chance, 50.0%" in shown
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (small[0] / name).read_bytes(), name
    record = Run.load(tmp_path / "out")
    assert record.settings["recipe"] == "compressor/default"
    assert record.settings["copies"] == 4
    assert record.details["copies"] == 0  # as the steps read less than all texts


def test_without_options_a_budget_has_a_recipe_of_its_own(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        "attar.distillation.distill.compress",
        lambda data, order, **given: seen.append((order, given)),
    )
    attar.distill(teacher=root / "teacher", data=root / "data", budget=BUDGET, output_dir="x")
    order, given = seen[0]
    assert given["recipe"] == "compressor/default"
    assert (order.config.pred_loss, order.config.learning_rate) == ("kl", 3e-4)


def test_a_probe_takes_the_plan_that_agrees_best(probed: tuple[Path, Run]) -> None:
    out, record = probed
    probes = record.details["probes"]
    assert sorted(one["plan"] for one in probes) == [1, 2]
    assert probes[0]["agreement"] == max(one["agreement"] for one in probes)
    assert record.details["chosen"] == probes[0]["plan"]
    shape = record.details["plans"][probes[0]["plan"] - 1]["shape"]
    config = checkpoint.load(out).config
    assert all(getattr(config, name) == value for name, value in shape.items())


def test_a_killed_run_goes_on_with_its_plans_and_probes(
    root: Path, probed: tuple[Path, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, calls = compression.DistillTask.train, list[int]()

    def dies(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(self.config.max_steps)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(self, *args, **kwargs)

    monkeypatch.setattr(compression.DistillTask, "train", dies)
    with pytest.raises(KeyboardInterrupt):
        distilled(root, tmp_path / "out", compressor=probing(root))
    monkeypatch.setattr(compression.Planner, "search", None)  # nothing is searched again
    resumed = distilled(root, tmp_path / "out", compressor=probing(root), resume=True)
    assert calls == [2, 2, 2, CONFIG.max_steps]  # a probe, the one that died and again, the student
    assert resumed.details["probes"] == probed[1].details["probes"]
    for name in ("model.safetensors", "tokenizer.json", PLAN_FILE):
        assert (tmp_path / "out" / name).read_bytes() == (probed[0] / name).read_bytes()


def test_half_the_bytes_a_number_hold_twice_the_numbers(
    small: tuple[Path, Run], halved: tuple[Path, Run]
) -> None:
    out, record = halved
    held = sum(bytes_on_disk(out, storage="float16").values())
    assert record.details["plans"][0]["bytes"] == held <= 34_000
    assert record.details["plans"][0]["parameters"] > small[1].details["plans"][0]["parameters"]
    assert {p.dtype for p in checkpoint.load(out).parameters()} == {torch.float16}
    assert record.cost["after"]["bytes"] == 2 * record.cost["after"]["params"]


def test_pairs_are_read_together(tmp_path: Path, root: Path) -> None:
    rows = encoders.documents(64, pair=True)
    (tmp_path / "data").mkdir()
    for name, split in rows.items():
        split.to_csv(tmp_path / "data" / f"{name}.csv")
    teacher = encoders.encoder(task=Task("single_label", ("0", "1"), pair=True))
    checkpoint.save(teacher, tmp_path / "teacher", tokenizer=encoders.tokenizer())
    distilled(
        root,
        tmp_path / "out",
        teacher=tmp_path / "teacher",
        data=tmp_path / "data",
        config=replace(CONFIG, max_steps=2),
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer("a film", "the play")["input_ids"]
    assert ids.count(tokenizer.sep_token_id) == 3  # <s> a </s></s> b </s>
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    train = rows["train"]
    assert config["trained_on"] == content_hash([*train["text"], *train["text_pair"]])


def test_a_percentage_is_of_the_teacher(root: Path, tmp_path: Path) -> None:
    teacher = checkpoint.load(root / "teacher")
    limit = round(0.5 * teacher.num_parameters())
    planned = distilled(root, None, plan_only=True, budget="params<=50%")
    assert all(plan["parameters"] <= limit for plan in planned.details["plans"])


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"budget": "bytes<=10KB"}, BudgetError, "smallest"),
        ({"budget": "blocks<=20K"}, BudgetError, "found blocks"),
        ({"budget": "kv_bytes<=2KB"}, BudgetError, "found kv_bytes"),
        ({"teacher": None}, ConfigError, "learns from a teacher"),
        ({"model": "teacher"}, ConfigError, "shape from the budget"),
        ({"student_layers": 2}, ConfigError, "shape from the budget"),
        ({"student_width": 8}, ConfigError, "shape from the budget"),
        ({"rank": 0}, ConfigError, "rank must be"),
        ({"rank": 9}, ConfigError, "rank from 1 to"),
        ({"plan": "nowhere.json", "budget": None}, DataError, "no plan at"),
        ({"plan": "data", "budget": None}, DataError, "no plan at"),
        ({"budget": None}, ConfigError, "made to a budget"),
        ({"data": "numbers.csv"}, AttarError, "the teacher"),
        ({"compressor": CompressorConfig(space="nowhere.yaml")}, ConfigError, "nowhere.yaml"),
        ({"output_dir": None}, ConfigError, "say where"),
    ],
)
def test_what_is_refused(
    root: Path,
    tmp_path: Path,
    options: dict[str, Any],
    kind: type[AttarError],
    said: str,
) -> None:
    numbers = {"text": [f"word {i}" for i in range(60)], "label": [i / 7 for i in range(60)]}
    Dataset.from_dict(numbers).to_csv(root / "numbers.csv")
    for name in ("model", "data", "plan"):
        if options.get(name):
            options = options | {name: root / options[name]}
    if "budget" in options and options["budget"] is None and "plan" not in options:
        options = options | {"plan": None}
    given: dict[str, Any] = {"output_dir": tmp_path / "out"} | options
    with pytest.raises(kind, match=said):
        distilled(root, given.pop("output_dir"), **given)
    assert not (tmp_path / "out").exists()


def test_a_loss_that_cannot_learn_the_task_is_refused_before_the_search(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher: Any = encoders.encoder(task=Task("regression"))
    checkpoint.save(teacher, tmp_path / "ratings", tokenizer=encoders.tokenizer())
    texts = encoders.documents()["train"].select_columns("text")
    texts.to_parquet(tmp_path / "texts.parquet")
    monkeypatch.setattr(compression.Planner, "search", None)
    given = {"teacher": tmp_path / "ratings", "data": tmp_path / "texts.parquet"}
    with pytest.raises(ConfigError, match="set pred_loss to mse"):
        distilled(root, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_a_budget_larger_than_the_teacher_is_told(root: Path, tmp_path: Path) -> None:
    teacher = encoders.encoder(num_hidden_layers=1, intermediate_size=8, hidden_size=8)
    checkpoint.save(teacher, tmp_path / "tiny", tokenizer=encoders.tokenizer())
    with pytest.raises(BudgetError, match=r"besides embeddings, and the teacher \d"):
        distilled(root, tmp_path / "out", teacher=tmp_path / "tiny")
    assert not (tmp_path / "out").exists()


def test_a_damaged_plan_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / PLAN_FILE).write_text('{"budget": "bytes<=1MB", "plans": []}')
    with pytest.raises(DataError, match=r"plan\.json' is damaged \(storage"):
        distilled(root, tmp_path / "out", plan=tmp_path, budget=None)


def test_a_rank_and_a_probe_contradict_each_other(root: Path, tmp_path: Path) -> None:
    options = CompressorConfig(space=str(root / "space.yaml"), probe=2)
    with pytest.raises(ConfigError, match="so does rank"):
        distilled(root, tmp_path / "out", rank=2, compressor=options)


def test_a_teacher_in_memory_needs_a_folder(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="save both"):
        distilled(root, tmp_path / "out", teacher=encoders.encoder())


def test_texts_without_labels_suffice(
    root: Path, small: tuple[Path, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels are for the report alone: without them the student is the same."""
    (tmp_path / "data").mkdir()
    for name, rows in encoders.documents().items():
        rows.remove_columns("label").to_csv(tmp_path / "data" / f"{name}.csv")
    record = distilled(root, tmp_path / "out", data=tmp_path / "data")
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (small[0] / name).read_bytes(), name
    assert record.quality == {}
    assert record.details["report"]["agreement"] == small[1].details["report"]["agreement"]
    assert "kept" not in record.details["report"]
    assert dict(report_lines(record)).keys() >= {"agreement", "on disk"}


def test_int8_counts_the_quantised_file(root: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = CompressorConfig(space=str(root / "space.yaml"), plans=1, storage="int8")
    record = distilled(root, tmp_path / "out", compressor=options, budget="bytes<=16KB")
    held = bytes_on_disk(tmp_path / "out", storage="int8")
    assert held == record.details["report"]["bytes"]
    assert record.details["plans"][0]["bytes"] == sum(held.values()) <= 16_000
    names = {file.name for file in (tmp_path / "out" / ONNX_FOLDER).iterdir()}
    assert names == {"model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json"}
    whole = sum(p.numel() for p in checkpoint.load(tmp_path / "out").parameters())
    assert whole == record.details["plans"][0]["parameters"] > 16_000 / 4
    # what is scored is the file, not the checkpoint beside it
    session = onnxruntime.InferenceSession(tmp_path / "out" / ONNX_FOLDER / "model.onnx")
    tokenizer, rows = checkpoint.load_tokenizer(tmp_path / "out"), encoders.documents()["test"]
    right = []
    for row in rows:
        given = tokenizer([row["text"]], return_tensors="np", truncation=True, max_length=32)
        (logits,) = session.run(["logits"], {name: given[name] for name in given})  # pyright: ignore
        right.append(logits.argmax() == row["label"])
    assert record.quality["after"]["accuracy"] == pytest.approx(sum(right) / len(right))


def test_a_budget_on_time_is_timed_here(root: Path, halved: tuple[Path, Run]) -> None:
    record = halved[1]
    assert all(plan["milliseconds"] > 0 for plan in record.details["plans"])
    assert record.budget is not None
    row = record.budget["constraints"][1]
    assert (row["key"], row["met"]) == ("latency", True)
    assert row["achieved"] > 0
    with pytest.raises(BudgetError, match="latency"):
        distilled(root, None, budget="latency<=1us", plan_only=True)


def test_what_the_report_needs_is_there_before_anything_is_trained(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("attar.data.identifiers.import_module", absent)
    monkeypatch.setattr(compression, "Planner", None)
    with pytest.raises(MissingExtraError, match="tree_sitter"):
        distilled(root, tmp_path / "out", compressor=CompressorConfig(code="python"))
    assert not (tmp_path / "out").exists()


def test_the_published_sizes_are_of_float32() -> None:
    with pytest.raises(ConfigError, match="float32 with cost_model paper"):
        CompressorConfig(cost_model="paper", storage="int8")


def test_flips_are_counted_of_code(halved: tuple[Path, Run]) -> None:
    pytest.importorskip("tree_sitter_python")
    flips = halved[1].details["report"]["flips"]
    assert (flips["rows"], flips["language"]) == (60, "python")
    assert 0 <= flips["student"] <= 1
    assert "renamed" in dict(report_lines(halved[1]))["flips"]
