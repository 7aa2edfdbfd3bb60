"""One trial of a search after another: students of one teacher, trained and scored alike."""

from dataclasses import replace
from pathlib import Path

import optuna
from datasets import DatasetDict

from attar import checkpoint
from attar.data.augment.augment import Resources
from attar.data.augment.words import MaskedLM
from attar.data.labelled.task import Task
from attar.errors import DataError
from attar.evaluation.labelled import score_on
from attar.evaluation.metrics import primary
from attar.methods.distiller.config import DistillConfig, with_pipeline
from attar.methods.distiller.distill import DistillTask
from attar.methods.distiller.pipelines import Pipeline
from attar.runtime import place
from attar.search.trials import Outcome, RunningTrial, looks
from attar.train.callbacks import Watch
from attar.train.labelled import Sharing
from attar.train.students import StudentShape


class TrialRunner:
    """Trains and scores students; what all trials of a worker share.

    Raises:
        CompatibilityError: student and teacher do not fit together.
        ConfigError: the student cannot be made, or training cannot teach it.
        DataError: a model cannot be read.
    """

    def __init__(
        self,
        documents: DatasetDict,
        task: Task,
        *,
        teacher: str | Path,
        student: str | Path | None,
        shape: StudentShape,
        training: DistillConfig,
        folder: Path,
    ) -> None:
        self.documents, self.task, self.training = documents, task, training
        self.teacher = checkpoint.load(teacher)
        self.tokenizer = checkpoint.load_tokenizer(teacher)
        self.student, self.shape = student, shape
        resources = Resources(mlm=MaskedLM.load(training.mlm) if training.mlm else None)
        self.sharing = Sharing(folder / "teacher", resources)
        self._label_only_run()  # what does not fit together shows before there is a study

    def _label_only_run(self) -> DistillTask:
        """The student without a teacher."""
        return self._job(
            replace(
                self.training,
                intermediate="none",
                pred_weight=0.0,
                hard_weight=1.0,
                augment=(),
                repeated=False,
                mixup_beta=None,
            )
        )

    def measure_references(self, study: optuna.Study) -> None:
        """The scores of the teacher, and of the student without one, once for the study."""
        if "teacher_score" not in study.user_attrs:
            place(self.teacher)
            scores = score_on(
                self.teacher,
                self.documents["validation"],
                tokenizer=self.tokenizer,
                task=self.task,
                context=self.training.context,
            )
            score = scores[primary(self.task)]
            if not score > 0:
                raise DataError(
                    f"the teacher scores {score:.3f} ({primary(self.task)}) on the validation "
                    "split, so that students cannot be compared with it; train it on this task"
                )
            study.set_user_attr("teacher_score", score)
        if "hard_score" not in study.user_attrs:
            job = self._label_only_run()
            job.train()
            study.set_user_attr("hard_score", self._score(job, "validation"))

    def train(self, pipeline: Pipeline, trial: RunningTrial | None) -> Outcome:
        """Train a student; its validation score, and its test score unless it was pruned, as may
        happen where it is given the `trial` to compare itself with the others."""
        config = with_pipeline(self.training, pipeline)
        pruned = False
        job: DistillTask

        def hopeless(step: int) -> bool:
            nonlocal pruned
            assert trial is not None
            pruned = trial.below_median(step, self._score(job, "validation"))
            return pruned

        watch = None if trial is None else Watch(hopeless, steps=looks(config.max_steps))
        job = self._job(config)
        job.train(watch=watch)
        score = self._score(job, "validation")
        test = None if pruned else self._score(job, "test")
        return Outcome(score, pruned=pruned, details={"test_score": test})

    def _job(self, config: DistillConfig) -> DistillTask:
        job = DistillTask.load(
            self.student,
            self.teacher,
            documents=self.documents,
            task=self.task,
            config=config,
            shape=self.shape,
            tokenizer=self.tokenizer if self.student is None else None,
            sharing=self.sharing,
        )
        self.sharing = job.sharing
        return job

    def _score(self, job: DistillTask, split: str) -> float:
        return job.score(split)[primary(self.task)]
