"""The trainings that a comparison consists of, and what is scored in each."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from attar.artefacts import replacing, write_text
from attar.errors import TrainingDivergedError, check_types, require
from attar.evaluation.pairs import pair_loss
from attar.foreign import read_json
from attar.methods import spactor as method
from attar.methods.spactor import SpacTorConfig, plain_state, training_cost
from attar.pretraining.config import PretrainConfig
from attar.pretraining.probes import Probe, ProbeConfig, probe_scores
from attar.pretraining.shapes import build_t5
from attar.pretraining.spans import SpanText
from attar.report.artefact import Artefact
from attar.runtime import place
from attar.train.callbacks import Watch

logger = logging.getLogger(__name__)
Arm = Literal["span", "spactor", "hybrid"]


@dataclass(frozen=True, kw_only=True)
class CompareConfig(ProbeConfig):
    """What is compared, and when it is scored."""

    arms: tuple[Arm, ...] = ("span", "spactor", "hybrid")
    """span: span corruption alone; spactor: with a first stage of tau steps; hybrid: with nothing
    but the first stage."""
    seeds: int = 1
    """Trainings of each arm: of seed, seed + 1 and so on. The arms of one seed see the same
    spans."""
    points: int = 5
    """How often in a training a model is scored, at equal distances; the last time at its end."""
    learning_rates: tuple[float, ...] = ()
    """Tried for each arm, which is trained with the one of the lowest span loss; when not given,
    all have learning_rate."""
    tune_steps: int = 300
    """Steps for which each of them is tried."""

    def __post_init__(self) -> None:
        check_types(self)
        super().__post_init__()
        for name in ("seeds", "points", "tune_steps"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        known = get_args(Arm)
        fine = bool(self.arms) and set(self.arms) <= set(known)
        require(fine, "arms", self.arms, f"of {', '.join(known)}")
        fine = all(rate > 0 for rate in self.learning_rates)
        require(fine, "learning_rates", self.learning_rates, "above 0")


class Arms:
    """The trainings of a comparison; what is done is kept.

    Args:
        work: the artefact.
        text: to train on.
        tasks: probes.
        compare: options of the comparison.
        spactor: of the first stage.
        start: the model to train further; None: a new one each time.
    """

    def __init__(
        self,
        work: Artefact,
        text: SpanText,
        *,
        tasks: Sequence[Probe],
        compare: CompareConfig,
        spactor: SpacTorConfig,
        start: PreTrainedModel | None,
    ) -> None:
        self.work, self.text, self.tasks = work, text, tasks
        self.compare, self.spactor, self.start = compare, spactor, start
        self.first = None if start is None else plain_state(start)

    def arm(self, arm: Arm) -> dict[str, Any]:
        """All trainings of an arm; where one diverges, `diverged` has a sentence, and the points
        are those up to there, later ones of the other seeds alone."""
        config, rate = self.text.config, self._learning_rate(arm)
        seeds: list[list[dict[str, Any]]] = []
        diverged: list[str] = []
        if rate is None:
            rates = ", ".join(f"{rate:g}" for rate in self.compare.learning_rates)
            diverged.append(f"at all learning_rates ({rates}); give lower ones")
        else:
            config = replace(config, learning_rate=rate)
        for k in range(self.compare.seeds if rate else 0):
            one = replace(config, seed=config.seed + k)
            points, reason = self._training(arm, one)
            seeds.append(points)
            if reason is not None:
                diverged.append(f"with seed {one.seed}, {reason}")
        cost = self._cost(arm, config)
        steps = sorted({point["step"] for points in seeds for point in points})
        return {
            "learning_rate": rate,
            "overhead": cost.overhead,
            "points": [
                {"step": step, "flops": cost.until(step), **_at(step, seeds)} for step in steps
            ],
            "diverged": diverged,
        }

    def _tau(self, arm: Arm, config: PretrainConfig) -> SpacTorConfig:
        tau = {"span": 0, "hybrid": config.max_steps}.get(arm)
        if tau is None:  # the same share of a shorter run
            whole = self.text.config.max_steps
            tau = max(1, round(self.spactor.switch(whole) / whole * config.max_steps))
        return replace(self.spactor, tau=float(tau))

    def _cost(self, arm: Arm, config: PretrainConfig) -> method.TrainingFlops:
        model, spactor = self._model(config), self._tau(arm, config)
        rows, _ = replace(self.text, config=config).sources(model, mask_share=spactor.mask_share)
        return training_cost(model, rows, config=config, spactor=spactor)

    def _model(self, config: PretrainConfig) -> PreTrainedModel:
        if self.start is None:
            return build_t5(config, self.text.tokenizer)
        assert self.first is not None
        self.start.load_state_dict(self.first)
        return self.start

    def _learning_rate(self, arm: Arm) -> float | None:
        """The best of those that are tried; None: training diverges with all."""
        rates = self.compare.learning_rates
        if len(rates) < 2:
            return rates[0] if rates else self.text.config.learning_rate
        losses: dict[float, float] = {}
        for rate in rates:
            short = replace(self.text.config, learning_rate=rate, max_steps=self.compare.tune_steps)
            points, diverged = self._training(arm, short, name=f"{arm}-at-{rate:g}", probe=False)
            if diverged is None:
                losses[rate] = points[-1]["span_nats"]
        if not losses:
            return None
        best = min(losses, key=lambda rate: losses[rate])
        logger.info("%s: span loss by learning rate %s; taking %g", arm, losses, best)
        return best

    def _training(
        self, arm: Arm, config: PretrainConfig, *, name: str | None = None, probe: bool = True
    ) -> tuple[list[dict[str, Any]], str | None]:
        """What is scored in one training, point by point, and why it diverged, if it did."""
        state = self.work.sub_state(name or f"{arm}-{config.seed}")
        assert state is not None  # the verb asks for a folder
        kept, end = state / "points", state / "diverged.json"
        count = self.compare.points if probe else 1
        steps = sorted({round(config.max_steps * k / count) for k in range(1, count + 1)} - {0})
        files = {step: kept / f"{step}.safetensors" for step in steps}
        scores = {step: kept / f"{step}.json" for step in steps}
        whole = all(files[step].is_file() or scores[step].is_file() for step in steps)
        if not whole and not end.is_file():
            try:
                self._train(arm, config, state=state, files=files)
            except TrainingDivergedError as error:
                logger.warning("%s at a learning rate of %g: %s", arm, config.learning_rate, error)
                write_text(end, json.dumps({"reason": str(error)}))
        found: list[dict[str, Any]] = []
        for step in steps:
            if not scores[step].is_file():
                if not files[step].is_file():  # training diverged before
                    break
                point = self._scored(files[step], config, probe=probe)
                seconds = _seconds(files[step])
                write_text(scores[step], json.dumps({"step": step, "seconds": seconds, **point}))
                files[step].unlink()
            found.append(read_json(scores[step], "scores"))
        return found, read_json(end, "the end")["reason"] if end.is_file() else None

    def _train(
        self, arm: Arm, config: PretrainConfig, *, state: Path, files: Mapping[int, Path]
    ) -> None:
        model, spactor = self._model(config), self._tau(arm, config)
        text = replace(self.text, config=config)
        rows, _ = text.sources(model, mask_share=spactor.mask_share)
        _, held_out = self.text.sources(model, mask_share=spactor.mask_share)
        files[min(files)].parent.mkdir(parents=True, exist_ok=True)
        place(model)
        method.train(
            model,
            rows,
            held_out=held_out,
            config=config,
            spactor=spactor,
            state_dir=state / "trainer",
            resume=self.work.resuming,
            watch=_Points(model, files),
        )

    def _scored(self, weights: Path, config: PretrainConfig, *, probe: bool) -> dict[str, Any]:
        model = self._model(config)
        model.load_state_dict(load_file(weights))
        place(model)
        _, held_out = self.text.sources(model)  # the same spans for all
        point: dict[str, Any] = {"span_nats": pair_loss(model, held_out)}
        for task in self.tasks if probe else ():
            model.load_state_dict(load_file(weights))
            scores = probe_scores(
                model, self.text.tokenizer, probe=task, config=self.compare, seed=config.seed
            )
            point |= {f"{task.name} {name}": value for name, value in scores.items()}
        return point


def _at(step: int, seeds: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, list[float]]:
    """Figures at a step, of all seeds that came there."""
    there = [point for points in seeds for point in points if point["step"] == step]
    return {name: [point[name] for point in there] for name in there[0] if name != "step"}


class _Points(Watch):
    """Keeps weights after some steps, and the seconds of training up to these and to each
    checkpoint, from which a training that was interrupted goes on.

    Args:
        model: that is trained.
        files: where its weights go, by step.
    """

    def __init__(self, model: PreTrainedModel, files: Mapping[int, Path]) -> None:
        super().__init__(self._keep, steps=files)
        self.model, self.files = model, files
        self.folder = files[min(files)].parent

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Go on from the seconds of a checkpoint."""
        before = [int(file.stem) for file in self.folder.glob("*.seconds")]
        before = [step for step in before if step <= state.global_step]
        if before and not self.seconds:
            self.seconds = _seconds(self.folder / f"{max(before)}.seconds")
        super().on_train_begin(args, state, control)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the seconds."""
        super().on_save(args, state, control)
        self._note(state.global_step)

    def _keep(self, step: int) -> bool:
        weights = plain_state(self.model)
        if all(torch.isfinite(weight).all() for weight in weights.values()):
            with replacing(self.files[step]) as partial:
                save_file(weights, partial)
            self._note(step)
        return False  # a training that diverged ends by itself

    def _note(self, step: int) -> None:
        text = json.dumps({"seconds": self.seconds})
        write_text(self.folder / f"{step}.seconds", text)


def _seconds(file: Path) -> float:
    """Up to the step that a file is of."""
    return read_json(file.with_suffix(".seconds"), "the time")["seconds"]
