"""Relations of tokens: against loops, under padding, rotations, splits, and in every family."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration
from transformers.pytorch_utils import Conv1D

import tiny
from attar.errors import CompatibilityError, ConfigError
from attar.families import FAMILIES, Body
from attar.slicing import LayerKeep, SlicePlan, child_by, plain, slice_model
from attar.train.relations import PER, RelationKind, projections_of, relation_loss, relations

MASK = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
HEADS = 3
KINDS: list[RelationKind] = ["mse", "kl"]
_T5 = T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
every_kind = pytest.mark.parametrize("kind", KINDS)


def sides(seed: int = 0, *, rows: int = 3) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Student and teacher of different widths, of which 3 heads leave 1 and 2 features over, and
    the teacher with fewer keys and values."""
    generator = torch.Generator().manual_seed(seed)
    widths = ({"q": 7, "k": 7, "v": 7}, {"q": 14, "k": 5, "v": 5})
    student, teacher = (
        {part: torch.randn(rows, 5, width, generator=generator) for part, width in side.items()}
        for side in widths
    )
    return student, teacher


def naive(
    student: dict[str, Tensor], teacher: dict[str, Tensor], *, kind: str, parts: str = "qkv"
) -> Tensor:
    """The same sums in float64, with the padding cut off each row."""
    total = torch.zeros(3, dtype=torch.float64)
    for row, real in enumerate(MASK.bool()):
        for part in parts:
            s, t = (side[part][row, real].double() for side in (student, teacher))
            a, b = s.shape[1] // HEADS, t.shape[1] // HEADS
            for head in range(HEADS):
                x, y = s[:, head * a : (head + 1) * a], t[:, head * b : (head + 1) * b]
                r, p = x @ x.T / math.sqrt(a), y @ y.T / math.sqrt(b)
                if kind == "mse":
                    total[row] += ((r - p) ** 2).sum() / HEADS
                else:
                    gap = p.log_softmax(-1) - r.log_softmax(-1)
                    total[row] += (p.softmax(-1) * gap).sum() / HEADS
    return total


@pytest.mark.parametrize("parts", ["qkv", "v", "qk"])
@every_kind
def test_the_loss_and_its_gradient_are_those_of_the_loops(kind: RelationKind, parts: str) -> None:
    student, teacher = sides()
    leaves = {part: x.requires_grad_() for part, x in student.items()}
    found = relation_loss(leaves, teacher, heads=HEADS, mask=MASK, kind=kind, parts=parts)
    want = naive(leaves, teacher, kind=kind, parts=parts)
    assert found.shape == (3,)
    torch.testing.assert_close(found, want.float(), rtol=1e-5, atol=1e-5)
    used = [leaves[part] for part in parts]
    got, expected = (torch.autograd.grad(loss.sum(), used) for loss in (found, want))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_relations_are_symmetric_products_of_each_head() -> None:
    x = sides()[0]["q"]
    found = relations(x, HEADS)
    assert found.shape == (3, 3, 5, 5)
    assert torch.equal(found, found.transpose(-1, -2))
    for head in range(HEADS):
        own = x[..., 2 * head : 2 * head + 2]
        torch.testing.assert_close(found[:, head], own @ own.transpose(1, 2) / math.sqrt(2))
    changed = x.clone()
    changed[..., 6:] = 99  # left over
    assert torch.equal(relations(changed, HEADS), found)


@every_kind
def test_equals_are_at_no_distance_and_others_are(kind: RelationKind) -> None:
    _, teacher = sides()
    leaves = {part: x.clone().requires_grad_() for part, x in teacher.items()}
    same = relation_loss(leaves, teacher, heads=HEADS, mask=MASK, kind=kind)
    assert torch.equal(same, torch.zeros(3))
    gradients = torch.autograd.grad(same.sum(), list(leaves.values()))
    assert all(gradient.abs().max() < 1e-6 for gradient in gradients)
    student, _ = sides()
    apart = relation_loss(student, teacher, heads=HEADS, mask=MASK, kind=kind)
    assert (apart > 0.1).all()
    if kind == "mse":
        back = relation_loss(teacher, student, heads=HEADS, mask=MASK)
        torch.testing.assert_close(back, apart)


@given(seed=st.integers(0, 999), kind=st.sampled_from(KINDS))
def test_a_rotation_inside_each_relation_head_changes_nothing(
    seed: int, kind: RelationKind
) -> None:
    student, teacher = sides(seed)
    generator = torch.Generator().manual_seed(seed)

    def turned(x: Tensor) -> Tensor:
        size = x.shape[-1] // HEADS
        matrices = [
            torch.linalg.qr(torch.randn(size, size, generator=generator)).Q for _ in range(HEADS)
        ]
        left_over = torch.randn(x.shape[-1] - HEADS * size, x.shape[-1] - HEADS * size)
        return x @ torch.block_diag(*matrices, left_over)

    want = relation_loss(student, teacher, heads=HEADS, mask=MASK, kind=kind)
    for one, other in ((turned, lambda x: x), (lambda x: x, turned)):
        first = {part: one(x) for part, x in student.items()}
        second = {part: other(x) for part, x in teacher.items()}
        found = relation_loss(first, second, heads=HEADS, mask=MASK, kind=kind)
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)


def spoilt(side: dict[str, Tensor], value: float) -> dict[str, Tensor]:
    return {part: x.masked_fill(~MASK.bool()[..., None], value) for part, x in side.items()}


@pytest.mark.parametrize("value", [7.0, -1e30, math.nan, math.inf])
@every_kind
def test_padding_never_changes_the_loss_nor_a_gradient(kind: RelationKind, value: float) -> None:
    student, teacher = sides()
    found = []
    for s, t in (
        (student, teacher),
        (spoilt(student, value), teacher),
        (student, spoilt(teacher, value)),
    ):
        leaves = {part: x.clone().requires_grad_() for part, x in s.items()}
        loss = relation_loss(leaves, t, heads=HEADS, mask=MASK, kind=kind)
        gradients = torch.autograd.grad(loss.sum(), list(leaves.values()))
        for gradient in gradients:
            assert torch.equal(gradient[~MASK.bool()], torch.zeros(3, gradient.shape[-1]))
            assert (gradient[MASK.bool()].abs().sum(-1) > 0).all()
        found.append((loss, *gradients))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, found[0], strict=True))


@every_kind
def test_more_padding_changes_nothing(kind: RelationKind) -> None:
    student, teacher = sides()
    want = relation_loss(student, teacher, heads=HEADS, mask=MASK, kind=kind)
    wide = [
        {part: torch.cat([x, torch.full_like(x, 3.0)], 1) for part, x in side.items()}
        for side in (student, teacher)
    ]
    mask = torch.cat([MASK, torch.zeros_like(MASK)], 1)
    torch.testing.assert_close(relation_loss(*wide, heads=HEADS, mask=mask, kind=kind), want)
    # the first row alone has two tokens less
    row = [{part: x[:1, :3] for part, x in side.items()} for side in (student, teacher)]
    torch.testing.assert_close(relation_loss(*row, heads=HEADS, kind=kind), want[:1])


@every_kind
def test_a_batch_may_be_split_anywhere(kind: RelationKind) -> None:
    student, teacher = sides(rows=3)
    want = relation_loss(student, teacher, heads=HEADS, mask=MASK, kind=kind)
    for cut in (slice(0, 1), slice(1, 3)):
        part = [{name: x[cut] for name, x in side.items()} for side in (student, teacher)]
        found = relation_loss(*part, heads=HEADS, mask=MASK[cut], kind=kind)
        torch.testing.assert_close(found, want[cut])


@every_kind
def test_a_row_of_padding_alone_counts_nothing(kind: RelationKind) -> None:
    student, teacher = sides()
    mask = MASK.clone()
    mask[1] = 0
    leaves = {part: x.requires_grad_() for part, x in student.items()}
    found = relation_loss(leaves, teacher, heads=HEADS, mask=mask, kind=kind)
    assert found[1] == 0
    gradients = torch.autograd.grad(found.sum(), list(leaves.values()))
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("heads_at_once", [1, 2, 3, 9])
@every_kind
def test_a_few_heads_at_a_time_give_the_same(kind: RelationKind, heads_at_once: int) -> None:
    student, teacher = sides()
    results = []
    for few in (None, heads_at_once):
        leaves = {part: x.clone().requires_grad_() for part, x in student.items()}
        options: dict[str, Any] = {"heads": HEADS, "mask": MASK, "kind": kind}
        found = relation_loss(leaves, teacher, heads_at_once=few, **options)
        results.append((found, *torch.autograd.grad(found.sum(), list(leaves.values()))))
        with torch.no_grad():
            torch.testing.assert_close(
                relation_loss(leaves, teacher, heads_at_once=few, **options), found
            )
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@every_kind
def test_a_few_heads_at_a_time_keep_no_relations_for_the_backward_pass(kind: RelationKind) -> None:
    tokens, heads = 48, 6
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        {part: torch.randn(2, tokens, 12, generator=generator) for part in "qkv"} for _ in "st"
    )

    def largest(heads_at_once: int | None) -> int:
        kept: list[int] = []

        def note(x: Tensor) -> Tensor:
            kept.append(x.numel())
            return x

        leaves = {part: x.clone().requires_grad_() for part, x in student.items()}
        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            relation_loss(leaves, teacher, heads=heads, kind=kind, heads_at_once=heads_at_once)
        return max(kept)

    assert largest(None) >= 2 * heads * tokens**2
    assert largest(1) < 2 * tokens**2


@every_kind
def test_half_precision_is_computed_in_float32_also_under_autocast(kind: RelationKind) -> None:
    student, teacher = ({part: x.bfloat16() for part, x in side.items()} for side in sides())
    found = relation_loss(student, teacher, heads=HEADS, mask=MASK, kind=kind)
    assert found.dtype == torch.float32
    wide = [{part: x.float() for part, x in side.items()} for side in (student, teacher)]
    want = relation_loss(*wide, heads=HEADS, mask=MASK, kind=kind)
    assert torch.equal(found, want)
    with torch.autocast("cpu", torch.bfloat16):
        for few in (None, 1):
            found = relation_loss(*wide, heads=HEADS, mask=MASK, kind=kind, heads_at_once=few)
            torch.testing.assert_close(found, want, rtol=1e-6, atol=1e-6)
        assert torch.equal(relations(wide[0]["q"], 3), relations(student["q"], 3))


@every_kind
def test_the_loss_lies_where_its_inputs_do(kind: RelationKind) -> None:
    student, teacher = ({part: x.to("meta") for part, x in side.items()} for side in sides())
    found = relation_loss(student, teacher, heads=HEADS, mask=MASK.to("meta"), kind=kind)
    assert (found.device.type, found.shape) == ("meta", (3,))


@every_kind
def test_the_teacher_gets_no_gradient(kind: RelationKind) -> None:
    student, teacher = ({part: x.requires_grad_() for part, x in s.items()} for s in sides())
    loss = relation_loss(student, teacher, heads=HEADS, mask=MASK, kind=kind).sum()
    leaves = [student["q"], *teacher.values()]
    to_student, *rest = torch.autograd.grad(loss, leaves, allow_unused=True)
    assert to_student.abs().sum() > 0
    assert rest == [None] * 3


def test_what_cannot_be_compared_is_refused() -> None:
    student, teacher = sides()
    for wrong in ({"kind": "ce"}, {"parts": ""}, {"parts": "qq"}, {"parts": "qx"}, {"heads": 0}):
        options: dict[str, Any] = {"heads": HEADS, **wrong}
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            relation_loss(student, teacher, **options)
    with pytest.raises(ConfigError, match="heads_at_once"):
        relation_loss(student, teacher, heads=HEADS, heads_at_once=0)
    with pytest.raises(CompatibilityError, match="each of 6 relation heads, found 5"):
        relation_loss(student, teacher, heads=6)
    with pytest.raises(CompatibilityError, match="'v' of the student, found q, k"):
        relation_loss({part: student[part] for part in "qk"}, teacher, heads=HEADS)
    with pytest.raises(CompatibilityError, match="mask must have shape"):
        relation_loss(student, teacher, heads=HEADS, mask=MASK[:, :4])
    short = {part: x[:, :4] for part, x in teacher.items()}
    with pytest.raises(CompatibilityError, match=r"\(3, 5, 7\) and \(3, 4, 14\)"):
        relation_loss(student, short, heads=HEADS)
    assert PER == {"mse": "pairs", "kl": "tokens"}


def in_order(fused: Tensor, family: str, head: int) -> dict[str, Tensor]:
    """Queries, keys and values of a fused projection as the class of this family cuts them."""
    if family == "gpt_neox":
        by_head = fused.unflatten(-1, (-1, 3 * head)).split(head, -1)
        return {part: x.flatten(-2) for part, x in zip("qkv", by_head, strict=True)}
    width = 32
    keys = (fused.shape[-1] - width) // 2
    return dict(zip("qkv", fused.split([width, keys, keys], -1), strict=True))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_projections_are_caught_in_every_family(family: str) -> None:
    model = tiny.model(family)
    body, ids = Body(model), tiny.ids()
    for layer in (-1, 0):
        read: list[Tensor] = []
        one = body.layer(layer % 3)
        # what the attention of the layer reads, from which the projections are computed anew
        first = one.family.fused_qkv or one.family.query
        hook = one.module.get_submodule(first).register_forward_hook(
            lambda _m, inputs, _o, read=read: read.append(inputs[0])
        )
        with projections_of(model, layer) as found, torch.no_grad():
            assert found == {}
            model(input_ids=ids)
        hook.remove()
        (x,) = read

        def computed(name: str, x: Tensor = x, one: Any = one) -> Tensor:
            linear: Any = one.module.get_submodule(name)
            weight = linear.weight if isinstance(linear, Conv1D) else linear.weight.T
            return x @ weight + (0 if getattr(linear, "bias", None) is None else linear.bias)

        if one.family.fused_qkv:
            want = in_order(computed(one.family.fused_qkv), family, body.head_dim)
        else:
            names = (one.family.query, one.family.key, one.family.value)
            want = {part: computed(name) for part, name in zip("qkv", names, strict=True)}
        assert found["q"].shape == (2, 12, 32)
        assert found["k"].shape[-1] == body.head_dim * one.kv_groups
        for part in "qkv":
            torch.testing.assert_close(found[part], want[part], rtol=1e-5, atol=1e-5)
    kept = dict(found)
    with torch.no_grad():
        model(input_ids=ids.flip(1))
    assert found == kept  # outside the block nothing is caught
    assert not any(module._forward_hooks for module in model.modules())


def test_a_skeleton_without_weights_is_seen_as_its_sliced_model() -> None:
    model = tiny.model("bert")
    plan = SlicePlan(tuple(LayerKeep(i, (0, 3), tuple(range(0, 48, 2))) for i in (0, 2)))
    child = child_by(model, plan)
    ids, smaller = tiny.ids(), slice_model(model, plan)
    with projections_of(child.skeleton) as found:
        child.run(child.weights(plain(model)), input_ids=ids)
    with projections_of(smaller) as want:
        smaller(input_ids=ids)
    assert found["k"].shape == (2, 12, 16)
    for part in "qkv":
        assert torch.equal(found[part], want[part])
    teacher = {part: torch.randn_like(x) for part, x in found.items()}
    relation_loss(found, teacher, heads=8).sum().backward()
    reached = model.get_parameter("encoder.layer.2.attention.self.value.weight").grad
    assert reached is not None
    assert reached.abs().sum() > 0


def test_layers_and_families_that_are_not_there_are_refused() -> None:
    for model, layer, error, message in (
        (tiny.model("bert"), 3, ConfigError, "one of 3 layers, counted from 0, found 3"),
        (tiny.model("bert"), -4, ConfigError, "found -4"),
        (T5ForConditionalGeneration(_T5), -1, CompatibilityError, "found 't5'"),
    ):
        with pytest.raises(error, match=message), projections_of(model, layer):
            pass
