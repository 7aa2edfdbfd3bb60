"""How good a model is at a labelled task."""

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.compatibility import require_tokens
from attar.data.labelled.batches import Examples
from attar.data.labelled.encode import MODEL_INPUTS, encode
from attar.data.labelled.items import logits_of
from attar.data.labelled.task import Task
from attar.evaluation.metrics import score_predictions
from attar.models import computing, evaluation_mode, without_autocast
from attar.runtime import Bar


@torch.no_grad()
def predict(model: PreTrainedModel, source: Examples, *, batch_size: int = 64) -> list[Tensor]:
    """Logits of every row in the order of the rows, in float32 and without padding: `(C,)` for
    texts, `(T, C)` for words, `(2, T)` for the ends of answers.

    Raises:
        CompatibilityError: a token that the model has no embedding for.
    """
    require_tokens(model, source.largest)
    by_length = sorted(range(len(source)), key=source.length)
    predictions: dict[int, Tensor] = {}
    starts = range(0, len(by_length), batch_size)
    for start in Bar(starts, desc="scoring", unit="batch", leave=False):
        rows = by_length[start : start + batch_size]
        batch = source.batch(rows)
        inputs = {name: batch[name].to(model.device) for name in MODEL_INPUTS if name in batch}
        with without_autocast(model.device):
            logits = logits_of(model(**inputs), source.task).float().cpu()
        for row, line in zip(rows, logits, strict=True):
            predictions[row] = _unpadded(line, source.length(row), source.task)
    return [predictions[row] for row in range(len(source))]


def _unpadded(logits: Tensor, length: int, task: Task) -> Tensor:
    if task.kind == "token_classification":
        return logits[:length]
    return logits[:, :length] if task.kind == "question_answering" else logits


def predict_rows(
    model: PreTrainedModel,
    documents: Dataset,
    *,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    context: int = 128,
) -> tuple[list[Tensor], Dataset]:
    """Logits of a model on rows of `load_labelled`, as `predict` gives them, and the rows as they
    were encoded; its mode is restored."""
    encoded = encode(documents, tokenizer, task=task, context=context)
    source = Examples(encoded, task=task, tokenizer=tokenizer)
    with evaluation_mode(model), computing(model):
        return predict(model, source), encoded


def score_on(
    model: PreTrainedModel,
    documents: Dataset,
    *,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    context: int = 128,
) -> dict[str, float]:
    """The task's metrics of a model on rows of `load_labelled`; its mode is restored."""
    logits, encoded = predict_rows(
        model, documents, tokenizer=tokenizer, task=task, context=context
    )
    answering = task.kind == "question_answering"
    references = encoded["answers" if answering else "labels"]
    whole = logits if answering or task.kind == "token_classification" else torch.stack(logits)
    return score_predictions(whole, references, task=task, documents=encoded)
