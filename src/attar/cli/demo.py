"""`attar demo`: the main job on an empty machine, from no model at all to a report."""

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from attar import artefacts
from attar.cli.demo_llm import make_llm_demo
from attar.cli.output import ExitCode, Output, show
from attar.cli.showcase import made, prepare, side_by_side
from attar.data.data import STDLIB
from attar.methods.bonsai import BonsaiConfig, prune
from attar.pretraining.config import PretrainConfig
from attar.pretraining.pretrain import pretrain
from attar.pruning.config import Method
from attar.recipes import configured
from attar.report.pages import html_report
from attar.report.record import Run
from attar.report.tables import comparison
from attar.train.heal import HealConfig, heal

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
"""What is read and written when the models are timed, `ROUNDS` times each."""
ROUNDS = 7
_BUDGET = "blocks<=50%"
#: the baseline that did best in benchmarks/bonsai-quality
_BASELINE: Method = "flap"
_FOLDERS = ("parent", *(f"{m}{h}" for m in ("bonsai", _BASELINE) for h in ("", "-healed")))


def demo(
    model: str | None = None,
    *,
    size: Literal["1m", "6m"] = "1m",
    output_dir: Output = None,
    fresh: bool = False,
) -> int:
    """Train a pocket model on the Python standard library, prune it to half of its blocks, heal it,
    and compare cost and quality.

    Takes about three minutes on two cores with `--size 1m`. With MODEL it takes your own language
    model instead: chats with it, makes a draft for it, prunes a fifth of its blocks, heals it and
    writes it as GGUF, in about ten minutes for 135M parameters. Finished steps are not
    repeated.

    Parameters
    ----------
    model
        A folder, a GGUF file or a name on the Hugging Face Hub. Without it a pocket model is
        trained.
    size
        Parameters of the model to train: 1m, or 6m (about 25 minutes more).
    output_dir
        Where models and report go. Default: demo-SIZE or demo-llm in the folder that ATTAR_HOME
        names (~/.cache/attar).
    fresh
        Start over, and replace what an earlier demo made.
    """
    make_demo(model, size=size, output_dir=output_dir, fresh=fresh)
    return ExitCode.DONE


def make_demo(
    model: str | None = None,
    *,
    size: Literal["1m", "6m"] = "1m",
    output_dir: str | Path | None = None,
    fresh: bool = False,
) -> dict[str, Run]:
    """The demo, in Python; prints what it does.

    Args:
        model: your own language model; None: a pocket model is trained.
        size: the pocket model to train.
        output_dir: where models and report go; None: in the folder that ATTAR_HOME names.
        fresh: make everything again.

    Returns:
        The records of all models by name, as results of one parent that were timed in turn.

    Raises:
        ConfigError: the folder holds something that no demo made.
    """
    if model is not None:
        return make_llm_demo(model, output_dir=output_dir, fresh=fresh)
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
    settings = {"1": asdict(options), "2": asdict(search), "3": asdict(healing)}
    prepare(folder, settings, parts=_FOLDERS, fresh=fresh)
    parent = folder / "parent"
    runs = {
        "parent": made(
            "Training a parent",
            parent,
            lambda: pretrain(
                data=DATA, config=options, output_dir=parent, recipe=f"pocket/{size}", resume=True
            ),
        )
    }
    methods: tuple[Method, ...] = ("bonsai", _BASELINE)
    for method in methods:
        pruned, healed = folder / method, folder / f"{method}-healed"
        runs[method] = made(
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
        runs[f"{method}, healed"] = made(
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
    records = side_by_side(
        runs,
        dict(zip(runs, folders, strict=True)),
        # the parent was scored on the same test text when it was pruned
        before=runs["bonsai"].quality["before"],
        tokens=(PROMPT_TOKENS, NEW_TOKENS),
        rounds=ROUNDS,
    )
    names = list(records)[1:]
    shown = [records[name] for name in names]
    show(comparison(shown, names=names).text())
    report = html_report(
        shown, folder / "report.html", title="Attar demo: half the blocks", names=names
    )
    _last_words(folder, report, runs=records, seconds=time.perf_counter() - began)
    return records


def _last_words(folder: Path, report: Path, *, runs: Mapping[str, Run], seconds: float) -> None:
    show(f"\nReport: {report}")
    show(f"Models: {folder}/ ({', '.join(_FOLDERS)})")
    show(f"This took {seconds:.0f} s. What to try next:")
    show(f'  attar prune {folder}/parent --budget "kv_bytes<=50%" --layout uniform -o smaller')
    show(f"  attar evaluate {folder}/bonsai-healed")
    show(f"  attar compare {folder}/bonsai {folder}/{_BASELINE}")
    show("  make demo-llm    # in the checkout: a real model of 135M parameters")
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
