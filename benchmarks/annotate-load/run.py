"""Does the annotation service keep every answer while everything around it crashes?

Figure: tasks lost or doubled by 50 annotators, with the server and the worker killed ten times.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from annotators import Annotator, Journal
from audit import audit, progress, step
from common import finish, parse
from service import Service, running

import postgres
from attar.annotate import accounts, corpus, drawing, tokens
from attar.annotate.opening import create_project
from attar.annotate.settings import ARMS, AnnotateConfig
from attar.annotate.store import Project
from attar.methods.active_segmentation.made_up import make_up

SEED = 13
DATABASES = ("sqlite", "postgresql")
#: milliseconds that an answer may take, of 95 in a hundred
SOON_MS = 200.0


@dataclass(frozen=True)
class Setting:
    """How much is asked."""

    annotators: int = 50
    reviewers: int = 3  # of them; they also decide where two people differ
    sentences: int = 9700  # with control items it is 10,000 tasks
    reserve: int = 400
    kills: int = 10
    pause: float = 2.5
    lease: float = 20.0
    budget: int = 20_000
    low_water: int = 600
    retrain_after: int = 300
    limit: float = 900.0


QUICK = Setting(
    reviewers=1,
    annotators=8,
    sentences=120,
    reserve=20,
    kills=1,
    pause=0.15,
    lease=6.0,
    budget=2500,
    low_water=30,
    retrain_after=20,
    limit=30.0,
)


def main() -> None:
    parser = parse(__doc__ or "")
    text = "one of the databases; the other's figures stay as results/full.json has them"
    parser.add_argument("--only", choices=DATABASES, help=text)
    args = parser.parse_args()
    setting = QUICK if args.quick else Setting()
    found: dict[str, dict[str, Any]] = kept() if args.only and not args.quick else {}
    if args.only != "postgresql":
        found["sqlite"] = trial(setting, url=None)
    if args.only != "sqlite" and not args.quick:
        if reason := postgres.missing():
            print(f"postgresql is left out: {reason}")
        else:
            with postgres.server(durable=True) as url:
                found["postgresql"] = trial(setting, url=url)
    report(args, setting, found=found)


def kept() -> dict[str, dict[str, Any]]:
    """What the last full run found, by database."""
    file = Path(__file__).parent / "results" / "full.json"
    if not file.exists():
        return {}
    return json.loads(file.read_text(encoding="utf-8"))["details"]["runs"]


def trial(setting: Setting, *, url: str | None) -> dict[str, Any]:
    """One run on one database."""
    with tempfile.TemporaryDirectory() as folder, project(Path(folder), setting, url=url) as made:
        opened, gold, secrets = made
        # on PostgreSQL the worker is a process of its own, as `attar annotate serve` has it
        with running(opened.folder, beside=url is None) as service:
            crowd = [
                Annotator(
                    name,
                    token,
                    url=service.url,
                    gold=gold,
                    pause=setting.pause,
                    lease=setting.lease,
                    seed=SEED,
                )
                for name, token in secrets.items()
            ]
            began = time.perf_counter()
            happened = asyncio.run(load(crowd, setting, project=opened, service=service))
            seconds = time.perf_counter() - began
        told = audit(opened, [one.journal for one in crowd], drained=happened["drained"])
        log = service.log.read_text(encoding="utf-8")
        return {
            **told,
            **{key: value for key, value in happened.items() if key != "down"},
            **times([one.journal for one in crowd], down=happened["down"]),
            "seconds": seconds,
            "load_average": os.getloadavg(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "tracebacks": log.count("Traceback"),
            "log": log[-1500:] if "Traceback" in log else "",
        }


@contextmanager
def project(
    folder: Path, setting: Setting, *, url: str | None
) -> Iterator[tuple[Project, dict[str, tuple[int, ...]], dict[str, str]]]:
    """A project with a corpus and two first batches, its gold labels, and a token for each
    annotator."""
    made = make_up(setting.sentences, seed=SEED)
    words = made.save_dictionary(folder / "words.txt")
    settings = AnnotateConfig(
        lease_seconds=setting.lease,
        beat_seconds=setting.lease / 4,
        reserve_minimum=setting.reserve,
        seed_sentences=setting.sentences // 6,
        retrain_after=setting.retrain_after,
        low_water=setting.low_water,
        draw={"budget": setting.budget, "near_duplicates": None},
        segmenter={"dictionary": str(words), "iterations": 15, "hash_bits": 18},
    )
    with create_project(folder / "project", database=url, settings=settings, seed=SEED) as opened:
        corpus.add(opened, made.rows)
        names = [f"annotator-{number:02}" for number in range(setting.annotators)]
        for name in names:
            role = "reviewer" if name in names[: setting.reviewers] else "annotator"
            accounts.add_user(opened, name=name, role=role)
        secrets = {name: tokens.create_token(opened, user=name) for name in names}
        for arm in ARMS:
            drawing.draw(opened, arm=arm)
        yield opened, {row.text: row.cuts for row in made.rows}, secrets


async def load(
    crowd: Sequence[Annotator], setting: Setting, *, project: Project, service: Service
) -> dict[str, Any]:
    """Everybody works until nothing is left, while the server and the worker are killed."""
    over, began = asyncio.Event(), time.perf_counter()
    people = [asyncio.create_task(one.work(over)) for one in crowd]
    plan: list[Callable[[], Any]] = [service.kill_server, service.kill_worker] * setting.kills
    places = [(n + 0.5) / len(plan) * setting.sentences for n in range(len(plan))]
    drained = False
    down, steps, quiet = list[tuple[float, float]](), Counter[str](), 0
    killed = 0
    while time.perf_counter() - began < setting.limit:
        done, left, trained = await asyncio.to_thread(progress, project)
        if killed < len(plan) and done >= places[killed]:
            at = await asyncio.to_thread(step, project)
            since = time.perf_counter()
            if plan[killed] == service.kill_server:
                await asyncio.to_thread(service.kill_server)
                down.append((since, time.perf_counter()))
                killed += 1
            # rather in the middle of a job, if one comes soon
            elif (at or done >= places[killed] + 0.2 * setting.sentences / len(plan)) and (
                await asyncio.to_thread(service.kill_worker)
            ):
                steps[at or "nothing"] += 1
                killed += 1
        quiet = 0 if left or done < setting.sentences else quiet + 1
        if quiet > 2 and killed == len(plan) and trained:
            drained = True
            break
        await asyncio.sleep(1)
        if any(one.done() for one in people):
            break
    over.set()
    await asyncio.gather(*people)
    return {
        "servers_killed": len(down),
        "workers_killed": steps.total(),
        "worker_was_at": dict(steps),
        "down": down,
        "drained": drained,
    }


def times(journals: Sequence[Journal], *, down: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """How long things took, and what came back. Submits that began while the server was down stand
    apart: `receipt` counts from the first attempt, restarts included."""
    statuses = sum((one.statuses for one in journals), Counter[int]())
    submits = [
        1000 * took
        for one in journals
        for began, took in one.submits
        if not any(since <= began <= until for since, until in down)
    ]
    waits = [1000 * s for one in journals for s in one.waits]
    nexts = [1000 * s for one in journals for s in one.nexts]
    return {
        "submit_p50_ms": statistics.median(submits),
        "submit_p95_ms": p95(submits),
        "submits_timed": len(submits),
        "receipt_p95_ms": p95(waits),
        "restart_seconds": statistics.mean(b - a for a, b in down) if down else None,
        "next_p50_ms": statistics.median(nexts),
        "next_p95_ms": p95(nexts),
        "away": sum(one.away for one in journals),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "errors": sum(n for status, n in statuses.items() if status >= 500 and status != 503),
    }


def p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def report(args: argparse.Namespace, setting: Setting, *, found: dict[str, dict[str, Any]]) -> None:
    """Print what was found, and the claim as the last line."""
    for name, one in found.items():
        print(name, {key: value for key, value in one.items() if key != "log"})
    wrong = ("lost", "doubled", "not_idempotent", "unknown", "gaps", "doctor", "errors", "failed")
    figure = sum(one["lost"] + one["doubled"] for one in found.values())
    latencies = {name: one["submit_p95_ms"] for name, one in found.items()}
    enough = all(
        one["drained"]
        and one["trained"]
        and one["servers_killed"] == one["workers_killed"] == setting.kills
        for one in found.values()
    )
    soon = all(ms < SOON_MS for ms in latencies.values())
    tasks, servers, workers, left = (
        sum(one[what] for one in found.values())
        for what in ("tasks", "servers_killed", "workers_killed", "open")
    )
    notes = [f"submit p95 {ms:.0f} ms on {name}" for name, ms in latencies.items()]
    if left:
        notes.append(f"when time was up {left} tasks were open, which does not count as lost")
    cores = os.cpu_count() or 1
    if (busy := max(one["load_average"][1] for one in found.values())) > 2 * cores:
        notes.append(f"beside other work (load {busy:.0f} on {cores} processors)")
    if args.only or not args.quick:
        notes += [f"{name} was left out" for name in DATABASES if name not in found]
    line = {
        "claim": "annotate-load",
        "figure": figure,
        "unit": f"of {tasks} tasks lost or doubled; {servers} servers, {workers} workers killed",
        "baseline": "none",
        "ratio": None,
        "target": 0,
        "ok": soon and enough and not any(one[what] for one in found.values() for what in wrong),
        **{what: sum(one[what] for one in found.values()) for what in wrong},
        "submit_p95_ms": latencies,
        "submit_p50_ms": {name: one["submit_p50_ms"] for name, one in found.items()},
        "note": "; ".join(notes),
    }
    details = {"setting": asdict(setting), "runs": found}
    finish(__file__, line, details, args)


if __name__ == "__main__":
    main()
