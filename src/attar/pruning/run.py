"""The public verb: load, prune to a budget, save, and say what it cost and how good it is."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset, DatasetDict
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import artefacts, checkpoint
from attar.budget import Budget, Cost
from attar.data.text import load_text
from attar.data.tokens import pack
from attar.errors import BudgetError, CompatibilityError, ConfigError, DataError
from attar.evaluation import likelihood
from attar.families import Body
from attar.measure import latency_budget as clock
from attar.measure.cost import cost_of
from attar.measure.latency_table import LatencyTable
from attar.measure.timing import measure
from attar.methods.bonsai import PAPER
from attar.models import has_cache
from attar.pruning.config import BonsaiConfig, Layout, Method
from attar.pruning.loop import Metric, Search, kept_widths, search
from attar.report.pages import save_card
from attar.report.record import Run
from attar.runtime import place
from attar.slicing import SlicePlan, slice_model, zero_out

PLAN_FILE = "plan.json"
#: documents that calibration is cut from: far more than a search ever reads
_DOCUMENTS = 20_000


class _Job:
    """The arguments of one `prune` call and the pieces that come of them."""

    def __init__(
        self,
        model: str | Path | PreTrainedModel,
        data: str | Path | Dataset | DatasetDict,
        budget: Budget,
        method: Method,
        layout: Layout,
        config: BonsaiConfig,
        metric: Metric | None,
        eval_tokens: int,
        text_column: str,
        data_config: str | None,
    ) -> None:
        self.source: str | Path | PreTrainedModel = model
        self.data, self.budget = data, budget
        self.method: Method = method
        self.layout: Layout = layout
        self.config, self.metric = config, metric
        self.eval_tokens, self.text_column, self.data_config = eval_tokens, text_column, data_config
        if config.iterative and method in ("bonsai", "blockwise"):
            raise ConfigError(
                f"iterative is for methods that cut in one step, and {method} always takes "
                "several; leave it out"
            )
        loaded = isinstance(model, PreTrainedModel)
        if loaded and layout == "padded":
            raise ConfigError(
                "the padded layout needs the parent once more at the end: give its folder instead "
                "of a loaded model"
            )
        self.name = (model.name_or_path or type(model).__name__) if loaded else str(model)
        self.model: PreTrainedModel
        self.tokenizer: PreTrainedTokenizerBase
        self.found: Search

    def settings(self) -> dict[str, Any]:
        """What determines the result."""
        return {
            "model": self.name,
            "data": str(self.data) if isinstance(self.data, str | Path) else "given data set",
            "budget": self.budget.text,
            "method": self.method,
            "layout": self.layout,
            "metric": getattr(self.metric, "__name__", None) if self.metric else None,
            "eval_tokens": self.eval_tokens,
            "text_column": self.text_column,
            "data_config": self.data_config,
            **asdict(self.config),
        }

    def run(self, tokenizer: PreTrainedTokenizerBase | None, state: Path | None) -> Run:
        began = time.perf_counter()
        if isinstance(self.source, PreTrainedModel):
            self.model = self.source
            if tokenizer is None:
                raise ConfigError("a loaded model needs its tokenizer: pass tokenizer=...")
        else:
            self.model = checkpoint.load(self.source)
            place(self.model)
        Body(self.model)  # what cannot be cut is refused before any text is read
        self.tokenizer = tokenizer or checkpoint.load_tokenizer(self.name)
        _check_currencies(self.budget, self.model)
        documents = load_text(self.data, config=self.data_config, text_column=self.text_column)
        windows = calibration_windows(self.model, self.tokenizer, documents["train"], self.config)
        parent = {"hash": checkpoint.fingerprint(self.model), "widths": kept_widths(self.model)}
        quality = self._quality(documents["test"], windows)
        cost = _known_parent(state, parent["hash"], windows) or measure(self.model)
        _keep_parent(state, parent["hash"], windows, cost)
        tables = clock.tables(self.model, self.budget, config=self.config, state=state)
        cost = clock.by_table(cost, tables)
        before = {"cost": cost, "quality": quality()}
        budget = self.budget.resolve(cost)
        goal = clock.with_margin(budget, cost)
        clock.check(goal, tables, layout=self.layout)
        self.found = search(
            self.model,
            windows,
            budget=goal,
            method=self.method,
            layout=self.layout,
            config=self.config,
            metric=self.metric or _encoder_metric(self.model, windows, self.config),
            tables=tables,
            state=state,
        )
        after = {"cost": measure(self.model), "quality": quality()}
        self.parent_hash = parent["hash"]
        return Run(
            command="prune",
            method=self.method,
            paper=PAPER if self.method in ("bonsai", "blockwise") else None,
            model=self.name,
            data=self.settings()["data"],
            settings=self.settings(),
            budget={
                "asked": self.budget.text,
                "met": budget.admits(after["cost"]),
                "constraints": budget.verdict(after["cost"]),
            },
            cost={"before": before["cost"].to_dict(), "after": after["cost"].to_dict()},
            quality={"before": before["quality"], "after": after["quality"]},
            details=self._details(parent["widths"], tables, after["cost"]),
            seed=self.config.seed,
            seconds=time.perf_counter() - began,
        )

    def _quality(self, documents: Dataset, windows: Tensor) -> Callable[[], dict[str, float]]:
        """A function that measures the present model on unseen text; for an encoder, how close it
        stays to the parent.
        """
        if has_cache(self.model):
            return lambda: likelihood.score(
                self.model,
                self.tokenizer,
                documents,
                max_tokens=self.eval_tokens,
                batch_size=self.config.batch_size,
            ).to_dict()
        fidelity = fidelity_metric(self.model, windows[-self.config.windows :])
        return lambda: {"fidelity": fidelity(self.model)}

    def _details(
        self, widths: list[dict[str, int]], tables: dict[str, LatencyTable], cost: Cost
    ) -> dict[str, Any]:
        after = kept_widths(self.model)
        names = {"kv_groups": "KV groups", "neurons": "FFN width"}
        by_layer = {
            keep.layer: now for keep, now in zip(self.found.plan.layers, after, strict=True)
        }
        details: dict[str, Any] = {
            "layout": self.layout,
            "steps": [asdict(step) for step in self.found.steps],
            "notes": self.found.notes,
            "widths": {
                names[unit]: {
                    "before": [row[unit] for row in widths],
                    "after": [by_layer.get(i, {}).get(unit, 0) for i in range(len(widths))],
                }
                for unit in names
            },
            "evaluations": sum(step.evaluations for step in self.found.steps),
            "tokens_forwarded": sum(step.tokens for step in self.found.steps),
        }
        if importance := _importance(self.found, len(widths)):
            details["importance"] = importance
        for key in tables:
            found = cost.decode if key == "latency" else cost.prefill
            if found is not None and key in self.found.predicted:
                predicted = self.found.predicted[key]
                details[f"{key}_prediction"] = {
                    "predicted": predicted,
                    "measured": found.median,
                    "error": predicted / found.median - 1,
                    "table_error": tables[key].error,
                }
        return details

    def save(self, path: Path, record: Run) -> None:
        """Write checkpoint, plan, record and card into `path`."""
        model, plan = self.model, self.found.plan
        if self.layout == "padded":
            model = checkpoint.load(self.name)
            zero_out(model, plan)
            # the artefact has the parent's size; what the cut model would cost is kept beside it
            record.details["cut_cost"] = record.cost["after"]
            record.cost["after"] = measure(model).to_dict()
        form = checkpoint.save(model, path, tokenizer=self.tokenizer)
        record.details["form"] = form
        stored = plan.to_dict() | {
            "parent": self.name,
            "parent_hash": self.parent_hash,
            "settings": record.settings,
            "versions": record.versions,
        }
        artefacts.write_text(path / PLAN_FILE, json.dumps(stored))
        kind = "text-generation" if has_cache(model) else None
        save_card(path, record, pipeline_tag=kind)
        record.save(path)


def _check_currencies(budget: Budget, model: PreTrainedModel) -> None:
    """Refuse a budget on what an encoder does not have."""
    missing = [c.key for c in budget.constraints if c.key in ("latency", "kv_bytes")]
    if missing and not has_cache(model):
        raise BudgetError(
            f"{missing[0]} is out of reach: {type(model).__name__} generates no tokens and has no "
            "key/value cache; bound prefill, params, bytes or macs instead"
        )


def _known_parent(state: Path | None, mark: str, windows: Tensor) -> Cost | None:
    """The parent's cost as an interrupted run measured it, so that percentages mean the same.

    Raises:
        ConfigError: that run saw another model or other text.
    """
    file = None if state is None else state / "parent.json"
    if file is None or not file.exists():
        return None
    stored = json.loads(file.read_text(encoding="utf-8"))
    if (stored["model"], stored["windows"]) != (mark, _digest(windows)):
        raise ConfigError(
            "the model or the text has changed since the interrupted run began, so its evaluations "
            "mean nothing now; delete the .partial folder to start anew"
        )
    return Cost.from_dict(stored["cost"])


def _keep_parent(state: Path | None, mark: str, windows: Tensor, cost: Cost) -> None:
    if state is not None:
        kept = {"model": mark, "windows": _digest(windows), "cost": cost.to_dict()}
        artefacts.write_text(state / "parent.json", json.dumps(kept))


def _digest(windows: Tensor) -> str:
    return hashlib.sha256(windows.numpy().tobytes()).hexdigest()[:16]


def calibration_windows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Dataset,
    config: BonsaiConfig,
) -> Tensor:
    """Token ids `(N, T)` to calibrate on: windows of packed text, all of one length.

    Raises:
        CompatibilityError: the tokenizer has more entries than the model.
        DataError: the text is too short for one evaluation.
    """
    rows = int(cast(Tensor, model.get_input_embeddings().weight).shape[0])
    if len(tokenizer) > rows:
        raise CompatibilityError(
            f"the tokenizer has {len(tokenizer)} entries and the model {rows}, so they do not "
            f"belong together; "
            "give the tokenizer that the model was trained with"
        )
    context = getattr(model.config, "max_position_embeddings", None) or 512
    if config.window_tokens and config.window_tokens > context:
        raise ConfigError(
            f"window_tokens must be at most the model's context of {context}, but it is "
            f"{config.window_tokens}; lower it"
        )
    length = config.window_tokens or min(512, context)
    if len(documents) > _DOCUMENTS:
        documents = documents.shuffle(seed=config.seed).select(range(_DOCUMENTS))
    packed = pack(documents, tokenizer, block_size=length, vocab_size=rows)
    if len(packed) < config.windows:
        raise DataError(
            f"expected at least {config.windows} windows of {length} tokens to calibrate on; the "
            f"text gives {len(packed)}: "
            "give more text, or lower --windows or --window-tokens"
        )
    return torch.as_tensor(packed.with_format("numpy")["input_ids"][:], dtype=torch.long)


def fidelity_metric(model: PreTrainedModel, windows: Tensor) -> Metric:
    """How close a model's last hidden states stay to those that `model` gives now: mean cosine over
    tokens, 1 for the parent itself.
    """
    wanted = _hidden(model, windows)

    def fidelity(candidate: PreTrainedModel) -> float:
        return float(torch.cosine_similarity(_hidden(candidate, windows), wanted, dim=-1).mean())

    return fidelity


@torch.no_grad()
def _hidden(model: PreTrainedModel, windows: Tensor) -> Tensor:
    encoder = model.base_model  # a head, if there is one, has no hidden states to compare
    parts = [
        encoder(input_ids=rows.to(model.device)).last_hidden_state.cpu()
        for rows in windows.split(8)
    ]
    return torch.cat(parts).float()


def _encoder_metric(model: PreTrainedModel, windows: Tensor, config: BonsaiConfig) -> Metric | None:
    return None if has_cache(model) else fidelity_metric(model, windows[: config.windows])


def _importance(found: Search, layers: int) -> dict[str, list[float]]:
    """Mean value that the steps found in each module's candidates, for the report."""
    rows: dict[str, list[float]] = {}
    for kind, label in (("attention", "attention"), ("mlp", "FFN")):
        means = []
        for i in range(layers):
            seen = [
                s.importance[m] for s in found.steps if (m := f"layers.{i}.{kind}") in s.importance
            ]
            means.append(sum(seen) / len(seen) if seen else 0.0)
        if any(means):
            rows[label] = means
    return rows


def apply_plan(
    model: str | Path,
    plan: str | Path,
    *,
    output_dir: str | Path,
    layout: Layout = "per_layer",
    resume: bool = False,
) -> Run:
    """Cut a fresh parent by a plan that an earlier run wrote; the same parent gives the same
    weights, bit for bit.

    Args:
        model: folder or Hub name of the parent.
        plan: `plan.json`, or the folder that holds it.
        output_dir: where the artefact goes.
        layout: `padded` keeps the shapes and writes zeros; anything else cuts.
        resume: do again what an interrupted run left unfinished.

    Raises:
        CompatibilityError: the plan was made for a model of other shapes.
        DataError: model or plan are missing or damaged.
    """
    began = time.perf_counter()
    file = Path(plan) / PLAN_FILE if Path(plan).is_dir() else Path(plan)
    if not file.exists():
        raise DataError(
            f"no plan at {str(file)!r}: expected the {PLAN_FILE} that attar prune writes"
        )
    text = file.read_text(encoding="utf-8", errors="replace")  # bytes that are no text fail below
    wanted = SlicePlan.from_json(text)
    made_for = json.loads(text).get("parent_hash")
    settings = {"model": str(model), "plan": str(plan), "layout": layout}
    with artefacts.workspace(output_dir, settings=settings, resume=resume) as space:
        parent = checkpoint.load(model)
        same = made_for in (None, checkpoint.fingerprint(parent))
        before = cost_of(parent)
        if layout == "padded":
            zero_out(parent, wanted)
        else:
            parent = slice_model(parent, wanted, in_place=True)
        form = checkpoint.save(parent, space.path, tokenizer=checkpoint.load_tokenizer(model))
        artefacts.write_text(space.path / PLAN_FILE, text)
        record = Run(
            command="prune --apply",
            model=str(model),
            settings={"plan": str(plan), "layout": layout},
            cost={"before": before.to_dict(), "after": cost_of(parent).to_dict()},
            details={"form": form, "same_parent": same},
            seconds=time.perf_counter() - began,
        )
        save_card(space.path, record)
        record.save(space.path)
    return record
