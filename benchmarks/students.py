"""What the AutoDistil benchmarks share: a SuperLM of the real MiniLM, trained once and kept, and
how its students learn a task."""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from labelled import corpus, minilm
from transformers import PreTrainedModel

from attar import artefacts, checkpoint
from attar.arch import Arch, Space
from attar.data.labelled.load import load_labelled
from attar.data.sequences import Sequences, load_sequences
from attar.evaluation.metrics import primary
from attar.methods.autodistil import AutoDistilConfig, train_super_lm
from attar.methods.distiller.config import DistillConfig
from attar.methods.distiller.distill import DistillTask
from attar.search.elastic_training import SupernetConfig
from attar.search.parents import make_parent
from attar.search.supernet import Supernet

CONTEXT = 64
#: 54 students of a teacher with 6 layers, 12 heads of 32, 384 channels and 1,536 neurons
SPACE = Space((2, 4, 6), (96, 192, 288), (4, 8, 12), intermediate_ratio=(2.0, 4.0), head_dim=(32,))
TRAINING = SupernetConfig(
    max_steps=1_500,
    per_device_train_batch_size=32,
    learning_rate=5e-4,
    warmup_steps=50,
    context=CONTEXT,
    save_steps=50,
    logging_steps=25,
)
OPTIONS = AutoDistilConfig()


def name_of(arch: Arch) -> str:
    """Layers, heads, width and ratio, as the paper writes a student."""
    shape, hidden = arch.layers[0], arch.hidden_size or 1
    ratio = shape.intermediate_size / hidden
    return f"{len(arch.layers)}/{shape.num_attention_heads}/{hidden}/{ratio:g}"


def teacher() -> PreTrainedModel:
    return checkpoint.load(minilm()).float()


def books(data: Path, split: str, rows: int) -> Sequences:
    """Unlabelled text that no task is drawn from."""
    texts = load_sequences(
        data / "books", checkpoint.load_tokenizer(minilm()), split=split, context=CONTEXT
    )
    return texts.select(torch.randperm(len(texts), generator=torch.manual_seed(0))[:rows].tolist())


def super_lm(
    data: Path, *, space: Space = SPACE, config: SupernetConfig = TRAINING, name: str = "superlm"
) -> Supernet:
    """The trained SuperLM; an interrupted training goes on."""
    folder = artefacts.home() / "benchmarks" / "autodistil" / f"{name}-{config.max_steps}"
    weights, model = folder / "weights.pt", teacher()
    if not weights.exists():
        texts = books(data, "train", config.rows_seen)
        net, _ = train_super_lm(
            model,
            space,
            texts=texts,
            options=OPTIONS,
            config=config,
            state_dir=folder / "state",
            resume=True,
        )
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(net.parent.state_dict(), folder / "partial.pt")
        (folder / "partial.pt").rename(weights)
    net = Supernet(make_parent(model, space), space)
    net.parent.load_state_dict(torch.load(weights, weights_only=True))
    return net.eval()


FINE_TUNING = DistillConfig(
    intermediate="none",
    pred_weight=0.0,
    hard_weight=1.0,
    num_train_epochs=2.0,
    per_device_train_batch_size=32,
    learning_rate=3e-4,  # with 1e-4 a third of the students stay at chance
    warmup_steps=0.1,
    weight_decay=0.01,
    context=CONTEXT,
    logging_steps=1_000,
)


def fine_tuned(
    student: PreTrainedModel, name: str, data: Path, *, rows: int = 2_500, seed: int = 0
) -> dict[str, float]:
    """Train an encoder on the labels of a task with a new head, whose start the seed alone
    decides; its accuracy on validation and test in percent, of the last step."""
    documents, task = load_labelled(corpus(name, data))
    train = documents["train"].shuffle(seed=seed)
    documents["train"] = train.select(range(min(rows, len(train))))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(student, Path(folder), tokenizer=checkpoint.load_tokenizer(minilm()))
        job = DistillTask.load(
            Path(folder),
            None,
            documents=documents,
            task=task,
            config=replace(FINE_TUNING, seed=seed),
        )
        done, _ = job.train()
    main = primary(task)
    validation, test = (100 * job.score(split)[main] for split in ("validation", "test"))
    return {"validation": validation, "test": test, "seconds": done.seconds}
