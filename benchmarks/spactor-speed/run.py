"""What does a step of SpacTor's first stage cost, beside one of span corruption?

Ratio: seconds of a step with the generator's logits at masked places alone over one with logits at
all places. Beside it: the step over one of span corruption, which the count of FLOPs predicts; our
step of span corruption over the loop that one would write with transformers alone, as nanoT5 has
it; and the collator, alone and in a profile of the training. Seconds are those of one thread on its
core, so that other programs on the machine matter less.
"""

import copy
import cProfile
import os
import pstats
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common import arguments, finish
from tokenizers import Tokenizer, models
from torch.nn.utils import clip_grad_norm_
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration
from turns import Turns, Way

from attar.data.sources import order
from attar.methods.spactor import FirstStage, SpacTorConfig, training_cost
from attar.methods.spactor.objective import joint_loss
from attar.train.corruption import T5SpanCorruptionCollator, text_tokens
from attar.train.span_rows import SpanRows, span_loss
from attar.train.trainer import Compute, TrainConfig, fit

TARGET = 0.9  # masked places alone over all
PREDICTED = 0.1  # how far the measured cost of the first stage may be from the counted one
PAR = 1.05  # our step of span corruption over the bare loop: on par
TOKENS = 20_000  # a second, that the collator has to reach
BOTTLENECK = 0.05  # share of a step that the collator may take
WORDS, VOCAB, SENTINELS = 32_000, 32_128, 100
RATE, CLIP, WARM = 1e-4, 1.0, 2
MASKED, ALL, SPANS, BARE = "masked places", "all places", "span corruption", "transformers alone"


@dataclass(frozen=True)
class Setting:
    """How large the model and a batch are, and how often each is measured."""

    layers: int = 6
    length: int = 512
    rows: int = 4
    steps: int = 16
    profiled: int = 10
    collated: int = 20


QUICK = Setting(layers=2, length=128, rows=4, steps=6, profiled=3, collated=5)


def tokenizer() -> PreTrainedTokenizerFast:
    """With as many words and sentinels as T5's."""
    words = ["<pad>", "</s>", *(f"w{i}" for i in range(WORDS - 2))]
    words += [f"<extra_id_{i}>" for i in reversed(range(SENTINELS))]
    known = models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="w0")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(known), pad_token="<pad>", eos_token="</s>"
    )


class Bench:
    """One T5 with random weights, random text, and the ways to train the one on the other."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        torch.manual_seed(0)
        shape: dict[str, Any] = {
            "vocab_size": VOCAB,
            "d_model": 512,
            "d_kv": 64,
            "d_ff": 1024,
            "num_heads": 8,
            "num_layers": setting.layers,
            "num_decoder_layers": setting.layers,
            "feed_forward_proj": "gated-gelu",
            "dropout_rate": 0.0,  # as T5 is pre-trained; and so all losses must agree
            "decoder_start_token_id": 0,
        }
        self.t5 = T5ForConditionalGeneration(T5Config(**shape))
        words = tokenizer()
        self.text = text_tokens(words, VOCAB)
        share = SpacTorConfig().mlm_probability
        plain, both = (
            T5SpanCorruptionCollator(words, input_length=setting.length, mask_share=s)
            for s in (0.0, share)
        )
        self.data = torch.randint(2, WORDS, (8 * setting.rows, plain.lengths.raw))
        self.plain, self.masked = (
            SpanRows(self.data, collator, model=self.t5, text=self.text)
            for collator in (plain, both)
        )

    def config(self, steps: int) -> TrainConfig:
        return TrainConfig(
            per_device_train_batch_size=self.setting.rows,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            max_grad_norm=CLIP,
            max_steps=steps,
            logging_steps=steps,
            bf16=False,
        )

    def ours(
        self,
        tick: Callable[[], None],
        *,
        logits_at: Any = None,
        steps: int | None = None,
    ) -> float:
        """By `fit`: the first stage, with the generator's logits somewhere, or span corruption."""
        t5, stage = copy.deepcopy(self.t5), None
        loss: Compute = span_loss
        if logits_at is not None:
            options = SpacTorConfig(logits_at=logits_at)
            stage = FirstStage(t5, config=options, text=self.text)
            loss = partial(joint_loss, stage=stage)

        def compute(model: Any, batch: Any) -> Any:
            tick()
            return loss(model, batch)

        done = fit(
            t5,
            self.masked if stage else self.plain,
            config=self.config(steps or self.setting.steps),
            compute=compute,
            auxiliary=stage,
        )
        return done.log[0]["loss"]

    def bare(self, tick: Callable[[], None]) -> float:
        """What one would write by hand: the model's own loss, which it averages."""
        t5 = copy.deepcopy(self.t5).train()
        optimizer = torch.optim.AdamW(t5.parameters(), lr=RATE, weight_decay=0.0, fused=True)
        rows, size = self.setting.rows, self.setting.rows * self.setting.steps
        places = order(len(self.plain), length=size, seed=0)
        total = 0.0
        for start in range(0, size, rows):
            batch = self.plain.batch(places[start : start + rows])
            tick()
            inputs = {k: batch[k] for k in ("input_ids", "attention_mask", "labels")}
            loss = t5(**inputs).loss
            loss.backward()
            clip_grad_norm_(t5.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item()
        return total / self.setting.steps

    def collating(self) -> dict[str, list[float]]:
        """Tokens of text a second, in turns."""
        speeds: dict[str, list[float]] = {"spans": [], "spans and places": []}
        for _ in range(self.setting.collated):
            for name, rows in zip(speeds, (self.plain, self.masked), strict=True):
                some = [{"input_ids": ids.numpy()} for ids in self.data]
                began = time.thread_time()
                rows.collator(some)
                speeds[name].append(self.data.numel() / (time.thread_time() - began))
        return speeds

    def profile(self) -> dict[str, float]:
        """Shares of the time of the first stage's loop, by a profiler, which slows Python down."""
        profiler = cProfile.Profile()
        profiler.runcall(self.ours, lambda: None, logits_at="masked", steps=self.setting.profiled)
        stats: Any = pstats.Stats(profiler)
        found = {
            (Path(file).name, name): seconds
            for (file, _, name), (_, _, _, seconds, _) in stats.stats.items()
        }
        loop = found["trainer.py", "_inner_training_loop"]
        parts = {
            "collator": ("corruption.py", "__call__"),
            "all of a batch": ("span_rows.py", "batch"),
            "counts": ("span_rows.py", "counts"),
            "forward": ("objective.py", "joint_loss"),
            "backward": ("_tensor.py", "backward"),
            "clipping": ("trainer.py", "_clip_grad_norm"),
            "AdamW": ("adam.py", "step"),
        }
        return {name: found[key] / loop for name, key in parts.items()}


def main() -> None:
    args = arguments(__doc__ or "")
    torch.set_num_threads(1)
    setting = QUICK if args.quick else Setting()
    bench = Bench(setting)
    cost = training_cost(
        bench.t5, bench.masked, config=bench.config(setting.steps), spactor=SpacTorConfig()
    )
    counted = {
        MASKED: cost.first_stage,
        ALL: cost.all_positions,
        SPANS: cost.span,
        BARE: cost.span,
    }
    ways: dict[str, Way] = {
        MASKED: partial(bench.ours, logits_at="masked"),
        ALL: partial(bench.ours, logits_at="all"),
        SPANS: bench.ours,
        BARE: bench.bare,
    }
    turns, load = Turns(ways, warm=WARM, clock=time.thread_time), [os.getloadavg()[0]]
    losses = turns.run(ways)
    load.append(os.getloadavg()[0])
    each = {name: statistics.median(found) for name, found in turns.seconds.items()}
    print(f"{setting.steps} steps of {setting.rows} rows of {setting.length} tokens, in turns")
    print(f"{'':20}{'s/step':>8}{'of spans':>10}{'FLOPs':>8}{'GFLOP/s':>9}{'mean loss':>11}")
    for name, value in each.items():
        print(
            f"{name:20}{value:>8.3f}{value / each[SPANS]:>10.3f}"
            f"{counted[name] / cost.span:>8.3f}{counted[name] / value / 1e9:>9.1f}"
            f"{losses[name]:>11.4f}"
        )
    speeds = {name: statistics.median(found) for name, found in bench.collating().items()}
    print("".join(f"  collator, {name}: {speed:,.0f} tokens/s" for name, speed in speeds.items()))
    shares = bench.profile()
    print("".join(f"  {name} {share:.2%}" for name, share in shares.items()))

    ratio, low, high = turns.against(MASKED, ALL)
    first, first_low, first_high = turns.against(MASKED, SPANS)
    par, par_low, par_high = turns.against(SPANS, BARE)
    predicted = 1 + cost.overhead
    speed = speeds["spans and places"]
    line = {
        "claim": "spactor-speed",
        "figure": round(each[MASKED], 3),
        "unit": f"seconds for a step of the first stage, {setting.rows} rows of {setting.length} "
        "tokens, one thread",
        "baseline": f"logits at all places: {each[ALL]:.3f}",
        "ratio": round(ratio, 3),
        "target": TARGET,
        "ok": bool(
            ratio <= TARGET
            and abs(first / predicted - 1) <= PREDICTED
            and par <= PAR
            and speed >= TOKENS
            and shares["collator"] <= BOTTLENECK
        ),
        "flops_ratio": round(cost.first_stage / cost.all_positions, 3),
        "over_spans": round(first, 3),
        "over_spans_counted": round(predicted, 3),
        "spans_over_bare": round(par, 3),
        "collator_tokens_per_second": round(speed),
        "collator_share": round(shares["collator"], 5),
        "note": f"95% interval {low:.3f} to {high:.3f}; FLOPs "
        f"{cost.first_stage / cost.all_positions:.3f}. The step takes {first:.2f} times one of "
        f"span corruption ({first_low:.2f} to {first_high:.2f}), by FLOPs {predicted:.2f}. Span "
        f"corruption takes {par:.3f} times the bare loop ({par_low:.3f} to {par_high:.3f}). The "
        f"collator makes {speed:,.0f} tokens a second and takes {shares['collator']:.2%} of a "
        "step.",
    }
    details = {
        "setting": vars(setting),
        "seconds": each,
        "steps": turns.seconds,
        "losses": losses,
        "flops": counted,
        "collator": speeds,
        "profile": shares,
        "load": load,
    }
    finish(__file__, line, details, args)


if __name__ == "__main__":
    main()
