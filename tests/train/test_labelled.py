"""Training on labelled rows, with a loss of no paper: whatever is stored, shared or interrupted,
the student learns the same."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import DatasetDict
from torch import Tensor, nn

import encoders
from attar.data.labelled.load import load_labelled
from attar.data.sources import Batch
from attar.errors import ConfigError
from attar.train.features import attention_ce
from attar.train.labelled import LabelledConfig, LabelledLoss, Sharing, train_labelled
from attar.train.labelled_task import LabelledTask
from attar.train.outputs import CachedOutputs, FeatureRequest, TeacherOutputs, outputs_of
from attar.train.trainer import Compute, ExactTrainer, Term

CONFIG = LabelledConfig(
    max_steps=6,
    per_device_train_batch_size=8,
    learning_rate=1e-3,
    logging_steps=2,
    save_steps=2,
    context=32,
)
MAPS = FeatureRequest(attention=(1,))


def task(rows: int = 12, **changes: Any) -> LabelledTask:
    documents, described = load_labelled(encoders.documents(rows))
    given: dict[str, Any] = {
        "student": encoders.encoder(num_hidden_layers=2, seed=1),
        "teacher": encoders.encoder(),
        "tokenizer": encoders.tokenizer(),
        "documents": documents,
        "task": described,
    }
    return LabelledTask(**given | changes)


def loss(*, interrupt_at: int | None = None, maps: bool = False) -> LabelledLoss:
    """Squared difference of logits, and cross-entropy of an attention map; a signal at a step."""
    calls = iter(range(100))

    def make(teacher: TeacherOutputs | None) -> Compute:
        def compute(model: nn.Module, batch: Batch) -> dict[str, Term]:
            if next(calls) == interrupt_at:
                os.kill(os.getpid(), signal.SIGTERM)
            request = MAPS if maps else FeatureRequest()
            student = outputs_of(model, batch, task=encoders.BINARY, request=request)
            assert teacher is not None
            target = teacher(batch)
            parts = {"pred": Term((student.logits - target.logits).square().mean(-1), per="items")}
            if maps:
                mask = batch["attention_mask"]
                apart = attention_ce(student.attention[1], target.attention[1], mask=mask)
                parts["maps"] = Term(apart, per="tokens")
            return parts

        return compute

    request = MAPS if maps else FeatureRequest()
    return LabelledLoss(make=make, student=request, teacher=request)


def train(config: LabelledConfig, state: Path | None = None, **options: Any) -> dict[str, Tensor]:
    """The weights of a new student after a run."""
    job = options.pop("job", None) or task()
    train_labelled(job, options.pop("loss", loss()), config=config, state=state, **options)
    return job.student.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


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


def test_every_parameter_is_in_the_optimiser_once_and_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Published scripts leave biases and norms out."""
    made: list[torch.optim.Optimizer] = []
    create = ExactTrainer.create_optimizer

    def spy(self: ExactTrainer, *given: Any) -> torch.optim.Optimizer:
        made.append(create(self, *given))
        return made[-1]

    monkeypatch.setattr(ExactTrainer, "create_optimizer", spy)
    job = task()
    before = {name: p.detach().clone() for name, p in job.student.named_parameters()}
    config = replace(CONFIG, max_steps=1, warmup_steps=0, learning_rate=1e-2, weight_decay=0.1)
    train(config, job=job)
    (optimiser,) = made
    held = sorted(id(p) for group in optimiser.param_groups for p in group["params"])
    assert held == sorted(id(p) for p in job.student.parameters())
    assert all(p.requires_grad for p in job.student.parameters())
    still = [n for n, p in job.student.named_parameters() if torch.equal(p, before[n])]
    # what is added to all keys alike changes no attention
    assert all(name.endswith("key.bias") for name in still)


@pytest.mark.parametrize(
    "change",
    [{}, {"augment": ("swap", "neighbour"), "copies": 2, "repeated": True}, {"maps": True}],
)
def test_an_interrupted_run_resumes_to_the_same_weights(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    maps = "maps" in change
    config = CONFIG if maps else replace(CONFIG, **change)
    cut = loss(interrupt_at=3, maps=maps)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "cut", loss=cut)
    resumed = train(config, tmp_path / "cut", loss=loss(maps=maps), resume=True)
    assert same(resumed, train(config, tmp_path / "whole", loss=loss(maps=maps)))


def test_stored_outputs_teach_what_the_teacher_does(tmp_path: Path, built: list[Path]) -> None:
    """Also where copies of unequal lengths share the batch of their text."""
    config = replace(CONFIG, augment=("delete",), augment_p=0.4, copies=2)
    for repeated in (False, True):
        stored, live = (
            train(replace(config, repeated=repeated, teacher_cache=cache), tmp_path / f"{cache}")
            for cache in (True, False)
        )
        for name in live:
            torch.testing.assert_close(stored[name], live[name], atol=1e-4, rtol=1e-3)
        assert not same(stored, task().student.state_dict())
        (tmp_path / "True").rename(tmp_path / f"done {repeated}")
    assert len(built) == 2


def test_outputs_are_stored_where_rows_are_seen_again(tmp_path: Path, built: list[Path]) -> None:
    config = replace(CONFIG, max_steps=2)
    train(config, tmp_path / "many", job=task(rows=64))
    train(config)  # nowhere to store them
    assert not built
    train(config, tmp_path / "few")
    assert built == [tmp_path / "few" / "teacher"]


def test_runs_share_the_outputs_of_plain_texts_alone(tmp_path: Path, built: list[Path]) -> None:
    cache = tmp_path / "cache"
    sharing = Sharing(cache)
    first, second = (train(CONFIG, sharing=sharing) for _ in range(2))
    assert same(first, second)
    assert built[0] == built[1]
    folders = [path for path in cache.iterdir() if path.is_dir()]
    swapped = replace(CONFIG, augment=("swap",))
    train(swapped, sharing=sharing)
    assert built[2] not in folders
    assert [path for path in cache.iterdir() if path.is_dir()] == folders == built[:1]


def test_runs_that_draw_the_same_augmented_texts_share_the_outputs_of_those(
    tmp_path: Path, built: list[Path]
) -> None:
    cache = tmp_path / "cache"
    sharing = Sharing(cache, augmented=True)
    swapped = replace(CONFIG, augment=("swap",))
    first, second = (train(swapped, sharing=sharing) for _ in range(2))
    assert same(first, second)
    train(replace(swapped, seed=1), sharing=sharing)  # draws others
    assert built[0] == built[1] != built[2]
    assert sorted(path for path in cache.iterdir() if path.is_dir()) == sorted(set(built))


def test_a_teacher_reads_its_own_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The student's tokenizer gives other ids; the stored logits are those of the teacher's own."""
    own, other = encoders.tokenizer(), encoders.tokenizer(reverse=True)
    assert own("good film")["input_ids"] != other("good film")["input_ids"]
    job = task(tokenizer=other, teacher_tokenizer=own)
    texts = job.documents["train"]["text"]
    errors: list[float] = []
    look_up = CachedOutputs.__call__

    def spy(self: CachedOutputs, batch: Batch) -> Any:
        outputs = look_up(self, batch)
        inputs = own(
            [texts[i] for i in batch["source"].tolist()], return_tensors="pt", padding=True
        )
        with torch.no_grad():
            apart = outputs.logits - job.teacher(**inputs).logits  # pyright: ignore
        errors.append(float(apart.abs().max()))
        return outputs

    monkeypatch.setattr(CachedOutputs, "__call__", spy)
    train(replace(CONFIG, bf16=False), tmp_path / "state", job=job)
    assert len(errors) == CONFIG.max_steps
    assert max(errors) < 1e-4
    with pytest.raises(ConfigError, match="say where"):
        train(CONFIG, job=job)


def test_rows_without_a_label_are_left_out_where_no_teacher_says_anything() -> None:
    documents, described = load_labelled(encoders.documents(40), limit_labels=16)
    job = task(documents=DatasetDict(documents), task=described)

    def make(teacher: TeacherOutputs | None) -> Compute:
        def compute(model: nn.Module, batch: Batch) -> dict[str, Term]:
            assert teacher is None
            assert (batch["labels"] >= 0).all()
            logits = outputs_of(model, batch, task=described, request=FeatureRequest()).logits
            return {"loss": Term(logits.square().mean(-1), per="labelled")}

        return compute

    training, rows = train_labelled(job, LabelledLoss(make=make), config=CONFIG)
    assert (training.steps, rows) == (CONFIG.max_steps, 16)
    _, rows = train_labelled(job, loss(), config=CONFIG)
    assert rows == 40


def test_copies_come_into_the_batch_of_their_text() -> None:
    config = replace(CONFIG, max_steps=2, augment=("swap",), copies=2, repeated=True)
    job, seen = task(), list[Tensor]()
    plain = loss()

    def make(teacher: TeacherOutputs | None) -> Compute:
        def compute(model: nn.Module, batch: Batch) -> dict[str, Term]:
            seen.append(batch["source"])
            return plain.make(teacher)(model, batch)

        return compute

    _, rows = train_labelled(job, replace(plain, make=make), config=config)
    assert rows == 3 * len(job.documents["train"])
    for sources in seen:
        groups = sources.reshape(8, 3)
        assert (groups == groups[:, :1]).all()


def test_passes_over_the_rows_become_steps() -> None:
    config = replace(CONFIG, num_train_epochs=1.5)
    assert train_labelled(task(rows=40), loss(), config=config)[0].steps == 8  # 60 rows, 8 a step


def test_models_compute_attention_as_before_once_maps_were_read() -> None:
    job = task()
    before = [m.config._attn_implementation for m in (job.student, job.teacher) if m]
    assert before == ["sdpa", "sdpa"]
    seen: list[str] = []
    plain = loss(maps=True)

    def make(teacher: TeacherOutputs | None) -> Compute:
        seen.extend(m.config._attn_implementation or "" for m in (job.student, job.teacher) if m)
        return plain.make(teacher)

    train_labelled(job, replace(plain, make=make), config=replace(CONFIG, max_steps=1))
    assert seen == ["eager", "eager"]
    assert [m.config._attn_implementation for m in (job.student, job.teacher) if m] == before
