"""A student that is made to a budget: its shape and tokenizer are chosen, then it is distilled.

The shape and its search are Compressor's; the training is the pipeline that Distiller has.
"""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from attar import checkpoint
from attar.budget import Budget, Cost
from attar.data.data import Data
from attar.data.labelled.task import TaskKind
from attar.distillation import formats
from attar.distillation.config import CompressorConfig
from attar.distillation.material import Material, with_copies_that_are_read
from attar.distillation.plan_files import PLAN_FILE, StoredPlans
from attar.distillation.planning import Candidate, Planner
from attar.distillation.probing import probe
from attar.distillation.report import compared, flipped, timed
from attar.errors import BudgetError, ConfigError, require
from attar.evaluation.flips import check_flips
from attar.evaluation.metrics import primary
from attar.measure.cost import cost_of
from attar.measure.timing import measure
from attar.methods.compressor import PAPER, StudentPlan
from attar.methods.distiller.config import DistillConfig, check_config
from attar.methods.distiller.distill import DistillTask
from attar.report.artefact import Artefact, artefact
from attar.report.record import Run
from attar.runtime import broadcast, place
from attar.train.labelled import Sharing

_PROBES = "probes.json"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked for.

    Attributes:
        budget: None: that of the plan.
        plan: a file of plans, in place of a search.
        rank: which of the plans is taken, from 1.
        plan_only: nothing is trained.
        options: how shapes are searched, and what lies on disk.
        config: how the student is trained.
    """

    budget: Budget | None
    plan: str | Path | None = None
    rank: int = 1
    plan_only: bool = False
    options: CompressorConfig = CompressorConfig()
    config: DistillConfig = DistillConfig()

    def __post_init__(self) -> None:
        require(self.rank >= 1, "rank", self.rank, "1 or more")
        if self.rank > 1 and self.options.probe:
            raise ConfigError(
                "probes choose one of the plans, and so does rank; leave one of the two out"
            )
        if self.plan is not None and self.plan_only:
            raise ConfigError("a plan is there already; leave plan or plan_only out")


def compress(
    data: Data,
    order: Order,
    *,
    teacher: str | Path | PreTrainedModel,
    task: TaskKind | None,
    output_dir: str | Path | None,
    recipe: str | None,
    resume: bool,
) -> Run:
    """Plan a student within a budget, train it and compare it with its teacher; see
    `attar.distill`."""
    asked = None if order.budget is None else order.budget.text
    stored = None if order.plan is None else StoredPlans.read(order.plan)
    if stored is not None:
        order = _as_planned(order, stored)
    settings: dict[str, Any] = {
        "model": None,
        "teacher": checkpoint.name_of(teacher),
        **data.settings(),
        "budget": asked,
        "plan": None if order.plan is None else str(order.plan),
        "rank": order.rank,
        "plan_only": order.plan_only,
        "task": task,
        **asdict(order.options),
        **asdict(order.config),
    }
    with artefact(
        output_dir,
        command="distill",
        method="compressor",
        paper=PAPER,
        settings=settings,
        recipe=recipe,
        seed=order.config.seed,
        resume=resume,
    ) as work:
        work.run.model = settings["teacher"]
        material = Material.load(teacher, data, task=task, config=order.config)
        if not order.plan_only:  # before the search, which takes a while
            rows = len(material.documents["train"])
            order = replace(order, config=with_copies_that_are_read(order.config, rows=rows))
            check_config(order.config, task=material.task, has_teacher=True)
        if order.options.code is not None:
            check_flips(material.task, order.options.code)
        planner = Planner(
            material, order.options, context=order.config.context, seed=order.config.seed
        )
        stored = stored or _searched(work, planner, order)
        work.run.details |= {
            "task": material.task.to_dict(),
            "plans": [plan.to_dict() for plan in stored.plans],
        }
        if work.main and work.path is not None:
            stored.save(work.folder)
        if not order.plan_only:
            _Compression(work, planner, stored=stored, order=order).run()
    return work.run


def _as_planned(order: Order, stored: StoredPlans) -> Order:
    """The order with what plans of a file rest on, from the file.

    Raises:
        ConfigError: something else was asked for. A value that is the default may not have been.
    """
    made = dict(stored.made)
    given = asdict(order.options) | asdict(order.config)
    usual = asdict(CompressorConfig()) | asdict(DistillConfig())
    for name, value in made.items():
        if given[name] not in (usual[name], value):
            raise ConfigError(
                f"expected {name} {value}, as the plan {str(order.plan)!r} was made with it; found "
                f"{given[name]}: leave {name} out, or plan again"
            )
    config = replace(order.config, context=made.pop("context"))
    return replace(
        order,
        budget=order.budget or stored.budget,
        options=replace(order.options, **made),
        config=config,
    )


def _searched(work: Artefact, planner: Planner, order: Order) -> StoredPlans:
    """The plans of a search, by the first process for all; a resumed run has those of before."""
    kept = None if work.state is None else work.state / PLAN_FILE
    found = None
    if work.main and kept is not None and kept.is_file():
        found = StoredPlans.read(kept).to_dict()
    elif work.main:
        assert order.budget is not None
        plans = [candidate.plan for candidate in planner.search(order.budget)]
        stored = StoredPlans.of(
            plans,
            budget=order.budget,
            options=order.options,
            context=order.config.context,
        )
        if kept is not None:
            stored.save(kept.parent)
        found = stored.to_dict()
    return StoredPlans.from_dict(broadcast(found))


class _Compression:
    """The training of one of the plans, and all that is said of it."""

    def __init__(
        self, work: Artefact, planner: Planner, *, stored: StoredPlans, order: Order
    ) -> None:
        self.work, self.planner, self.stored, self.order = work, planner, stored, order
        assert order.budget is not None  # that of the plan, if there was no other
        self._budget = order.budget
        self.sharing = Sharing(cache=work.sub_state("teacher"), augmented=True)

    def run(self) -> None:
        """Choose a plan, train its student, save it, and compare it with the teacher."""
        work, storage = self.work, self.order.options.storage
        number = self._chosen()
        candidate = self.planner.candidate(self.stored.plans[number - 1])
        if self.order.plan is not None:
            self._require_within(candidate.plan, number)
        distillation = self._start(candidate)
        job, context = distillation.job, distillation.config.context
        training, rows = distillation.train(work.sub_state("student"), resume=work.resuming)
        if not work.main:
            return
        student, teacher = job.student, job.teacher
        assert teacher is not None
        place(student, "cpu")
        form = formats.save(student, work.folder, tokenizer=candidate.tokenizer, storage=storage)
        on_disk = cost_of(student)
        student.float()  # with the numbers of the file, perhaps of half precision
        # what is scored and timed is what lies on disk
        answers = formats.as_stored(student, work.folder, storage=storage)
        job = replace(job, student=answers)
        for model in (teacher, *([student] if answers is student else [])):
            place(model)
        test = job.documents["test"]
        report = compared(job, test, context=context)
        if (language := self.order.options.code) is not None:
            report["flips"] = flipped(job, test, language=language, context=context)
        for model in (student, teacher):
            place(model, "cpu")  # where the shapes were timed for the plan
        report["latency"] = timed(job, test, context=context)
        cost = self._cost(student)
        work.run.quality = {
            when: report.pop(side)
            for when, side in (("before", "teacher"), ("after", "student"))
            if side in report
        }
        cost = replace(cost, bytes=on_disk.bytes, dtypes=on_disk.dtypes)
        work.run.cost = {"before": cost_of(teacher).to_dict(), "after": cost.to_dict()}
        report["bytes"] = formats.bytes_on_disk(work.folder, storage=storage)
        work.run.budget = self._verdict(cost, report, plan=candidate.plan)
        work.run.details |= {
            "chosen": number,
            "primary": primary(job.task),
            "split": "test",
            "rows": rows,
            "copies": self.order.config.copies if self.order.config.augment else 0,
            "test_rows": len(test),
            "report": report,
            "form": form,
            **asdict(training),
        }
        work.card = {"made_from": work.run.model, "pipeline_tag": "text-classification"}

    def _require_within(self, plan: StudentPlan, number: int) -> None:
        """Refuse a plan that exceeds the budget, as one of a file may: of another budget, or where
        teacher or texts are others.

        Raises:
            BudgetError: it does.
        """
        limits = self.planner.limits(self._budget)
        figures = (
            ("bytes", plan.bytes, limits.bytes),
            ("parameters", plan.parameters, limits.params),
            ("multiply-accumulates a text", plan.macs, limits.macs),
        )
        for what, found, most in figures:
            if most is not None and found > most:
                raise BudgetError(
                    f"expected a plan within {self._budget.text}, which is {math.floor(most):,} "
                    f"{what}; plan {number} takes {found:,}: take another (rank), or plan again "
                    "for this budget, teacher and data"
                )

    def _cost(self, student: PreTrainedModel) -> Cost:
        """Counted, and timed where the budget bounds a time."""
        if self._budget.timed:
            return measure(student, prompt_tokens=self.order.config.context)
        return cost_of(student)

    def _verdict(self, cost: Cost, report: dict[str, Any], *, plan: StudentPlan) -> dict[str, Any]:
        """Whether the student keeps the budget, as it lies on disk and as it is timed here."""
        budget = self.planner.resolved(self._budget)
        macs = math.ceil(plan.macs / self.order.config.context)  # with attention, as it was planned
        achieved = replace(cost, bytes=sum(report["bytes"].values()), macs=macs)
        return {
            "asked": self._budget.text,
            "met": budget.admits(achieved),
            "constraints": budget.verdict(achieved),
        }

    def _chosen(self) -> int:
        """The number of the plan that is trained, from 1."""
        plans, options = self.stored.plans, self.order.options
        if self.order.rank > len(plans):
            raise ConfigError(
                f"expected a rank from 1 to {len(plans)}, as there are so many plans; found "
                f"{self.order.rank}"
            )
        if not options.probe:
            return self.order.rank
        candidates = [self.planner.candidate(plan) for plan in plans]
        kept = None if self.work.state is None else self.work.state / _PROBES
        probes = probe(candidates, self._start, steps=options.probe, kept=kept)
        self.work.run.details["probes"] = [asdict(one) for one in probes]
        return probes[0].plan

    def _start(self, candidate: Candidate) -> DistillTask:
        material, student = self.planner.material, self.planner.initial_student(candidate)
        ours, theirs = (
            model.num_parameters(exclude_embeddings=True) for model in (student, material.teacher)
        )
        if ours > theirs and not self.order.config.smaller_teacher:
            raise BudgetError(
                f"expected a budget below the size of the teacher; within {self._budget.text} the "
                f"student has {ours:,} parameters besides embeddings, and the teacher {theirs:,}: "
                "lower the budget, or set smaller_teacher"
            )
        return DistillTask.load(
            student,
            material.teacher,
            documents=material.documents,
            task=material.task,
            config=self.order.config,
            tokenizer=candidate.tokenizer,
            sharing=self.sharing,
        )
