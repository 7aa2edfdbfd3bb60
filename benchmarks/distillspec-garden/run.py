"""Do the gains of a smaller target and of a draft multiply?

Ratio: tokens a second of the distilled half-depth target with a draft of its own, over those of the
large target alone; greedy, batch 1, in turns. Beside it what each step costs in bits per byte.
"""

import logging
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common import arguments, finish, parent
from grown import grow

from attar import artefacts, checkpoint
from attar.data.data import STDLIB
from attar.data.prompts import load_prompts
from attar.data.text import load_text
from attar.decode.race import generate_one, race
from attar.decode.settings import SpecConfig
from attar.evaluation.likelihood import score
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.distillspec.start import init_draft
from attar.train.heal import HealConfig, heal
from drafts import draft_of

PRODUCT, WORSE = 3.0, 0.02
PROMPT, NEW = 64, 96
LENGTHS = (3, 5)  # of drafts; the cost model runs too
NEURONS = 6400
#: layers of the two targets as they are timed; the small one has half as many
LARGE, SMALL = 24, 12


def main() -> None:
    args = arguments(__doc__ or "")
    logging.disable(logging.INFO)
    torch.set_num_threads(2)
    large = parent("1m" if args.quick else "6m")
    steps = 20 if args.quick else 1200
    small, longer = distilled(large, steps=steps), trained_on(large, steps=steps)
    config = DistillSpecConfig(
        max_steps=20 if args.quick else 600,
        max_new_tokens=32 if args.quick else 64,
        eval_prompts=16 if args.quick else 64,
        temperature=0.0,
    )
    documents = load_text(STDLIB)["test"]
    tokenizer = checkpoint.load_tokenizer(large)
    found = load_prompts(STDLIB, tokenizer, prompt_tokens=PROMPT, completion_tokens=NEW)["test"]
    few = 2 if args.quick else 8
    prompts = [list(found[i * len(found) // few].ids) for i in range(few)]
    scored = 20_000 if args.quick else None
    bars: dict[str, dict[str, Any]] = {}
    for name, folder, layers in (("large", large, LARGE), ("small", small, SMALL)):
        model = checkpoint.load(folder)
        quality = score(model, tokenizer, documents=documents, eval_tokens=scored)
        target = grow(model, layers=layers, neurons=512 if args.quick else NEURONS)
        bars[name] = {
            "params": model.num_parameters(),
            "timed_params": target.num_parameters(),
            "bits_per_byte": quality.bits_per_byte,
            "races": {},
        }
        draft = checkpoint.load(draft_of(folder, STDLIB, config=config))
        policies = [SpecConfig(policy="constant", draft_tokens=length) for length in LENGTHS]
        races = race(
            target,
            draft,
            prompts=prompts,
            policies=[*policies, SpecConfig()],
            temperature=0.0,
            max_new_tokens=NEW,
            rounds=1 if args.quick else 3,
        )
        for one in races:
            bars[name]["races"][one.policy] = {
                "speedup": one.speedup,
                "tau": one.block_efficiency,
                "equal": one.equal,
            }
        bars[name]["target"] = target
    rates = plain_rates([bars[name].pop("target") for name in bars], prompts)
    for name, rate in zip(bars, rates, strict=True):
        gain = max(one["speedup"] for one in bars[name]["races"].values())
        bars[name] |= {"rate": rate, "with_draft": rate * gain, "gain": gain}
        print(
            f"{name}: {bars[name]['timed_params'] / 1e6:.0f}M, {rate:.1f} tokens/s, with its draft "
            f"{rate * gain:.1f} ({gain:.2f}), bits per byte {bars[name]['bits_per_byte']:.4f}"
        )
    product = bars["small"]["with_draft"] / bars["large"]["rate"]
    worse = bars["small"]["bits_per_byte"] / bars["large"]["bits_per_byte"] - 1
    as_long = score(
        checkpoint.load(longer), tokenizer, documents=documents, eval_tokens=scored
    ).bits_per_byte
    print(f"large, trained as long as the small one: bits per byte {as_long:.4f}")
    worse_than_as_long = bars["small"]["bits_per_byte"] / as_long - 1
    halved = bars["small"]["rate"] / bars["large"]["rate"]
    line = {
        "claim": "distillspec-garden",
        "figure": round(bars["small"]["with_draft"], 1),
        "unit": "tokens/s of the distilled half-depth target with its draft",
        "baseline": f"the large target alone: {bars['large']['rate']:.1f}",
        "ratio": round(product, 3),
        "target": PRODUCT,
        "worse": round(worse, 4),
        "worse_target": WORSE,
        "worse_than_trained_as_long": round(worse_than_as_long, 4),
        "ok": bool(product >= PRODUCT and max(worse, worse_than_as_long) < WORSE),
        "note": (
            f"bits per byte {worse:+.1%}, and {worse_than_as_long:+.1%} beside the large one "
            f"trained for as many steps more (target of both under {WORSE:+.0%}); "
            f"half the depth alone {halved:.2f} times the large one, the large one with its draft "
            f"{bars['large']['gain']:.2f}, the small one with its own {bars['small']['gain']:.2f} "
            "times itself."
        ),
    }
    details = {"bars": bars, "trained_as_long": as_long, "prompts": few, "new_tokens": NEW}
    finish(__file__, line, details, args)


def distilled(large: Path, *, steps: int) -> Path:
    """Every other layer of the large model, healed by what it says of its text."""
    home = artefacts.home() / "benchmarks" / "drafts"
    cut, folder = home / f"{large.name}-half-cut", home / f"{large.name}-half-{steps}"
    if not (cut / "attar.json").exists():
        layers = checkpoint.load(large).config.num_hidden_layers
        init_draft(large, layers=-(-layers // 2), output_dir=cut)
    if not (folder / "attar.json").exists():
        config = HealConfig(max_steps=steps, learning_rate=1e-3, teacher_cache="none")
        heal(cut, teacher=large, data=STDLIB, config=config, output_dir=folder, resume=True)
    return folder


def trained_on(large: Path, *, steps: int) -> Path:
    """The large model, trained on its text for as many steps as the small one."""
    home = artefacts.home() / "benchmarks" / "drafts"
    folder = home / f"{large.name}-longer-{steps}"
    if not (folder / "attar.json").exists():
        config = HealConfig(
            max_steps=steps, learning_rate=1e-3, kl_weight=0.0, teacher_cache="none"
        )
        heal(large, teacher=None, data=STDLIB, config=config, output_dir=folder, resume=True)
    return folder


def plain_rates(targets: list[Any], prompts: list[list[int]]) -> list[float]:
    """Tokens a second of plain decoding, in turns."""
    seconds = [0.0] * len(targets)
    tokens = [0] * len(targets)
    for turn in range(3):
        for prompt in prompts:
            for i, target in enumerate(targets):
                found = generate_one(target, prompt, temperature=0.0, tokens=NEW)
                if turn:  # the first round warms up
                    seconds[i] += found.seconds
                    tokens[i] += len(found.ids)
    return [t / s for t, s in zip(tokens, seconds, strict=True)]


if __name__ == "__main__":
    main()
