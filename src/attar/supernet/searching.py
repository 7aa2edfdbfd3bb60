"""`attar supernet search`: rank the networks of supernets, and take the best within a budget."""

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedModel

from attar import artefacts, checkpoint
from attar.budget import Budget, Cost
from attar.data.data import STDLIB, Data, DataLike
from attar.errors import BudgetError, CompatibilityError, check_types, require
from attar.families import is_encoder_decoder
from attar.foreign import read_json
from attar.measure.cost import cost_of
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import Artefact, artefact
from attar.report.record import Run
from attar.report.tables import NONE, Table
from attar.report.units import count, fixed, milliseconds
from attar.search.evolve import Evolution, EvolutionConfig, evolve, ranked, score_all
from attar.search.halving import Rung
from attar.search.ranking import Row, with_times, write_ranking
from attar.search.storage import check_folder, study_lock
from attar.supernet.exporting import ARCH_FILE, save_network
from attar.supernet.members import Costs, Member, MemberProblem, Members
from attar.supernet.methods import Method
from attar.supernet.opening import PAPERS, Opened, row_of
from attar.supernet.proxy import Proxy
from attar.train.labelled import LabelledConfig

logger = logging.getLogger(__name__)

MODEL = "model"
#: spaces of at most so many networks are ranked whole, unless evolution is asked for
LISTED = 2000
_PROXY_FILE = "proxy.json"
_TIMED_FILE = "timed.json"
_TIMES = ("latency", "prefill")


@dataclass(frozen=True, kw_only=True)
class SupernetSearchConfig(EvolutionConfig):
    """How a supernet is searched. The options of evolution are as in HAT."""

    strategy: Literal["all", "evolution"] | None = None
    """Rank all networks, or search them by evolution; unset: all where there are at most 2000."""
    storage: str | None = None
    """URL of a database that many machines share, such as postgresql://...; unset: a journal file
    in the output folder, for workers on one machine."""
    top: int = 10
    """Best networks that are shown, timed, and tried on a proxy task."""
    timing: bool = False
    """Time the best networks on this machine; a budget on a time does so in any case."""
    proxy_epochs: tuple[float, ...] = (1.0, 3.0)
    """Epochs of fine-tuning on the proxy task, for all networks that are tried, for the best half
    of them, and so on, separated by commas. Published: 12 for all, of 256."""
    proxy_keep: float = 0.5
    """Share of the networks that goes on to the next number of epochs."""
    proxy_learning_rate: float = 2e-5
    """Peak learning rate of the fine-tuning."""
    proxy_batch_size: int = 32
    """Rows of one step of the fine-tuning."""
    proxy_context: int = 128
    """Most tokens of a text of the proxy task."""
    population: int = 125
    """Of evolution: networks of the first iteration."""
    parents: int = 25
    """Of evolution: the best of an iteration, which live on."""
    mutations: int = 50
    """Of evolution: mutants that an iteration adds."""
    crossovers: int = 50
    """Of evolution: children of two parents that it adds."""
    mutation_probability: float = 0.3
    """Of evolution: of each choice of a mutant to be drawn anew."""
    iterations: int = 30
    """Of evolution: how many populations are scored; the same command with more goes on."""
    seed: int = 0
    """Of all draws."""
    batch_size: int = 32
    """Held-out rows in one forward pass; changes speed and memory, not the result."""

    def __post_init__(self) -> None:
        check_types(self)
        super().__post_init__()
        for name in ("top", "batch_size", "proxy_batch_size", "proxy_context"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        rungs, keep = list(self.proxy_epochs), self.proxy_keep
        rising = len(rungs) > 0 and rungs == sorted(set(rungs)) and rungs[0] > 0
        rate = self.proxy_learning_rate
        require(rate > 0, "proxy_learning_rate", rate, "above 0")
        require(rising, "proxy_epochs", rungs, "numbers above zero, each larger than the last")
        require(0 < keep < 1, "proxy_keep", keep, "between 0 and 1")


@takes_recipe("supernet search")
def search(
    model: str | Path,
    data: DataLike = STDLIB,
    *,
    budget: str | Budget | None = None,
    teacher: str | Path | PreTrainedModel | None = None,
    space: str | None = None,
    proxy: str | Path | None = None,
    config: SupernetSearchConfig | str = SupernetSearchConfig(),
    output_dir: str | Path,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Rank networks by their held-out loss, without any training, and write the best within a
    budget as an ordinary checkpoint.

    The folder gets `rank.csv`, all networks that were scored, best first; `pareto.json`, those
    that no other beats in loss, parameters and multiply-accumulates; `model`, the best network with
    its tokenizer; and `attar.json`. Call it again, or from other processes at the same time, to
    continue the same search.

    Args:
        model: folder that `attar supernet train` wrote.
        data: text, as for `attar.supernet.train`; networks are compared on the validation split.
        budget: upper bounds, as of `attar.prune`; a percentage is of what the supernet was made
            of. None: no limits.
        teacher: what the supernet was made of; None: as its description says.
        space: search one of several supernets; None: all.
        proxy: labelled data; the best networks are fine-tuned on it, by successive halving, and the
            best of them is written. A part of its training split chooses; its test split is scored
            once.
        config: how; or the name or path of a recipe.
        output_dir: folder of the search: a new one, or that of a search to continue.
        recipe: name of the recipe that the options came from, for the record.
        resume: not needed: a search is continued with or without it.

    Returns:
        The record: the best networks in `details.networks`, the one that was written in
        `details.arch`, and its cost.

    Raises:
        BudgetError: no network meets the budget; names the nearest.
        CompatibilityError: the teacher's tokenizer is another, no class of transformers can hold
            the best network, or an encoder-decoder is to be tried on a proxy task.
        ConfigError: the folder holds something else or a search of other settings.
        DataError: the supernet, the teacher or the text cannot be read.
    """
    config, recipe = configured(config, SupernetSearchConfig, recipe=recipe)
    data, asked = Data.of(data), None if budget is None else Budget.parse(budget)
    settings = {
        "model": str(model),
        "teacher": checkpoint.name_of(teacher) or None,
        **data.settings(),
        "budget": asked.text if asked else None,
        "space": space,
        "proxy": None if proxy is None else str(proxy),
        **asdict(config),
    }
    with artefact(
        output_dir,
        command="supernet search",
        settings=settings,
        recipe=recipe,
        seed=config.seed,
        shared=True,
    ) as work:
        check_folder(work.folder)
        opened = Opened.load(model)
        if space is not None:
            opened = opened.only(space)
        method = opened.method(teacher)
        work.run.method, work.run.paper = method.name, PAPERS[method.name]
        if proxy is not None and is_encoder_decoder(method.model):
            raise CompatibilityError(
                f"a proxy task needs an encoder or a decoder; the supernet {str(model)!r} is of "
                f"{type(method.model).__name__}, which is both: leave proxy (--proxy) out"
            )
        held_out = method.rows(data, opened.tokenizer, split="validation")
        tried = proxy and Proxy.load(
            proxy,
            supernets=opened.supernets,
            tokenizer=opened.tokenizer,
            config=_fine_tuning(config),
        )
        parent = cost_of(method.model)
        bounds = _limits(asked, method, parent=parent)
        opened.place()
        scorer = method.scorer(held_out, batch_size=config.batch_size)
        costs = Costs(
            opened.supernets,
            bounds,
            work.folder,
            context=opened.config.context,
            seed=config.seed,
        )
        members = Members(opened.description.spaces)
        problem = MemberProblem.over(
            members, costs, score=lambda one: -scorer(opened.supernets[one[0]], [one[1]])[0]
        )
        depends = {
            "spaces": {n: s.to_dict() for n, s in members.spaces.items()},
            "weights": {n: checkpoint.fingerprint(net) for n, net in opened.supernets.items()},
            "teacher": checkpoint.fingerprint(method.model),
            "rows": held_out.fingerprint(),
            "budget": asked.text if asked else None,
        }
        costs.prepare(members)
        found = _searched(problem, config, work=work, settings=depends)
        rows = [
            row_of(opened.supernets[one[0]], one[1], method=method, name=one[0], loss=-score)
            for one, score in _scored(found, members)
        ]
        _finish(work, opened, rows=rows, costs=costs, config=config, tried=tried or None)
        work.run.cost["before"] = parent.to_dict()
        work.run.details |= {"unit": method.unit, "networks_of_space": members.size}
        with study_lock(work.folder):
            work.save()
    return work.run


def _limits(asked: Budget | None, method: Method, *, parent: Cost) -> Budget | None:
    """A budget with absolute limits."""
    if asked is None:
        return None
    keys = [c.key for c in asked.constraints if c.key in ("latency", "kv_bytes")]
    if keys and not method.model.can_generate():
        raise BudgetError(
            f"{keys[0]} is out of reach: {type(method.model).__name__} generates no tokens and has "
            "no key/value cache; bound prefill, params, bytes or macs instead"
        )
    if relative := [c.key for c in asked.constraints if c.relative and c.key in _TIMES]:
        raise BudgetError(
            f"expected a limit on {relative[0]} in milliseconds, found a percentage; write "
            f"{relative[0]}<=20ms"
        )
    return asked.resolve(parent)


def _fine_tuning(config: SupernetSearchConfig) -> LabelledConfig:
    return LabelledConfig(
        context=config.proxy_context,
        learning_rate=config.proxy_learning_rate,
        per_device_train_batch_size=config.proxy_batch_size,
        lr_scheduler_type="linear",
        seed=config.seed,
    )


def _searched(
    problem: MemberProblem,
    config: SupernetSearchConfig,
    *,
    work: Artefact,
    settings: dict[str, Any],
) -> Evolution:
    every = problem.members.size <= LISTED if config.strategy is None else config.strategy == "all"
    given: dict[str, Any] = {"folder": work.folder, "storage": config.storage}
    if every:
        return score_all(problem, settings=settings, seed=config.seed, **given)
    names = EvolutionConfig.__dataclass_fields__
    options = {name: getattr(config, name) for name in names}
    for name in ("population", "mutations", "crossovers"):  # more are drawn in vain, and for long
        options[name] = min(options[name], problem.members.size)
    plain = EvolutionConfig(**options)
    return evolve(problem, plain, settings=settings, **given)


def _scored(found: Evolution, members: Members) -> list[tuple[Member, float]]:
    return [(members.decode(one.genes), one.score or 0.0) for one in ranked(found.history)]


def _finish(
    work: Artefact,
    opened: Opened,
    *,
    rows: list[Row],
    costs: Costs,
    config: SupernetSearchConfig,
    tried: Proxy | None,
) -> None:
    """Time the best, try them on the proxy task, and write what was found."""
    run, folder = work.run, work.folder
    with study_lock(folder):  # whoever comes first times and tries; the others read
        rows = _timed(rows, costs, folder=folder, config=config)
        write_ranking(folder, rows)
        best = rows[: config.top]
        chosen, details = _within(best, costs), dict[str, Any]()
        if tried is not None:
            members = [(row.space, row.arch) for row in best if _admits(row, costs)]
            rungs, test = tried.search(
                members or [(chosen.space, chosen.arch)],
                rungs=config.proxy_epochs,
                keep=config.proxy_keep,
                state=folder / _PROXY_FILE,
            )
            name, arch = rungs[-1].scored[0][0]
            chosen = next(row for row in rows if (row.space, row.arch) == (name, arch))
            details["proxy"] = test | {"rungs": [_rung(one) for one in rungs]}
        _write_model(work, opened, chosen)
        run.cost["after"] = chosen.cost.to_dict()
        run.details |= details
        run.details |= {"loss": chosen.loss, "scored": len(rows), "timing": costs.note}
        run.details["networks"] = [row.to_dict() for row in best]
        run.details["chart"] = {
            "x": "parameters",
            "y": "held-out loss",
            "points": [[str(n), row.cost.params, row.loss] for n, row in enumerate(rows, 1)],
        }
        if costs.budget is not None:
            verdict = costs.budget.verdict(_comparable(chosen, costs))
            run.budget = {
                "asked": costs.budget.text,
                "met": all(one["met"] for one in verdict),
                "constraints": verdict,
            }


def _timed(
    rows: Sequence[Row], costs: Costs, *, folder: Path, config: SupernetSearchConfig
) -> list[Row]:
    """The rows, the best of them timed where that is asked for; one that was timed keeps its
    times."""
    if not (config.timing or costs.timed):
        return list(rows)
    file = folder / _TIMED_FILE
    known: dict[str, Any] = read_json(file, "the measured times") if file.exists() else {}
    done = []
    for number, row in enumerate(rows):
        mark = f"{row.space} {row.arch.to_json()}"
        if number < config.top and mark not in known:
            known[mark] = costs.measured((row.space, row.arch)).to_dict()
        if mark in known:
            row = with_times(row, Cost.from_dict(known[mark]))
        done.append(row)
    artefacts.write_text(file, json.dumps(known))
    return done


def _comparable(row: Row, costs: Costs) -> Cost:
    """A cost with all that a budget may bound."""
    counted = costs.of((row.space, row.arch))
    return replace(row.cost, kv_bytes=counted.kv_bytes)


def _admits(row: Row, costs: Costs) -> bool:
    return costs.budget is None or costs.budget.admits(_comparable(row, costs))


def _within(rows: Sequence[Row], costs: Costs) -> Row:
    """The best that meets the budget as measured; the best where none does."""
    return next((row for row in rows if _admits(row, costs)), rows[0])


def _rung(rung: Rung[Member]) -> dict[str, Any]:
    scored = [
        {"space": name, "arch": arch.to_dict(), "score": score}
        for (name, arch), score in rung.scored
    ]
    return {"epochs": rung.budget, "scored": scored}


def _write_model(work: Artefact, opened: Opened, row: Row) -> None:
    """The best network, unless it lies there already."""
    place = work.folder / MODEL
    known = place / ARCH_FILE
    if known.exists() and any(place.glob("*.safetensors")):
        stored = read_json(known, "the best network")
        if (stored.get("space"), stored.get("arch")) == (row.space, row.arch.to_dict()):
            work.run.details |= stored
            return
    shutil.rmtree(place, ignore_errors=True)
    save_network(work, opened, name=row.space, arch=row.arch, folder=place)
    work.card = None  # of the folder of the search, which is no model


def search_table(run: Run) -> Table:
    """The best networks of a search."""
    networks = run.details["networks"]
    formulas = any("published_params" in one for one in networks)
    timed = [name for name in ("latency_ms", "prefill_ms") if name in networks[0]]
    rows = []
    for number, one in enumerate(networks, 1):
        cells = [f"{number}, {one['space']}", fixed(one["loss"]), count(one["params"])]
        cells += [count(one["params_without_embeddings"]), count(one["macs"])]
        if formulas:
            published = one.get("published_params")
            cells += [NONE if published is None else count(published)]
        cells += [milliseconds(one[name]) for name in timed]
        rows.append(cells)
    columns = ["network", run.details["unit"], "params", "without embeddings", "MACs/token"]
    columns += ["params by the paper's formula"] if formulas else []
    columns += [name.removesuffix("_ms") for name in timed]
    return Table(columns, rows)
