"""The verb `pretrain compare`: does SpacTor pay on this data, at equal steps, FLOPs and seconds?"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import PreTrainedModel

from attar import checkpoint
from attar.data.data import STDLIB, Data, DataLike
from attar.errors import ConfigError, TrainingDivergedError
from attar.methods import spactor as method
from attar.methods.spactor import SpacTorConfig
from attar.pretraining.arms import Arms, CompareConfig
from attar.pretraining.config import PretrainConfig, settings_of
from attar.pretraining.crossings import COSTS, reached
from attar.pretraining.probes import Probe
from attar.pretraining.spans import SpanText
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.runtime import processes
from attar.train.trainer import FLOAT

logger = logging.getLogger(__name__)


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
        step, FLOPs, and for each seed seconds of training, span loss and scores of the probes, and
        in `diverged` why trainings of it came to no end; `details.reached` what share of the
        baseline's cost each arm needs to reach the baseline's last figure.

    Raises:
        ConfigError: options do not go together, or all trainings diverged before the first point.
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
    if config.objective == "causal" or (config.objective is not None and recipe is None):
        raise ConfigError(
            f"a comparison trains a T5 by all of the arms {', '.join(compare.arms)}; leave out "
            f"objective={config.objective}, and choose among them with arms (--arms)"
        )
    data = Data.of(data)
    settings = settings_of(
        *(model, data),
        options=(config, spactor, compare),
        probes=[Data.of(one).name for one in named.values()],
    )
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
        job = Arms(work, text, tasks=tasks, compare=compare, spactor=spactor, start=start)
        arms = {arm: job.arm(arm) for arm in compare.arms}
        if not any(one["points"] for one in arms.values()):
            reasons = (f"the arm {arm} diverges {one['diverged'][0]}" for arm, one in arms.items())
            raise TrainingDivergedError("; ".join(reasons))
        if work.main:
            work.run.paper = method.PAPER
            work.run.details = {"arms": arms, "reached": reached(arms)}
            work.run.baselines = [{"name": arm, "quality": _last(arms[arm])} for arm in arms]
    return work.run


def _last(arm: Mapping[str, Any]) -> dict[str, float]:
    """Figures at its last point, means over seeds: `attar compare` shows them."""
    point = arm["points"][-1] if arm["points"] else {}
    return {name: fmean(values) for name, values in point.items() if name not in COSTS}


def _stem(data: DataLike) -> str:
    return Path(Data.of(data).name).name.partition(".")[0]
