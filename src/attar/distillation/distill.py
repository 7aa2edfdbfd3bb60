"""The verb `distill`: a student from a teacher, given or cut (Distiller), or made to a budget
(Compressor)."""

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.budget import Budget
from attar.data.data import Data, DataLike
from attar.data.labelled.task import TaskKind
from attar.distillation.compress import Order, compress
from attar.distillation.config import CompressorConfig
from attar.errors import ConfigError
from attar.methods.distiller.config import DistillConfig
from attar.methods.distiller.distill import distill as distill_given
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.record import Run
from attar.train.students import StudentInit

#: options of a student that is made to a budget, where none are given
DEFAULT = "compressor/default"


@takes_recipe("distill")
def distill(
    model: str | Path | PreTrainedModel | None = None,
    data: DataLike | None = None,
    *,
    teacher: str | Path | PreTrainedModel | None = None,
    student_layers: int | None = None,
    student_width: int | None = None,
    student_init: StudentInit = "cut",
    budget: str | Budget | None = None,
    plan: str | Path | None = None,
    rank: int = 1,
    plan_only: bool = False,
    task: TaskKind | None = None,
    config: DistillConfig | str = DistillConfig(),
    compressor: CompressorConfig = CompressorConfig(),
    tokenizer: PreTrainedTokenizerBase | None = None,
    output_dir: str | Path | None,
    recipe: str | None = None,
    resume: bool = False,
) -> Run:
    """Train an encoder from a teacher, and save it as a checkpoint.

    With a budget, or a plan that an earlier run wrote, the student's shape, tokenizer and number
    format are chosen to keep the budget (Compressor). Labels are not needed then; where there are
    some, they are for the report. Otherwise the student is given, or made of the teacher's layers
    (Distiller), and without a teacher the labels alone teach.

    Under `torchrun` all processes train together and the first one writes.

    Args:
        model: the student: folder or Hub name of an encoder, with or without a head; or a model
            with a head, which is then trained in place. None: it is made.
        data: whatever `attar.data.labelled.load_labelled` takes. The training split trains, the
            test split is scored.
        teacher: an encoder trained on this task.
        student_layers: blocks of a student made from the teacher's.
        student_width: width of its hidden states, if it starts at random; None: the teacher's.
        student_init: `cut` copies the teacher's weights into it, `random` does not.
        budget: upper bounds, as for `Budget.parse`: `bytes` of weights, tokenizer and configuration
            on disk; `latency` or `prefill`, of one text of `config.context` tokens on this
            machine's CPU; `params`; `macs`. A percentage is of the teacher.
        plan: a `plan.json`, or the folder with it, in place of a search. It brings the context,
            the number format and the kind of tokenizer that it was made for.
        rank: which of its shapes; 1 is the best.
        plan_only: write the best shapes, and train nothing.
        task: None: inferred from the labels, or else from the teacher.
        config: the pipeline; or the name or path of a recipe. As it stands, with a budget: the
            recipe `compressor/default`.
        compressor: how a student of a budget is chosen.
        tokenizer: of a student that is given; None: the one in its folder, or the teacher's.
        output_dir: where the checkpoint goes; it appears when it is complete. None: plans alone,
            which are only returned.
        recipe: name of the recipe that the options came from, for the record.
        resume: continue an interrupted run of the same settings.

    Returns:
        The record, also written to `attar.json`. Of a student of a budget, `details` hold the
        `plans`, the one that was `chosen`, and the `report`: what was kept of the teacher, on how
        many texts the two agree, bytes on disk and milliseconds of one text.

    Raises:
        BudgetError: no shape keeps the budget (names the smallest), or it bounds what an encoder
            does not have.
        ConfigError: the output folder is taken, options contradict each other, or training
            diverged.
        CompatibilityError: student and teacher do not fit together.
        DataError: a model, the data or the plan cannot be read.
        MissingExtraError: `storage` or `code` need packages that are not installed.
    """
    config, recipe = configured(config, DistillConfig, recipe=recipe)
    if budget is None and plan is None:
        if compressor != CompressorConfig() or plan_only:
            raise ConfigError(
                "plans, probes and formats are of a student that is made to a budget; give one, "
                'such as budget "bytes<=3MB"'
            )
        return distill_given(
            model,
            data,
            teacher=teacher,
            student_layers=student_layers,
            student_width=student_width,
            student_init=student_init,
            task=task,
            config=config,
            tokenizer=tokenizer,
            output_dir=_required(output_dir),
            recipe=recipe,
            resume=resume,
        )
    if model is not None or student_layers is not None or student_width is not None:
        raise ConfigError(
            "a student of a budget gets its shape from the budget; leave the student, "
            "student_layers and student_width out, or the budget"
        )
    if teacher is None:
        raise ConfigError("a student of a budget learns from a teacher; name one with teacher")
    if config == DistillConfig():
        config, recipe = configured(DEFAULT, DistillConfig, recipe=recipe)
    order = Order(
        budget=None if budget is None else Budget.parse(budget),
        plan=plan,
        rank=rank,
        plan_only=plan_only,
        options=compressor,
        config=config,
    )
    return compress(
        Data.of(data),
        order,
        teacher=teacher,
        task=task,
        output_dir=output_dir if plan_only else _required(output_dir),
        recipe=recipe,
        resume=resume,
    )


def _required(output_dir: str | Path | None) -> str | Path:
    if output_dir is None:
        raise ConfigError("say where the student goes: output_dir")
    return output_dir
