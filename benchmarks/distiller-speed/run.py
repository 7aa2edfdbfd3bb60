"""Does the trainer cost more than the loop that one would write by hand, or TextBrewer's?

Ratio: our seconds per step over the bare loop's, same models, rows, losses and optimizer, float32,
the teacher run in every step. Beside it: TextBrewer, and our step with stored teacher outputs.
"""

import copy
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from common import arguments, finish
from labelled import CORPORA, corpus, minilm
from torch.nn.utils import clip_grad_norm_
from transformers import get_constant_schedule
from turns import Turns, Way

from attar import checkpoint
from attar.data.labelled.batches import Examples
from attar.data.labelled.encode import encode
from attar.data.labelled.load import load_labelled
from attar.data.sources import order
from attar.heads import load_with_head
from attar.methods.distiller.config import DistillConfig
from attar.methods.distiller.objective import AuxiliaryHeads, Objective, requested_features
from attar.train.layer_map import LayerMap
from attar.train.outputs import CachedOutputs, LiveOutputs
from attar.train.students import make_student
from attar.train.trainer import fit

TARGETS = {"bare": 1.05, "cached": 1.3}
PAIRS = ((0, 0), (1, 3), (2, 6))  # what skip gives for two layers of six
ROWS, LENGTH, RATE, CLIP = 32, 64, 5e-4, 1.0
WARM = 2  # first steps, in which memory is allocated


def adamw(student: torch.nn.Module) -> torch.optim.AdamW:
    """The optimizer of all ways: fused, as transformers has it by default."""
    return torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=0.0, fused=True)


class Bench:
    """One student and teacher, and the ways to train the one from the other."""

    def __init__(self, data: Path, steps: int, rows: int) -> None:
        name = "sst2" if (data / CORPORA["sst2"].path).is_dir() else "python-stdlib:package"
        documents, self.task = load_labelled(corpus(name, data))
        tokenizer = checkpoint.load_tokenizer(minilm())
        encoded = encode(
            documents["train"].select(range(rows)), tokenizer, task=self.task, context=LENGTH
        )
        self.name, self.steps = name, steps
        self.source = Examples(encoded, task=self.task, tokenizer=tokenizer)
        self.teacher = load_with_head(minilm(), self.task).eval()
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            setattr(self.teacher.config, name, 0.0)  # the student's: so all losses must agree
        self.student = make_student(self.teacher, layers=2)
        self.config = DistillConfig(
            intermediate="mse",
            per_device_train_batch_size=ROWS,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            warmup_steps=0,
            weight_decay=0.0,
            max_grad_norm=CLIP,
            max_steps=steps,
            context=LENGTH,
            logging_steps=steps,
            bf16=False,
        )
        self.layer_map = LayerMap.parse("skip", student_layers=2, teacher_layers=6)
        assert self.layer_map.pairs == PAIRS

    def batches(self) -> Iterator[dict[str, torch.Tensor]]:
        """The batches that `fit` draws, in its order."""
        rows = order(len(self.source), length=self.steps * ROWS, seed=self.config.seed)
        for start in range(0, len(rows), ROWS):
            yield self.source.batch(rows[start : start + ROWS])

    def ours(self, tick: Callable[[], None], *, teacher: Any, bf16: bool = False) -> float:
        student = copy.deepcopy(self.student)
        objective = Objective(
            self.config,
            task=self.task,
            layer_map=self.layer_map,
            heads=AuxiliaryHeads(self.config, self.layer_map, widths=(384, 384)),
            teacher=teacher,
        )

        def compute(model: Any, batch: Any) -> Any:
            tick()
            return objective(model, batch)

        config = self.config if not bf16 else DistillConfig(**vars(self.config) | {"bf16": True})
        done = fit(student, self.source, config=config, compute=compute)
        return done.log[0]["loss"]

    def bare(self, tick: Callable[[], None]) -> float:
        """What one would write by hand."""
        student = copy.deepcopy(self.student).train()
        optimizer = adamw(student)
        total = 0.0
        for batch in self.batches():
            tick()
            inputs = {k: batch[k] for k in ("input_ids", "attention_mask", "token_type_ids")}
            with torch.no_grad():
                theirs = self.teacher(**inputs, output_hidden_states=True)
            found = student(**inputs, output_hidden_states=True)
            loss = F.mse_loss(found.logits, theirs.logits)
            mask = batch["attention_mask"][..., None]
            count = mask.sum() * 384
            for s, t in PAIRS:
                apart = (found.hidden_states[s] - theirs.hidden_states[t]) ** 2
                loss = loss + (apart * mask).sum() / count
            loss.backward()
            clip_grad_norm_(student.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item()
        return total / self.steps

    def textbrewer(self, tick: Callable[[], None]) -> float:
        from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig

        student = copy.deepcopy(self.student).train()
        losses: list[float] = []

        def adaptor(batch: Any, found: Any) -> dict[str, Any]:
            return {
                "logits": found.logits,
                "hidden": found.hidden_states,
                "inputs_mask": batch["attention_mask"],
            }

        def adaptor_student(batch: Any, found: Any) -> dict[str, Any]:
            tick()
            return adaptor(batch, found)

        matches = [
            {"layer_T": t, "layer_S": s, "feature": "hidden", "loss": "hidden_mse", "weight": 1}
            for s, t in PAIRS
        ]
        with tempfile.TemporaryDirectory() as folder:
            distiller = GeneralDistiller(
                TrainingConfig(device="cpu", output_dir=folder, ckpt_steps=10**9, ckpt_frequency=1),
                DistillationConfig(temperature=1, kd_loss_type="mse", intermediate_matches=matches),
                self.teacher,
                student,
                adaptor,
                adaptor_student,
            )
            plain = distiller.compute_loss

            def compute(*inputs: Any) -> Any:
                total, parts = plain(*inputs)
                losses.append(float(total.detach()))
                return total, parts

            distiller.compute_loss = compute
            distiller.save_and_callback = lambda *_: None  # no checkpoints, as elsewhere
            optimizer = adamw(student)
            names = ("input_ids", "attention_mask", "token_type_ids")
            loader = [{k: batch[k] for k in names} for batch in self.batches()]
            self.teacher.config.output_hidden_states = student.config.output_hidden_states = True
            try:
                distiller.train(
                    optimizer,
                    loader,
                    num_steps=self.steps,
                    scheduler=get_constant_schedule(optimizer),
                    max_grad_norm=CLIP,
                )
            finally:
                self.teacher.config.output_hidden_states = False
        return statistics.mean(losses)


def main() -> None:
    args = arguments(__doc__ or "")
    torch.set_num_threads(2)
    logging.disable(logging.INFO)
    steps = 8 if args.quick else 100
    bench = Bench(args.data, steps, rows=steps * ROWS)
    request = requested_features(bench.config, bench.layer_map)[1]
    live = LiveOutputs(bench.teacher, task=bench.task, request=request)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        stored = CachedOutputs.build(
            bench.teacher, bench.source, path=Path(folder) / "t", task=bench.task, request=request
        )
        building = time.perf_counter() - began
        ways: dict[str, Way] = {
            "bare": bench.bare,
            "ours": partial(bench.ours, teacher=live),
            "textbrewer": bench.textbrewer,
            "ours, stored outputs": partial(bench.ours, teacher=stored),
            "ours, stored, bfloat16": partial(bench.ours, teacher=stored, bf16=True),
        }
        turns = Turns(ways, warm=WARM)
        losses = turns.run(ways)
    each = {name: statistics.median(found) for name, found in turns.seconds.items()}
    print(f"{bench.name}, {steps} steps of {ROWS} rows, a step of each in turn")
    print(f"{'':26}{'s/step':>8}{'of bare':>9}{'mean loss':>11}")
    for name, value in each.items():
        print(f"{name:26}{value:>8.3f}{value / each['bare']:>9.3f}{losses[name]:>11.4f}")

    ratio, low, high = turns.against("ours", "bare")
    brewer, brewer_low, brewer_high = turns.against("ours", "textbrewer")
    gain = turns.against("ours", "ours, stored outputs")[0]
    saved = each["ours"] - each["ours, stored outputs"]
    line = {
        "claim": "distiller-speed",
        "figure": round(each["ours"], 4),
        "unit": "seconds per step, teacher of 22M parameters to 2 layers, batch 32",
        "baseline": f"bare loop: {each['bare']:.4f}",
        "ratio": round(ratio, 4),
        "target": TARGETS["bare"],
        "ok": bool(ratio <= TARGETS["bare"] and brewer < 1 and gain >= TARGETS["cached"]),
        "over_textbrewer": round(brewer, 4),
        "live_over_stored": round(gain, 4),
        "live_over_stored_target": TARGETS["cached"],
        "epochs_to_repay": round(building / (saved * steps), 2),
        "note": f"95% interval {low:.3f} to {high:.3f}. Over TextBrewer's seconds {brewer:.3f} "
        f"({brewer_low:.3f} to {brewer_high:.3f}). Stored outputs make a step {gain:.2f} times as "
        f"fast (target {TARGETS['cached']}).",
    }
    details = {"seconds": each, "steps": turns.seconds, "losses": losses, "build": building}
    finish(__file__, line, details | {"data": bench.name}, args)


if __name__ == "__main__":
    main()
