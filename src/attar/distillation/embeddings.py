"""Embeddings for the entries of a student's own vocabulary, from what its teacher makes of each.

A student with a tokenizer of its own shares no entry with its teacher, so that its embeddings would
have to start at random. But the teacher can read every entry as a text, and what it has learned of
rare words is then there from the first step.

Source: Tulkens, van Dongen 2024, Model2Vec (github.com/MinishLab/model2vec): entries are run
through an encoder one by one, and the principal components of the outputs are kept.
"""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.compatibility import require_tokens
from attar.data.labelled.batches import Examples
from attar.data.labelled.encode import encode
from attar.data.labelled.task import UNLABELLED, Task
from attar.models import computing, evaluation_mode
from attar.runtime import Bar, place
from attar.train.outputs import FeatureRequest, outputs_of
from attar.train.students import depth

_BATCH = 256
#: what a part of a character reads as
_BROKEN = "\ufffd"


def readable_entries(
    tokenizer: PreTrainedTokenizerBase, *, teacher: PreTrainedTokenizerBase
) -> dict[int, str]:
    """The entries of a vocabulary that are text to a teacher, by id: no special tokens, white space
    or parts of a character, and nothing of which its own vocabulary has no part.

    Args:
        tokenizer: of the student.
        teacher: the teacher's.
    """
    special, unknown = set(tokenizer.all_special_ids), teacher.unk_token_id
    texts = {i: str(tokenizer.decode([i])) for i in range(len(tokenizer)) if i not in special}
    texts = {i: text for i, text in texts.items() if text.strip() and _BROKEN not in text}
    if not texts:
        return {}
    tokens = teacher([*texts.values()], add_special_tokens=False)["input_ids"]
    return {
        i: text
        for (i, text), ids in zip(texts.items(), tokens, strict=True)
        if any(token != unknown for token in ids)
    }


def entry_vectors(
    teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> Tensor:
    """What a teacher makes of each text: the mean of its last hidden states, `(N, d)`, float32 on
    the CPU.

    Args:
        teacher: an encoder; its mode and device are restored.
        tokenizer: the teacher's.
        texts: entries of another vocabulary.
    """
    task = Task("single_label", labels=("no", "yes"))  # any: nothing is predicted
    rows = Dataset.from_dict({"text": texts, "label": [UNLABELLED] * len(texts)})
    examples = Examples(encode(rows, tokenizer, task=task), task=task, tokenizer=tokenizer)
    require_tokens(teacher, examples.largest)
    last, home = depth(teacher), teacher.device
    request = FeatureRequest(pooled=(last,), pool="mean")
    vectors = []
    place(teacher)
    with evaluation_mode(teacher), computing(teacher), torch.no_grad():
        starts = range(0, len(texts), _BATCH)
        for start in Bar(starts, desc="reading entries", unit="batch", leave=False):
            batch = examples.batch(range(start, min(start + _BATCH, len(texts))))
            batch = {name: values.to(teacher.device) for name, values in batch.items()}
            said = outputs_of(teacher, batch, task=task, request=request)
            vectors.append(said.pooled[last].float().cpu())
    place(teacher, home)
    return torch.cat(vectors)


def principal_components(vectors: Tensor, count: int) -> Tensor:
    """The coordinates of vectors along the directions in which they differ most, largest first.

    Args:
        vectors: (N, d).
        count: of directions; as many as there are, d, at most.

    Returns:
        (N, min(count, d)), of mean 0.
    """
    centred = vectors.double() - vectors.double().mean(0)
    _, directions = torch.linalg.eigh(centred.T @ centred)  # in ascending order
    return (centred @ directions.flip(1)[:, :count]).to(vectors.dtype)


@torch.no_grad()
def embed_entries(student: PreTrainedModel, ids: Sequence[int], vectors: Tensor) -> None:
    """Start the embeddings of some entries from vectors of any width, at the scale that the model
    draws its weights at. Entries that are not named, or whose vector is not finite, and channels
    that the vectors are too narrow for, stay as they were drawn.

    Args:
        student: changed in place.
        ids: of the entries.
        vectors: (len(ids), d).
    """
    fine = vectors.isfinite().all(1)
    rows, vectors = torch.tensor(ids)[fine], vectors[fine]
    table: Any = student.get_input_embeddings().weight
    start = principal_components(vectors, table.shape[1])
    scale = start.square().mean().sqrt()
    if scale > 0:  # there are two that differ
        start = start * (student.config.initializer_range / scale)
        table[rows.to(table.device), : start.shape[1]] = start.to(table)
