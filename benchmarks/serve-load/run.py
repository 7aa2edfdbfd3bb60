"""Does the server bear 32 clients, and what do they gain from one batch?

Ratio: tokens a second of 32 clients over those of the same requests one at a time, on SmolLM2.
"""

import argparse
import inspect
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil
from common import finish, parse
from smollm2 import smollm2

from attar import checkpoint
from attar.decode.pair import stops_of

TARGET = 3.0
SLACK_MS = 1000.0
"""A budget of time may be exceeded by this much: a step is not interrupted."""


@dataclass(frozen=True)
class Setting:
    """How much is asked."""

    clients: int = 32
    alone: int = 12  # requests of a round that one client sends
    together: int = 128  # that all of them send
    tokens: int = 32
    rounds: int = 3
    budget_ms: float = 4000


QUICK = Setting(clients=8, alone=2, together=16, tokens=6, rounds=1, budget_ms=1500)


@dataclass
class Load:
    """What became of requests."""

    seconds: float = 0.0
    tokens: int = 0
    answers: dict[int, str] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds

    @property
    def p95_ms(self) -> float:
        return 1000 * statistics.quantiles(self.latencies, n=20)[-1]


Ask = Callable[[int], tuple[str, int]]
"""Sends a request by its number; the text, and how many tokens it has."""


def main() -> None:
    parser = parse(__doc__ or "")
    args = parser.parse_args()
    setting = QUICK if args.quick else Setting()
    source = smollm2()
    prompts = passages(setting.together)
    alone, together, memory = [], [], []
    with attar_server(source, setting) as (url, process):
        body = body_of(source, setting)

        def ask(number: int, **more: Any) -> tuple[str, int]:
            sent = body | {"prompt": prompts[number], "seed": number, "echo": True} | more
            answer = post(f"{url}/v1/completions", sent)
            return answer["choices"][0]["text"], answer["usage"]["completion_tokens"]

        load(ask, range(2), clients=1)  # the first requests warm up
        for _ in range(setting.rounds):
            alone.append(load(ask, range(setting.alone), clients=1))
            together.append(load(ask, range(setting.together), clients=setting.clients))
            memory.append(process.memory_info().rss)

        def hurried(number: int) -> tuple[str, int]:
            return ask(number, time_budget_ms=setting.budget_ms)

        budget = load(hurried, range(setting.together), clients=setting.clients)
        memory.append(process.memory_info().rss)
    peer = llama_cpp(source, prompts, setting)
    report(args, setting, alone=alone, together=together, budget=budget, memory=memory, peer=peer)


def report(
    args: argparse.Namespace,
    setting: Setting,
    *,
    alone: list[Load],
    together: list[Load],
    budget: Load,
    memory: list[int],
    peer: Load | None,
) -> None:
    """Print what was measured, and the claim as the last line."""
    prompts = passages(setting.together)
    every = [*alone, *together, budget]
    errors = sum(
        n for one in every for status, n in one.statuses.items() if status not in (200, 429)
    )
    mixed = sum(
        not text.startswith(prompts[number])
        for one in every
        for number, text in one.answers.items()
    )
    expected = together[0].answers
    differ = sum(alone[0].answers[n] != expected.get(n) for n in alone[0].answers)
    ratio = statistics.median(t.rate / a.rate for t, a in zip(together, alone, strict=True))
    growth = memory[-1] / memory[0] - 1
    rows = {"one at a time": alone[-1], f"{setting.clients} clients": together[-1]}
    rows[f"with {setting.budget_ms:g} ms each"] = budget
    if peer is not None:
        rows[f"llama.cpp, {setting.clients} clients"] = peer
    for name, one in rows.items():
        print(
            f"{name:28}{one.rate:8.1f} tokens/s   p95 {one.p95_ms:7.0f} ms   "
            f"statuses {dict(one.statuses)}"
        )
    print(f"errors {errors}, mixed {mixed}, differing {differ}, memory {growth:+.1%}")
    fine = not errors and not mixed and growth < 0.05
    line = {
        "claim": "32 clients in one batch get 3 times the tokens of one at a time",
        "figure": statistics.median(one.rate for one in together),
        "unit": f"tokens/s of {setting.clients} clients",
        "baseline": f"one at a time: {statistics.median(one.rate for one in alone):.1f}",
        "ratio": ratio,
        "target": TARGET,
        "ok": ratio >= TARGET and fine and budget.p95_ms <= setting.budget_ms + SLACK_MS,
        "errors": errors,
        "mixed": mixed,
        "p95_ms": together[-1].p95_ms,
        "p95_ms_with_budget": budget.p95_ms,
        "memory_growth": growth,
        "llama_cpp": None if peer is None else peer.rate,
    }
    details = {
        name: {
            "rate": one.rate,
            "p95_ms": one.p95_ms,
            "seconds": one.seconds,
            "statuses": {str(status): n for status, n in one.statuses.items()},
        }
        for name, one in rows.items()
    } | {"differing": differ, "memory": memory}
    finish(__file__, line, details, args)


def load(ask: Ask, numbers: Sequence[int], *, clients: int) -> Load:
    """Let clients send requests, each its next one when it has its answer."""
    done, waiting, lock = Load(), list(reversed(numbers)), threading.Lock()

    def client() -> None:
        while True:
            with lock:
                if not waiting:
                    return
                number = waiting.pop()
            began = time.perf_counter()
            text, tokens = "", 0
            while True:
                try:
                    text, tokens = ask(number)
                    status = 200
                except urllib.error.HTTPError as error:
                    status = error.code
                    pause = float(error.headers.get("Retry-After") or 1)
                except OSError:
                    status = 0
                with lock:
                    done.statuses[status] += 1
                if status != 429:
                    break
                time.sleep(pause)
            with lock:
                done.latencies.append(time.perf_counter() - began)
                if status == 200:
                    done.tokens += tokens
                    done.answers[number] = text

    threads = [threading.Thread(target=client) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.seconds = time.perf_counter() - began
    return done


@contextmanager
def attar_server(source: Path, setting: Setting) -> Iterator[tuple[str, psutil.Process]]:
    """`attar serve` in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "attar", "serve", str(source), "--port", str(port)]
    command += ["--rows", str(setting.clients), "--context", "512"]
    process, url = subprocess.Popen(command), f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None:
            try:
                urllib.request.urlopen(f"{url}/healthz").close()
                break
            except OSError:
                time.sleep(0.1)
        else:
            sys.exit("the server did not start")
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def llama_cpp(source: Path, prompts: Sequence[str], setting: Setting) -> Load | None:
    """The same load on llama.cpp's own server; None where it is not installed, or there is no GGUF
    file."""
    if source.suffix != ".gguf":
        return None
    try:
        import xllamacpp
    except ImportError:
        return None
    options = xllamacpp.CommonParams()
    options.model.path = str(source)
    options.n_ctx, options.n_parallel = 512 * setting.clients, setting.clients
    options.verbosity = -1
    threads = int(os.environ.get("OMP_NUM_THREADS") or psutil.cpu_count() or 1)  # as many as ours
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(options)

    def ask(number: int) -> tuple[str, int]:
        body = {"prompt": prompts[number], "n_predict": setting.tokens, "ignore_eos": True}
        body |= {"temperature": 0.8, "seed": number}
        answer = post(f"{server.listening_address}/completion", body)
        return answer["content"], answer["timings"]["predicted_n"]

    load(ask, range(2), clients=1)
    return load(ask, range(setting.together), clients=setting.clients)


def body_of(source: Path, setting: Setting) -> dict[str, Any]:
    """What all requests have in common: no text ends before its length."""
    model, tokenizer = checkpoint.load(source), checkpoint.load_tokenizer(source)
    ends = {str(token): -100 for token in stops_of(model, tokenizer)}
    return {"max_tokens": setting.tokens, "temperature": 0.8, "logit_bias": ends}


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.loads(answer.read())


def passages(count: int) -> list[str]:
    """Passages of a module of the standard library, of other lengths and all different."""
    rng, text = random.Random(0), inspect.getsource(argparse)
    starts = rng.sample(range(len(text) - 400), count)
    return [text[start : start + rng.randint(60, 300)].strip() for start in starts]


if __name__ == "__main__":
    main()
