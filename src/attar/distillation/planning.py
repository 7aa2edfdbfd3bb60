"""From a teacher, its texts and a budget to the best shapes, with the tokenizer of each."""

import logging
import math
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaForSequenceClassification,
)

from attar.budget import Budget, Cost
from attar.data.reading import VocabularyFacts, vocabulary_facts
from attar.data.vocabulary import train_vocabulary
from attar.distillation import formats
from attar.distillation.config import BYTES_PER_PARAMETER, CompressorConfig
from attar.distillation.embeddings import embed_entries, entry_vectors, readable_entries
from attar.distillation.material import Material
from attar.errors import BudgetError, ConfigError
from attar.heads import head_options
from attar.measure.cost import cost_of
from attar.measure.timing import measure
from attar.methods.compressor import (
    EncoderShape,
    EncoderSpace,
    Limits,
    PlanConfig,
    ShapeArrays,
    StudentCosts,
    StudentPlan,
    search_shapes,
)
from attar.runtime import Bar
from attar.search.encoder_latency import measure_encoders
from attar.search.statistics import Array

logger = logging.getLogger(__name__)

#: what a budget may bound of a student -> what that is called among limits
_BOUNDED = {
    "bytes": "bytes",
    "params": "params",
    "macs": "macs",
    "latency": "milliseconds",
    "prefill": "milliseconds",
}
#: shapes that are timed, and at least, and draws to find as many within the budget
_TIMED, _FEWEST, _DRAWS = 24, 10, 20_000
#: of attention maps, at most: dropping half of them, as of hidden values, nothing is learnt
_ATTENTION_DROPOUT = 0.1


@dataclass(frozen=True)
class Candidate:
    """A plan that can be built.

    Attributes:
        plan: the shape, with its `parts` as they lie on disk.
        tokenizer: of as many entries as the shape has.
    """

    plan: StudentPlan
    tokenizer: PreTrainedTokenizerFast


class Planner:
    """Finds shapes, and makes students of them.

    Args:
        material: teacher, texts and task.
        options: how shapes are searched, and what lies on disk.
        context: the most tokens of a text, or of a pair.
        seed: of searches and of the weights of students.
    """

    def __init__(
        self, material: Material, options: CompressorConfig, *, context: int, seed: int
    ) -> None:
        self.material, self.options = material, options
        self.context, self.seed = context, seed
        self._tokenizers: dict[int, PreTrainedTokenizerFast] = {}
        self._vectors: dict[int, tuple[list[int], Tensor]] = {}
        self._teacher_cost: Cost | None = None

    def search(self, budget: Budget) -> list[Candidate]:
        """The best shapes within a budget, best first, as they will lie on disk.

        Raises:
            BudgetError: no shape keeps the budget, or it bounds what it cannot.
            ConfigError: the space cannot be read.
        """
        limits = asked = self.limits(budget)
        space = replace(EncoderSpace.read(self.options.space), context=self.context)
        facts = self.facts(space, limits)
        known = tuple(size for size in space.vocab_size if size <= facts.most)
        space = replace(space, vocab_size=known)
        costs = self.costs(facts)
        if self._is_timed(asked):
            costs = self._timed(space, costs, limits=limits)
        teacher = self.material.teacher.config
        objective = self.options.objective
        config = PlanConfig(
            objective=objective,
            method=self.options.search,
            cost_model=self.options.cost_model,
            count=self.options.plans,
            seed=self.seed,
            teacher=shape_of(teacher) if objective == "uniform" else None,
        )
        while True:
            # 1. Search with what tokenizers and files take as far as it is known.
            plans = search_shapes(space, limits, costs=costs, config=config)
            # 2. Train the tokenizers of the best, and write their students to see the bytes.
            writing = Bar(plans, desc="writing plans", unit="plan", leave=False)
            found = [self.candidate(plan) for plan in writing]
            over = max(one.plan.bytes for one in found) - (asked.bytes or math.inf)
            if over <= 0 or limits.bytes is None:
                return found
            # 3. Where one is too large, all are searched again with so much less.
            limits = replace(limits, bytes=max(limits.bytes - over, 1.0))

    def resolved(self, budget: Budget) -> Budget:
        """A budget whose percentages are figures of the teacher, counted and timed once."""
        if not any(constraint.relative for constraint in budget.constraints):
            return budget
        if self._teacher_cost is None or (budget.timed and self._teacher_cost.prefill is None):
            teacher = self.material.teacher
            if budget.timed:
                self._teacher_cost = measure(teacher, prompt_tokens=self.context)
            else:
                self._teacher_cost = cost_of(teacher)
        return budget.resolve(self._teacher_cost)

    def limits(self, budget: Budget) -> Limits:
        """What a budget means for a student.

        Raises:
            BudgetError: it bounds what an encoder does not have.
        """
        keys = {constraint.key for constraint in budget.constraints}
        if others := keys - set(_BOUNDED):
            raise BudgetError(
                f"a student of a budget can be bounded by {', '.join(_BOUNDED)}; found "
                f"{min(others)} in {budget.text!r}: bound one of those"
            )
        bounds: dict[str, float] = {}
        for constraint in self.resolved(budget).constraints:
            name = _BOUNDED[constraint.key]
            bounds[name] = min(constraint.limit, bounds.get(name, constraint.limit))
        if "macs" in bounds:  # of a token, as everywhere
            bounds["macs"] *= self.context
        return Limits(**bounds)

    def facts(self, space: EncoderSpace, limits: Limits) -> VocabularyFacts:
        """Bytes of tokenizers by their size, and how much of the texts they read."""
        each = BYTES_PER_PARAMETER[self.options.storage] * space.hidden_size[0]
        most = math.inf if limits.bytes is None else limits.bytes / each
        if limits.params is not None:
            most = min(most, limits.params / space.hidden_size[0])
        sizes = [size for size in space.vocab_size if size <= most] or [space.vocab_size[0]]
        texts, pairs = self.material.texts, self.material.pairs
        return vocabulary_facts(
            texts,
            sizes,
            pairs=pairs,
            kind=self.options.vocabulary,
            lowercase=self.options.lowercase,
            collapse_spaces=self.options.collapse_spaces,
            context=self.context,
        )

    def costs(self, facts: VocabularyFacts) -> StudentCosts:
        """How students are counted."""
        return replace(
            formats.costs(self.options.storage),
            outputs=self.material.task.outputs,
            tokenizer_bytes=facts.bytes_at,
            read=facts.read_at,
        )

    def _is_timed(self, limits: Limits) -> bool:
        return limits.milliseconds is not None or self.options.objective in ("latency", "pareto")

    def _timed(self, space: EncoderSpace, costs: StudentCosts, *, limits: Limits) -> StudentCosts:
        """The costs with milliseconds, predicted from encoders that are timed on this machine."""
        latency = measure_encoders(
            shapes_to_time(space, costs, limits=limits, seed=self.seed),
            tokens=self.context,
            threads=torch.get_num_threads(),
        )
        logger.info("milliseconds of a text: %s", latency.error)

        def milliseconds(shapes: ShapeArrays) -> Array:
            return latency(
                heads=shapes.num_attention_heads,
                hidden=shapes.hidden_size,
                intermediate=shapes.intermediate_size,
                layers=shapes.num_hidden_layers,
            )

        return replace(costs, milliseconds=milliseconds)

    def candidate(self, plan: StudentPlan) -> Candidate:
        """Train a plan's tokenizer, and count its bytes as they will lie on disk."""
        size, options = plan.shape.vocab_size, self.options
        if size not in self._tokenizers:
            self._tokenizers[size] = train_vocabulary(
                [*self.material.texts, *(self.material.pairs or ())],
                size,
                kind=options.vocabulary,
                lowercase=options.lowercase,
                collapse_spaces=options.collapse_spaces,
                context=self.context,
            )
        tokenizer = self._tokenizers[size]
        parts = formats.bytes_of(self.student(plan), tokenizer, storage=options.storage)
        return Candidate(replace(plan, parts=parts), tokenizer)

    def student(self, plan: StudentPlan) -> PreTrainedModel:
        """A student with random weights, always the same ones for a shape and a seed."""
        drop = self.options.dropout
        config = plan.shape.config(
            outputs=self.material.task.outputs,
            context=self.context,
            hidden_dropout_prob=drop,
            attention_probs_dropout_prob=min(drop, _ATTENTION_DROPOUT),
            **head_options(self.material.task),
        )
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return RobertaForSequenceClassification(config)

    def initial_student(self, candidate: Candidate) -> PreTrainedModel:
        """The student as its training starts: of random weights, but for embeddings that come from
        the teacher."""
        student = self.student(candidate.plan)
        if self.options.embeddings == "teacher":
            entries, vectors = self._entries(candidate.tokenizer)
            embed_entries(student, entries, vectors)
        return student

    def _entries(self, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], Tensor]:
        """Entries of a vocabulary and the teacher's vectors of them; read once."""
        if len(tokenizer) not in self._vectors:
            teacher, theirs = self.material.teacher, self.material.tokenizer
            table: Any = teacher.get_input_embeddings()
            entries = readable_entries(tokenizer, teacher=theirs, known=len(table.weight))
            logger.info("entries that the teacher reads: %s of %s", len(entries), len(tokenizer))
            texts = [*entries.values()]
            vectors = entry_vectors(teacher, theirs, texts=texts, context=self.context)
            self._vectors[len(tokenizer)] = [*entries], vectors
        return self._vectors[len(tokenizer)]


def shape_of(config: PretrainedConfig) -> EncoderShape:
    """A teacher's shape. Neurons have several names in transformers, and where none is known they
    are four times the width, as in nearly all encoders.

    Raises:
        ConfigError: it has no such shape.
    """
    names = ("intermediate_size", "hidden_dim", "ffn_dim", "d_ff", "d_inner")
    neurons = (getattr(config, name, None) for name in names)
    try:
        return EncoderShape(
            vocab_size=config.vocab_size,
            num_attention_heads=config.num_attention_heads,
            hidden_size=config.hidden_size,
            intermediate_size=next(filter(None, neurons), 4 * config.hidden_size),
            num_hidden_layers=config.num_hidden_layers,
        )
    except AttributeError as error:
        raise ConfigError(
            f"the objective uniform expects a teacher that is one encoder, found a config of "
            f"{config.model_type} without {error.name}; take another objective, such as flops"
        ) from None


def shapes_to_time(
    space: EncoderSpace, costs: StudentCosts, *, limits: Limits, seed: int
) -> list[tuple[int, int, int, int]]:
    """Random shapes within limits other than time, or where few of those are drawn the nearest
    beyond; and the smallest. A space of few shapes gives each several times.

    Returns:
        Heads, hidden size, intermediate size and layers of each, as the vocabulary takes no time.
    """
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.choice(axis, _DRAWS) for axis in space.axes])
    rows = rows[:, rows[2] % rows[1] == 0]  # heads divide the width
    over = np.zeros(rows.shape[1])
    known = {name: limit for name, limit in limits.given().items() if name != "milliseconds"}
    if known:
        over = np.maximum(Limits(**known).excess(costs.of(ShapeArrays(*rows), space)), 0.0)
    nearest = map(tuple, rows[1:, np.argsort(over, kind="stable")].T.tolist())
    some = [*dict.fromkeys(nearest)][:_TIMED]
    shapes: list[Any] = [*dict.fromkeys([*some, astuple(space.smallest)[1:]])]
    return shapes * math.ceil(_FEWEST / len(shapes))
