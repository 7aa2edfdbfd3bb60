"""Every tensor is made where its inputs lie, whatever torch's default device is."""

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel
from transformers.generation.stopping_criteria import StoppingCriteria

import decoders
import far
import tiny
from attar.decode.cache import Holes, Steps
from attar.decode.drafters import PromptLookupDrafter, first_layers
from attar.decode.sampling import sample
from attar.decode.settings import SpecConfig
from attar.decode.speculative import SpeculativeDecoder

OPTIONS: dict[str, Any] = {
    "repetition_penalty": 1.7,
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[5], [6, 7], [9, 10, 11]],
    "sequence_bias": [[[8], 2.0], [[12, 13], -3.0]],
    "min_new_tokens": 3,
    "forced_eos_token_id": 2,
    "suppress_tokens": [20],
    "begin_suppress_tokens": [21],
    "exponential_decay_length_penalty": (3, 1.1),
    "prefix_allowed_tokens_fn": lambda row, ids: [*range(2, 60 + row)],
}
FIXED: dict[str, Any] = {"policy": "constant", "draft_tokens": 3, "seed": 1}
WAYS: list[tuple[SpecConfig, dict[str, Any]]] = [
    (SpecConfig(**FIXED), {"do_sample": False, **OPTIONS}),
    (SpecConfig(**FIXED), {"do_sample": True, "top_k": 9, **OPTIONS}),
    (SpecConfig(**FIXED, verification="block"), {"do_sample": True, "top_p": 0.9}),
    (SpecConfig(**FIXED, lossy="typical", epsilon=0.5), {"do_sample": False}),
]


class Same(StoppingCriteria):
    """Ends a text at a token that lies with the model."""

    def __init__(self, token: torch.Tensor) -> None:
        self.token = token

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return (input_ids[:, -1:] == self.token[None]).any(-1)


def draft_of(name: str, target: Any) -> Any:
    if name == "lookup":
        return PromptLookupDrafter()
    return first_layers(target, 1) if name == "layers" else tiny.model("llama", seed=9).double()


def texts(target: PreTrainedModel, draft: Any, *, device: str) -> list[list[list[int]]]:
    """What is written with all options and ways, in turn."""
    ids, mask = tiny.ids(2, 9), torch.ones(2, 9, dtype=torch.long)
    mask[1, :3] = 0
    inputs = {"inputs": ids.to(device), "attention_mask": mask.to(device)}
    written = []
    for config, options in WAYS:
        ends = Same(torch.tensor([2, 30], device=device))
        found = SpeculativeDecoder(target, draft, config=config).generate(
            **inputs, **options, stopping_criteria=[ends], max_new_tokens=5, pad_token_id=0
        )
        written.append(found.sequences.tolist())
        assert found.sequences.device == torch.device(device)
    return written


@pytest.mark.parametrize(
    ("draft", "default"), [("model", None), ("lookup", None), ("layers", far.DEVICE)]
)
def test_on_another_device_the_texts_are_the_same(draft: str, default: Any) -> None:
    target: Any = decoders.model_of("llama")
    expected = texts(target, draft_of(draft, target), device="cpu")
    moved = far.moved(copy.deepcopy(target))
    drafter = draft_of(draft, moved)
    with far.device(), default or nullcontext():
        drafter = far.moved(drafter) if draft == "model" else drafter
        assert texts(moved, drafter, device="meta") == expected


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_sampling_on_another_device(family: str) -> None:
    target = decoders.model_of(family)
    prompts = [row[: 3 + n] for n, row in enumerate(tiny.ids(3, 7).tolist())]
    options: dict[str, Any] = {"max_new_tokens": 5, "seeds": [1, 2, 3]}
    drawn = sample(target, prompts, **options)
    moved = far.moved(copy.deepcopy(target))
    for default in (nullcontext(), far.DEVICE):
        with far.device(), default:
            assert sample(moved, prompts, **options) == drawn


def test_an_encoder_decoder_on_another_device() -> None:
    target = decoders.encoder_decoder()
    options: dict[str, Any] = {"max_new_tokens": 5, "seeds": [1, 2, 3]}
    prompts = [row[: 3 + n] for n, row in enumerate(tiny.ids(3, 7).tolist())]
    drawn = sample(target, prompts, **options)
    moved = far.moved(copy.deepcopy(target))
    for default in (nullcontext(), far.DEVICE):
        with far.device(), default:
            assert sample(moved, prompts, **options) == drawn


@pytest.mark.parametrize("kind", [Holes, Steps])
def test_holes_are_gathered_on_another_device(kind: Any) -> None:
    model = far.moved(decoders.model_of("llama"))
    with far.device(), far.DEVICE:
        reader, rows = kind(model, 2), [[5, 6], [7, 8, 9]]
        for turn in range(9):
            for n, row in enumerate(rows):
                row += [3 + (turn + i) % 50 for i in range(4 if turn % 2 == n else 8)]
            reader.score(rows, counts=[1, 1])
            for n, row in enumerate(rows):
                del row[-3 if turn % 2 == n else -7 :]
            reader.keep([len(row) for row in rows])
        reader.select([1])
        assert len(reader.fed) == 1
