"""Taking parts of a model away: one plan, three equal ways to carry it out.

A :class:`SlicePlan` names, by their original numbers, the layers, KV groups, neurons, channels and
tokens that stay. The law that tests hold it to::

    slice_model(m, plan)(x) == m(x) under masked(m, plan) == functional_forward(m, plan, x)

Where the plan keeps a part of the vocabulary, `x` of the sliced model is `plan.renumber(x)`, and
the masked model's logits are `-inf` for the tokens that go, so that the two agree on
`logits[..., plan.vocabulary]`.
"""

from attar.slicing.child import Child, child_by, child_of, functional_forward, plain
from attar.slicing.connected import Connector, HeadSlicing
from attar.slicing.cut import cut_layers, describe, slice_model, zero_out
from attar.slicing.encoder_decoder import Layers
from attar.slicing.mask import UnitMasks, masked
from attar.slicing.plan import PLAN_FORMAT, LayerKeep, SlicePlan
from attar.slicing.slice import Slice, Take

__all__ = [
    "PLAN_FORMAT",
    "Child",
    "Connector",
    "HeadSlicing",
    "LayerKeep",
    "Layers",
    "Slice",
    "SlicePlan",
    "Take",
    "UnitMasks",
    "child_by",
    "child_of",
    "cut_layers",
    "describe",
    "functional_forward",
    "masked",
    "plain",
    "slice_model",
    "zero_out",
]
