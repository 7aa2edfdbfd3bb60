"""Embeddings for the entries of a student's own vocabulary, from what its teacher makes of each.

A student with a tokenizer of its own shares no entry with its teacher, so that its embeddings would
have to start at random. But the teacher can read every entry as a text, and what it has learned of
rare words is then there from the first step.

Source: Tulkens, van Dongen 2024, Model2Vec (github.com/MinishLab/model2vec): entries are run
through an encoder one by one, and the principal components of the outputs are kept.

Deviations: the entries are those of the student's tokenizer; no weights by frequency, as training
goes on; scaled to the weights that the student draws.
"""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.data.labelled.batches import Examples
from attar.data.labelled.encode import encode
from attar.data.labelled.task import UNLABELLED, Task
from attar.errors import CompatibilityError
from attar.models import computing, inference
from attar.runtime import Bar, place
from attar.train.outputs import FeatureRequest, outputs_of
from attar.train.students import depth

_BATCH = 256
#: how an incomplete character is decoded
_INCOMPLETE = "\ufffd"


def readable_entries(
    tokenizer: PreTrainedTokenizerBase, *, teacher: PreTrainedTokenizerBase, known: int
) -> dict[int, str]:
    """The entries of a vocabulary that are text to a teacher, by id: no special tokens, white space
    or incomplete characters, and none that is unknown to its vocabulary throughout.

    Args:
        tokenizer: of the student.
        teacher: the teacher's.
        known: ids that the teacher has an embedding for, from 0.
    """
    special = set(tokenizer.all_special_ids)
    texts = {i: str(tokenizer.decode([i])) for i in range(len(tokenizer)) if i not in special}
    texts = {i: text for i, text in texts.items() if text.strip() and _INCOMPLETE not in text}

    def reads(text: str) -> bool:
        try:
            ids = teacher.encode(text, add_special_tokens=False, verbose=False)
        except Exception:  # plain, where a vocabulary has no token for the unknown
            return False
        return any(i != teacher.unk_token_id for i in ids) and all(i < known for i in ids)

    return {i: text for i, text in texts.items() if reads(text)}


def entry_vectors(
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    texts: Sequence[str],
    context: int,
) -> Tensor:
    """What a teacher makes of each text: the mean of its last hidden states, `(N, d)`, float32 on
    the CPU.

    Args:
        teacher: an encoder; it is moved to the device of this process.
        tokenizer: the teacher's.
        texts: entries of another vocabulary.
        context: the most tokens of a text.

    Raises:
        CompatibilityError: the teacher cannot read texts of one word.
    """
    if not texts:
        return torch.zeros(0, 1)
    task = Task("single_label", labels=("no", "yes"))  # any: nothing is predicted
    rows = Dataset.from_dict({"text": [*texts], "label": [UNLABELLED] * len(texts)})
    encoded = encode(rows, tokenizer, task=task, context=context)
    examples = Examples(encoded, task=task, tokenizer=tokenizer)
    last = depth(teacher)
    request = FeatureRequest(pooled=(last,), pool="mean")
    vectors = []
    place(teacher)
    with inference(teacher), computing(teacher):
        starts = range(0, len(texts), _BATCH)
        for start in Bar(starts, desc="reading entries", unit="batch", leave=False):
            batch = examples.batch(range(start, min(start + _BATCH, len(texts))))
            batch = {name: values.to(teacher.device) for name, values in batch.items()}
            try:
                said = outputs_of(teacher, batch, task=task, request=request)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, CompatibilityError) as error:
                raise CompatibilityError(
                    f"expected a teacher that reads single words and gives a hidden state for each "
                    f"of their tokens, found {type(teacher).__name__} ({error}); set embeddings to "
                    "random"
                ) from error
            vectors.append(said.pooled[last].float().cpu())
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
