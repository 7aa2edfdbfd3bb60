"""The verb `recommend`: which pipelines to try first on new data (AutoDistiller)."""

from dataclasses import asdict, dataclass
from pathlib import Path

from attar.data.data import Data, DataLike
from attar.data.labelled.load import load_labelled
from attar.data.labelled.task import TaskKind
from attar.errors import check_types, require
from attar.methods.distiller.autodistiller import (
    AutoDistiller,
    Recommendation,
    evaluation_text,
    known_trials,
    recommendation_table,
)
from attar.methods.distiller.config import options_of
from attar.methods.distiller.distill import PAPER
from attar.methods.distiller.pipelines import enumerate_all, narrow
from attar.methods.distiller.search import allowed_choices
from attar.recipes import configured, write_recipe
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.search.predictors import Model
from attar.train.students import StudentInit


@dataclass(frozen=True, kw_only=True)
class RecommendConfig:
    """What is recommended, and from what it is learned."""

    student_init: StudentInit = "cut"
    """How the student starts: cut from its teacher (or trained before), or random."""
    studies: tuple[str, ...] = ()
    """Studies to learn from, besides those that come with Attar: folders of `attar pipeline search`
    or .jsonl files."""
    predictor: Model = "ridge"
    """Model that predicts the scores: ridge regression, or extremely randomised trees."""
    count: int = 5
    """Number of pipelines to recommend."""
    mlm: str | None = None
    """Folder or Hub name of a masked language model; without one the augmenter mlm is left out."""

    def __post_init__(self) -> None:
        check_types(self)
        require(self.count >= 1, "count", self.count, "1 or more")


@takes_recipe("recommend")
def recommend(
    data: DataLike | None = None,
    *,
    task: TaskKind | None = None,
    config: RecommendConfig | str = RecommendConfig(),
    output_dir: str | Path | None = None,
    recipe: str | None = None,
) -> Run:
    """Recommend distillation pipelines for new data from studies of other data.

    Args:
        data: labelled examples; only what their task leaves open is recommended. None: `task` alone
            limits the choice.
        task: what is predicted; None: inferred from the labels.
        config: how many pipelines, and from what they are learned; or a recipe.
        output_dir: each pipeline is written there as a recipe of `attar distill`: 1.yaml, 2.yaml,
            ...; None: nothing is written.
        recipe: name of the recipe that the options came from, for the record.

    Returns:
        The record; `details["pipelines"]` has the options, the predicted standing (in standard
        deviations from the median pipeline on the same data) and its interval, best first.

    Raises:
        ConfigError: the folder is taken, or an option is out of range.
        DataError: data or studies cannot be read.
    """
    config, recipe = configured(config, RecommendConfig, recipe=recipe)
    data = None if data is None else Data.of(data)
    settings = {
        "data": None if data is None else data.source,
        "task": task,
        **asdict(config),
        **({} if data is None else data.settings()),
    }
    with artefact(
        output_dir,
        command="recommend",
        settings=settings,
        method="autodistiller",
        paper=PAPER,
        recipe=recipe,
    ) as work:
        learned = AutoDistiller.fit(known_trials(config.studies), model=config.predictor)
        pair = False
        if data is not None:
            _, found = load_labelled(data, task=task)
            task, pair = found.kind, found.pair
        space = narrow(allowed_choices(task, pair=pair, mlm=config.mlm is not None))
        best = learned.recommend(
            config.count, init=config.student_init, candidates=enumerate_all(space=space)
        )
        options = [_options(one, config.mlm) for one in best]
        if work.path is not None:
            for number, chosen in enumerate(options, 1):
                comment = (
                    f"Pipeline {number} of {len(best)} that attar recommend names, to try first."
                )
                write_recipe(work.path / f"{number}.yaml", chosen, comment=comment)
        work.run.details = {
            "task": task,
            "pair": pair,
            "trials": len(learned.trials),
            "datasets": list(dict.fromkeys(trial.dataset for trial in learned.trials)),
            "pipelines": [
                {
                    "options": chosen,
                    "predicted": one.predicted,
                    "interval": list(one.interval),
                    "ran_on": one.ran_on,
                    "reasons": [list(reason) for reason in one.reasons],
                }
                for one, chosen in zip(best, options, strict=True)
            ],
            "table": recommendation_table(best).text(),
            "evaluation": evaluation_text(learned),
        }
    return work.run


def _options(one: Recommendation, mlm: str | None) -> dict[str, object]:
    options: dict[str, object] = {"verb": "distill", **options_of(one.pipeline)}
    return options | ({"mlm": mlm} if "mlm" in one.pipeline.augment else {})
