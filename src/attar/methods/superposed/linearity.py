"""How linear a model is along superposed drafts: what it makes of a mixture, and what of its parts.

The method stands on this (section 3.2 and figure 3), and a quantised model or one of experts may be
less linear than others.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.methods.superposed.core import Row, mixing_weights
from attar.methods.superposed.reader import Reader
from attar.methods.superposed.writer import DraftWriter
from attar.models import inference


@dataclass(frozen=True)
class Linearity:
    """How a mixture was read after so many steps, mean of all prompts.

    Attributes:
        step: mixtures that were read.
        hidden: cosine of the last hidden state with the mixture of those of the drafts, each read
            by itself.
        logits: the same of the logits.
        overlap: share of the k likeliest tokens that the mixture of the drafts' distributions has
            among its own; cosines flatter.
    """

    step: int
    hidden: float
    logits: float
    overlap: float


def linearity(
    writer: DraftWriter, prompts: Sequence[str | Sequence[int]], *, steps: int = 20
) -> list[Linearity]:
    """Compare the passes over mixtures with exact ones, step by step.

    Args:
        writer: a `SuperposedDecoder`; its drafts are followed.
        prompts: texts, or token ids.
        steps: mixtures to read.
    """
    config = replace(writer.config, max_new_tokens=steps + 1, reset_every=None, stop=())
    figures: list[list[tuple[float, float, float]]] = [[] for _ in range(steps)]
    for given in prompts:
        prompt = writer.prompt(given)
        reader = _Watched(writer.model, 1)
        writer.search(reader, [prompt], config=config)
        for t, (row, hidden, logits) in enumerate(reader.passes[1:]):
            exact = _exact(writer.model, prompt.ids, row=row)
            gamma = mixing_weights(
                [draft.score for draft in row.alive], temperature=config.weight_temperature
            )
            figures[t].append(_compared((hidden, logits), exact, gamma=gamma, top=config.k))
    return [
        Linearity(t, *(float(np.mean(part)) for part in zip(*rows, strict=True)))
        for t, rows in enumerate(figures, 1)
        if rows
    ]


class _Watched(Reader):
    """A reader of one row that keeps what it read and what came of it."""

    def begin(self, prompts: Sequence[Sequence[int]], *, weight_temperature: float = 1.0) -> None:
        """See `Reader`."""
        super().begin(prompts, weight_temperature=weight_temperature)
        #: drafts, the last hidden state, logits
        self.passes: list[tuple[Row, Tensor, Tensor]] = []

    def read(self, rows: Sequence[Row]) -> Tensor:
        """See `Reader`."""
        with _last_hidden(self.model) as seen:
            logits = super().read(rows)
        self.passes.append((rows[0], seen[-1][0].double(), logits[0].double()))
        return logits


@contextmanager
def _last_hidden(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Collect what goes into the output layer, `(B, d)` of the last token, pass by pass."""
    seen: list[Tensor] = []
    head: Any = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, given: seen.append(given[0][:, -1]))
    try:
        yield seen
    finally:
        handle.remove()


def _exact(model: Any, prompt: Sequence[int], *, row: Row) -> tuple[Tensor, Tensor]:
    """Last hidden states `(n, d)` and logits `(n, V)` of the drafts, each read by itself."""
    texts = [[*prompt, *draft.tokens] for draft in row.alive]
    with inference(model), _last_hidden(model) as seen:
        logits = model(input_ids=torch.tensor(texts, device=model.device)).logits[:, -1]
    return seen[-1].double(), logits.double()


def _compared(
    mixed: tuple[Tensor, Tensor], exact: tuple[Tensor, Tensor], *, gamma: Any, top: int
) -> tuple[float, float, float]:
    """The pass over a mixture against the drafts by themselves: hidden states and logits of each,
    `(d,)`, `(V,)` and `(n, d)`, `(n, V)`."""
    (hidden, logits), (hiddens, all_logits) = mixed, exact
    weights = torch.as_tensor(gamma, device=hidden.device)[:, None]
    cosine = torch.nn.functional.cosine_similarity
    wanted = (weights * all_logits.softmax(-1)).sum(0).topk(top).indices.tolist()
    likeliest = logits.topk(top).indices.tolist()
    return (
        float(cosine(hidden, (weights * hiddens).sum(0), dim=0)),
        float(cosine(logits, (weights * all_logits).sum(0), dim=0)),
        len({*wanted} & {*likeliest}) / top,
    )
