"""The best networks of a ranking on a task: fine-tuned for a little, and the best of them for more.

A part of the training split chooses. The test split is scored once, with the network that was
chosen.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset, DatasetDict
from torch import nn
from transformers import PreTrainedTokenizerBase

from attar import checkpoint
from attar.data.labelled.encode import MODEL_INPUTS
from attar.data.labelled.items import hard_loss, logits_of
from attar.data.labelled.load import load_labelled
from attar.data.labelled.task import Task
from attar.data.sources import Batch
from attar.data.text import hash_of
from attar.errors import ConfigError, DataError
from attar.evaluation.metrics import primary
from attar.models import require_context
from attar.runtime import place
from attar.search.halving import Rung, successive_halving
from attar.search.supernet import Supernet
from attar.supernet.members import Member
from attar.train.labelled import LabelledConfig, LabelledLoss, train_labelled
from attar.train.labelled_task import LabelledTask
from attar.train.trainer import Compute, Term

#: of the training rows, those that choose
HELD_OUT = 0.1


@dataclass(frozen=True)
class Proxy:
    """A task that networks are tried on.

    Attributes:
        supernets: by name.
        tokenizer: theirs.
        documents: the splits of `load_labelled`, but with the rows that choose as validation.
        task: what is learnt.
        config: of each fine-tuning; its epochs are those of the rung.
    """

    supernets: Mapping[str, Supernet]
    tokenizer: PreTrainedTokenizerBase
    documents: DatasetDict
    task: Task
    config: LabelledConfig = field(default_factory=LabelledConfig)

    @classmethod
    def load(
        cls,
        data: str | Path,
        *,
        supernets: Mapping[str, Supernet],
        tokenizer: PreTrainedTokenizerBase,
        config: LabelledConfig,
    ) -> "Proxy":
        """Read labelled data, and cut what chooses from its training rows.

        Raises:
            ConfigError: its texts may be longer than a network has positions for.
            DataError: the data cannot be read, or has too few rows.
        """
        for supernet in supernets.values():
            try:
                require_context(supernet.parent, config.context)
            except ConfigError as error:  # it begins with the name of the option
                raise ConfigError(f"proxy_{error}") from error
        documents, task = load_labelled(data)
        train, chooses = held_out(documents["train"])
        if not len(train) or not len(chooses):
            raise DataError(
                f"expected labelled rows to train on and others to choose by in {str(data)!r}, "
                f"found {len(documents['train'])} in its training split; give more rows"
            )
        # its own validation split, such as a development set, takes no part
        splits = DatasetDict(
            {"train": train, "validation": chooses, "test": documents["test"]}  # pyright: ignore[reportArgumentType,reportCallIssue]
        )
        return cls(supernets, tokenizer, splits, task, config)

    def search(
        self, members: Sequence[Member], *, rungs: Sequence[float], keep: float, state: Path
    ) -> tuple[list[Rung[Member]], dict[str, Any]]:
        """Halve the networks rung by rung; the rungs, and what the best one scores on the test
        split after as many epochs as the last rung has."""
        done = successive_halving(
            members,
            lambda member, epochs: self._tuned(member, epochs, "validation"),
            rungs=rungs,
            keep=keep,
            key=lambda member: f"{member[0]} {member[1].to_json()}",
            state=state,
        )
        best = done[-1].scored[0][0]
        measure = primary(self.task)
        tested = successive_halving(  # kept in the state, too
            [best],
            lambda member, epochs: self._tuned(member, epochs, "test"),
            rungs=[rungs[-1]],
            key=lambda member: f"test: {member[0]} {member[1].to_json()}",
            state=state,
        )
        found = {"measure": measure, "test": tested[0].scored[0][1]}
        return done, found | {"test_rows": len(self.documents["test"])}

    def _tuned(self, member: Member, epochs: float, split: str) -> float:
        """The primary figure of a network that is fine-tuned for so many epochs."""
        name, arch = member
        with TemporaryDirectory() as folder:
            network = self.supernets[name].extract(arch)
            checkpoint.save(network, folder, tokenizer=self.tokenizer)
            job = LabelledTask.load(
                folder,
                None,
                documents=self.documents,
                task=self.task,
                tokenizer=self.tokenizer,
                seed=self.config.seed,
            )
        job.require_context(self.config.context)
        config = LabelledConfig(**{**vars(self.config), "num_train_epochs": epochs})
        train_labelled(job, label_loss(self.task), config=config)
        score = job.score(split, context=config.context)[primary(self.task)]
        place(job.student, "cpu")
        return score


def label_loss(task: Task) -> LabelledLoss:
    """The loss of the labels alone."""

    def compute(model: nn.Module, batch: Batch) -> dict[str, Term]:
        inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
        values = hard_loss(logits_of(model(**inputs), task), batch, task=task)
        return {"loss": Term(values, per="labelled")}

    def make(teacher: object) -> Compute:
        return compute

    return LabelledLoss(make=make)


def held_out(rows: Dataset) -> tuple[Dataset, Dataset]:
    """The rows without those that choose, and these: a tenth by a hash of their texts, at least
    one text, so that equal texts stay together."""
    inputs = [name for name in rows.column_names if name not in ("label", "answers", "source")]
    texts = zip(*(rows[name] for name in inputs), strict=True)
    marks = [hash_of(json.dumps(text)) for text in texts]
    distinct = sorted(set(marks))
    chosen = set(distinct[: max(1, round(HELD_OUT * len(distinct)))])
    away = [i for i, mark in enumerate(marks) if mark in chosen]
    left = [i for i, mark in enumerate(marks) if mark not in chosen]
    return rows.select(left), rows.select(away)
