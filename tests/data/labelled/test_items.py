"""Hard losses are those of transformers; padding and missing labels change nothing."""

import pytest
import torch
from transformers import AutoConfig

from attar.data.labelled.encode import MODEL_INPUTS
from attar.data.labelled.items import hard_loss, items, labelled, logits_of, real_classes
from attar.data.labelled.task import TaskKind
from attar.heads import model_class, new_head
from tasks import SENTENCES, TASKS, batch_of, bert, bytes_, examples


@pytest.mark.parametrize("kind", TASKS)
def test_padding_changes_neither_logits_nor_loss(kind: TaskKind) -> None:
    task = TASKS[kind]
    config = AutoConfig.for_model(
        "bert", vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    model = model_class(task).from_config(new_head(config, task)).eval()
    assert config.num_labels == 2
    source, wide = examples(kind, bert()), batch_of(kind, bert(), multiple=32)
    assert wide["input_ids"].shape == (3, 32)
    with torch.no_grad():
        padded = logits_of(model(**{k: v for k, v in wide.items() if k in MODEL_INPUTS}), task)
        loss, known, distilled = (
            hard_loss(padded, wide, task=task),
            labelled(wide, task),
            items(wide, task),
        )
        assert loss.shape == known.shape == distilled.shape == padded.shape[:-1]
        for i in range(len(source)):
            narrow = source.batch([i])
            length = narrow["input_ids"].shape[1]
            one = logits_of(model(**{k: v for k, v in narrow.items() if k in MODEL_INPUTS}), task)
            alone = hard_loss(one, narrow, task=task)[0]
            if kind == "token_classification":
                torch.testing.assert_close(padded[i, :length], one[0])
                torch.testing.assert_close(loss[i, :length], alone)
                assert not loss[i, length:].any()
                assert not distilled[i, length:].any()
                assert distilled[i].sum() == len(SENTENCES[i].split())
            else:
                torch.testing.assert_close(padded[i, ..., : one.shape[-1]], one[0])
                torch.testing.assert_close(loss[i], alone)
                assert distilled[i].all()


@pytest.mark.parametrize("kind", TASKS)
def test_losses_are_those_of_transformers(kind: TaskKind) -> None:
    """On labelled rows alone, where its mean is over what ours is."""
    task, batch = TASKS[kind], batch_of(kind, bert())
    config = AutoConfig.for_model(
        "bert", vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24, initializer_range=0.5,
    )  # fmt: skip
    torch.manual_seed(1)
    model = model_class(task).from_config(new_head(config, task)).eval()
    batch = {k: v[:1] for k, v in batch.items()}
    targets = {k: v for k, v in batch.items() if k == "labels" or k.endswith("positions")}
    with torch.no_grad():
        outputs = model(**{k: v for k, v in batch.items() if k in MODEL_INPUTS}, **targets)
    loss = hard_loss(logits_of(outputs, task), batch, task=task)
    if kind == "question_answering":
        real = batch["attention_mask"].bool()
        assert torch.equal(real_classes(batch, task), real[:, None])
        shown = logits_of(outputs, task).masked_fill(~real[:, None], -torch.inf)
        target = torch.cat([batch["start_positions"], batch["end_positions"]])
        expected = torch.nn.functional.cross_entropy(shown[0], target)
    else:
        expected = outputs.loss
    torch.testing.assert_close(loss[labelled(batch, task)].mean(), expected)


@pytest.mark.parametrize("kind", TASKS)
def test_unlabelled_items_cost_nothing_and_teach_nothing(kind: TaskKind) -> None:
    task, batch = TASKS[kind], batch_of(kind, bytes_())
    width = batch["input_ids"].shape[1]
    shape = {"token_classification": (3, width, 4), "question_answering": (3, 2, width)}
    logits = torch.randn(shape.get(kind, (3, task.outputs)), requires_grad=True)
    loss, known = hard_loss(logits, batch, task=task), labelled(batch, task)
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    silent = 2 if kind == "question_answering" else 1
    assert not known[silent].any()
    assert not loss[~known].any()
    assert not logits.grad[silent].any()
    assert (loss[known] > 0).all()
    assert known[0].any()
    assert (logits.grad[0] != 0).any()
