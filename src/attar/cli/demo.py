"""`attar demo`: the main job on an empty machine, from no model at all to a report."""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from attar import artefacts, checkpoint
from attar.budget import Cost
from attar.cli.output import ExitCode, Output, note, show
from attar.data.data import STDLIB
from attar.errors import ConfigError
from attar.measure.cost import cost_of
from attar.measure.timing import decode_call, latency_of, prefill_call
from attar.methods.bonsai import BonsaiConfig, prune
from attar.models import has_cache
from attar.pruning.config import Method
from attar.recipes import configured
from attar.report.pages import html_report
from attar.report.record import Run
from attar.report.tables import comparison
from attar.train.heal import HealConfig, heal
from attar.train.pretrain import PretrainConfig, pretrain

DATA = STDLIB
"""The text that the models of the demo learn and are scored on."""
SHORTER: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "1m": {
            "max_steps": 350,
            "per_device_train_batch_size": 8,
            "learning_rate": 4e-3,
            "warmup_steps": 30,
        },
        "6m": {},
    }
)
"""Where the training of a parent differs from its recipe, so that the demo ends in minutes."""
HEALING_STEPS = 40
"""Enough to see repair at work within the time of a demo. No window is seen twice, so that stored
answers of the parent would save nothing: it runs on every batch."""
EVAL_TOKENS = 20_000
"""Tokens of the test text that each model is scored on."""
PROMPT_TOKENS, NEW_TOKENS = 128, 32
"""What is read and written when the models are timed."""
_BUDGET = "blocks<=50%"
#: the baseline that did best in benchmarks/bonsai-quality
_BASELINE: Method = "flap"
_FOLDERS = ("parent", *(f"{m}{h}" for m in ("bonsai", _BASELINE) for h in ("", "-healed")))


def demo(
    *, size: Literal["1m", "6m"] = "1m", output_dir: Output = None, fresh: bool = False
) -> int:
    """Train a pocket model on the Python standard library, prune it to half of its blocks, heal it,
    and compare cost and quality.

    Takes about three minutes on two cores with `--size 1m`. What is there already is used again.

    Parameters
    ----------
    size
        Parameters of the model to train: 1m, or 6m (about 25 minutes more).
    output_dir
        Where models and report go. Default: demo-SIZE in the folder that ATTAR_HOME names
        (~/.cache/attar).
    fresh
        Start over, and replace what an earlier demo made.
    """
    make_demo(size=size, output_dir=output_dir, fresh=fresh)
    return ExitCode.DONE


def make_demo(
    *,
    size: Literal["1m", "6m"] = "1m",
    output_dir: str | Path | None = None,
    fresh: bool = False,
) -> dict[str, Run]:
    """The demo, in Python; prints what it does.

    Args:
        size: the pocket model to train.
        output_dir: where models and report go; None: in the folder that ATTAR_HOME names.
        fresh: make everything again.

    Returns:
        The records of all models by name, as results of one parent that were timed in turn.

    Raises:
        ConfigError: the folder holds something that no demo made.
    """
    began = time.perf_counter()
    options, _ = configured(f"pocket/{size}", PretrainConfig, recipe=None)
    search, _ = configured("bonsai/cpu-tiny", BonsaiConfig, recipe=None)
    healing, _ = configured("bonsai/cpu-tiny-heal", HealConfig, recipe=None)
    options = replace(options, eval_tokens=EVAL_TOKENS, **SHORTER[size])
    search = replace(search, timing=False)  # all models are timed together at the end
    healing = replace(
        healing, max_steps=HEALING_STEPS, teacher_cache="none", eval_tokens=EVAL_TOKENS
    )
    folder = Path(output_dir or artefacts.home() / f"demo-{size}")
    _prepare(folder, {"1": asdict(options), "2": asdict(search), "3": asdict(healing)}, fresh=fresh)
    parent = folder / "parent"
    runs = {
        "parent": _made(
            "Training a parent",
            parent,
            lambda: pretrain(
                DATA, config=options, output_dir=parent, recipe=f"pocket/{size}", resume=True
            ),
        )
    }
    methods: tuple[Method, ...] = ("bonsai", _BASELINE)
    for method in methods:
        pruned, healed = folder / method, folder / f"{method}-healed"
        runs[method] = _made(
            f"Pruning it to {_BUDGET} with {method}",
            pruned,
            lambda method=method, pruned=pruned: prune(
                parent,
                DATA,
                budget=_BUDGET,
                output_dir=pruned,
                method=method,
                config=search,
                eval_tokens=EVAL_TOKENS,
                recipe="bonsai/cpu-tiny",
                resume=True,
            ),
        )
        runs[f"{method}, healed"] = _made(
            f"Healing the {method} model",
            healed,
            lambda pruned=pruned, healed=healed: heal(
                pruned,
                DATA,
                teacher=parent,
                config=healing,
                output_dir=healed,
                recipe="bonsai/cpu-tiny-heal",
                resume=True,
            ),
        )
    folders = [folder / name for name in _FOLDERS]
    records = _side_by_side(runs, dict(zip(runs, folders, strict=True)))
    names = list(records)[1:]
    shown = [records[name] for name in names]
    show(comparison(shown, names=names).text())
    report = html_report(
        shown, folder / "report.html", title="Attar demo: half the blocks", names=names
    )
    _last_words(folder, report, runs=records, seconds=time.perf_counter() - began)
    return records


def _prepare(folder: Path, settings: Mapping[str, Any], *, fresh: bool) -> None:
    """Start over when asked to, or when the recipes are not those that the folder was made with.

    Only what the demo made is ever removed.

    Raises:
        ConfigError: the folder holds something that no demo made.
    """
    mark = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    marker = folder / "recipes.txt"
    known = marker.read_text(encoding="utf-8") if marker.exists() else ""
    demos = re.fullmatch(r"[0-9a-f]{12}", known) is not None
    if folder.is_dir() and any(folder.iterdir()) and not demos:
        raise ConfigError(
            f"expected a new or empty folder, or that of an earlier demo; {str(folder)!r} holds "
            f"something else: give another --output-dir"
        )
    if demos and (fresh or known != mark):
        for name in _FOLDERS:
            for made in (folder / name, folder / f"{name}.partial"):
                shutil.rmtree(made, ignore_errors=True)
    artefacts.make_folder(folder)
    artefacts.write_text(marker, mark)


def _made(what: str, folder: Path, make: Callable[[], Run]) -> Run:
    """The record of a step, which is run only if its folder is not there yet."""
    if (folder / "attar.json").exists():
        note(f"{what}: already in {folder}")
        return Run.load(folder)
    note(f"{what} ...")
    began = time.perf_counter()
    try:
        run = make()
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("the same command goes on from there") from error
    note(f"{what}: done in {time.perf_counter() - began:.0f} s")
    return run


def _side_by_side(runs: Mapping[str, Run], folders: Mapping[str, Path]) -> dict[str, Run]:
    """The records as results of one parent, all timed in turn in this process, so that the speeds
    can be compared.
    """
    costs = _time_together({name: folders[name] for name in runs})
    quality = {name: run.quality.get("after", {}) for name, run in runs.items()}
    # the parent's quality was scored on the same test text when it was pruned
    quality["parent"] = runs["bonsai"].quality["before"]
    before = {"cost": costs["parent"], "quality": quality["parent"]}
    return {
        name: replace(
            run,
            model="parent",
            cost={"before": before["cost"], "after": costs[name]},
            quality={"before": before["quality"], "after": quality[name]},
            baselines=[],
        )
        for name, run in runs.items()
    }


def _time_together(folders: Mapping[str, Path], repeats: int = 7) -> dict[str, dict[str, Any]]:
    """Cost of every model with prefill and decode times taken round robin, so that drift hits all
    alike.
    """
    models = {name: checkpoint.load(folder) for name, folder in folders.items()}
    assert all(has_cache(model) for model in models.values())
    calls = {
        (name, mode): prefill_call(model, PROMPT_TOKENS)
        if mode == "prefill"
        else decode_call(model, PROMPT_TOKENS, new_tokens=NEW_TOKENS)
        for name, model in models.items()
        for mode in ("prefill", "decode")
    }
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for turn in range(repeats + 1):
        for (name, mode), call in calls.items():
            milliseconds = call() / (NEW_TOKENS if mode == "decode" else 1)
            if turn:  # the first turn warms up
                times[name, mode].append(milliseconds)
    setting = {"prompt_tokens": PROMPT_TOKENS, "new_tokens": NEW_TOKENS, "batch_size": 1}
    return {
        name: _timed_cost(
            model, times[name, "prefill"], decode=times[name, "decode"], setting=setting
        )
        for name, model in models.items()
    }


def _timed_cost(
    model: Any, prefill: list[float], *, decode: list[float], setting: dict[str, int]
) -> dict[str, Any]:

    counted: Cost = cost_of(model)
    return replace(
        counted, prefill=latency_of(prefill), decode=latency_of(decode), timed=setting
    ).to_dict()


def _last_words(folder: Path, report: Path, *, runs: Mapping[str, Run], seconds: float) -> None:
    show(f"\nReport: {report}")
    show(f"Models: {folder}/ ({', '.join(_FOLDERS)})")
    show(f"This took {seconds:.0f} s. What to try next:")
    show(f'  attar prune {folder}/parent --budget "kv_bytes<=50%" --layout uniform -o smaller')
    show(f"  attar evaluate {folder}/bonsai-healed")
    show(f"  attar compare {folder}/bonsai {folder}/{_BASELINE}")
    show("  make demo-llm    # in the checkout: a real model of 135M parameters from the Hub")
    show(f"\n{_conclusion(runs)}\n{_LIMITS}")


def _conclusion(runs: Mapping[str, Run]) -> str:
    """What the table says, in one sentence."""
    bits = {name: run.quality["after"]["bits_per_byte"] for name, run in runs.items()}
    rise = {name: f"{100 * (one / bits['parent'] - 1):+.1f}%" for name, one in bits.items()}
    cost = runs["bonsai"].cost
    speed = cost["before"]["prefill"]["median"] / cost["after"]["prefill"]["median"]
    return (
        f"Conclusion: with half of the blocks cut, {1 - _kept(cost):.0%} of all parameters, bits "
        f"per byte change by {rise['bonsai']} with Bonsai and {rise[_BASELINE]} with "
        f"{_BASELINE.upper()}, after healing by {rise['bonsai, healed']} and "
        f"{rise[f'{_BASELINE}, healed']}, and Bonsai's model reads a prompt {speed:.2f} times as "
        f"fast as its parent."
    )


def _kept(cost: Mapping[str, Any]) -> float:
    return cost["after"]["params"] / cost["before"]["params"]


_LIMITS = (
    "A model this small cannot show more: embeddings and fixed costs of a step are most of its "
    "time, so that speed hardly changes; its training was short, so that half of the blocks can "
    "go for little, and healing trains it further, so that it may even pass its parent."
)
