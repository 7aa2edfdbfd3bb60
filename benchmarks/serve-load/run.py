"""Does the server stand up to 32 clients, and what do they gain from one batch?

Ratio: tokens a second of 32 clients over those of the same requests one at a time, on SmolLM2.
"""

import argparse
import http.client
import inspect
import itertools
import json
import random
import statistics
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common import finish, parse
from serving import metric, serving
from smollm2 import smollm2

from attar import checkpoint
from attar.decode.pair import stops_of

TARGET = 3.0
HEADERS = {"Content-Type": "application/json"}
SLACK_MS = 1000.0
"""A budget of time may be exceeded by this much: a step is not interrupted."""


@dataclass(frozen=True)
class Setting:
    """How much is asked."""

    clients: int = 32
    alone: int = 12  # requests of a round that one client sends
    together: int = 128  # that all of them send
    tokens: int = 32
    context: int = 512
    rounds: int = 3
    budget_ms: float = 4000

    @property
    def crowd(self) -> int:
        """Clients that come at once, of whom some must come back: twice the rows and the queue."""
        return 4 * self.clients

    @property
    def prompts(self) -> int:
        """All of them: no request of a measured load finds its prompt in the cache."""
        return self.rounds * (self.alone + self.together) + self.together + 2


QUICK = Setting(clients=8, alone=2, together=16, tokens=6, rounds=1, budget_ms=1500)


@dataclass
class Load:
    """What became of requests."""

    asked: int
    seconds: float = 0.0
    tokens: int = 0
    answers: dict[int, str] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds

    @property
    def lost(self) -> int:
        """Requests without an answer."""
        return self.asked - len(self.answers)

    @property
    def errors(self) -> int:
        """Answers other than the texts and the wish to come back."""
        return sum(n for status, n in self.statuses.items() if status not in (200, 429))

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
    prompts, tokenizer = passages(setting.prompts), checkpoint.load_tokenizer(source)
    alone, together, memory = [], [], []
    rows = str(setting.clients)
    options = ("--rows", rows, "--queue", rows, "--context", str(setting.context))
    with serving(source, *options) as (url, process):
        body = body_of(source, setting)

        def ask(number: int, **more: Any) -> tuple[str, int]:
            sent = body | {"prompt": prompts[number], "seed": number} | more
            answer = post(f"{url}/v1/completions", sent)
            return answer["choices"][0]["text"], answer["usage"]["completion_tokens"]

        fresh = iter(range(setting.prompts))

        def take(count: int) -> list[int]:
            return [next(fresh) for _ in range(count)]

        # the cache grows with the longest text: here it gets the size that it may have
        ask(0, prompt=[0] * (setting.context - 1), max_tokens=1)
        load(ask, take(2), clients=1)  # the first requests warm up
        for _ in range(setting.rounds):
            alone.append(load(ask, take(setting.alone), clients=1))
            together.append(load(ask, take(setting.together), clients=setting.clients))
            memory.append(process.memory_info().rss)
        again = load(ask, list(alone[0].answers), clients=setting.clients)

        def hurried(number: int) -> tuple[str, int]:
            return ask(number, time_budget_ms=setting.budget_ms)

        budget = load(hurried, take(setting.together), clients=setting.clients)
        marks = marks_of(tokenizer, setting.crowd)

        def marked(number: int) -> tuple[str, int]:
            more = {"logit_bias": {str(marks[number]): 100}, "max_tokens": length(number)}
            return ask(number, **more)

        with leaving(url, body | {"prompt": prompts[0], "max_tokens": 400}):
            crowd = load(marked, range(setting.crowd), clients=setting.crowd)
        time.sleep(2)
        left = metric(url, "attar_texts_live")  # when all clients are gone
        memory.append(process.memory_info().rss)
    mixed = sum(
        text != tokenizer.decode([marks[number]] * length(number))
        for number, text in crowd.answers.items()
    )
    found = {
        "lost": sum(one.lost for one in (*alone, *together, again, budget, crowd)),
        "errors": sum(one.errors for one in (*alone, *together, again, budget, crowd)),
        "mixed": mixed,
        "short": sum(
            one.tokens != len(one.answers) * setting.tokens for one in (*alone, *together, again)
        ),
        "left": left,
        "differing": sum(again.answers.get(n) != text for n, text in alone[0].answers.items()),
        "memory_growth": memory[-1] / memory[0] - 1,
    }
    loads = {
        "one at a time": alone,
        f"{setting.clients} clients": together,
        f"with {setting.budget_ms:g} ms each": [budget],
        f"{setting.crowd} at once": [crowd],
    }
    if (peer := llama_cpp(source, prompts, setting)) is not None:
        loads[f"llama.cpp, {setting.clients} clients"] = [peer]
    report(args, setting, loads=loads, found=found, memory=memory)


def report(
    args: argparse.Namespace,
    setting: Setting,
    *,
    loads: Mapping[str, list[Load]],
    found: Mapping[str, float],
    memory: list[int],
) -> None:
    """Print what was measured, and the claim as the last line."""
    for name, rounds in loads.items():
        one = rounds[-1]
        print(
            f"{name:28}{one.rate:8.1f} tokens/s   p95 {one.p95_ms:7.0f} ms   "
            f"statuses {dict(one.statuses)}"
        )
    print(", ".join(f"{name} {value:g}" for name, value in found.items()))
    alone, together, (budget,), _, *peers = loads.values()
    ratio = statistics.median(t.rate / a.rate for t, a in zip(together, alone, strict=True))
    sound = not any(found[name] for name in ("lost", "errors", "mixed", "short", "left"))
    line = {
        "claim": "serve-load",
        "figure": statistics.median(one.rate for one in together),
        "unit": f"tokens/s of {setting.clients} clients",
        "baseline": f"one at a time: {statistics.median(one.rate for one in alone):.1f}",
        "ratio": ratio,
        "target": TARGET,
        "ok": ratio >= TARGET
        and sound
        and found["memory_growth"] < 0.05
        and budget.p95_ms <= setting.budget_ms + SLACK_MS,
        **found,
        "p95_ms": together[-1].p95_ms,
        "p95_ms_with_budget": budget.p95_ms,
        "llama_cpp": peers[0][0].rate if peers else None,
    }
    details = {
        name: {
            "rates": [one.rate for one in rounds],
            "p95_ms": rounds[-1].p95_ms,
            "seconds": rounds[-1].seconds,
            "statuses": {str(status): n for status, n in rounds[-1].statuses.items()},
        }
        for name, rounds in loads.items()
    } | {"memory": memory}
    finish(__file__, line, details, args)


def length(number: int) -> int:
    """Tokens of a marked answer."""
    return 3 + number % 5


def marks_of(tokenizer: Any, count: int) -> list[int]:
    """Tokens that no two requests share: an answer that was mixed up shows another's."""
    words = (t for t in range(1000, len(tokenizer)) if tokenizer.decode([t]).strip().isalpha())
    return list(itertools.islice(words, count))


@contextmanager
def leaving(url: str, body: dict[str, Any]) -> Iterator[None]:
    """Beside the load, clients that go away in the middle of their streams."""
    done = threading.Event()
    where = urllib.parse.urlsplit(url).netloc
    sent = json.dumps(body | {"stream": True})

    def leave() -> None:
        while not done.is_set():
            connection = http.client.HTTPConnection(where, timeout=60)
            with suppress(OSError, http.client.HTTPException):
                connection.request("POST", "/v1/completions", sent, HEADERS)
                connection.getresponse().readline()
            connection.close()
            time.sleep(0.2)

    thread = threading.Thread(target=leave)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def load(ask: Ask, numbers: Sequence[int], *, clients: int) -> Load:
    """Let clients send requests, each its next one when it has its answer."""
    done, waiting, lock = Load(len(numbers)), list(reversed(numbers)), threading.Lock()

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
                except (OSError, http.client.HTTPException, ValueError, KeyError):
                    status = 0  # no answer, or none that can be read
                with lock:
                    done.statuses[status] += 1
                if status != 429:
                    break
                time.sleep(pause)
            with lock:
                if status == 200:
                    done.latencies.append(time.perf_counter() - began)
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
    threads = torch.get_num_threads()  # as many as ours
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(options)

    def ask(number: int) -> tuple[str, int]:
        body = {"prompt": prompts[number], "n_predict": setting.tokens, "ignore_eos": True}
        body |= {"temperature": 0.8, "seed": number, "samplers": ["temperature"]}  # as ours
        answer = post(f"{server.listening_address}/completion", body)
        return answer["content"], answer["timings"]["predicted_n"]

    load(ask, range(2), clients=1)
    return load(ask, range(2, 2 + setting.together), clients=setting.clients)


def body_of(source: Path, setting: Setting) -> dict[str, Any]:
    """What all requests have in common: no text ends before its length."""
    model, tokenizer = checkpoint.load(source), checkpoint.load_tokenizer(source)
    ends = {str(token): -100 for token in stops_of(model, tokenizer)}
    return {"max_tokens": setting.tokens, "temperature": 0.8, "logit_bias": ends}


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), HEADERS)
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.loads(answer.read())


def passages(count: int) -> list[str]:
    """Passages of a module of the standard library, of other lengths and all different."""
    rng, text = random.Random(0), inspect.getsource(argparse)
    starts = rng.sample(range(len(text) - 400), count)
    return [text[start : start + rng.randint(60, 300)].strip() for start in starts]


if __name__ == "__main__":
    main()
