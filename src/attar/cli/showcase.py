"""What both demos share: their folder, steps that are made once, and models timed side by side."""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attar import artefacts, checkpoint
from attar.cli.output import note
from attar.errors import ConfigError
from attar.measure.cost import cost_of
from attar.measure.timing import decode_call, latency_of, prefill_call
from attar.models import to_computing_dtype
from attar.report.record import Run

MARKER = "recipes.txt"
"""In the folder of a demo: a hash of the settings that it was made with."""


def prepare(
    folder: Path, settings: Mapping[str, Any], *, parts: Sequence[str], fresh: bool
) -> None:
    """Start over when asked to, or when the settings are not those that the folder was made with.

    Args:
        folder: of the demo.
        settings: what determines its results.
        parts: folders in it that the demo makes; nothing else is ever removed.
        fresh: make everything again.

    Raises:
        ConfigError: the folder holds something that no demo made.
    """
    plain = json.dumps(settings, sort_keys=True, default=str)
    mark = hashlib.sha256(plain.encode()).hexdigest()[:12]
    marker = folder / MARKER
    known = marker.read_text(encoding="utf-8") if marker.exists() else ""
    demos = re.fullmatch(r"[0-9a-f]{12}", known) is not None
    if folder.is_dir() and any(folder.iterdir()) and not demos:
        raise ConfigError(
            f"expected a new or empty folder, or that of an earlier demo; {str(folder)!r} holds "
            f"something else: give another --output-dir"
        )
    if demos and (fresh or known != mark):
        for name in parts:
            for old in (folder / name, folder / f"{name}.partial"):
                shutil.rmtree(old, ignore_errors=True)
    artefacts.make_folder(folder)
    artefacts.write_text(marker, mark)


def made(what: str, folder: Path, make: Callable[[], Run]) -> Run:
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


def side_by_side(
    runs: Mapping[str, Run],
    folders: Mapping[str, str | Path],
    *,
    before: Mapping[str, float],
    tokens: tuple[int, int],
    rounds: int,
) -> dict[str, Run]:
    """The records as results of one parent, all timed in turn in this process, so that the speeds
    can be compared.

    Args:
        runs: by name, `parent` among them.
        folders: of their models, by the same names.
        before: the parent's quality on the text that all were scored on.
        tokens: how many are read and written when a model is timed.
        rounds: how often each is timed.
    """
    costs = _time_together({name: folders[name] for name in runs}, tokens, rounds=rounds)
    quality = {name: run.quality.get("after", {}) for name, run in runs.items()}
    quality["parent"] = dict(before)
    return {
        name: replace(
            run,
            model="parent",
            cost={"before": costs["parent"], "after": costs[name]},
            quality={"before": quality["parent"], "after": quality[name]},
            baselines=[],
        )
        for name, run in runs.items()
    }


def _time_together(
    folders: Mapping[str, str | Path], tokens: tuple[int, int], *, rounds: int
) -> dict[str, dict[str, Any]]:
    """Cost of every model with prefill and decode times taken round robin, so that drift hits all
    alike.
    """
    models = {name: checkpoint.load(folder) for name, folder in folders.items()}
    costs = {name: cost_of(model) for name, model in models.items()}
    for model in models.values():
        to_computing_dtype(model)
    prompt, new = tokens
    calls = {
        (name, mode): prefill_call(model, prompt)
        if mode == "prefill"
        else decode_call(model, prompt, new_tokens=new)
        for name, model in models.items()
        for mode in ("prefill", "decode")
    }
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for turn in range(rounds + 1):
        for (name, mode), call in calls.items():
            milliseconds = call() / (new if mode == "decode" else 1)
            if turn:  # the first turn warms up
                times[name, mode].append(milliseconds)
    setting = {"prompt_tokens": prompt, "new_tokens": new, "batch_size": 1}
    return {
        name: replace(
            cost,
            prefill=latency_of(times[name, "prefill"]),
            decode=latency_of(times[name, "decode"]),
            timed=setting,
        ).to_dict()
        for name, cost in costs.items()
    }
