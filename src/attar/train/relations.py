"""Distilling how tokens relate: products of queries, keys or values with themselves, in float32.

A relation needs no attention map, which fused attention never shows, and compares networks of any
width and number of heads: features are cut anew into as many *relation heads* on both sides. As in
`attar.train.features`, losses are sums that divide by nothing that depends on the batch, padding
counts exactly 0 whatever its features are, and the teacher gets no gradient.

Source: Wang et al. 2021, MiniLMv2, arXiv 2012.15828; squared differences as in AutoDistil, Xu et
al. 2022, arXiv 2201.12507, whose official code lets padding into the loss.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from attar.divergences import forward_kl
from attar.errors import CompatibilityError, ConfigError, require
from attar.families import Body, Layer
from attar.models import without_autocast

Projections = Mapping[str, Tensor]
"""Outputs of the projections of one layer by their letter, `q`, `k`, `v`, each (B, T, F)."""
RelationKind = Literal["mse", "kl"]
PER: Mapping[RelationKind, str] = {"mse": "pairs", "kl": "tokens"}
"""What a loss is summed over, as `attar.data.sequences.Sequences.counts` calls it: the mean is over
all pairs of tokens of one row, or over all tokens."""


def relations(x: Tensor, heads: int) -> Tensor:
    """X X^T / sqrt(d) in each relation head, d = F // heads; features left over at the end are
    dropped.

    Args:
        x: (B, T, F).
        heads: relation heads, which need not be the heads of the model.

    Returns:
        (B, heads, T, T), float32 also of half precision and under autocast.

    Raises:
        CompatibilityError: there are fewer features than heads.
    """
    return _products(_by_head(x, heads))


def relation_loss(
    student: Projections,
    teacher: Projections,
    *,
    heads: int,
    mask: Tensor | None = None,
    kind: RelationKind = "mse",
    parts: str = "qkv",
    heads_at_once: int | None = None,
) -> Tensor:
    """Distance of the student's relations from the teacher's, averaged over the relation heads and
    added up over the parts.

    `mse` adds up squared differences over all pairs of real tokens; divide by the number of pairs.
    `kl` adds up KL(teacher || student) in nats over all real tokens, each of which has a
    distribution, the softmax of its relations to the real tokens; divide by the number of tokens.

    Args:
        student: (B, T, F_S) for each of the parts.
        teacher: (B, T, F_T).
        heads: relation heads of both sides.
        mask: (B, T), true at real tokens; None: all are.
        kind: `mse` or `kl`; `PER` says what to divide by.
        parts: letters of the projections that are compared.
        heads_at_once: relation heads whose (T, T) matrices are in memory at a time; the backward
            pass then computes them again. The loss is the same. None: all of them, and kept.

    Returns:
        (B,), one sum per row.

    Raises:
        ConfigError: `kind`, `parts` or `heads_at_once` is none of these.
        CompatibilityError: a projection is missing, has fewer features than relation heads, or the
            two sides differ in rows or tokens.
    """
    require(kind in PER, "kind", kind, "mse or kl")
    require_parts(parts)
    fine = heads_at_once is None or heads_at_once >= 1
    require(fine, "heads_at_once", heads_at_once, "at least 1")
    total = torch.zeros(())
    for part in parts:
        s, t = _sides(student, teacher, part)
        if mask is None:
            mask = torch.ones(s.shape[:2], dtype=torch.bool, device=s.device)
        if mask.shape != s.shape[:2]:
            raise CompatibilityError(
                f"the mask must have shape {tuple(s.shape[:2])} as the projections have, but its "
                f"shape is {tuple(mask.shape)}; pass the attention mask of the same batch"
            )
        real = mask.bool()
        # Before any arithmetic: NaN times 0 is NaN. All relations of padding are 0 then.
        s, t = (_by_head(_only(x, real), heads) for x in (s, t))
        size = heads_at_once or heads
        distance_of = partial(_distance, real=real, kind=kind)
        for some in zip(s.split(size, 1), t.split(size, 1), strict=True):
            if size < heads and torch.is_grad_enabled():
                distance: Any = checkpoint(
                    distance_of, *some, use_reentrant=False, preserve_rng_state=False
                )
            else:
                distance = distance_of(*some)
            total = total + distance / heads
    return total


def require_parts(parts: str) -> None:
    """Refuse what does not name projections.

    Raises:
        ConfigError: it is not some of the letters of qkv, each once.
    """
    fine = bool(parts) and set(parts) <= set("qkv") and len(set(parts)) == len(parts)
    require(fine, "parts", parts, "some of the letters of qkv, each once")


def _distance(student: Tensor, teacher: Tensor, *, real: Tensor, kind: RelationKind) -> Tensor:
    """(B, h, T, d) of both sides, 0 at padding, and (B, T) -> (B,), added up over the heads."""
    s, t = _products(student), _products(teacher)
    if kind == "mse":
        return (s - t).square().sum((1, 2, 3))
    # In a row of padding alone the softmax is over nothing, NaN, and neither it nor its gradient
    # stays.
    s, t = (x.masked_fill(~real[:, None, None], -torch.inf) for x in (s, t))
    return torch.where(real[:, None], forward_kl(s, t), 0.0).sum((1, 2))


def _products(x: Tensor) -> Tensor:
    """(B, h, T, d) -> (B, h, T, T)."""
    with without_autocast(x.device):
        return x @ x.transpose(-1, -2) / x.shape[-1] ** 0.5


def _sides(student: Projections, teacher: Projections, part: str) -> tuple[Tensor, Tensor]:
    for side, projections in (("student", student), ("teacher", teacher)):
        if part not in projections:
            raise CompatibilityError(
                f"expected the projection {part!r} of the {side}, found "
                f"{', '.join(projections) or 'none'}; run the model inside projections_of first"
            )
    s, t = student[part], teacher[part].detach()
    if s.shape[:-1] != t.shape[:-1]:
        raise CompatibilityError(
            f"the projections {part!r} of student and teacher must agree in rows and tokens, but "
            f"their shapes are {tuple(s.shape)} and {tuple(t.shape)}; give both the same batch"
        )
    return s, t


def _by_head(x: Tensor, heads: int) -> Tensor:
    """(B, T, F) -> (B, heads, T, d), float32."""
    require(heads >= 1, "heads", heads, "at least 1")
    size = x.shape[-1] // heads
    if not size:
        raise CompatibilityError(
            f"expected at least one feature for each of {heads} relation heads, found "
            f"{x.shape[-1]}; lower the number of relation heads (relation_heads)"
        )
    return x[..., : heads * size].float().unflatten(-1, (heads, size)).transpose(1, 2)


def _only(x: Tensor, real: Tensor) -> Tensor:
    return torch.where(real[..., None], x, 0.0)


@contextmanager
def projections_of(model: PreTrainedModel, layer: int = -1) -> Iterator[dict[str, Tensor]]:
    """Catch the queries, keys and values of a layer while the block runs the model.

    They are what the linear projections give, (B, T, F) with their bias: before any rotary
    position, norm of queries and keys, or scale. Of a fused projection each has its own heads in
    order. Hooks see a model that `torch.func.functional_call` gives its weights to just as well.

    Args:
        model: of a family in `attar.families`; its parameters may be on the meta device.
        layer: counted from the end where it is negative.

    Yields:
        An empty dictionary that every forward pass fills anew with `q`, `k` and `v`.

    Raises:
        CompatibilityError: the family is not known.
        ConfigError: there is no such layer.
    """
    body = Body(model)
    count = len(body.layer_list)
    if not -count <= layer < count:
        raise ConfigError(f"expected one of {count} layers, counted from 0, found {layer}")
    found: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(hook)
        for module, hook in _hooks(body.layer(layer % count), found)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _hooks(layer: Layer, found: dict[str, Tensor]) -> Iterator[tuple[nn.Module, Any]]:
    family = layer.family
    if family.fused_qkv is None:
        for part, name in (("q", family.query), ("k", family.key), ("v", family.value)):
            yield layer.module.get_submodule(name), _keep(part, found)
        return
    # Which rows belong to a group of heads is what pruning asks too: its queries, key and value.
    rows = next(layer.cuts("kv_groups")).rows
    keys = (rows.shape[1] - layer.columns("kv_groups").shape[1]) // 2
    split = rows.split([rows.shape[1] - 2 * keys, keys, keys], 1)

    def divide(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        for part, own in zip("qkv", split, strict=True):
            found[part] = output.index_select(-1, own.flatten().to(output.device))

    yield layer.module.get_submodule(family.fused_qkv), divide


def _keep(part: str, found: dict[str, Tensor]) -> Any:
    """A forward hook that stores the output."""

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        found[part] = output

    return hook
