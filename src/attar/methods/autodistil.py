"""AutoDistil: a family of students from one teacher, ranked without training any of them again.

The space of students is split into a few sub-spaces of networks of similar size. For each, one
*SuperLM*, the teacher cut down to the sub-space's widest network, is trained so that the largest,
the smallest and two random students of every step have the teacher's self-attention relations on
unlabelled text. Then every student is a slice of a SuperLM, and its relation loss on held-out text
ranks it.

Xu et al. 2022, "AutoDistil: Few-shot Task-agnostic Neural Architecture Search for Distilling Large
Language Models", arXiv 2201.12507.

Deviations, from the official code (MIT):

- padding: there an additive mask that cancels, so that padding counts; here it never does;
- widths: there factors typed by hand, so that a student of 544 channels is fine-tuned with 543;
  here whole numbers;
- sizes: there formulas that take the projections of queries, keys and values for narrower than
  they are; here what the tensors hold, and the formulas as `published_size` for comparison;
- a SuperLM is as wide as its sub-space's largest network, and keeps all of the teacher's layers,
  of which students have evenly spread ones; there it is the whole teacher;
- the ranking without training, which the paper describes and the code lacks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import PreTrainedModel

from attar.arch import Arch, Space, neurons_of
from attar.budget import Cost
from attar.data.labelled.encode import MODEL_INPUTS
from attar.data.sequences import Sequences
from attar.data.sources import Batch
from attar.errors import check_types, require
from attar.evaluation.masked import masked_token_losses
from attar.families import Body
from attar.measure.cost import cost_of
from attar.models import computing, evaluation_mode
from attar.report.record import Paper
from attar.runtime import Bar
from attar.search.bottlenecks import make_bottlenecks
from attar.search.elastic_training import NetworkLoss, Sandwich, SupernetConfig
from attar.search.parents import Init, make_parent
from attar.search.supernet import Depth, Draws, Supernet
from attar.slicing import HeadSlicing
from attar.train.relations import (
    PER,
    Projections,
    RelationKind,
    projections_of,
    relation_loss,
    require_parts,
)
from attar.train.trainer import Term, Training, fit

PAPER = Paper(
    title="AutoDistil: Few-shot Task-agnostic Neural Architecture Search for Distilling Large "
    "Language Models",
    authors=(
        "Dongkuan Xu",
        "Subhabrata Mukherjee",
        "Xiaodong Liu",
        "Debadeepta Dey",
        "Wenhui Wang",
        "Xiang Zhang",
        "Ahmed Hassan Awadallah",
        "Jianfeng Gao",
    ),
    year=2022,
    arxiv="2201.12507",
)

_SAMPLE = 64  # rows that tell which channels matter
_KEPT_BYTES = 2**30  # of what the teacher makes of held-out text, which students are compared with


@dataclass(frozen=True, kw_only=True)
class AutoDistilConfig:
    """What is distilled, and from what a SuperLM starts. Defaults as in the published runs."""

    relation: RelationKind = "mse"
    """How relations are compared: mse of the products, as in the official code, or kl of their
    softmax, as in MiniLMv2."""
    parts: str = "qkv"
    """Projections whose relations are compared: some of the letters of qkv."""
    relation_heads: int | None = None
    """Heads that features are cut into on both sides; unset: as many as the teacher has."""
    heads_at_once: int | None = None
    """Relation heads in memory at a time; unset: all. Fewer take longer and give the same."""
    mlm_weight: float = 0.0
    """Weight of masked language modelling beside the relations; above 0 the teacher needs its
    head."""
    init: Init = "truncate"
    """What of the teacher a SuperLM keeps: the first channels (truncate, as published), the
    important ones (importance), principal components (pca), or nothing (random)."""

    def __post_init__(self) -> None:
        check_types(self)
        require_parts(self.parts)
        for name in ("relation_heads", "heads_at_once"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "at least 1")
        require(self.mlm_weight >= 0, "mlm_weight", self.mlm_weight, "zero or more")


# ---------------------------------------------------------------------------------- sub-spaces

#: of a teacher of 12 layers, 12 heads and 768 channels: layers, heads, channels, ratios
_TINY = (range(4, 8), range(7, 11), (128, 160, 192, 224), (2.0, 2.5, 3.0, 3.5))
_SMALL = (range(9, 13), range(7, 11), (256, 288, 320, 352), (2.5, 3.0, 3.5, 4.0))
_BASE = (range(9, 13), range(9, 13), (544, 576, 608, 640), (2.5, 3.0, 3.5, 4.0))
_COARSE = (range(3, 13, 3), range(3, 13, 3), (192, 384, 576, 768), (1.0, 2.0, 3.0, 4.0))
_PUBLISHED: Mapping[int, Mapping[str, Any]] = MappingProxyType(
    {
        1: {"whole": _COARSE},
        2: {"smallest": (range(7, 13), *_TINY[1:]), "largest": (range(7, 13), *_BASE[1:])},
        3: {"tiny": _TINY, "small": _SMALL, "base": _BASE},
    }
)


def compact(teacher: PreTrainedModel, *, k: int = 3, fixed_heads: bool = True) -> dict[str, Space]:
    """The published sub-spaces, in proportion to a teacher's widths.

    Args:
        teacher: a model of a supported family.
        k: how many sub-spaces: 3, as published, 2, or 1, a coarse grid over the whole.
        fixed_heads: heads have the teacher's size, as published; otherwise all students of a
            sub-space have its largest number of heads, which divides their widths, as stock classes
            of BERT want it.

    Raises:
        ConfigError: there are no such sub-spaces.
    """
    known = ", ".join(map(str, _PUBLISHED))
    require(k in _PUBLISHED, "k", k, f"one of {known}; describe other sub-spaces in a file")
    arch = Arch.of(teacher)
    shape, hidden = arch.layers[0], arch.hidden_size or 0
    per_group = shape.num_attention_heads // shape.num_key_value_heads
    whole = shape.intermediate_size / hidden

    def scaled(values: Sequence[int], size: int, most: int, *, step: int = 1) -> tuple[int, ...]:
        grid = {max(1, round(value * size / most / step)) * step for value in values}
        return tuple(sorted(min(value, size) for value in grid))

    spaces = {}
    for name, (layers, heads, widths, ratios) in _PUBLISHED[k].items():
        groups = scaled(heads, shape.num_key_value_heads, 12)
        spaces[name] = _space(
            layers=scaled(layers, arch.num_hidden_layers, 12),
            hidden=scaled(widths, hidden, 768, step=4 if hidden % 4 == 0 else 1),
            groups=groups,
            per_group=per_group,
            ratios=tuple(ratio * whole / 4 for ratio in ratios),
            head_dim=arch.head_dim if fixed_heads else None,
        )
    return spaces


def _space(
    *,
    layers: tuple[int, ...],
    hidden: tuple[int, ...],
    groups: tuple[int, ...],
    per_group: int,
    ratios: tuple[float, ...],
    head_dim: int | None,
) -> Space:
    if head_dim is None:  # hardly a width is divided by all numbers of heads
        groups = groups[-1:]
        unit = groups[0] * per_group
        hidden = tuple(sorted({max(1, round(width / unit)) * unit for width in hidden}))
    narrow = {neurons_of(hidden[0], ratio): ratio for ratio in reversed(ratios)}
    return Space(
        layers,
        hidden,
        tuple(n * per_group for n in groups),
        intermediate_ratio=tuple(sorted(narrow.values())),  # each makes a difference
        num_key_value_heads=groups if per_group > 1 else (),
        head_dim=() if head_dim is None else (head_dim,),
    )


# ------------------------------------------------------------------------------------ distilling


class RelationDistillation:
    """The loss of each student of a batch (`attar.search.elastic_training.Begin`): the last layer
    of the student against the last layer of the teacher.

    Args:
        supernet: the SuperLM.
        teacher: in float32; it follows the batch to its device and gets no gradient.
        options: of the loss.

    Raises:
        CompatibilityError: a student has fewer features than relation heads.
    """

    def __init__(
        self, supernet: Supernet, teacher: PreTrainedModel, options: AutoDistilConfig
    ) -> None:
        self._supernet, self._teacher, self._options = supernet, teacher, options
        last = Arch.of(teacher).layers[-1]
        self.heads = options.relation_heads or last.num_attention_heads

    def __call__(self, batch: Batch) -> NetworkLoss:
        """The teacher reads the batch once; what is returned gives a student's loss."""
        return self.against(self.read(batch), batch)

    def against(self, theirs: Projections, batch: Batch) -> NetworkLoss:
        """What gives a student's loss, of what the teacher read in the batch (`read`)."""
        inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
        options = self._options

        def loss(arch: Arch) -> dict[str, Term]:
            child = self._supernet.child(arch)
            with projections_of(child.skeleton) as ours:
                output = self._supernet(arch, base=not options.mlm_weight, **inputs)
            values = relation_loss(
                ours,
                theirs,
                heads=self.heads,
                mask=batch["attention_mask"],
                kind=options.relation,
                parts=options.parts,
                heads_at_once=options.heads_at_once,
            )
            terms = {"relation": Term(values, per=PER[options.relation])}
            if options.mlm_weight:
                losses = masked_token_losses(lambda **_: output, batch)
                terms["mlm"] = Term(losses, options.mlm_weight, per="labels")
            return terms

        return loss

    @torch.no_grad()
    def read(self, batch: Batch) -> Projections:
        """The teacher's projections of a batch."""
        inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
        device = inputs["input_ids"].device
        if self._teacher.device != device:
            self._teacher.to(device)  # pyright: ignore[reportArgumentType]
        with evaluation_mode(self._teacher), projections_of(self._teacher) as theirs:
            self._teacher.base_model(**inputs)
        return dict(theirs)


def train_super_lm(
    teacher: PreTrainedModel,
    space: Space,
    *,
    texts: Sequences,
    options: AutoDistilConfig,
    config: SupernetConfig,
    state_dir: Path | None = None,
    resume: bool = False,
) -> tuple[Supernet, Training]:
    """Steps 1 to 4 of AutoDistil for one sub-space.

    Args:
        teacher: in float32; it is not changed.
        space: the sub-space.
        texts: unlabelled text, with masks, whose labels only `mlm_weight` uses.
        options: the method's options.
        config: of the training.
        state_dir: where checkpoints go; None: none are written.
        resume: go on from the newest checkpoint there.

    Raises:
        CompatibilityError: the teacher does not contain the sub-space.
        TrainingDivergedError: the loss became infinite or NaN.
    """
    # 1. The SuperLM begins as the teacher, cut to the widest student.
    supernet = start_super_lm(teacher, space, texts=texts, options=options, seed=config.seed)
    # 2. The students of a step: the largest, the smallest, and random ones.
    draws = Draws(space, config.sampling, n_random=config.n_random, seed=config.seed)
    training = fit_super_lm(
        supernet,
        teacher,
        draws=draws,
        texts=texts,
        options=options,
        config=config,
        state_dir=state_dir,
        resume=resume,
    )
    return supernet, training


def start_super_lm(
    teacher: PreTrainedModel,
    space: Space,
    *,
    texts: Sequences,
    options: AutoDistilConfig,
    seed: int = 0,
    depth: Depth = "spread",
    head_slicing: HeadSlicing = "head",
) -> Supernet:
    """Step 1: the SuperLM before its training; options and errors as of `train_super_lm`, and
    `depth` and `head_slicing` as of `Supernet`. Where every layer has a hidden width of its own, it
    has bottlenecks."""
    sample = texts.batch(range(min(len(texts), _SAMPLE)))
    parent = make_parent(teacher, space, init=options.init, sample=sample, seed=seed)
    between = make_bottlenecks(parent, space)
    providers = () if between is None else (between,)
    return Supernet(parent, space, providers=providers, depth=depth, head_slicing=head_slicing)


def fit_super_lm(
    supernet: Supernet,
    teacher: PreTrainedModel,
    *,
    draws: Draws,
    texts: Sequences,
    options: AutoDistilConfig,
    config: SupernetConfig,
    state_dir: Path | None = None,
    resume: bool = False,
) -> Training:
    """Steps 3 and 4: train a SuperLM in place, on the students that `draws` gives for each step;
    options and errors as of `train_super_lm`."""
    # 3. Each has the teacher's relations as its goal; the teacher reads the batch once.
    distillation = RelationDistillation(supernet, teacher, options)
    sandwich = Sandwich(supernet, draws, distillation, reduce=config.grad_reduce)
    # 4. Their gradients are added up, clipped, and make one step.
    training = fit(
        supernet.parent,
        texts,
        config=config,
        state_dir=state_dir,
        resume=resume,
        compute=sandwich,
        prepare=sandwich.prepare,
        auxiliary=supernet.providers,
    )
    supernet.eval()
    return training


# --------------------------------------------------------------------------------------- ranking


@dataclass(frozen=True)
class Ranked:
    """A student, what it costs, and how far it is from the teacher.

    Attributes:
        arch: its widths.
        loss: relation loss on held-out text.
        cost: counted from its tensors.
        published: parameters and multiply-accumulates by the paper's formulas.
        space: the name of its sub-space.
    """

    arch: Arch
    loss: float
    cost: Cost
    published: tuple[int, int]
    space: str = ""


class RelationScorer:
    """The mean relation loss of students on held-out text, without training.

    Args:
        teacher: in float32.
        texts: held-out text; its masks are the same for all students.
        options: of the loss.
        batch_size: rows in one forward pass, which makes no difference to the result.
    """

    def __init__(
        self,
        teacher: PreTrainedModel,
        texts: Sequences,
        *,
        options: AutoDistilConfig = AutoDistilConfig(),
        batch_size: int = 32,
    ) -> None:
        self._teacher, self._texts, self._options = teacher, texts, options
        starts = range(0, len(texts), batch_size)
        self._batches = [range(at, min(at + batch_size, len(texts))) for at in starts]
        self._theirs: dict[int, Projections] = {}

    def __call__(self, supernet: Supernet, archs: Sequence[Arch]) -> list[float]:
        """The losses of some students of one SuperLM, in their order."""
        distillation = RelationDistillation(supernet, self._teacher, self._options)
        losses, count = [0.0] * len(archs), 0.0
        with computing(self._teacher), evaluation_mode(supernet), torch.no_grad():
            for at, rows in enumerate(
                Bar(self._batches, desc="scoring", unit="batch", leave=False)
            ):
                plain = self._texts.batch(rows)
                batch = {key: x.to(supernet.parent.device) for key, x in plain.items()}
                count += self._texts.counts(batch)[PER[self._options.relation]]
                if (theirs := self._theirs.get(at)) is None:
                    theirs = distillation.read(batch)
                    if len(self._batches) * sum(x.nbytes for x in theirs.values()) < _KEPT_BYTES:
                        self._theirs[at] = theirs
                of = distillation.against(theirs, batch)
                for i, arch in enumerate(archs):
                    losses[i] += float(of(arch)["relation"].values.sum(dtype=torch.float64))
        return [loss / count for loss in losses]


def rank(
    supernet: Supernet,
    teacher: PreTrainedModel,
    texts: Sequences,
    *,
    archs: Sequence[Arch] | None = None,
    options: AutoDistilConfig = AutoDistilConfig(),
    batch_size: int = 32,
    name: str = "",
) -> list[Ranked]:
    """Step 5 of AutoDistil: every student's relation loss on held-out text, best first, without any
    training. No order of sizes is assumed: a larger student may well lose.

    Args:
        supernet: a trained SuperLM.
        teacher: in float32.
        texts: held-out text; its masks are the same for all students.
        archs: the students; None: all of the sub-space.
        options: of the loss.
        batch_size: rows in one forward pass, which makes no difference to the result.
        name: of the sub-space.
    """
    archs = list(supernet.space.enumerate() if archs is None else archs)
    scorer = RelationScorer(teacher, texts, options=options, batch_size=batch_size)
    losses = dict(zip(archs, scorer(supernet, archs), strict=True))
    ranked = (
        Ranked(
            arch,
            losses[arch],
            cost=cost_of(supernet.child(arch).skeleton, cache=False),
            published=published_size(arch, vocabulary=Body(supernet.parent).vocabulary),
            space=name,
        )
        for arch in archs
    )
    return sorted(ranked, key=lambda one: one.loss)


def published_size(
    arch: Arch, *, vocabulary: int, positions: int = 512, tokens: int = 128
) -> tuple[int, int]:
    """Parameters and multiply-accumulates as the official code counts them, to compare with the
    paper's tables: too few, as it takes each projection of A heads for (hidden, hidden A / 12),
    where 64-wide heads make it (hidden, 64 A).

    Args:
        arch: homogeneous over its layers.
        vocabulary: rows of the token embeddings.
        positions: rows of the position embeddings.
        tokens: of the text that the multiply-accumulates are counted for.
    """
    hidden, shape = arch.hidden_size or 0, arch.layers[0]
    depth, heads, neurons = len(arch.layers), shape.num_attention_heads, shape.intermediate_size
    queries = hidden * hidden * heads // 4
    maps = queries + hidden * hidden + 2 * hidden * neurons
    layer = maps + 3 * hidden + hidden + neurons + hidden + 4 * hidden
    embeddings = (vocabulary + positions + 2) * hidden + 2 * hidden
    pooler = hidden * hidden + hidden
    scores = tokens * tokens * hidden * heads // 6
    macs = depth * (tokens * maps + scores) + tokens * hidden * hidden
    return embeddings + depth * layer + pooler, macs
