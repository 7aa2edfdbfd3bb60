"""The masked loss: against loops, and the same however it is computed."""

import math
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, PreTrainedModel

import encoders
import tiny
from attar.data.sequences import Sequences
from attar.errors import ConfigError, DataError
from attar.evaluation.masked import masked_loss

TEXTS = [row["text"] for row in encoders.documents(40)["train"]]  # pyright: ignore[reportArgumentType, reportCallIssue]


def network(family: str = "bert", **changes: Any) -> PreTrainedModel:
    return tiny.model(family, auto=AutoModelForMaskedLM, **changes)


def sequences(**options: Any) -> Sequences:
    return Sequences(TEXTS, encoders.tokenizer(), context=10, **options)


@pytest.mark.parametrize("family", tiny.ENCODERS)
def test_the_loss_is_the_mean_over_the_masked_tokens(family: str) -> None:
    model, source = network(family), sequences(mask_probability=0.4)
    total, count = 0.0, 0
    for row in range(len(source)):
        batch = source.batch([row])
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"]).logits[0].double()
        for place, label in enumerate(batch["labels"][0].tolist()):
            if label >= 0:
                total -= float(logits[place].log_softmax(-1)[label])
                count += 1
    want = total / count
    for batch_size in (1, 7, 64):
        assert masked_loss(model, source, batch_size=batch_size) == pytest.approx(want, rel=1e-5)


def test_a_model_and_a_function_are_scored_alike_and_always_the_same() -> None:
    model, source = network(), sequences()
    want = masked_loss(model, source)
    assert masked_loss(model.train(), source) == want  # without dropout
    assert model.training
    assert masked_loss(model.eval(), source) == want
    seen = []

    def run(**inputs: Any) -> Any:
        seen.append(torch.is_grad_enabled())
        return model(**inputs)

    assert masked_loss(run, source) == want
    assert seen == [False]
    assert masked_loss(model, sequences(seed=1)) != want


def test_a_model_that_knows_nothing_needs_the_logarithm_of_the_vocabulary() -> None:
    model = network()
    for parameter in model.parameters():
        parameter.data.zero_()
    assert masked_loss(model, sequences()) == pytest.approx(math.log(tiny.VOCAB), rel=1e-6)


def test_without_masks_there_is_nothing_to_score() -> None:
    with pytest.raises(DataError, match="mask_probability above 0"):
        masked_loss(network(), sequences(mask_probability=0))
    with pytest.raises(DataError, match="none masked"):
        masked_loss(network(), Sequences(["zebra"], encoders.tokenizer()))
    with pytest.raises(ConfigError, match="batch_size"):
        masked_loss(network(), sequences(), batch_size=0)
