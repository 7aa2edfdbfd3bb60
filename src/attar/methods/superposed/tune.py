"""Options that suit a model, a store and a kind of text: they differ from one to another.

The weights of the n-grams are those under which the n-grams alone give held-out text the highest
probability, by expectation maximisation, scaled to 0.5 together as in the paper. Then alpha and
temperature are tried on a grid, and beside it the options as they were; the best are those whose
drafts the model finds likeliest on the whole, as in appendix B.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from attar import artefacts, checkpoint
from attar.decode.ngram_evaluation import WHOLE, likeliest_weights
from attar.decode.ngrams import NGrams, NGramStore, StoredNGrams
from attar.errors import ConfigError, require
from attar.foreign import read_json
from attar.methods.superposed.config import SuperposedConfig
from attar.methods.superposed.writer import DraftWriter
from attar.models import inference
from attar.runtime import Bar

logger = logging.getLogger(__name__)

#: positions of held-out text that weights are fitted to, at most
_POSITIONS = 4000
FILE = "superposed.json"
#: what is tuned
_TUNED = ("alpha", "temperature", "lambdas")


@dataclass(frozen=True)
class Trial:
    """Options that were tried.

    Attributes:
        alpha: weight of the n-grams.
        temperature: tau.
        lambdas: weights of n-grams by their length.
        nll: negative log-likelihood per token of the drafts under the model, mean of all.
        best_nll: the same of the best draft of each prompt.
    """

    alpha: float
    temperature: float
    lambdas: tuple[float, ...]
    nll: float
    best_nll: float


@dataclass(frozen=True)
class Tuning:
    """What was found.

    Attributes:
        config: the options, with the best ones in their place.
        trials: all that were tried, the best first.
        hashes: of the model, its tokenizer and the store.
    """

    config: SuperposedConfig
    trials: tuple[Trial, ...]
    hashes: dict[str, str | None]

    def save(self, folder: str | Path) -> Path:
        """Write `superposed.json` into a folder."""
        path = artefacts.expanded(folder) / FILE
        artefacts.make_folder(path.parent)
        artefacts.write_text(path, json.dumps(asdict(self), indent=2) + "\n")
        return path


def tuned(folder: str | Path) -> SuperposedConfig:
    """The options that `Tuning.save` wrote into a folder.

    Raises:
        DataError: there are none, or they cannot be read.
        ConfigError: one is of another version, or out of range.
    """
    return _read(folder)[0]


def tuned_for(
    model: PreTrainedModel, store: StoredNGrams | None, *, config: SuperposedConfig
) -> SuperposedConfig:
    """`config` with what the folder of the store holds for this model, where an option is as it is
    by default; the same where there is nothing, or `config.tuned` is off.

    Raises:
        DataError: tuned options cannot be read.
        ConfigError: one is of another version, or out of range.
    """
    if not (config.tuned and isinstance(store, NGramStore) and (store.folder / FILE).is_file()):
        return config
    found, hashes = _read(store.folder)
    known = {"model": checkpoint.fingerprint(model), "store": _hash(store)}
    if others := [name for name, value in known.items() if hashes.get(name) != value]:
        logger.warning(
            "%s was tuned for another %s and is left out; tune again with attar ngrams search",
            store.folder / FILE,
            others[0],
        )
        return config
    usual = SuperposedConfig()
    unset = [name for name in _TUNED if getattr(config, name) == getattr(usual, name)]
    chosen: dict[str, Any] = {name: getattr(found, name) for name in unset}
    return replace(config, **chosen)


def _read(folder: str | Path) -> tuple[SuperposedConfig, dict[str, Any]]:
    """Options and hashes."""
    stored = read_json(artefacts.expanded(folder) / FILE, "tuned options")
    given, hashes = (
        (stored.get(name) if isinstance(stored, dict) else None) or {}
        for name in ("config", "hashes")
    )
    known = {field.name for field in fields(SuperposedConfig)}
    require({*given} <= known and bool(given), FILE, sorted({*given} - known), "known options")
    plain: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()}
    return SuperposedConfig(**plain), dict(hashes)


def tune(
    writer: DraftWriter,
    texts: Sequence[str | Sequence[int]],
    *,
    alphas: Sequence[float] = (0.1, 0.25, 0.4, 0.54, 0.65),
    temperatures: Sequence[float] = (0.04, 0.06, 0.1, 0.2),
    prompt_tokens: int = 15,
    batch_size: int = 8,
) -> Tuning:
    """Fit the weights of the n-grams, and try pairs of alpha and temperature with them, and the
    writer's own options, which stay if nothing is better.

    Args:
        writer: a `SuperposedDecoder` with a store.
        texts: held-out text or its token ids, of which no model and no store saw anything: 100 to
            500 of them. The first tokens of each are a prompt, and all of them are what weights are
            fitted to.
        alphas: to be tried.
        temperatures: to be tried.
        prompt_tokens: of a prompt.
        batch_size: prompts per forward pass.

    Raises:
        ConfigError: there is no store, or no text that is long enough.
    """
    if writer.store is None:
        raise ConfigError("tune fits n-grams to a model; give the decoder a store")
    words = writer.words.tokenizer
    ids = [
        list(words(text, add_special_tokens=False)["input_ids"] if isinstance(text, str) else text)
        for text in texts
    ]
    prompts = [row[:prompt_tokens] for row in ids if len(row) >= prompt_tokens]
    require(bool(prompts), "texts", len(texts), f"some of at least {prompt_tokens} tokens")
    weights = fit_lambdas(writer.store, ids, orders=len(writer.config.lambdas))
    own = replace(writer.config, min_hit_rate=0.0)  # held-out text may be of another domain
    fitted = replace(own, lambdas=weights)
    grid = [replace(fitted, alpha=a, temperature=tau) for a in alphas for tau in temperatures]
    trials = [
        trial(writer, prompts, config=config, batch_size=batch_size)
        for config in Bar([own, *grid], desc="options", unit="trial")
    ]
    trials.sort(key=lambda one: one.nll)
    chosen: dict[str, Any] = {name: getattr(trials[0], name) for name in _TUNED}
    return Tuning(replace(writer.config, **chosen), tuple(trials), _hashes(writer))


def fit_lambdas(store: NGrams, texts: Sequence[Sequence[int]], *, orders: int) -> tuple[float, ...]:
    """The weights of n-grams of each length that make texts likeliest, scaled.

    Args:
        store: n-grams.
        texts: token ids.
        orders: how many lengths, from 2 on; of as many as the store has.

    Raises:
        ConfigError: the store knows none of the texts.
    """
    orders = min(orders, store.order - 1)
    places = [(row, i) for row in texts for i in range(1, len(row))]
    step = max(1, len(places) // _POSITIONS)
    found = [
        store.probabilities(row[max(0, i - store.order + 1) : i], [row[i]])[:orders, 0]
        for row, i in places[::step]
    ]
    given = np.array([one for one in found if one.any()]).reshape(-1, orders)
    require(len(given) > 0, "texts", len(texts), "some of which the store knows anything")
    return tuple(float(one) for one in WHOLE * likeliest_weights(given))


def trial(
    writer: DraftWriter, prompts: Sequence[list[int]], *, config: SuperposedConfig, batch_size: int
) -> Trial:
    """How likely the model finds the drafts of some prompts, written with these options."""
    everything, best = [], []
    for start in range(0, len(prompts), batch_size):
        read = [writer.prompt(one) for one in prompts[start : start + batch_size]]
        reader = writer.reader(len(read))
        rows, _ = writer.search(reader, read, config=config)
        drafts = [[draft.tokens for draft in row.finished + row.alive] for row in rows]
        with inference(writer.model):
            sums = reader.log_probs(drafts)
        for tokens, scores in zip(drafts, sums, strict=True):
            means = [-one / len(t) for one, t in zip(scores, tokens, strict=True)]
            everything += means
            best.append(min(means))
    nll = float(np.mean(everything))
    return Trial(config.alpha, config.temperature, config.lambdas, nll, float(np.mean(best)))


def _hashes(writer: DraftWriter) -> dict[str, str | None]:
    return {
        "model": checkpoint.fingerprint(writer.model),
        "tokenizer": checkpoint.tokenizer_fingerprint(writer.words.tokenizer),
        "store": _hash(writer.store) if isinstance(writer.store, NGramStore) else None,
    }


def _hash(store: NGramStore) -> str:
    """Of a store: its description, which has a checksum of each file."""
    described = json.dumps(store.meta, sort_keys=True, default=str)
    return hashlib.sha256(described.encode()).hexdigest()[:16]
