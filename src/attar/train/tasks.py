"""What the kinds of labelled tasks differ in: encoding, batches, heads, hard losses, items.

An item is one prediction that can be distilled: an example, the first piece of a word, or one of
the two ends of an answer. Logits, losses and masks of a batch have one shape, `logits.shape[:-1]`:
`(B,)` for examples, `(B, T)` for words, `(B, 2)` for the ends of answers.
"""

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from datasets import Dataset, Features, List, Value, concatenate_datasets
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedTokenizerBase,
)

from attar.data.labelled import UNLABELLED, Task
from attar.errors import CompatibilityError, ConfigError, DataError
from attar.train.windows import Batch

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Columns and entries of a batch that a model takes."""
_ROWS = 1000  # encoded at a time


# --------------------------------------------------------------------------------------- encoding


def encode(
    documents: Dataset, tokenizer: PreTrainedTokenizerBase, *, task: Task, max_length: int = 128
) -> Dataset:
    """Tokenize the rows of `load_labelled` and put their labels beside the tokens.

    Columns: `input_ids`, `attention_mask`, `token_type_ids` if the tokenizer gives them, `rows`
    (position in `documents`), `source` if `documents` has it, and

    - single label, regression: `labels`, an int or a float;
    - multi-label: `labels`, one float a label, 0 or 1, all -100 where unlabelled;
    - token classification: `labels`, one int a token, -100 but on the first token of a labelled
      word, and `word_starts`, 1 on the first token of every word;
    - question answering: `start_positions` and `end_positions` of the first answer, both -100 where
      it is cut off or unlabelled and both 0 where there is none, `offsets`, characters [start, end)
      of each token in the context, [-1, -1] elsewhere, and `context` and `answers` as they were.

    Two texts whose tokenizer puts nothing between them are parted by its SEP or EOS token. Texts
    are cut to `max_length` tokens, of a pair the longer one first, of a question the context alone.

    Raises:
        DataError: columns of the task are missing.
        ConfigError: `max_length` is too short for a question.
        CompatibilityError: words or characters are needed, and the tokenizer is not a fast one; or
            a pair cannot be parted.
    """
    kind = task.kind
    needed = {
        "token_classification": ("words", "label"),
        "question_answering": ("question", "context", "answers"),
    }.get(kind, ("text", "text_pair", "label") if task.pair else ("text", "label"))
    if missing := [name for name in needed if name not in documents.column_names]:
        raise DataError(
            f"expected the columns {', '.join(needed)} for {kind}, found "
            f"{', '.join(documents.column_names) or 'none'} without {missing[0]}; load the data "
            "with load_labelled"
        )
    if kind in ("token_classification", "question_answering") and not tokenizer.is_fast:
        raise CompatibilityError(
            f"expected a fast tokenizer for {kind}, which needs the place of each token in the "
            f"text, found {type(tokenizer).__name__}; use the fast one of this model"
        )
    documents, between = documents.with_format(None), _between(tokenizer) if task.pair else ""
    parts = []
    for start in range(0, max(1, len(documents)), _ROWS):
        rows: dict[str, list[Any]] = documents[start : start + _ROWS]
        columns = _encode(rows, tokenizer, task, max_length, between)
        columns["rows"] = list(range(start, start + len(rows[needed[0]])))
        if "source" in rows:
            columns["source"] = rows["source"]
        features = Features({name: _feature(name, task) for name in columns})
        parts.append(Dataset.from_dict(columns, features=features))
    return concatenate_datasets(parts)


def _feature(name: str, task: Task) -> Any:
    whole = Value("int64")
    if name == "labels":
        return {
            "single_label": whole,
            "regression": Value("float32"),
            "multi_label": List(Value("float32")),
        }.get(task.kind, List(whole))
    return {
        "input_ids": List(Value("int32")),
        "attention_mask": List(Value("int8")),
        "token_type_ids": List(Value("int8")),
        "word_starts": List(Value("int8")),
        "offsets": List(List(Value("int32"))),
        "context": Value("string"),
        "answers": {"text": List(Value("string")), "answer_start": List(whole)},
    }.get(name, whole)


def _between(tokenizer: PreTrainedTokenizerBase) -> str:
    """What has to be put before the second text: nothing if the tokenizer does it."""
    single, pair = (tokenizer.num_special_tokens_to_add(pair=p) for p in (False, True))
    if pair > single:
        return ""
    token = tokenizer.sep_token or tokenizer.eos_token
    if token is None:
        raise CompatibilityError(
            "expected a tokenizer with a SEP or EOS token to part two texts, found neither; set "
            "its sep_token"
        )
    return str(token)


def _encode(
    rows: Mapping[str, list[Any]],
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    max_length: int,
    between: str,
) -> dict[str, list[Any]]:
    answering, tagging = task.kind == "question_answering", task.kind == "token_classification"
    first, second = ("question", "context") if answering else ("text", "text_pair")
    pairs = [between + text for text in rows[second]] if task.pair else None
    try:
        encoded = tokenizer(
            # Joined, as a byte-level tokenizer knows words by the space before them.
            list(map(" ".join, rows["words"])) if tagging else rows[first],
            pairs,
            truncation="only_second" if answering else True,
            max_length=max_length,
            return_offsets_mapping=answering or tagging,
        )
    except Exception as error:
        if not answering or "runcation" not in str(error):
            raise
        raise ConfigError(
            f"expected a max_length above the longest question, found {max_length} tokens, which "
            "leave no room for its context; raise max_length"
        ) from error
    columns = {name: encoded[name] for name in MODEL_INPUTS if name in encoded}
    if answering:
        skip = len(between)
        columns["offsets"] = [
            [
                [a - skip, b - skip] if side == 1 and b > skip else [-1, -1]
                for (a, b), side in zip(offsets, encoded.sequence_ids(i), strict=True)
            ]
            for i, offsets in enumerate(encoded["offset_mapping"])
        ]
        ends = [_span(*row) for row in zip(rows["answers"], columns["offsets"], strict=True)]
        columns["start_positions"], columns["end_positions"] = map(list, zip(*ends, strict=True))
        columns |= {"context": rows["context"], "answers": rows["answers"]}
    elif tagging:
        of = [_word_of(*row) for row in zip(rows["words"], encoded["offset_mapping"], strict=True)]
        columns["word_starts"] = [
            [int(w >= 0 and w != before) for before, w in pairwise([-1, *words])] for words in of
        ]
        columns["labels"] = [
            [tags[w] if starts else UNLABELLED for w, starts in zip(*row, strict=True)]
            for *row, tags in zip(of, columns["word_starts"], rows["label"], strict=True)
        ]
    elif task.kind == "multi_label":
        columns["labels"] = [_multi_hot(label, task.outputs) for label in rows["label"]]
    else:
        columns["labels"] = rows["label"]
    return columns


def _word_of(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The word that each token ends in, of words joined by spaces; -1 for a token of none."""
    owner = [w for w, word in enumerate(words) for _ in f"{word} "]
    return [owner[end - 1] if end > start else -1 for start, end in offsets]


def _multi_hot(label: Sequence[int], count: int) -> list[float]:
    if UNLABELLED in label:
        return [float(UNLABELLED)] * count
    return [float(i in label) for i in range(count)]


def _span(answers: Mapping[str, Sequence[Any]], offsets: Sequence[Sequence[int]]) -> list[int]:
    """The first and last token of the first answer."""
    if not answers["text"]:
        return [0, 0]
    start = answers["answer_start"][0]
    end = start + len(answers["text"][0].rstrip())
    # A token may begin with the space before the answer, and end after it.
    within = [i for i, (a, b) in enumerate(offsets) if a >= 0 and a < end and b > start]
    if start == UNLABELLED or not within or offsets[within[-1]][1] < end:
        return [UNLABELLED, UNLABELLED]
    return [within[0], within[-1]]


# ------------------------------------------------------------------------------------------ heads


def model_class(task: Task) -> type:
    """The class of transformers whose head fits the task."""
    return {
        "token_classification": AutoModelForTokenClassification,
        "question_answering": AutoModelForQuestionAnswering,
    }.get(task.kind, AutoModelForSequenceClassification)


def has_head(architecture: str, task: Task) -> bool:
    """Whether a class of transformers, by its name, predicts what the task asks for."""
    kind = {
        "token_classification": "ForTokenClassification",
        "question_answering": "ForQuestionAnswering",
    }.get(task.kind, "ForSequenceClassification")
    return architecture.endswith(kind)


def head_options(task: Task) -> dict[str, Any]:
    """What a model's config says of its head: its labels, and which loss transformers takes."""
    names = task.labels or tuple(f"LABEL_{i}" for i in range(task.outputs))
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
        "problem_type": {
            "single_label": "single_label_classification",
            "multi_label": "multi_label_classification",
            "regression": "regression",
        }.get(task.kind),
    }


def new_head(config_or_path: Any, task: Task) -> Any:
    """A config for `model_class(task)`, with a head for the task; a config given stays as it is.

    Args:
        config_or_path: config of a model, or the folder or Hub name of one.
        task: what the head predicts.
    """
    if isinstance(config_or_path, str | Path):
        config = AutoConfig.from_pretrained(config_or_path)
    else:
        config = copy.deepcopy(config_or_path)
    for name, value in head_options(task).items():
        setattr(config, name, value)  # the number of labels follows
    return config


# ----------------------------------------------------------------------------------- loss, items


def logits_of(outputs: Any, task: Task) -> Tensor:
    """A model's predictions: `(B, C)`, regression `(B, 1)`; words `(B, T, C)`; ends of answers
    `(B, 2, T)`."""
    if task.kind == "question_answering":
        return torch.stack([outputs.start_logits, outputs.end_logits], 1)
    return outputs.logits


def real_classes(batch: Batch, task: Task) -> Tensor | None:
    """Which of the last axis of the logits are there to be predicted, `(B, 1, T)`: an answer ends
    on a real token. None: all are."""
    if task.kind != "question_answering":
        return None
    return batch["attention_mask"].bool()[:, None]


def hard_loss(logits: Tensor, batch: Batch, *, task: Task) -> Tensor:
    """Loss against the labels of every item, 0 where there is none; in float32, not reduced.

    Cross-entropy in nats; squared error in regression; in multi-label tasks binary cross-entropy in
    nats, the mean over labels.

    Args:
        logits: see `logits_of`.
        batch: see `Collate`.
        task: their task.

    Returns:
        `logits.shape[:-1]`.
    """
    logits, known = logits.float(), labelled(batch, task)
    if task.kind == "regression":
        gap = logits[:, 0] - torch.where(known, batch["labels"].float(), 0.0)
        return torch.where(known, gap.square(), 0.0)
    if task.kind == "multi_label":
        targets = torch.where(known[:, None], batch["labels"].float(), 0.0)
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return torch.where(known, losses.mean(-1), 0.0)
    if (real := real_classes(batch, task)) is not None:
        logits = logits.masked_fill(~real, -torch.inf)
    targets = torch.where(known, _targets(batch, task), 0)
    chosen = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    return torch.where(known, -chosen, 0.0)


def labelled(batch: Batch, task: Task) -> Tensor:
    """Which items have a label: bool, the shape of `hard_loss`."""
    targets = _targets(batch, task)
    if task.kind == "regression":
        return ~targets.isnan()
    if task.kind == "multi_label":
        return (targets[:, 0] != UNLABELLED) & ~targets[:, 0].isnan()
    return targets != UNLABELLED


def items(batch: Batch, task: Task) -> Tensor:
    """Which predictions are distilled, labelled or not: every example, the first token of every
    word, both ends of every answer. Bool, the shape of `hard_loss`; padding is none."""
    if task.kind == "token_classification":
        return batch["word_starts"].bool() & batch["attention_mask"].bool()
    return torch.ones_like(labelled(batch, task))


def _targets(batch: Batch, task: Task) -> Tensor:
    if task.kind == "question_answering":
        return torch.stack([batch["start_positions"], batch["end_positions"]], 1)
    return batch["labels"]
