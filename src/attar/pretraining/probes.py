"""Probes of a pre-trained T5: it is fine-tuned on a task of text to text, and scored."""

import logging
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.data.data import DataLike
from attar.data.pairs import Pairs, load_texts
from attar.errors import TrainingDivergedError, require
from attar.evaluation.metrics import normalise, overlap
from attar.evaluation.pairs import translations
from attar.models import evenly_spaced
from attar.train.pairs import pair_terms
from attar.train.trainer import TrainConfig, fit

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """How a probe is fine-tuned and scored."""

    probe_steps: int = 300
    """Steps of fine-tuning."""
    probe_batch_size: int = 16
    """Pairs in a step of fine-tuning."""
    probe_learning_rate: float = 1e-3
    """Peak learning rate of fine-tuning, by AdamW, on a cosine."""
    probe_context: int = 128
    """Tokens of a text of a probe, at most."""
    probe_examples: int = 500
    """Pairs of the test split that are scored, spread over it, at most."""

    def __post_init__(self) -> None:
        for name in ("probe_steps", "probe_batch_size", "probe_context", "probe_examples"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        rate = self.probe_learning_rate
        require(rate > 0, "probe_learning_rate", rate, "above 0")


@dataclass(frozen=True)
class Probe:
    """Pairs of texts: what is read, and what is to be written.

    Attributes:
        name: in tables.
        train: sources and targets to fine-tune on.
        test: the same to score.
    """

    name: str
    train: tuple[list[str], list[str]]
    test: tuple[list[str], list[str]]

    @classmethod
    def load(cls, data: DataLike, *, name: str) -> "Probe":
        """The pairs of a table with the columns `source` and `target`, or those that it names.

        Args:
            data: see `attar.data.pairs.load_pairs`.
            name: in tables.

        Raises:
            DataError: it cannot be read, or has no such columns.
        """
        train, test = (
            load_texts(data, split=split, remedy=f"rename those of the probe {name} to these")
            for split in ("train", "test")
        )
        return cls(name, train, test)


def probe_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    probe: Probe,
    config: ProbeConfig,
    seed: int = 0,
) -> dict[str, float]:
    """Fine-tune the model in place, and score what it writes by itself.

    Args:
        model: a T5.
        tokenizer: of the model.
        probe: the task.
        config: options.
        seed: of the order of the pairs.

    Returns:
        `exact`: share of the test pairs whose target is written, but for case, punctuation and
        articles; `f1`: the mean overlap of words with the target, as SQuAD has it. A model that
        diverges in fine-tuning writes no target: both are 0.
    """
    pairs = Pairs(*probe.train, tokenizer, context=config.probe_context)
    tuning = TrainConfig(
        max_steps=config.probe_steps,
        per_device_train_batch_size=config.probe_batch_size,
        learning_rate=config.probe_learning_rate,
        warmup_steps=0.1,
        seed=seed,
    )
    try:
        fit(model, pairs, config=tuning, compute=pair_terms)
    except TrainingDivergedError as error:
        logger.warning(
            "the probe %s counts as 0, as its fine-tuning diverged: %s", probe.name, error
        )
        return {"exact": 0.0, "f1": 0.0}
    sources, targets = probe.test
    rows = evenly_spaced(min(config.probe_examples, len(sources)), len(sources), first=True)
    longest = max(len(tokenizer(targets[row], verbose=False)["input_ids"]) for row in rows)  # pyright: ignore
    inputs: list[str] = [_cut(sources[row], tokenizer, config.probe_context) for row in rows]
    written = translations(model, inputs, tokenizer, num_beams=1, max_new_tokens=longest)
    pairs_of = [(text, targets[row]) for text, row in zip(written, rows, strict=True)]
    exact = [normalise(text) == normalise(target) for text, target in pairs_of]
    return {
        "exact": sum(exact) / len(exact),
        "f1": sum(overlap(text, target) for text, target in pairs_of) / len(pairs_of),
    }


def _cut(text: str, tokenizer: PreTrainedTokenizerBase, context: int) -> str:
    """The text without what does not fit: a model has to answer anyway."""
    ids: Any = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return text if len(ids) < context else str(tokenizer.decode(ids[: context - 1]))
