"""Optimizers whose steps are in proportion to the weights, as T5 is trained with."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch.optim import Adafactor, AdamW, Optimizer

OptimizerName = Literal["adamw", "adafactor", "adamw_rms"]
_LEAST = 1e-3  # of a tensor's size, so that one of zeros can move; as in Adafactor


class AdamWRms(AdamW):
    """AdamW whose step of each tensor is multiplied by the root mean square of that tensor.

    One learning rate then suits tensors of any size, such as T5's table of embeddings, whose
    entries begin at 1, and its maps, whose entries begin at a fraction of that. The idea is
    nanoT5's (Nawrot 2023, arXiv 2309.02373); the size is taken to be 0.001 at least. Weight decay
    is multiplied alike.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step; the loss of `closure`, if there is one."""
        weights = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        before = [weight.clone() for weight in weights]
        loss = super().step(closure)
        for weight, old in zip(weights, before, strict=True):
            size = old.square().mean().sqrt().clamp_min(_LEAST)
            torch.lerp(old, weight, size, out=weight)  # old + size (new - old)
        return loss


def optimizer_class(
    name: OptimizerName, *, learning_rate: float, adam_beta2: float
) -> tuple[type[Optimizer], dict[str, Any]] | None:
    """The class and its options, as transformers' Trainer takes them; None: its own AdamW."""
    if name == "adafactor":
        # torch's own least gradient is far above the 1e-30 (squared) that was published
        return Adafactor, {"lr": learning_rate, "eps": (1e-15, 1e-3)}
    if name == "adamw_rms":
        return AdamWRms, {"lr": learning_rate, "betas": (0.9, adam_beta2)}
    return None
