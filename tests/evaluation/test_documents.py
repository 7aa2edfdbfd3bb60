"""Conversations are scored by the assistant's tokens, each conversation by itself."""

import math

import pytest
import torch
from transformers import PreTrainedModel

import talk
import tiny
from attar.data.chats import load_documents
from attar.evaluation.documents import score_documents
from attar.evaluation.likelihood import score

DOCUMENTS = load_documents(talk.rows(), talk.tokenizer())["train"]


def by_hand(model: PreTrainedModel, *, context: int) -> tuple[float, int]:
    """Nats and tokens of all answers, one conversation at a time."""
    total, tokens = 0.0, 0
    for row in DOCUMENTS:
        ids = torch.tensor([row["input_ids"][:context]])
        with torch.no_grad():
            log_probs = model(input_ids=ids).logits.log_softmax(-1)[0]
        for at, said in enumerate(row["assistant_masks"][:context]):
            if said:
                total -= float(log_probs[at - 1, ids[0, at]])
                tokens += 1
    return total, tokens


@pytest.mark.parametrize("family", ["llama", "opt"])  # opt cannot take packed rows
@pytest.mark.parametrize("context", [64, 20])
def test_the_score_is_that_of_each_conversation_alone(family: str, context: int) -> None:
    model = tiny.model(family, vocab_size=talk.VOCAB)
    total, tokens = by_hand(model, context=context)
    found = score_documents(
        model, talk.tokenizer(), documents=DOCUMENTS, context=context, batch_size=3
    )
    assert found.tokens == tokens
    assert found.nll == pytest.approx(total / tokens, rel=1e-5)


def test_bytes_are_those_of_the_answers() -> None:
    model, tokenizer = tiny.model(vocab_size=talk.VOCAB), talk.tokenizer()
    found = score_documents(model, tokenizer, documents=DOCUMENTS)
    texts = {tokenizer.apply_chat_template(c, tokenize=False): c for c in talk.conversations()}
    answers = [m["content"] for t in DOCUMENTS["text"] for m in texts[t] if m["role"] != "user"]
    assert found.bytes == sum(len(answer.encode()) for answer in answers)
    spent = found.nll * found.tokens / math.log(2)
    assert found.bits_per_byte == pytest.approx(spent / found.bytes)


def test_some_tokens_are_whole_conversations_from_all_over() -> None:
    model, tokenizer = tiny.model(vocab_size=talk.VOCAB), talk.tokenizer()
    some = score_documents(model, tokenizer, documents=DOCUMENTS, eval_tokens=60)
    assert 40 < some.tokens <= 60
    assert some == score_documents(model, tokenizer, documents=DOCUMENTS, eval_tokens=60)
    assert score_documents(model, tokenizer, documents=DOCUMENTS, eval_tokens=1).tokens >= 1


def test_text_is_scored_as_text() -> None:
    model, tokenizer = tiny.model(vocab_size=talk.VOCAB), talk.tokenizer()
    text = DOCUMENTS.select_columns(["text"])
    assert score_documents(model, tokenizer, documents=text) == score(
        model, tokenizer, documents=text
    )
