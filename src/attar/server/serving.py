"""The verb `serve`."""

import logging
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.decode.continuous import Batch
from attar.decode.fim import Fim
from attar.decode.generate import Generator
from attar.decode.ngrams import NGramStore, StoredNGrams
from attar.decode.pair import stops_of
from attar.decode.settings import SpecConfig
from attar.errors import CompatibilityError, ConfigError
from attar.models import DocumentTokenizer, computed_in, computing, positions_of, require_decoder
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.server.app import PLAYGROUND, application
from attar.server.config import KEY, ServeConfig, keys_of
from attar.server.engine import Engine
from attar.server.meters import Meters
from attar.server.modes import Mode, Sampled, Speculative
from attar.server.results import Results
from attar.server.service import Service
from attar.server.superposed import Superposed
from attar.web.app import WebConfig
from attar.web.running import Server

logger = logging.getLogger(__name__)

LOCAL = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine for itself."""
USUAL_CONTEXT = 4096
"""Tokens of a text, at most, where nothing is said."""


@dataclass(frozen=True)
class Served:
    """An application with the engine behind it.

    Attributes:
        app: to be run by an ASGI server.
        service: the model.
    """

    app: FastAPI
    service: Service


def build_server(
    generator: Generator,
    *,
    name: str,
    config: ServeConfig = ServeConfig(),
    keys: Sequence[str] = (),
    store: StoredNGrams | None = None,
    modes: Sequence[Mode] = (),
) -> Served:
    """The application over a model that is loaded; its engine runs already.

    Args:
        generator: the model, with its tokenizer and perhaps a draft.
        name: of the model, for clients.
        config: how it is served.
        keys: of clients.
        store: n-grams for superposed decoding.
        modes: ways to write, besides those that the generator has.

    Raises:
        ConfigError: a mode without a draft, or a context that the model does not have.
        CompatibilityError: the model cannot be served.
    """
    model, tokenizer = generator.model, generator.tokenizer
    require_decoder(model)
    if isinstance(tokenizer, DocumentTokenizer):
        raise ConfigError(
            "the server sends text as it is generated, which the windows of this tokenizer do not "
            "allow; use attar generate"
        )
    fim = Fim.of(tokenizer)
    ends = {*stops_of(model, tokenizer), *(fim.ends if fim is not None else ())}
    ways: list[Mode] = [Sampled(), *modes]
    if generator.stats is not None and generator.decoder is not None:
        ways.append(Speculative(generator.decoder, tokenizer, ends=sorted(ends)))
    try:
        ways.append(Superposed(model, tokenizer, store=store))
    except CompatibilityError as error:
        if store is not None or config.mode == "superposed":
            raise
        logger.info("no superposed decoding: %s", error)
    by_name = {way.name: way for way in ways}
    mode = config.mode or ("speculative" if "speculative" in by_name else "sampled")
    if mode not in by_name:
        raise ConfigError(f"mode {mode} needs a draft: give --draft, or leave mode out")
    registry = CollectorRegistry()
    meters = Meters(registry)
    call: Any = tokenizer
    call("a")  # sets padding and truncation, which threads must not do at the same time
    batch = Batch(model, tokenizer, rows=config.rows, ends=ends, chunk=config.chunk)
    service = Service(
        name=config.name or name,
        created=int(time.time()),
        tokenizer=tokenizer,
        vocabulary=model.config.get_text_config(decoder=True).vocab_size,
        context=_context(model, config.context),
        engine=Engine(batch, capacity=config.rows + config.queue, rows=config.rows, meters=meters),
        modes=by_name,
        mode=mode,
        time_budget_ms=config.time_budget,
        fim=fim,
        results=Results(config.results),
        meters=meters,
    )
    web = WebConfig(
        keys=keys,
        open_paths=("/healthz", *PLAYGROUND),
        most_bytes=config.max_body,
        origins=config.cors,
        hosts=() if keys else {*LOCAL, config.host},
        otherwise="a key",
    )
    return Served(application(service, web=web, registry=registry), service)


def _context(model: PreTrainedModel, asked: int | None) -> int:
    most = positions_of(model)
    if asked is not None and most is not None and asked > most:
        raise ConfigError(f"context must be at most the model's {most} positions; found {asked}")
    return asked or min(USUAL_CONTEXT, most or USUAL_CONTEXT)


@takes_recipe("serve")
def serve(
    model: str | Path | PreTrainedModel,
    *,
    draft: str | Path | PreTrainedModel | None = None,
    store: str | Path | None = None,
    config: ServeConfig | str = ServeConfig(),
    decoding: SpecConfig = SpecConfig(),
    tokenizer: PreTrainedTokenizerBase | None = None,
    output_dir: str | Path | None = None,
    recipe: str | None = None,
) -> Run:
    """Serve a model to clients of the OpenAI API, until Ctrl-C or SIGTERM.

    Args:
        model: folder, GGUF file, Hub name or a model.
        draft: see `Generator.load`; makes speculative decoding possible.
        store: folder of n-grams that `attar ngrams train` wrote, for superposed decoding.
        config: how it is served; or the name or path of a recipe.
        decoding: how drafts are made and verified; only with a draft.
        tokenizer: None: the model's own.
        output_dir: where the record goes; None: it is only returned.
        recipe: name of the recipe that the options came from, for the record.

    Returns:
        The record: `details` says how many texts and tokens were written.

    Raises:
        ConfigError: options do not fit together, or the address is taken.
        CompatibilityError: the model cannot be served, or the draft cannot serve it.
        DataError: a model cannot be read.
    """
    config, recipe = configured(config, ServeConfig, recipe=recipe)
    keys = keys_of(config, os.environ.get(KEY))
    if draft is None and decoding != SpecConfig(seed=decoding.seed):
        raise ConfigError(
            "options of drafting need a draft: a folder, layers:N, lookup or ngrams:FOLDER"
        )
    name = checkpoint.name_of(model)
    drafter = None if draft is None else checkpoint.name_of(draft)
    open_settings = replace(config, api_key=())  # keys are written nowhere
    settings = {
        "model": name,
        "draft": drafter,
        "store": store and str(store),
        **asdict(open_settings),
    }
    settings |= {"decoding": asdict(decoding)}
    with (
        artefact(
            output_dir, command="serve", settings=settings, recipe=recipe, seed=decoding.seed
        ) as work,
        ExitStack() as stack,
    ):
        generator = Generator.load(model, draft=draft, decoding=decoding, tokenizer=tokenizer)
        for own in (model, draft):
            if isinstance(own, PreTrainedModel):
                stack.enter_context(computing(own))
        known = None if store is None else NGramStore.load(store, tokenizer=generator.tokenizer)
        served = build_server(generator, name=_short(name), config=config, keys=keys, store=known)
        engine = served.service.engine
        stack.callback(engine.join, 10)
        stack.callback(engine.stop, grace=0)
        server = Server(
            served.app,
            host=config.host,
            port=config.port,
            grace=config.grace,
            ready=lambda url: _say_ready(url, served.service),
            stopping=lambda: engine.stop(grace=config.grace),
        )
        server.serve_until_stopped()
        work.run.details = served.service.meters.totals() | {
            "computed_in": computed_in(generator.model)
        }
    return work.run


def _short(name: str) -> str:
    """A name for clients: of a path the last part, of a GGUF file without its ending."""
    last = Path(name).name if Path(name).exists() else name
    return last.removesuffix(".gguf") or "model"


def _say_ready(url: str, service: Service) -> None:
    logger.info(
        "%s is served at %s/v1 (OpenAI API), %s; Ctrl-C stops it",
        service.name,
        url,
        f"mode {service.mode}",
    )
