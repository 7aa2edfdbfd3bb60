"""What the Compressor benchmarks share: tasks and teachers, answers of what lies on disk, latency,
and a student that no plan has."""

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from datasets import Dataset, DatasetDict
from labelled import corpus
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.data.labelled.batches import Examples
from attar.data.labelled.encode import encode
from attar.data.labelled.load import load_labelled
from attar.data.labelled.task import Task
from attar.data.vocabulary import save_vocabulary, train_vocabulary
from attar.evaluation.labelled import predict
from attar.measure.text_latency import text_latency

#: texts that are timed, one at a time
TIMED = 100


def rows_of(name: str, data: Path, most: int | None = None) -> Path | DatasetDict:
    """The rows of a task, as a folder; or the first of each split, for a quick run."""
    folder = corpus(name, data)
    if most is None:
        return folder
    whole = load_labelled(folder)[0].remove_columns("source")
    return DatasetDict({n: rows.select(range(min(most, len(rows)))) for n, rows in whole.items()})


@dataclass(frozen=True)
class Answers:
    """Something that answers one text, or pair of texts, with logits."""

    tokenizer: PreTrainedTokenizerBase
    one: Callable[[Mapping[str, Any]], Any]
    framework: str

    def encoded(self, row: Mapping[str, Any], context: int) -> Mapping[str, Any]:
        """One row of `load_labelled` as tensors."""
        return self.tokenizer(
            row["text"],
            row.get("text_pair"),
            truncation=True,
            max_length=context,
            return_tensors=self.framework,
        )

    def logits(self, rows: Dataset, context: int) -> Tensor:
        """`(N, C)`, one row at a time."""
        found = [np.asarray(self.one(self.encoded(row, context))) for row in rows]
        return torch.from_numpy(np.concatenate(found)).float()


def of_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Answers:
    """A checkpoint in torch."""

    def one(inputs: Mapping[str, Any]) -> Any:
        with torch.inference_mode():
            return model.eval()(**inputs).logits.numpy()

    return Answers(tokenizer, one, "pt")


def of_file(path: Path, tokenizer: PreTrainedTokenizerBase, *, threads: int = 1) -> Answers:
    """An ONNX file in onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def one(inputs: Mapping[str, Any]) -> Any:
        return session.run(["logits"], {name: inputs[name].astype(np.int64) for name in names})[0]

    return Answers(tokenizer, one, "np")


def latencies(
    systems: Mapping[str, Answers], rows: Dataset, *, context: int, threads: int
) -> dict[str, dict[str, float]]:
    """Milliseconds of one text with its tokenizer, the systems taking turns; median and 95th
    percentile."""

    def answer(system: Answers) -> Callable[[Sequence[str]], Any]:
        return lambda texts: system.one(
            system.encoded(dict(zip(("text", "text_pair"), texts, strict=False)), context)
        )

    some = rows.select(range(min(TIMED, len(rows))))
    columns = [some[name][:] for name in ("text", "text_pair") if name in some.column_names]
    times = text_latency(
        {name: answer(system) for name, system in systems.items()},
        list(zip(*columns, strict=True)),
        threads=threads,
    )
    return {name: {"p50": each.p50, "p95": each.p95} for name, each in times.items()}


class BiLSTM(nn.Module):
    """A small recurrent classifier, as Tang et al. (2019, arXiv 1903.12136) distil BERT into.

    Pairs are read as one sequence with separators, as the encoders read them.
    """

    def __init__(self, vocabulary: int, width: int, classes: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.dense, self.out = nn.Linear(2 * width, width), nn.Linear(width, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits `(B, C)`."""
        lengths = attention_mask.sum(1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            self.words(input_ids), lengths, batch_first=True, enforce_sorted=False
        )
        _, (state, _) = self.lstm(packed)
        return self.out(torch.relu(self.dense(torch.cat([state[0], state[1]], dim=1))))


def lstm_width(bytes_left: int, *, vocabulary: int, classes: int, each: int) -> int:
    """The widest BiLSTM whose parameters take so many bytes, at `each` a parameter: V w for the
    embedding, 16 w^2 + 16 w for both directions, 2 w^2 + w and C (w + 1) at the end."""
    a, b, c = 18.0, vocabulary + 17.0 + classes, classes - bytes_left / each
    return max(1, math.floor((-b + math.sqrt(max(b * b - 4 * a * c, 0.0))) / (2 * a)))


def train_lstm(
    train: Dataset,
    targets: Tensor,
    *,
    texts: list[str],
    budget: int,
    each: int,
    vocabulary: int = 1000,
    context: int = 128,
    steps: int = 3000,
    batch_size: int = 32,
    seed: int = 0,
) -> tuple[BiLSTM, PreTrainedTokenizerBase, int]:
    """A BiLSTM of so many bytes with a tokenizer of its own, from the teacher's logits (their
    mean squared error, as Tang et al. do).

    Returns:
        Model, tokenizer, and bytes of both.
    """
    torch.manual_seed(seed)
    tokenizer = train_vocabulary(texts, vocabulary, context=context)
    with tempfile.TemporaryDirectory() as folder:
        files = save_vocabulary(tokenizer, folder)
    classes = targets.shape[1]
    width = lstm_width(budget - files, vocabulary=vocabulary, classes=classes, each=each)
    model = BiLSTM(vocabulary, width, classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    draws = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(train), (batch_size,), generator=draws)
        rows = train[chosen.tolist()]
        pairs = list(rows["text_pair"]) if "text_pair" in rows else None
        inputs = tokenizer(
            list(rows["text"]),
            pairs,
            padding=True,
            truncation=True,
            max_length=context,
            return_tensors="pt",
        )
        logits = model(inputs["input_ids"], inputs["attention_mask"])
        loss = nn.functional.mse_loss(logits, targets[chosen])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    parameters = sum(weight.numel() for weight in model.parameters())
    return model.eval(), tokenizer, each * parameters + files


def of_lstm(model: BiLSTM, tokenizer: PreTrainedTokenizerBase) -> Answers:
    """A BiLSTM in torch."""

    def one(inputs: Mapping[str, Any]) -> Any:
        with torch.inference_mode():
            return model(inputs["input_ids"], inputs["attention_mask"]).numpy()

    return Answers(tokenizer, one, "pt")


def logits_of(
    model: PreTrainedModel,
    rows: Dataset,
    *,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    context: int,
) -> Tensor:
    """Logits of many rows, in batches."""
    source = Examples(
        encode(rows, tokenizer, task=task, context=context), task=task, tokenizer=tokenizer
    )
    return torch.stack(predict(model.eval(), source))


def texts_of(rows: Dataset) -> list[str]:
    """All texts, those of pairs too."""
    columns = [name for name in ("text", "text_pair") if name in rows.features]
    return [text for name in columns for text in rows[name]]
