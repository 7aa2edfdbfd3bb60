"""From a parent and a budget to a pruned checkpoint with its record and plan."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import artefacts, checkpoint
from attar.budget import Budget, Cost
from attar.checkpoint.companions import keep_companions
from attar.data.chats import load_documents
from attar.data.data import Data
from attar.data.tokens import pack
from attar.errors import BudgetError, ConfigError, DataError, check_types
from attar.evaluation.documents import score_documents
from attar.evaluation.harness import figures
from attar.families import Body
from attar.foreign import read_json
from attar.measure import latency_budget
from attar.measure.cost import cost_of
from attar.measure.latency_table import LatencyTable
from attar.measure.timing import measure
from attar.models import computed_in, computing, has_cache, positions_of, require_context
from attar.pruning.baselines import Strategy
from attar.pruning.compensation import copy_biases
from attar.pruning.config import Layout, PruneConfig
from attar.pruning.loop import LoopTask, Metric, PruneResult, kept_widths, prune_to_budget
from attar.report.artefact import Artefact, artefact
from attar.report.places import seen_from
from attar.report.record import Paper, Run
from attar.runtime import place
from attar.slicing import zero_out

PLAN_FILE = "plan.json"
#: documents that calibration is cut from: far more than a search ever reads
_DOCUMENTS = 20_000


@dataclass(frozen=True, kw_only=True)
class PruneTask:
    """Everything that determines a pruned model.

    Attributes:
        model: folder, Hub name, or a loaded model, which is then cut down *in place*.
        data: text to calibrate on (its train split) and to report quality on (its test split).
        budget: what the result may cost.
        strategy: how candidates are valued.
        layout: see `attar.prune`.
        config: how the loop goes.
        metric: a function of the model to keep high; None takes the likelihood of the text, or for
            an encoder or a model with a task head, how close its hidden states stay to the
            parent's.
        eval_tokens: tokens of the test split that quality is reported on.
        tokenizer: needed with a loaded model; None reads the one that lies next to the model.
    """

    model: str | Path | PreTrainedModel
    data: Data
    budget: Budget
    strategy: Strategy
    layout: Layout
    config: PruneConfig
    metric: Metric | None
    eval_tokens: int
    tokenizer: PreTrainedTokenizerBase | None

    def __post_init__(self) -> None:
        check_types(self)
        if self.config.iterative and not self.strategy.one_shot:
            raise ConfigError(
                f"iterative is for methods that cut in one step, and {self.strategy.name} always "
                "takes several; leave it out"
            )
        limits = [c.key for c in self.budget.constraints if c.key in ("latency", "prefill")]
        if limits and not self.config.timing:
            raise ConfigError(
                f"the budget bounds {limits[0]}, which has to be timed: leave timing on, or bound "
                "macs instead"
            )
        if isinstance(self.model, PreTrainedModel):
            if self.layout == "padded":
                raise ConfigError(
                    "the padded layout needs the parent once more at the end: give its folder "
                    "instead of a loaded model"
                )
            if self.tokenizer is None:
                raise ConfigError("a loaded model needs its tokenizer: pass tokenizer=...")

    @property
    def name(self) -> str:
        """The parent's name or path."""
        return checkpoint.name_of(self.model) or type(self.model).__name__

    def settings(self) -> dict[str, Any]:
        """What determines the result, for the record and for resuming."""
        return {
            "model": self.name,
            **self.data.settings(),
            "budget": self.budget.text,
            "method": self.strategy.name,
            "layout": self.layout,
            "metric": getattr(self.metric, "__name__", None) if self.metric else None,
            "eval_tokens": self.eval_tokens,
            **asdict(self.config),
        }


def run_prune(
    task: PruneTask,
    *,
    paper: Paper | None,
    output_dir: str | Path | None,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Load, prune to the budget, measure before and after, and save.

    Raises:
        BudgetError: the budget is out of reach.
        CompatibilityError: model, tokenizer or layout do not fit.
        ConfigError: the output folder is taken.
        DataError: model or text are missing or damaged.
    """
    with artefact(
        output_dir,
        command="prune",
        method=task.strategy.name,
        paper=paper,
        settings=task.settings(),
        recipe=recipe,
        seed=task.config.seed,
        resume=resume,
    ) as work:
        model, tokenizer = _load(task)
        documents = load_documents(task.data, tokenizer)
        windows = calibration_windows(
            model, tokenizer, documents=documents["train"], config=task.config
        )
        parent = {"hash": checkpoint.fingerprint(model), "widths": kept_widths(model)}
        quality = _quality(
            task, model, tokenizer=tokenizer, documents=documents["test"], windows=windows
        )
        cost = _known_parent(work.state, parent["hash"], windows) or _cost(task, model)
        _keep_parent(work.state, parent["hash"], windows=windows, cost=cost)
        tables = latency_budget.tables(
            model, task.budget, round_to=task.config.round_to, state=work.state
        )
        cost = latency_budget.by_table(cost, tables)
        work.run.cost["before"], work.run.quality["before"] = cost.to_dict(), quality()
        budget = task.budget.resolve(cost)
        goal = latency_budget.with_margin(budget, cost)
        latency_budget.check(goal, {} if task.layout == "depth" else tables)
        result = prune_to_budget(
            LoopTask(
                model=model,
                windows=windows,
                budget=goal,
                strategy=task.strategy,
                layout=task.layout,
                config=task.config,
                metric=task.metric or _encoder_metric(model, windows, task.config),
                tables=tables,
                state=work.state,
            )
        )
        if kept_widths(model) == parent["widths"]:
            result.notes.append(
                f"nothing was cut: the model meets {task.budget.text!r} as it is"
                if budget.admits(cost)
                else "nothing was cut"
            )
        after = _cost(task, model)
        work.run.cost["after"], work.run.quality["after"] = after.to_dict(), quality()
        work.run.budget = {
            "asked": task.budget.text,
            "met": budget.admits(after),
            "constraints": budget.verdict(after),
        }
        work.run.details = _details(
            task, result, widths=parent["widths"], tables=tables, cost=after
        )
        if output_dir is not None:
            _save(work, task, result=result, tokenizer=tokenizer, parent_hash=parent["hash"])
    return work.run


def _load(task: PruneTask) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The parent, checked for what cannot be cut before any text is read, and its tokenizer."""
    model = checkpoint.model_of(task.model)
    if model is not task.model:
        place(model)
    Body(model)
    tokenizer = checkpoint.tokenizer_of(task.model, task.tokenizer)
    missing = [c.key for c in task.budget.constraints if c.key in ("latency", "kv_bytes")]
    if missing and not has_cache(model):
        raise BudgetError(
            f"{missing[0]} is out of reach: {type(model).__name__} generates no tokens and has no "
            "key/value cache; bound prefill, params, bytes or macs instead"
        )
    return model, tokenizer


def _cost(task: PruneTask, model: PreTrainedModel) -> Cost:
    """What the present model costs, with timings unless they are switched off."""
    if not task.config.timing:
        return cost_of(model)
    return measure(model)


def _quality(
    task: PruneTask,
    model: PreTrainedModel,
    *,
    tokenizer: PreTrainedTokenizerBase,
    documents: Dataset,
    windows: Tensor,
) -> Callable[[], dict[str, float]]:
    """A function that measures the present model on unseen text; for an encoder, how close it
    stays to the parent.
    """
    size = task.config.batch_size
    if has_cache(model):

        def scores() -> dict[str, float]:
            tasks = figures(task.config.scores(model, tokenizer, batch_size=size))
            scored = score_documents(
                model,
                tokenizer,
                documents=documents,
                eval_tokens=task.eval_tokens,
                batch_size=size,
            )
            return scored.to_dict() | tasks

        return scores
    if task.config.tasks:
        raise ConfigError(
            f"tasks are scored by models that generate text, and {task.name} is a "
            f"{type(model).__name__}; leave tasks out"
        )
    fidelity = fidelity_metric(model, windows[-task.config.windows :])
    return lambda: {"fidelity": fidelity(model)}


def _details(
    task: PruneTask,
    result: PruneResult,
    *,
    widths: list[dict[str, int]],
    tables: dict[str, LatencyTable],
    cost: Cost,
) -> dict[str, Any]:
    after = kept_widths(result.model)
    names = {"kv_groups": "KV groups", "neurons": "FFN width"}
    by_layer = {keep.layer: now for keep, now in zip(result.plan.layers, after, strict=True)}
    details: dict[str, Any] = {
        "layout": task.layout,
        "steps": [asdict(step) for step in result.steps],
        "notes": result.notes,
        "widths": {
            names[unit]: {
                "before": [row[unit] for row in widths],
                "after": [by_layer.get(i, {}).get(unit, 0) for i in range(len(widths))],
            }
            for unit in names
        },
        "evaluations": sum(step.evaluations for step in result.steps),
        "computed_in": computed_in(result.model),
        "tokens_forwarded": sum(step.tokens for step in result.steps),
    }
    if importance := _importance(result, len(widths)):
        details["importance"] = importance
    for key in tables:
        timing = cost.decode if key == "latency" else cost.prefill
        if timing is not None and key in result.predicted:
            predicted = result.predicted[key]
            details[f"{key}_prediction"] = {
                "predicted": predicted,
                "measured": timing.median,
                "error": predicted / timing.median - 1,
                "table_error": tables[key].error,
            }
    return details


def _save(
    work: Artefact,
    task: PruneTask,
    *,
    result: PruneResult,
    tokenizer: PreTrainedTokenizerBase,
    parent_hash: str,
) -> None:
    """Write checkpoint and plan."""
    model, run = result.model, work.run
    if task.layout == "padded":
        model = checkpoint.load(task.name)
        zero_out(model, result.plan)
        if task.strategy.compensates:
            copy_biases(result.model, model)
        # the artefact has the parent's size; what the cut model would cost is kept next to it
        run.details["cut_cost"] = run.cost["after"]
        run.cost["after"] = _cost(task, model).to_dict()
    run.details["form"] = checkpoint.save(model, work.folder, tokenizer=tokenizer)
    keep_companions(task.name, work.folder)
    stored = result.plan.to_dict() | {
        "parent": task.name,
        "parent_hash": parent_hash,
        "compensated": task.strategy.compensates,
        "settings": run.settings,
        "versions": run.versions,
    }
    artefacts.write_text(work.folder / PLAN_FILE, json.dumps(seen_from(work.folder, stored)))
    work.card = {"pipeline_tag": "text-generation" if has_cache(model) else None}


def _known_parent(state: Path | None, mark: str, windows: Tensor) -> Cost | None:
    """The parent's cost as an interrupted run measured it, so that percentages mean the same.

    Raises:
        ConfigError: that run saw another model or other text.
    """
    file = None if state is None else state / "parent.json"
    if file is None or not file.exists():
        return None
    stored = read_json(file, "the cost of the parent")
    if (stored["model"], stored["windows"]) != (mark, _digest(windows)):
        raise ConfigError(
            "the model or the text has changed since the interrupted run began, so its evaluations "
            "are no longer valid; delete the .partial folder to start over"
        )
    return Cost.from_dict(stored["cost"])


def _keep_parent(state: Path | None, mark: str, *, windows: Tensor, cost: Cost) -> None:
    if state is not None:
        kept = {"model": mark, "windows": _digest(windows), "cost": cost.to_dict()}
        artefacts.write_text(state / "parent.json", json.dumps(kept))


def _digest(windows: Tensor) -> str:
    return hashlib.sha256(windows.numpy().tobytes()).hexdigest()[:16]


def calibration_windows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    documents: Dataset,
    config: PruneConfig,
) -> Tensor:
    """Token ids `(N, T)` to calibrate on: windows of packed text, all of one length.

    Raises:
        DataError: the text is too short for one evaluation, or has ids that the model does not
            have; a tokenizer may have entries that no text gives, such as one for padding.
    """
    rows = int(cast(Tensor, model.get_input_embeddings().weight).shape[0])
    length = config.context or min(512, positions_of(model) or 512)
    require_context(model, length)
    if len(documents) > _DOCUMENTS:
        documents = documents.shuffle(seed=config.seed).select(range(_DOCUMENTS))
    packed = pack(documents, tokenizer, context=length, vocab_size=rows)
    if len(packed) < config.windows:
        raise DataError(
            f"expected at least {config.windows} windows of {length} tokens to calibrate on; the "
            f"text gives {len(packed)}: "
            "give more text, or lower windows or context"
        )
    return torch.as_tensor(packed.with_format("numpy")["input_ids"][:], dtype=torch.long)


def fidelity_metric(model: PreTrainedModel, windows: Tensor) -> Metric:
    """How close a model's last hidden states stay to those that `model` gives now: mean cosine over
    tokens, 1 for the parent itself.
    """
    parent_states = _hidden(model, windows)

    def fidelity(candidate: PreTrainedModel) -> float:
        return float(
            torch.cosine_similarity(_hidden(candidate, windows), parent_states, dim=-1).mean()
        )

    return fidelity


@torch.no_grad()
def _hidden(model: PreTrainedModel, windows: Tensor) -> Tensor:
    encoder = model.base_model  # a head, if there is one, has no hidden states to compare
    with computing(model):
        parts = [
            encoder(input_ids=rows.to(model.device)).last_hidden_state.cpu()
            for rows in windows.split(8)
        ]
    return torch.cat(parts).float()


def _encoder_metric(model: PreTrainedModel, windows: Tensor, config: PruneConfig) -> Metric | None:
    return None if has_cache(model) else fidelity_metric(model, windows[: config.windows])


def _importance(result: PruneResult, layers: int) -> dict[str, list[float]]:
    """Mean value that the steps found in each module's candidates, for the report."""
    rows: dict[str, list[float]] = {}
    for kind, label in (("attention", "attention"), ("mlp", "FFN")):
        means = []
        for i in range(layers):
            seen = [
                s.importance[m] for s in result.steps if (m := f"layers.{i}.{kind}") in s.importance
            ]
            means.append(sum(seen) / len(seen) if seen else 0.0)
        if any(means):
            rows[label] = means
    return rows
