"""What SpacTor trains beside a T5 in its first stage: the generator and the detection head."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from attar.errors import CompatibilityError
from attar.methods.spactor.config import SpacTorConfig


def replaced(input_ids: Tensor, *, masked: Tensor, tokens: Tensor) -> Tensor:
    """Ids (B, T) with tokens (B, Q) at the places `masked` (B, Q), of which -1 are none."""
    wider = F.pad(input_ids, (0, 1))  # a place for those that are none
    places = torch.where(masked < 0, input_ids.shape[1], masked)
    return wider.scatter(1, places, tokens)[:, :-1]


def is_at(masked: Tensor, input_ids: Tensor) -> Tensor:
    """`(B, T)`, true at the places `masked` (B, Q)."""
    ones = torch.ones_like(masked, dtype=torch.bool)
    nothing = torch.zeros_like(input_ids, dtype=torch.bool)
    return replaced(nothing, masked=masked, tokens=ones)


class Generator(nn.Module):
    """A masked language model: an encoder like the model's, with fewer layers and no dropout.

    Args:
        model: the T5.
        config: of the first stage.
    """

    def __init__(self, model: PreTrainedModel, config: SpacTorConfig) -> None:
        super().__init__()
        encoder: Any = model.get_encoder()
        shape = copy.deepcopy(encoder.config)
        layers = config.generator_layers
        shape.num_layers = int(layers if layers >= 1 else max(1, round(layers * shape.num_layers)))
        shape.dropout_rate = 0.0
        self.encoder: Any = type(encoder)(shape)
        del self.encoder.embed_tokens  # it is given embeddings
        table = encoder.get_input_embeddings()
        self.embedding: Any = (
            table if config.generator_embedding == "tied" else copy.deepcopy(table)
        )
        width = shape.d_model
        self.mask = nn.Parameter(torch.randn(width) * shape.initializer_factor)
        self.dense = nn.Linear(width, width)
        self.norm = nn.RMSNorm(width, eps=shape.layer_norm_epsilon)
        self.bias = nn.Parameter(torch.zeros(len(self.embedding.weight)))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, masked: Tensor) -> Tensor:
        """Hidden states, (B, T, d), where the tokens at the places `masked` (B, Q) are masked."""
        embeddings = self.embedding(input_ids)
        hidden = torch.where(is_at(masked, input_ids)[..., None], self.mask, embeddings)
        return self.encoder(inputs_embeds=hidden, attention_mask=attention_mask).last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., d) -> (..., V)."""
        hidden = self.norm(F.gelu(self.dense(hidden)).float())
        # T5's table has entries of size 1: logits would begin with the size of the width's root
        return F.linear(hidden * hidden.shape[-1] ** -0.5, self.embedding.weight, self.bias)


class FirstStage(nn.Module):
    """What is trained beside a T5 in the first stage, and then thrown away.

    Args:
        model: a T5; with `gdes`, its table of embeddings becomes a sum until `end`.
        config: of the first stage.
        text: `(V,)`, true for tokens that may be sampled (see `attar.train.corruption`).
        seed: of the weights.

    Raises:
        CompatibilityError: the model is no T5, or its weights are in float16.
    """

    def __init__(
        self, model: PreTrainedModel, *, config: SpacTorConfig, text: Tensor, seed: int = 0
    ) -> None:
        super().__init__()
        require_t5(model)
        self.config = config
        width = model.config.d_model
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.generator = Generator(model, config)
            self.detector = nn.Sequential(
                nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1, bias=True)
            )
        self.register_buffer("text", text, persistent=False)
        self.to(model.device, model.dtype)
        self._sums: list[nn.Module] = []
        if config.generator_embedding == "gdes":
            self._split(model)

    def _split(self, model: PreTrainedModel) -> None:
        """E_D = sg(E_G) + E_delta, wherever the model uses its table."""
        encoder: Any = model.get_encoder()
        table = encoder.get_input_embeddings().weight
        for module in model.modules():
            if module._parameters.get("weight") is table:
                parametrize.register_parametrization(
                    module, "weight", _Plus(self.generator.embedding.weight)
                )
                self._sums.append(module)
        nn.init.zeros_(table)

    def end(self) -> None:
        """Leave the model as an ordinary T5."""
        if not self._sums:
            return
        first: Any = self._sums[0]
        merged = first.weight.detach().clone()
        for module in self._sums:
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
        with torch.no_grad():
            first.weight.copy_(merged)
        self._sums.clear()


class _Plus(nn.Module):
    """Adds a table without a gradient to it, and without becoming its owner."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self._table = (table,)

    def forward(self, weight: Tensor) -> Tensor:
        return self._table[0].detach() + weight


def require_t5(model: PreTrainedModel) -> None:
    """Refuse a model that is not a T5, or that would overflow.

    Raises:
        CompatibilityError: it is not a T5, or its weights are in float16.
    """
    kind = model.config.model_type
    if kind not in ("t5", "mt5", "umt5") or not model.can_generate():
        raise CompatibilityError(
            f"expected a T5 that generates text (T5ForConditionalGeneration, or of mT5 or umT5), "
            f"found {type(model).__name__}; give such a model"
        )
    if any(p.dtype == torch.float16 for p in model.parameters()):
        raise CompatibilityError(
            "T5's feed-forward layers overflow in float16, which the weights are in; load the "
            "model with dtype=torch.float32 (bf16=True then speeds up the forward pass alone)"
        )


def plain_state(model: PreTrainedModel) -> dict[str, Tensor]:
    """A copy of the weights as those of an ordinary T5, also while its table is a sum."""
    state = {
        name: value.detach().clone()
        for name, value in model.state_dict().items()
        if ".parametrizations." not in name
    }
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            weight: Any = module.weight
            state[f"{name}.weight"] = weight.detach().clone()
    return state
