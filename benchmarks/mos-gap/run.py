"""How much of what sharing costs the largest network does Mixture-of-Supernets win back?

A supernet of small language models is trained as a plain one, with layer-wise and with neuron-wise
mixtures, and with the controls that tell a mixture's effect from that of its start: a blend of m
random matrices is 1 / sqrt(m) as large as one of them. All variants of a seed see the same batches
and the same draws of networks. Figure: share of the gap between inherited and standalone loss of
the largest network that the better mixture closes at equal effective scale, in percent. Every
training is kept, and a second call goes on.
"""

import json
import logging
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common import finish, kept_rows, parse, spread
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from attar import artefacts
from attar.arch import Arch, Space
from attar.data.sources import Windows
from attar.data.text import load_text
from attar.data.tokens import pack, train_bpe
from attar.methods.mixture_of_supernets import MixtureConfig, mixture_of_supernets
from attar.search.controls import split_space, widened
from attar.search.elastic_losses import LanguageModelling
from attar.search.elastic_training import Sandwich, SupernetConfig
from attar.search.supernet import Draws, Supernet
from attar.train.trainer import cross_entropy, fit

TARGET, SEEDS, NETWORKS = 50.0, (0, 1, 2), 12
CONTEXT, VOCABULARY, HELD_OUT = 64, 1024, 512
SPACE = Space(
    (4,),
    (16, 32, 48, 64),
    (4,),
    (64, 128, 256),
    head_dim=(16,),
    per_layer=("intermediate_size",),
)
TRAINING = SupernetConfig(
    max_steps=800,
    per_device_train_batch_size=16,
    learning_rate=3e-3,
    lr_scheduler_type="cosine",
    warmup_steps=50,
    weight_decay=0.1,
    adam_beta2=0.95,
    n_random=1,
    grad_reduce="mean",
    context=CONTEXT,
    logging_steps=10_000,
    save_steps=10_000,
)
SHRINK = 1 / math.sqrt(2)
RANDOM = MixtureConfig(init="random")
PLAIN = replace(RANDOM, experts=1)


@dataclass(frozen=True)
class Variant:
    """A way to train the supernet.

    Attributes:
        mixture: experts and routers.
        wider: the feed-forward networks have as many more parameters as the experts and routers of
            a neuron-wise mixture.
        parts: supernets that the space is split into.
        scale: what the feed-forward weights of a network start with, against those of the plain
            supernet.
    """

    mixture: MixtureConfig = PLAIN
    wider: bool = False
    parts: int = 1
    scale: float = 1.0


VARIANTS = {
    "plain": Variant(),
    "plain, smaller start": Variant(replace(PLAIN, init_scale=SHRINK), scale=SHRINK),
    "layer-wise": Variant(replace(RANDOM, router="layer"), scale=SHRINK),
    "layer-wise, full start": Variant(replace(RANDOM, router="layer", init_scale=1 / SHRINK)),
    "neuron-wise": Variant(RANDOM, scale=SHRINK),
    "neuron-wise, full start": Variant(replace(RANDOM, init_scale=1 / SHRINK)),
    "fixed halves, full start": Variant(replace(RANDOM, router="none", init_scale=1 / SHRINK)),
    "neuron-wise, identical copies": Variant(MixtureConfig(init_noise=0.0)),
    "wider": Variant(wider=True),
    "two supernets": Variant(parts=2),
}
#: mixtures, and the plain supernet whose feed-forward weights start as large
MATCHED = {
    "layer-wise": "plain, smaller start",
    "neuron-wise": "plain, smaller start",
    "layer-wise, full start": "plain",
    "neuron-wise, full start": "plain",
}
QUICK = ("plain", "neuron-wise, full start")


@cache
def text(data: Path) -> tuple[Windows, Tensor]:
    """Windows to train on, and held-out ones (N, T)."""
    documents = load_text(data / "books")
    train = documents["train"].select(range(min(400, len(documents["train"]))))
    words = train_bpe(train, vocab_size=VOCABULARY, context=CONTEXT)
    windows, held_out = (
        pack(some, words, context=CONTEXT) for some in (train, documents["validation"])
    )
    chosen = torch.randperm(len(held_out), generator=torch.manual_seed(0))[:HELD_OUT]
    return Windows(windows), torch.tensor(held_out.select(chosen.tolist())["input_ids"])


def parent(seed: int) -> PreTrainedModel:
    """A small Llama with random weights."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=16,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


@torch.no_grad()
def loss_of(run: Callable[..., Any], held_out: Tensor) -> float:
    """Nats per token."""
    losses = [
        cross_entropy(run(input_ids=ids, use_cache=False).logits[:, :-1], ids[:, 1:])
        for ids in held_out.split(64)
    ]
    return float(torch.cat(losses).mean())


def networks() -> list[Arch]:
    """The largest, the smallest, and the random ones that all variants are scored on."""
    rng = random.Random(0)
    return [SPACE.largest, SPACE.smallest, *(SPACE.sample(rng) for _ in range(NETWORKS))]


def train(space: Space, variant: Variant, seed: int, data: Path, *, steps: int) -> Supernet:
    """One supernet; a space of one network is a network alone."""
    model, config = parent(seed), replace(TRAINING, max_steps=steps, seed=seed)
    if variant.wider:
        mixed = mixture_of_supernets(parent(seed), SPACE, config=RANDOM)
        extra = sum(p.numel() for p in mixed.providers.parameters())
        model, space = widened(model, space, extra=extra, seed=seed)
    net = mixture_of_supernets(model, space, config=replace(variant.mixture, seed=seed))
    draws = Draws(space, config.sampling, n_random=config.n_random, seed=seed)
    sandwich = Sandwich(net, draws, LanguageModelling(net, "causal"), reduce=config.grad_reduce)
    windows, _ = text(data)
    fit(
        model,
        windows,
        config=config,
        compute=sandwich,
        prepare=sandwich.prepare,
        auxiliary=net.providers,
    )
    return net.eval()


def measure(name: str, seed: int, data: Path, *, steps: int) -> dict[str, Any]:
    """Losses of the networks of one variant, in their order; alone: of the first two."""
    _, held_out = text(data)
    began = time.perf_counter()
    if name == "alone":
        nets = [(only(arch), PLAIN) for arch in networks()[:2]]
        trained = [train(space, Variant(), seed, data, steps=steps) for space, _ in nets]
        losses = [loss_of(net.extract(net.space.largest), held_out) for net in trained]
        return {"losses": losses, "seconds": time.perf_counter() - began}
    variant = VARIANTS[name]
    spaces = split_space(SPACE, variant.parts)
    trained = [train(space, variant, seed, data, steps=steps) for space in spaces]
    losses = []
    for arch in networks():
        genes = SPACE.genes_of(arch)
        at = next(i for i, space in enumerate(spaces) if space.contains(arch))
        net = trained[at]
        member = net.space.decode(genes) if variant.wider else arch
        losses.append(loss_of(net.extract(member), held_out))
    return {"losses": losses, "seconds": time.perf_counter() - began}


def only(arch: Arch) -> Space:
    """The space of one network."""
    shape = arch.layers[0]
    hidden, head = arch.hidden_size or 0, arch.head_dim or 0
    return Space(
        (arch.num_hidden_layers,),
        (hidden,),
        (shape.num_attention_heads,),
        (shape.intermediate_size,),
        head_dim=(head,),
    )


def cells(*, quick: bool) -> Iterator[tuple[int, str]]:
    for seed in SEEDS[:1] if quick else SEEDS:
        for name in ("alone", *(QUICK if quick else VARIANTS)):
            yield seed, name


def main() -> None:
    args = parse(__doc__ or "").parse_args()
    logging.disable(logging.INFO)
    steps = 40 if args.quick else TRAINING.max_steps
    folder = artefacts.home() / "benchmarks" / "mos-gap"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{steps}.jsonl"
    known = kept_rows(file)
    for seed, name in cells(quick=args.quick):
        if (cell := f"{seed} {name}") in known:
            continue
        known[cell] = {"cell": cell} | measure(name, seed, args.data, steps=steps)
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(known[cell]) + "\n")
        losses = " ".join(f"{loss:.3f}" for loss in known[cell]["losses"][:2])
        print(f"{cell}: {losses} in {known[cell]['seconds']:.0f} s", flush=True)
    report(known, args, steps)


def report(known: dict[str, dict[str, Any]], args: Any, steps: int) -> None:
    """Print the table, and write the result."""
    rows: dict[str, list[list[float]]] = {}
    for seed, name in cells(quick=args.quick):
        rows.setdefault(name, []).append(known[f"{seed} {name}"]["losses"])
    table = {}
    for name, runs in rows.items():
        columns = {"largest": [r[0] for r in runs], "smallest": [r[1] for r in runs]}
        if name != "alone":
            columns["random"] = [statistics.mean(r[2:]) for r in runs]
        table[name] = columns
        print(f"{name:32}" + "  ".join(f"{key} {spread(v)}" for key, v in columns.items()))

    def closed(name: str, baseline: str) -> list[float]:
        """Per seed, the share of the largest network's gap that a variant closes, in percent."""
        plain, mixed, alone = (table[row]["largest"] for row in (baseline, name, "alone"))
        return [100 * (p - m) / (p - a) for p, m, a in zip(plain, mixed, alone, strict=True)]

    matched = {m: closed(m, p) for m, p in MATCHED.items() if m in table and p in table}
    naive = {n: closed(n, "plain") for n in table if n not in ("plain", "alone")}
    for name, shares in naive.items():
        print(f"{name:32} closes {spread(shares)}% of the plain supernet's gap")
    for name, shares in matched.items():
        print(f"{name:32} closes {spread(shares)}% at equal scale ({MATCHED[name]})")
    full = {n: s for n, s in matched.items() if MATCHED[n] == "plain"}
    best = max(full, key=lambda n: statistics.mean(full[n]))
    figure = statistics.mean(full[best])
    line = {
        "claim": "mos-gap",
        "figure": round(figure, 1),
        "unit": f"% of the largest network's gap closed by {best.partition(',')[0]} mixtures",
        "baseline": "a plain supernet of equal effective scale",
        "ratio": round(figure / TARGET, 3),
        "target": TARGET,
        "naive": {name: round(statistics.mean(s), 1) for name, s in naive.items()},
        "ok": bool(figure >= TARGET),
    }
    finish(__file__, line, {"rows": table, "steps": steps, "matched": matched}, args)


if __name__ == "__main__":
    main()
