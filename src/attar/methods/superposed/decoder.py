"""Several drafts of a prompt at once: from Python, through transformers, and while one types."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.logits_process import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from attar.decode.stopping import Stops
from attar.errors import ConfigError
from attar.methods.superposed.completions import Completions
from attar.methods.superposed.stream import DraftStream
from attar.methods.superposed.writer import DraftWriter

#: what samples; drafts are ranked instead
_SAMPLING = (TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)


class SuperposedDecoder(DraftWriter):
    """Writes k drafts of a prompt with the passes of one; made like a `DraftWriter`.

    It is a function for transformers' `custom_generate`, so that `model.generate(ids,
    custom_generate=decoder, num_drafts=3)` gives `(3, T)`.
    """

    def generate(self, prompt: str | Sequence[int], *, suffix: str | None = None) -> Completions:
        """The drafts of one prompt; see `generate_all`."""
        return self.generate_all([prompt], suffix=suffix)[0]

    def generate_all(
        self,
        prompts: Sequence[str | Sequence[int]],
        *,
        suffix: str | None = None,
        until: Callable[[], bool] | None = None,
    ) -> list[Completions]:
        """The drafts of prompts, in one batch; each is as it would be alone, up to rounding.

        Args:
            prompts: texts, or token ids.
            suffix: text behind the cursor, of all prompts; for models that were trained to fill in.
            until: is asked after each step; True ends the drafts where they are.

        Raises:
            ConfigError: a prompt is empty, or longer than the model reads.
            CompatibilityError: the tokenizer has no tokens for a suffix.
        """
        read = [self.prompt(one, suffix=suffix) for one in prompts]
        reader = self.reader(len(read))
        return self.complete(reader, read, until=until)

    def open(self, prompt: str, *, suffix: str | None = None) -> DraftStream:
        """Drafts of a text that grows; see `DraftStream`."""
        return DraftStream(self, prompt, suffix=suffix)

    @torch.no_grad()
    def __call__(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        *,
        logits_processor: Any = (),
        stopping_criteria: Any = (),
        generation_config: GenerationConfig,
        num_drafts: int | None = None,
        **inputs: Any,
    ) -> Tensor:
        """What `generate` calls: `(B * k, T)`, the drafts of each prompt together. A draft ends
        where `generate` says, and at `stop` of the decoder."""
        if model is not self.model:
            raise ConfigError("this decoder was made for another model; make one for this model")
        stops = Stops.of(stopping_criteria, device=input_ids.device)
        others = [one for one in logits_processor if type(one) not in _SAMPLING]
        if others := [*others, *stops.others]:
            raise ConfigError(
                "superposed decoding shows processors of logits and criteria no token ids of one "
                f"text, but found {type(others[0]).__name__}; leave it out, or use plain generation"
            )
        room = stops.length - input_ids.shape[1]
        config = replace(
            self.config,
            k=self.config.k if num_drafts is None else num_drafts,
            max_new_tokens=generation_config.max_new_tokens
            or min(self.config.max_new_tokens, room),
        )
        writer = self.with_config(config)
        writer._stops = stops.tokens
        mask = inputs.get("attention_mask")
        kept = torch.ones_like(input_ids) if mask is None else mask
        prompts = [
            self.words.of_ids(row[held.bool()].tolist())
            for row, held in zip(input_ids, kept, strict=True)
        ]
        rows, _ = writer.search(
            self.reader(len(prompts)), prompts, config=config, until=lambda: stops.late([0])
        )
        best = [
            draft
            for row in rows
            for draft in sorted(row.finished + row.alive, key=lambda one: -one.mean_score)[
                : config.k
            ]
        ]
        padding = generation_config._pad_token_tensor  # pyright: ignore[reportAttributeAccessIssue]
        fill = min(stops.tokens, default=0) if padding is None else int(padding)
        longest = max(len(draft.tokens) for draft in best)
        new = [[*draft.tokens, *[fill] * (longest - len(draft.tokens))] for draft in best]
        written = torch.tensor(new, device=input_ids.device)
        return torch.cat([input_ids.repeat_interleave(config.k, 0), written], 1)
