"""`Arch`: a frozen description of one network's widths, layer by layer.

The keys are those of transformers' `per_layer_config`, so that an `Arch` can be written into a
config as it stands.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from transformers import PreTrainedModel

from attar.families import Body, Family


@dataclass(frozen=True)
class LayerShape:
    """Widths of one decoder layer."""

    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int


@dataclass(frozen=True)
class Arch:
    """The widths of every layer of one network, first layer first; hashable and JSON-able."""

    layers: tuple[LayerShape, ...]

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Arch":
        """Read the widths from the model's real tensors."""
        body = Body(model)
        return cls(tuple(LayerShape(x.heads, x.kv_groups, x.neurons) for x in body.layers))

    @property
    def uniform(self) -> bool:
        """True when all layers have the same widths, so that a stock config can describe them."""
        return len(set(self.layers)) <= 1

    def overrides(self, family: Family) -> dict[int, dict[str, int]]:
        """`per_layer_config` for this network: every layer's widths under the family's config
        keys.
        """
        return {i: layer_keys(shape, family) for i, shape in enumerate(self.layers)}

    def to_json(self) -> str:
        """A JSON list with one object per layer."""
        return json.dumps([asdict(layer) for layer in self.layers])

    @classmethod
    def from_json(cls, text: str) -> "Arch":
        """Read what `to_json` wrote."""
        rows: list[Mapping[str, Any]] = json.loads(text)
        return cls(tuple(LayerShape(**row) for row in rows))


def layer_keys(shape: LayerShape, family: Family) -> dict[str, int]:
    """The config attributes that size one layer of this family."""
    keys = {family.ffn_key: shape.intermediate_size}
    if not family.no_heads:
        keys["num_attention_heads"] = shape.num_attention_heads
        keys["num_key_value_heads"] = shape.num_key_value_heads
    return keys
