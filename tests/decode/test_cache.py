"""Whatever was read, rejected, dropped and gathered: the logits are those of reading afresh."""

import itertools
import random

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import decoders
import tiny
from attar.decode import cache as room
from attar.decode.cache import CachedModel, Holes, Steps, cached
from attar.errors import CompatibilityError


def afresh(model: PreTrainedModel, row: list[int], count: int) -> Tensor:
    """Logits behind the last tokens of one text, without a cache."""
    return model(input_ids=torch.tensor([row])).logits[0, -count:]


def play(
    model: PreTrainedModel, reader: CachedModel, rows: list[list[int]], rng: random.Random
) -> None:
    """Random blocks: some rows grow, some lose tokens, some leave."""
    for turn in range(9):
        wanted = []
        for r, row in enumerate(rows):
            grown = rng.randint(0 if turn else 1, 4)
            row += [rng.randrange(3, tiny.VOCAB) for _ in range(grown)]
            most = len(row) - reader.fed[r]
            wanted.append(min(grown, most) if turn else 1)
        if not any(len(row) > fed for row, fed in zip(rows, reader.fed, strict=True)):
            continue
        if not any(wanted):
            wanted[max(range(len(rows)), key=lambda r: len(rows[r]) - reader.fed[r])] = 1
        with torch.no_grad():
            found = reader.score(rows, counts=wanted)
            for r, (row, count) in enumerate(zip(rows, wanted, strict=True)):
                if count:
                    exact = 1e-9 if model.dtype == torch.float64 else 2e-4
                    torch.testing.assert_close(
                        found[r, -count:], afresh(model, row, count), atol=exact, rtol=0
                    )
        for row, count in zip(rows, wanted, strict=True):
            del row[len(row) - rng.randint(0, max(0, count - 1)) :]
        reader.keep([len(row) for row in rows])
        if len(rows) > 2 and turn == 4:
            left = rng.sample(range(len(rows)), len(rows) - 1)
            reader.select(left)
            rows[:] = [rows[r] for r in left]


@pytest.mark.parametrize("family", tiny.CAUSAL)
@pytest.mark.parametrize("size", [1, 4])
def test_a_cache_forgets_what_was_rejected(family: str, size: int) -> None:
    model, rng = decoders.model_of(family), random.Random(f"{family} {size}")
    rows = [[rng.randrange(3, tiny.VOCAB) for _ in range(rng.randint(1, 12))] for _ in range(size)]
    reader = cached(model, size)
    assert isinstance(reader, Steps if family in decoders.WINDOWED else Holes)
    play(model, reader, rows, rng)


def test_the_two_layouts_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    model = decoders.model_of("llama")
    for kind in (Holes, Steps):
        rng = random.Random(5)
        rows = [[rng.randrange(3, tiny.VOCAB) for _ in range(3 + r)] for r in range(3)]
        play(model, kind(model, 3), rows, rng)


def test_holes_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    model = decoders.model_of("llama")
    monkeypatch.setattr(room, "FEW_SLOTS", 4)
    reader = Holes(model, 3)
    rows = [[5, 6], [7, 8, 9], [4]]
    sizes = []
    for turn in range(30):  # the rows take turns in keeping one token of four
        for row in rows:
            row += [3 + (turn + i) % 60 for i in range(4)]
        with torch.no_grad():
            found = reader.score(rows, counts=[4] * 3)
            for r, row in enumerate(rows):
                torch.testing.assert_close(found[r], afresh(model, row, 4), atol=1e-9, rtol=0)
        for r, row in enumerate(rows):
            del row[-3 if turn % 3 == r else -4 :]
        reader.keep([len(row) for row in rows])
        sizes.append(reader.slots.shape[1])
        assert reader.cache.get_seq_length() == sizes[-1]
        assert sizes[-1] <= max(4, 2 * max(reader.fed))
    assert any(later < earlier for earlier, later in itertools.pairwise(sizes))


def test_an_encoder_decoder_too() -> None:
    model = decoders.encoder_decoder()
    inputs, mask = tiny.ids(3, 7), torch.ones(3, 7, dtype=torch.long)
    mask[1, 5:] = 0
    with torch.no_grad():
        read = model.encoder(input_ids=inputs, attention_mask=mask)
    reader = cached(model, 3, encoder_outputs=read, attention_mask=mask)
    assert isinstance(reader, Steps)
    rows, rng = [[0], [0], [0]], random.Random(2)
    for turn in range(8):
        for row in rows:
            row += [rng.randrange(3, tiny.VOCAB) for _ in range(3)]
        with torch.no_grad():
            found = reader.score(rows, counts=[3] * len(rows))
            for r, row in enumerate(rows):
                alone = model(
                    input_ids=inputs[r : r + 1],
                    attention_mask=mask[r : r + 1],
                    decoder_input_ids=torch.tensor([row]),
                ).logits[0, -3:]
                torch.testing.assert_close(found[r], alone, atol=1e-9, rtol=0)
        for row in rows:
            del row[len(row) - rng.randint(0, 2) :]
        reader.keep([len(row) for row in rows])
        if turn == 3:
            reader.select([2, 0])
            rows, inputs, mask = [rows[2], rows[0]], inputs[[2, 0]], mask[[2, 0]]


def test_a_running_state_is_refused() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "qwen3_next",
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        layer_types=["linear_attention", "full_attention"],
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=32,
        num_experts=0,
        linear_num_value_heads=2,
        linear_num_key_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
    )
    with pytest.raises(CompatibilityError, match="running state"):
        cached(AutoModelForCausalLM.from_config(config), 1)
