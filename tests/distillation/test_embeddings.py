"""Embeddings of a student that start from its teacher."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, RobertaForSequenceClassification

import encoders
from attar.data.labelled.task import Task
from attar.data.vocabulary import VocabularyKind, train_vocabulary
from attar.distillation.embeddings import (
    embed_entries,
    entry_vectors,
    principal_components,
    readable_entries,
)
from attar.errors import CompatibilityError
from attar.methods.compressor import EncoderShape

TASK = Task("single_label", ("poor", "fine"))
SHAPE = EncoderShape(300, 2, 16, 24, 1)


@pytest.mark.parametrize(("kind", "size"), [("bpe", 280), ("wordpiece", 280), ("unigram", 263)])
def test_entries_are_read_where_they_are_text(kind: VocabularyKind, size: int) -> None:
    texts = ["schön \n wie ein Tag", "ein schöner Tag \n und schön", "Tag um Tag, wie schön"] * 9
    made = train_vocabulary(texts, size, kind=kind)
    found = readable_entries(made, teacher=made, known=len(made))
    assert {"T", "~"} <= set(found.values())
    assert any(len(text.strip()) > 2 for text in found.values())
    assert all(made.decode([i]) == text for i, text in found.items())
    left = {i: made.decode([i]) for i in range(len(made)) if i not in found}
    assert {0, 1, 2, 3} <= set(left)
    assert not any("\ufffd" in text for text in found.values())
    assert all("\ufffd" in text or not text.strip() for i, text in left.items() if i > 3)


def test_entries_of_which_the_teacher_knows_no_part_are_left_out() -> None:
    texts = ["a film that is grand", "film and play", "grand play on that"] * 9
    made, teacher = train_vocabulary(texts, 270), encoders.tokenizer()
    found = set(readable_entries(made, teacher=teacher, known=encoders.VOCAB).values())
    assert "a" in found  # a word of its vocabulary
    assert not {"~", "b", "?"} & found
    assert all(teacher.unk_token not in teacher.tokenize(text) for text in found)


def test_tokens_that_the_teacher_has_no_embedding_for_are_left_out() -> None:
    made, teacher = train_vocabulary(["a film"] * 9, 261), encoders.tokenizer()
    teacher.add_tokens(["~"])
    rows = {known: readable_entries(made, teacher=teacher, known=known) for known in (64, 20)}
    assert set(rows[64].values()) == {"a", "~"}
    assert not rows[20]


def test_a_teacher_without_a_token_for_the_unknown_reads_what_it_knows() -> None:
    words = Tokenizer(models.WordLevel({"a": 0, "film": 1}))  # which refuses all else
    teacher = PreTrainedTokenizerFast(tokenizer_object=words)
    made = train_vocabulary(["a film"] * 9, 262)
    assert set(readable_entries(made, teacher=teacher, known=2).values()) == {"a"}


def test_entries_are_cut_to_what_the_teacher_can_read() -> None:
    teacher, tokenizer = encoders.encoder(task=TASK), encoders.tokenizer()
    long, cut = " film" * 90, " film" * 30  # between two special tokens
    found = entry_vectors(teacher, tokenizer, texts=[long, cut], context=32)
    assert torch.allclose(found[0], found[1], atol=1e-6)


def test_a_teacher_that_gives_no_hidden_state_a_token_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def halved(*_: Any, **__: Any) -> Any:
        raise RuntimeError("sizes differ")  # as of a Funnel transformer, which pools along the text

    monkeypatch.setattr("attar.distillation.embeddings.outputs_of", halved)
    with pytest.raises(CompatibilityError, match=r"sizes differ.*set embeddings to random"):
        entry_vectors(encoders.encoder(task=TASK), encoders.tokenizer(), texts=["a"], context=8)


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert"])
def test_a_teacher_reads_every_entry_as_a_text_of_its_own(family: str) -> None:
    teacher, tokenizer = encoders.encoder(family, task=TASK).train(), encoders.tokenizer()
    texts = ["film", " grand", "of", "the story", "unknown", "a"] * 50  # more than one batch
    found = entry_vectors(teacher, tokenizer, texts=texts, context=64)
    assert teacher.training
    teacher.eval()
    assert entry_vectors(teacher, tokenizer, texts=[], context=64).shape[0] == 0
    for text, vector in zip(texts[:6], found[:6], strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            said = teacher(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                output_hidden_states=True,
            )
        assert torch.allclose(vector, said.hidden_states[-1][0].mean(0), atol=1e-5)
    assert torch.allclose(found[:6], found[294:], atol=1e-5)


@given(
    rows=st.integers(1, 30),
    width=st.integers(1, 12),
    count=st.integers(1, 14),
    seed=st.integers(0, 99),
)
def test_principal_components_keep_as_much_as_so_many_directions_can(
    rows: int, width: int, count: int, seed: int
) -> None:
    vectors = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) + 5
    found = principal_components(vectors, count)
    assert found.shape == (rows, min(count, width))
    assert torch.allclose(found.mean(0), torch.zeros(found.shape[1]), atol=1e-4)
    squares = torch.linalg.svdvals(vectors - vectors.mean(0)).square()
    squares = torch.cat([squares, torch.zeros(width)])[: found.shape[1]]
    assert torch.allclose(found.square().sum(0), squares, atol=1e-3)


def test_named_entries_start_from_vectors_and_others_as_they_were_drawn() -> None:
    student = RobertaForSequenceClassification(SHAPE.config(outputs=2, context=32))
    drawn = {name: values.clone() for name, values in student.state_dict().items()}
    before = student.get_input_embeddings().weight.detach().clone()
    ids, vectors = [40, 7, 99], torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.5]])
    embed_entries(student, ids, vectors)
    after = student.get_input_embeddings().weight.detach().clone()
    others = [i for i in range(300) if i not in ids]
    assert torch.equal(after[others], before[others])
    assert torch.equal(after[:, 2:], before[:, 2:])  # vectors of two channels
    ours, theirs = (torch.pdist(rows) for rows in (after[ids, :2], vectors))
    assert torch.allclose(ours / ours.sum(), theirs / theirs.sum(), atol=1e-5)
    scale = after[ids, :2].square().mean().sqrt()
    assert float(scale) == pytest.approx(student.config.initializer_range, rel=1e-4)
    for nothing in (torch.ones(3, 2), torch.full((3, 2), torch.nan)):  # that tells entries apart
        embed_entries(student, ids, nothing)
    embed_entries(student, [], torch.zeros(0, 2))
    assert torch.equal(student.get_input_embeddings().weight, after)
    student.load_state_dict(drawn)
    embed_entries(student, [*ids, 5], torch.cat([vectors, torch.full((1, 2), torch.inf)]))
    assert torch.equal(student.get_input_embeddings().weight, after)
