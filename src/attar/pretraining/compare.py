"""The verb `pretrain compare`: does SpacTor pay on this data, at equal steps, FLOPs and seconds?"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from attar import checkpoint
from attar.artefacts import replacing, write_text
from attar.data.data import STDLIB, Data, DataLike
from attar.errors import ConfigError, TrainingDivergedError, check_types, require
from attar.evaluation.pairs import pair_loss
from attar.foreign import read_json
from attar.methods import spactor as method
from attar.methods.spactor import SpacTorConfig, plain_state, training_cost
from attar.pretraining.config import PretrainConfig
from attar.pretraining.probes import Probe, ProbeConfig, probe_scores
from attar.pretraining.shapes import build_t5
from attar.pretraining.spans import SpanText
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import Artefact, artefact
from attar.report.record import Run
from attar.runtime import place, processes
from attar.train.callbacks import Watch
from attar.train.trainer import FLOAT

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


@takes_recipe("pretrain compare")
def compare_objectives(
    model: str | Path | PreTrainedModel | None = None,
    data: DataLike = STDLIB,
    *,
    probes: Sequence[DataLike] | Mapping[str, DataLike] = (),
    compare: CompareConfig = CompareConfig(),
    spactor: SpacTorConfig = SpacTorConfig(),
    config: PretrainConfig | str = PretrainConfig(),
    output_dir: str | Path,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Train a T5 by span corruption, by SpacTor and by its first stage alone, and put them side by
    side by step, by FLOPs and by seconds.

    Args:
        model: a T5 to train further; None: a new one.
        data: text, as for `attar.pretrain`.
        probes: pairs of texts (columns `source` and `target`) on which each model that is scored is
            fine-tuned, with names, or named by their files.
        compare: options of the comparison.
        spactor: of the first stage.
        config: shape and training options, whose objective is not used; or a recipe.
        output_dir: where the record goes.
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an interrupted run of the same settings.

    Returns:
        The record: `details.arms` has for each arm its learning rate and its points, each with
        step, FLOPs, and for each seed seconds, span loss and scores of the probes;
        `details.reached` what share of the baseline's cost each arm needs to reach the baseline's
        last figure.

    Raises:
        ConfigError: options do not go together, or a training diverged.
        CompatibilityError: the model is no T5.
        DataError: text or probes cannot be read.
    """
    config, recipe = configured(config, PretrainConfig, recipe=recipe)
    named = probes if isinstance(probes, Mapping) else {_stem(one): one for one in probes}
    if len(named) < len(probes):
        raise ConfigError(
            f"the probes need names of their own, but two files are called alike: "
            f"{', '.join(Data.of(one).name for one in probes)}; rename one"
        )
    data = Data.of(data)
    settings = {
        **({} if model is None else {"model": checkpoint.name_of(model)}),
        **data.settings(),
        "probes": [Data.of(one).name for one in named.values()],
        **asdict(config),
        **asdict(spactor),
        **asdict(compare),
    }
    if spactor.switch(config.max_steps) == 0:
        raise ConfigError(
            f"a comparison needs a first stage, but tau={spactor.tau:g} and mlm_probability="
            f"{spactor.mlm_probability:g} give it no step out of {config.max_steps}; raise tau, "
            "mlm_probability or max_steps"
        )
    if processes().num_processes > 1:
        raise ConfigError(
            "a comparison runs in one process, and was started in "
            f"{processes().num_processes}; start it without torchrun, or train each objective by "
            "itself with attar pretrain"
        )
    with artefact(
        output_dir,
        command="pretrain compare",
        settings=settings,
        recipe=recipe,
        seed=config.seed,
        resume=resume,
    ) as work:
        tasks = [Probe.load(one, name=name) for name, one in named.items()]
        start = None if model is None else checkpoint.model_of(model, dtype=FLOAT)
        words = None if model is None else checkpoint.tokenizer_of(model)
        text = SpanText.read(data, model=start, tokenizer=words, config=config)
        job = _Comparison(work, text, tasks=tasks, compare=compare, spactor=spactor, start=start)
        arms = {arm: job.arm(arm) for arm in compare.arms}
        if work.main:
            work.run.paper = method.PAPER
            work.run.details = {"arms": arms, "reached": reached(arms)}
    return work.run


def _stem(data: DataLike) -> str:
    return Path(Data.of(data).name).name.partition(".")[0]


class _Comparison:
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
        """All trainings of an arm."""
        config = replace(self.text.config, learning_rate=self._learning_rate(arm))
        seeds = [
            self._training(arm, replace(config, seed=config.seed + k))
            for k in range(self.compare.seeds)
        ]
        cost = self._cost(arm, config)
        return {
            "learning_rate": config.learning_rate,
            "overhead": cost.overhead,
            "points": [
                {
                    "step": points[0]["step"],
                    "flops": cost.until(points[0]["step"]),
                    **{name: [one[name] for one in points] for name in points[0] if name != "step"},
                }
                for points in zip(*seeds, strict=True)
            ],
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

    def _learning_rate(self, arm: Arm) -> float:
        rates = self.compare.learning_rates
        if len(rates) < 2:
            return rates[0] if rates else self.text.config.learning_rate
        losses: dict[float, float] = {}
        for rate in rates:
            short = replace(self.text.config, learning_rate=rate, max_steps=self.compare.tune_steps)
            try:
                points = self._training(arm, short, name=f"{arm}-at-{rate:g}", probe=False)
                losses[rate] = points[-1]["span_nats"]
            except TrainingDivergedError as error:
                logger.warning("%s at a learning rate of %g: %s", arm, rate, error)
        if not losses:
            raise ConfigError(
                f"the arm {arm} diverges at all learning_rates "
                f"({', '.join(f'{rate:g}' for rate in rates)}); give lower ones"
            )
        best = min(losses, key=lambda rate: losses[rate])
        logger.info("%s: span loss by learning rate %s; taking %g", arm, losses, best)
        return best

    def _training(
        self, arm: Arm, config: PretrainConfig, *, name: str | None = None, probe: bool = True
    ) -> list[dict[str, Any]]:
        """What is scored in one training, point by point."""
        state = self.work.sub_state(name or f"{arm}-{config.seed}")
        assert state is not None  # the verb asks for a folder
        kept = state / "points"
        count = self.compare.points if probe else 1
        steps = sorted({round(config.max_steps * k / count) for k in range(1, count + 1)} - {0})
        files = {step: kept / f"{step}.safetensors" for step in steps}
        scores = {step: kept / f"{step}.json" for step in steps}
        if not all(files[step].is_file() or scores[step].is_file() for step in steps):
            self._train(arm, config, state=state, files=files)
        found: list[dict[str, Any]] = []
        for step in steps:
            if not scores[step].is_file():
                point = self._scored(files[step], config, probe=probe)
                seconds = read_json(files[step].with_suffix(".seconds"), "the time")
                write_text(scores[step], json.dumps({"step": step, **seconds, **point}))
                files[step].unlink()
            found.append(read_json(scores[step], "scores"))
        return found

    def _train(
        self, arm: Arm, config: PretrainConfig, *, state: Path, files: Mapping[int, Path]
    ) -> None:
        model, spactor = self._model(config), self._tau(arm, config)
        text = replace(self.text, config=config)
        rows, _ = text.sources(model, mask_share=spactor.mask_share)
        _, held_out = self.text.sources(model, mask_share=spactor.mask_share)
        files[min(files)].parent.mkdir(parents=True, exist_ok=True)
        clock = _Clock(files)

        def keep(step: int) -> bool:
            if self.work.main:
                clock.stop(step)
                with replacing(files[step]) as partial:
                    save_file(plain_state(model), partial)
                clock.start()
            return False

        place(model)
        method.train(
            model,
            rows,
            held_out=held_out,
            config=config,
            spactor=spactor,
            state_dir=state / "trainer",
            resume=self.work.resuming,
            watch=Watch(keep, steps=files),
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


class _Clock:
    """Seconds of training up to each step, beside the weights of that step; of a run that was
    resumed, without what was lost."""

    def __init__(self, files: Mapping[int, Path]) -> None:
        self._files, self._began = files, time.perf_counter()

    def stop(self, step: int) -> None:
        """Note the seconds up to this step."""
        before = [s for s in self._files if s < step]
        last = self._files[max(before)].with_suffix(".seconds") if before else None
        done = read_json(last, "the time")["seconds"] if last and last.is_file() else 0.0
        seconds = done + time.perf_counter() - self._began
        write_text(self._files[step].with_suffix(".seconds"), json.dumps({"seconds": seconds}))

    def start(self) -> None:
        """Go on."""
        self._began = time.perf_counter()


def reached(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """`crossings` of all figures; nothing without the arm `span`."""
    if "span" not in arms:
        return {}
    names = [n for n in arms["span"]["points"][-1] if n not in ("step", "flops", "seconds")]
    return {name: crossings(arms, name) for name in names}


def crossings(
    arms: Mapping[str, Mapping[str, Any]], name: str
) -> dict[str, dict[str, float | None]]:
    """Steps, FLOPs and seconds that each arm takes to the last figure of the arm `span`, as shares
    of its own; None where an arm does not get there.

    Figures are means over seeds, and lie on a line between two points.

    Args:
        arms: each with `points`.
        name: of the figure; of `span_nats`, less is better.
    """
    base = arms["span"]["points"][-1]
    sign = -1.0 if name == "span_nats" else 1.0
    found: dict[str, dict[str, float | None]] = {}
    for arm, results in arms.items():
        points = results["points"]
        figures = [sign * _mean(point[name]) for point in points]
        found[arm] = {
            cost: _crossing(
                [_mean(point[cost]) for point in points],
                figures,
                goal=sign * _mean(base[name]),
                whole=_mean(base[cost]),
            )
            for cost in ("step", "flops", "seconds")
        }
    return found


def _mean(value: float | Sequence[float]) -> float:
    return sum(value) / len(value) if isinstance(value, Sequence) else float(value)


def _crossing(
    costs: Sequence[float], figures: Sequence[float], *, goal: float, whole: float
) -> float | None:
    """The least cost at which the figure is as good as the goal, as a share of the whole."""
    for k, (cost, figure) in enumerate(zip(costs, figures, strict=True)):
        if figure >= goal:
            if k == 0:
                return cost / whole
            share = (goal - figures[k - 1]) / (figure - figures[k - 1])
            return (costs[k - 1] + share * (cost - costs[k - 1])) / whole
    return None
