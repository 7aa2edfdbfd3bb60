"""A tiny model behind the server, for tests: in this process, without a socket."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi.testclient import TestClient
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

import talk
import tiny
from attar.decode.drafters import PromptLookupDrafter
from attar.decode.generate import Generator
from attar.decode.speculative import SpeculativeDecoder
from attar.server.config import ServeConfig
from attar.server.serving import Served, build_server
from attar.web.running import Server

FIM = ["<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<file_sep>"]
CONTEXT = 200


def tokenizer(*, template: str | None = talk.CHATML, fim: bool = True) -> PreTrainedTokenizerFast:
    """Of words of colours and landscapes; with tokens for fill-in-the-middle."""
    own = Tokenizer.from_str(talk.tokenizer().backend_tokenizer.to_str())
    made = PreTrainedTokenizerFast(
        tokenizer_object=own, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    made.chat_template = template
    if fim:
        made.add_special_tokens({"additional_special_tokens": FIM})
    return made


def generator(*, draft: bool = False, endless: bool = False, **options: Any) -> Generator:
    """A tiny model with its tokenizer.

    Args:
        draft: with prompt lookup as its draft.
        endless: no token ends its texts.
        options: of `tokenizer`.
    """
    words = tokenizer(**({"fim": not endless} | options))  # those end texts, too
    end = None if endless else words.eos_token_id
    model: Any = tiny.model(
        vocab_size=len(words), max_position_embeddings=256, eos_token_id=end, pad_token_id=0
    )
    if endless:
        words.eos_token = None
    drafter = SpeculativeDecoder(model, PromptLookupDrafter()) if draft else None
    return Generator(model, words, decoder=drafter)


@contextmanager
def serving(
    made: Generator | None = None,
    *,
    keys: Any = (),
    modes: Any = (),
    store: Any = None,
    **options: Any,
) -> Iterator[tuple[TestClient, Served]]:
    """The server over a model, with a client.

    Args:
        made: the model; None: a tiny one whose texts never end by themselves.
        keys: of clients.
        store: n-grams.
        modes: further ways to write.
        options: of `ServeConfig`.
    """
    config = ServeConfig(**({"context": CONTEXT, "rows": 3} | options))
    served = build_server(
        made or generator(endless=True),
        name="tiny",
        config=config,
        keys=keys,
        store=store,
        modes=modes,
    )
    where: dict[str, Any] = {"base_url": "http://localhost:8000"}
    with TestClient(served.app, raise_server_exceptions=False, **where) as client:
        yield client, served
    assert served.service.engine.join(10)


@contextmanager
def listening(made: Served, *, grace: float = 5) -> Iterator[Server]:
    """A server in a thread of this process."""
    engine, ready = made.service.engine, threading.Event()
    server = Server(
        made.app,
        host="127.0.0.1",
        port=0,
        grace=grace,
        ready=lambda url: ready.set(),
        stopping=lambda: engine.stop(grace=grace),
    )
    thread = threading.Thread(target=server.serve_until_stopped)
    thread.start()
    assert ready.wait(20)
    yield server
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()
    assert engine.join(10)


def pieces(response: Any) -> list[dict[str, Any]]:
    """The server-sent events of a response, without the mark of their end."""
    lines = [line for line in response.text.split("\n\n") if line]
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def gone_after(
    app: Any, body: dict[str, Any], *, seconds: float, check: Callable[[], None]
) -> None:
    """Post a completion, close the connection after a while, and check what became of it while the
    event loop still runs."""
    data = json.dumps(body).encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/completions",
        "raw_path": b"/v1/completions",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("testserver", 80),
    }

    async def run() -> None:
        sent = [{"type": "http.request", "body": data, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if sent:
                return sent.pop()
            await asyncio.sleep(seconds)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            await asyncio.sleep(0.01)  # here a response may be cancelled before its first piece

        await app(scope, receive, send)
        await asyncio.to_thread(check)

    asyncio.run(run())
