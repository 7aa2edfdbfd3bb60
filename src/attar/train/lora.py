"""LoRA: train low-rank adapters on a frozen model, and merge them into it at the end."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from attar.errors import require


def require_rank(model: PreTrainedModel, r: int) -> None:
    """Refuse adapters of a larger rank than any matrix of the model can have.

    Raises:
        ConfigError: `r` is.
    """
    most = max(min(p.shape) for p in model.parameters() if p.ndim == 2)
    require(r <= most, "lora_r", r, f"at most {most}, the rank of the largest matrix")


@contextmanager
def adapters(
    model: PreTrainedModel, *, r: int, alpha: float, dropout: float, seed: int
) -> Iterator[PreTrainedModel]:
    """`model` under adapters of rank `r` on all linear layers but the output embedding.

    They are merged into `model` when the block ends well and taken off when it does not.
    """
    from peft import LoraConfig, get_peft_model  # slow to import, and seldom needed

    lora = LoraConfig(
        r=r,
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType] - any number works
        lora_dropout=dropout,
        target_modules="all-linear",
    )
    trainable = {name: p.requires_grad for name, p in model.named_parameters()}
    with torch.random.fork_rng(), warnings.catch_warnings():
        # peft still asks for an attribute that transformers has renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        torch.manual_seed(seed)
        adapted = get_peft_model(model, lora)
    done = False
    try:
        yield adapted  # pyright: ignore[reportReturnType] - it forwards to the model it wraps
        done = True
    finally:
        (adapted.merge_and_unload if done else adapted.unload)()
        for name, p in model.named_parameters():
            p.requires_grad_(trainable[name])
