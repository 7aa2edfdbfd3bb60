"""Translation under a latency budget: are networks of Mixture-of-Supernets better as they are?

English to German on Multi30k, in a space like that of HAT: widths of encoder and decoder, and for
every layer feed-forward width, heads, and encoder layers attended to. Supernets are trained as HAT
trains them (one random network a step, three times the steps, so that both see as many networks),
as a plain sandwich, and as a sandwich of layer-wise and neuron-wise mixtures. Then an evolutionary
search finds the best network within each of three latency budgets on this machine. Figure: BLEU of
the networks as they are, with inherited weights, over HAT's, mean of the budgets. Supernets and
searches are kept, and a second call goes on.
"""

import gzip
import json
import logging
import math
import random
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common import finish, parse
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from attar import artefacts
from attar.arch import Arch, Space
from attar.data.pairs import Pairs
from attar.data.sources import Batch
from attar.evaluation.pairs import bleu, pair_loss, translations
from attar.measure.timing import timed
from attar.methods.mixture_of_supernets import MixtureConfig, mixture_of_supernets
from attar.portable.configuration_elastic_marian import ElasticMarianConfig
from attar.portable.modeling_elastic_marian import ElasticMarianMTModel
from attar.search.elastic_training import NetworkLoss, Sandwich, SupernetConfig
from attar.search.evolve import EvolutionConfig, evolve
from attar.search.individuals import Problem
from attar.search.latency import fit_latency
from attar.search.supernet import Draws, Supernet
from attar.train.pairs import pair_terms
from attar.train.trainer import fit

TARGET = 0.2
VOCABULARY, CONTEXT, TOKENS = 6_000, 64, 30
_OWN = ("num_attention_heads", "intermediate_size")
SPACE = Space(
    (2,),
    (96, 128),
    (2, 4),
    (128, 256, 512),
    attention_size=(128,),
    per_layer=_OWN,
    decoder=Space(
        (1, 2),
        (96, 128),
        (2, 4),
        (128, 256, 512),
        attention_size=(128,),
        cross_attention_heads=(2, 4),
        cross_attention_span=(1, 2),
        per_layer=(*_OWN, "cross_attention_heads", "cross_attention_span"),
    ),
)
TRAINING = SupernetConfig(
    max_steps=1_250,
    per_device_train_batch_size=64,
    learning_rate=2e-3,
    lr_scheduler_type="cosine",
    warmup_steps=100,
    weight_decay=0.0,
    adam_beta2=0.98,
    n_random=1,
    grad_reduce="mean",
    context=CONTEXT,
    logging_steps=10_000,
    save_steps=250,
)
SMOOTHING = 0.1  # as in HAT
RANDOM = MixtureConfig(init="random", init_scale=math.sqrt(2))
#: as large a start for all, so that a mixture's effect is not that of its start
VARIANTS = {
    "HAT": MixtureConfig(experts=1),
    "HAT, equal updates": MixtureConfig(experts=1),
    "plain sandwich": MixtureConfig(experts=1),
    "layer-wise": replace(RANDOM, router="layer"),
    "neuron-wise": RANDOM,
}
SEARCH = EvolutionConfig(population=40, parents=10, mutations=15, crossovers=15, iterations=8)
MEASURED, BUDGETS = 120, (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Material:
    """Texts and their tokenizer."""

    words: PreTrainedTokenizerBase
    train: Pairs
    validation: Pairs
    test: tuple[list[str], list[str]]


def lines(data: Path, split: str, language: str) -> list[str]:
    file = data / "multi30k" / f"{split}.{language}.gz"
    return gzip.open(file, "rt", encoding="utf-8").read().splitlines()


@cache
def material(data: Path) -> Material:
    sources, targets = lines(data, "train", "en"), lines(data, "train", "de")
    model = Tokenizer(models.BPE(unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<unk>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator([*sources, *targets], trainer)
    model.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 2)])
    words = PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
    )

    def pairs(split: str) -> Pairs:
        return Pairs(lines(data, split, "en"), lines(data, split, "de"), words, context=CONTEXT)

    test = lines(data, "test_2016_flickr", "en"), lines(data, "test_2016_flickr", "de")
    return Material(words, pairs("train"), pairs("val"), test)


def parent(words: PreTrainedTokenizerBase) -> ElasticMarianMTModel:
    """The largest network of the space, with random weights."""
    config = ElasticMarianConfig(
        vocab_size=len(words),
        encoder_hidden_size=128,
        decoder_hidden_size=128,
        encoder_attention_size=128,
        decoder_attention_size=128,
        encoder_ffn_dim=(512,) * 2,
        encoder_attention_heads=(4,) * 2,
        decoder_ffn_dim=(512,) * 2,
        decoder_attention_heads=(4,) * 2,
        cross_attention_heads=(4,) * 2,
        cross_attention_span=(2,) * 2,
        pad_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=0,
    )
    torch.manual_seed(0)
    return ElasticMarianMTModel(config)


class Translation:
    """The loss of a network on a batch: cross-entropy with smoothed labels."""

    def __init__(self, net: Supernet) -> None:
        self._net = net

    def __call__(self, batch: Batch) -> NetworkLoss:
        def loss(arch: Arch) -> dict[str, Any]:
            def run(**inputs: Any) -> Any:
                return self._net(arch, **inputs)

            return pair_terms(run, batch, label_smoothing=SMOOTHING)

        return loss


def supernet(name: str, data: Path, *, steps: int, folder: Path) -> Supernet:
    """One trained supernet."""
    texts = material(data)
    model, config = parent(texts.words), replace(TRAINING, max_steps=steps)
    net = mixture_of_supernets(model, SPACE, config=VARIANTS[name], depth="first")
    if name.startswith("HAT"):
        longer = 3 if name == "HAT" else 1
        config = replace(config, max_steps=longer * steps, sampling="random", n_random=1)
    weights = folder / f"{name}.safetensors"
    if not weights.exists():
        draws = Draws(SPACE, config.sampling, n_random=config.n_random)
        sandwich = Sandwich(net, draws, Translation(net), reduce=config.grad_reduce)
        fit(
            model,
            texts.train,
            config=config,
            state_dir=folder / f"{name}-state",
            resume=True,
            compute=sandwich,
            prepare=sandwich.prepare,
            auxiliary=net.providers,
        )
        state = {key: tensor.clone() for key, tensor in net.state_dict().items()}
        save_file(state, folder / "partial")
        (folder / "partial").rename(weights)
    net.load_state_dict(load_file(weights))
    return net.eval()


def milliseconds(net: Supernet, arch: Arch, texts: Material) -> float:
    """Of one sentence translated greedily into as many tokens as HAT counts."""
    model = net.extract(arch)
    ids = texts.validation.batch([0])["input_ids"]
    options = {"num_beams": 1, "do_sample": False, "min_new_tokens": TOKENS}

    @torch.no_grad()
    def call() -> float:
        began = time.perf_counter()
        model.generate(input_ids=ids, max_new_tokens=TOKENS, **options)
        return (time.perf_counter() - began) * 1e3

    return timed(call, 5, seconds=3).median


def table(net: Supernet, texts: Material, file: Path, *, count: int) -> dict[str, list[Any]]:
    """Measured latencies of random networks, kept."""
    if not file.exists():
        rng, archs = random.Random(0), dict.fromkeys([SPACE.smallest, SPACE.largest])
        while len(archs) < count:
            archs[SPACE.sample(rng)] = None
        rows = [[SPACE.encode(arch), milliseconds(net, arch, texts)] for arch in archs]
        file.write_text(json.dumps({"rows": rows}))
    return json.loads(file.read_text())


def main() -> None:
    args = parse(__doc__ or "").parse_args()
    logging.disable(logging.INFO)
    quick = args.quick
    steps, count = (6, 12) if quick else (TRAINING.max_steps, MEASURED)
    folder = artefacts.home() / "benchmarks" / "mos-translation" / str(steps)
    folder.mkdir(parents=True, exist_ok=True)
    texts = material(args.data)
    names = ("HAT", "neuron-wise") if quick else tuple(VARIANTS)
    nets = {name: supernet(name, args.data, steps=steps, folder=folder) for name in names}
    rows = table(nets["HAT"], texts, folder / "latency.json", count=count)["rows"]
    surrogate = fit_latency([row[0] for row in rows], [row[1] for row in rows])
    print(surrogate.error)
    times = sorted(row[1] for row in rows)
    budgets = [times[int(share * (len(times) - 1))] for share in BUDGETS][: 1 if quick else None]
    held_out = texts.validation.select(range(32 if quick else 400))
    sentences = 16 if quick else len(texts.test[0])
    found: dict[str, list[dict[str, Any]]] = {}
    for name, net in nets.items():
        for budget in budgets:

            def score(arch: Arch, net: Supernet = net) -> float:
                with net.frozen(arch) as run:
                    return -pair_loss(run, held_out)

            def excess(arch: Arch, budget: float = budget) -> Mapping[str, float]:
                over = surrogate(SPACE.encode(arch)) / budget - 1
                return {"latency": over} if over > 0 else {}

            config = replace(SEARCH, population=6, parents=2, iterations=1) if quick else SEARCH
            best = evolve(
                Problem.of(SPACE, score, excess=excess),
                config,
                folder=folder / f"{name}-{budget:.1f}",
                settings={"variant": name, "budget": budget},
            ).best
            arch = SPACE.decode(best.genes)
            model = net.extract(arch)
            hypotheses = translations(model, texts.test[0][:sentences], texts.words)
            judged = bleu(hypotheses, texts.test[1][:sentences])
            found.setdefault(name, []).append(
                {
                    "budget": budget,
                    "milliseconds": milliseconds(net, arch, texts),
                    "bleu": judged.score,
                    "nats": -(best.score or 0.0),
                    "arch": arch.to_dict(),
                }
            )
            print(f"{name}, {budget:.1f} ms: BLEU {judged.score:.2f}", flush=True)
    report(found, str(surrogate.error), judged.signature, args)


def report(found: dict[str, list[dict[str, Any]]], error: str, signature: str, args: Any) -> None:
    """Print the table, and write the result."""
    mean = {name: statistics.mean(row["bleu"] for row in rows) for name, rows in found.items()}
    best = max((n for n in mean if n.endswith("-wise")), key=lambda n: mean[n])
    figure = mean[best] - mean["HAT"]
    line = {
        "claim": "mos-translation",
        "figure": round(figure, 2),
        "unit": f"BLEU of {best} mixtures over HAT's training, inherited, equal latency",
        "baseline": f"HAT: {mean['HAT']:.2f}",
        "ratio": round(figure / TARGET, 3),
        "target": TARGET,
        "means": {name: round(value, 2) for name, value in mean.items()},
        "signature": signature,
        "latency": error,
        "note": "BLEU by training, mean of the budgets: "
        + ", ".join(f"{name} {value:.1f}" for name, value in mean.items())
        + ".",
        "ok": bool(figure >= TARGET),
    }
    finish(__file__, line, {"rows": found}, args)


if __name__ == "__main__":
    main()
