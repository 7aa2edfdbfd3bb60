"""What an administrator decides about a project."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from attar.errors import DataError, check_types, require
from attar.methods.active_segmentation.engines import ENGINES

ARMS = ("random", "active")
_LANGUAGE_TAG = "[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*"


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig:
    """The settings of a project; those of drawing and of the segmenter are plain JSON, which
    `DrawConfig` and `SegmenterConfig` check."""

    language: str = "th"
    """Language of the text, as in BCP 47."""
    lease_seconds: float = 1200.0
    """How long a task is kept for somebody who shows no sign of life."""
    beat_seconds: float = 60.0
    """How often an open editor says that somebody is there."""
    per_arm: int = 10
    """Tasks of each arm in a block."""
    overlap_share: float = 0.1
    """Share of an arm's sentences that several people label."""
    overlap_annotators: int = 2
    """How many people those are."""
    control_share: float = 0.05
    """Share of control items, whose answer is known, in a block."""
    evaluation_share: float = 0.2
    """Share of evaluation sentences in a block, until all of them are labelled."""
    relabel_share: float = 0.25
    """Share of old labels that a changed guideline puts in question, in a block."""
    evaluation_annotators: int = 1
    """How many people label an evaluation sentence."""
    reserve_fraction: float = 0.02
    """Share of the corpus that is kept for evaluation."""
    reserve_minimum: int = 1000
    """Sentences that are kept for evaluation, at least."""
    seed_sentences: int = 100
    """First sentences of the random order, which belong to both arms."""
    prefill: bool = True
    """Show the cuts of the model in force, for annotators to correct."""
    show_doubts: bool = False
    """Mark the places in the shown cuts where the model is unsure. That tells how a sentence was
    scored, so only where arms are not compared: with the scorer union."""
    prefill_none_share: float = 0.05
    """Share of tasks that begin without cuts, to see how far the model's bind people."""
    cold_start: str | None = None
    """An engine of PyThaiNLP, such as newmm or deepcut, whose cuts are shown as long as there is no
    model. Unset: people begin without any, and are not bound to the guideline of another."""
    retrain_after: int = 50
    """New annotations after which the models are trained again; 0: only when asked to."""
    retrain_characters: int = 0
    """New characters of annotated sentences after which they are trained again; 0: they do not
    count."""
    retrain_hours: float = 0.0
    """Hours after which they are trained again if there is any new annotation; 0: time does not
    count."""
    refits: int = 0
    """Models fitted to resamples of each arm's sentences, for the training interval; 5 to 8 give an
    idea of it, and take as many trainings."""
    keep_runs: int = 5
    """Training runs whose models stay on the disk."""
    low_water: int = 40
    """Open tasks of an arm below which the next batch is drawn."""
    longest: int = 300
    """Characters of a sentence, at most; longer ones are neither imported nor drawn."""
    idle_seconds: float = 60.0
    """Gaps longer than this do not count as an annotator's time."""
    draw: Mapping[str, Any] = field(default_factory=dict)
    """Options of drawing that both arms share, by name."""
    segmenter: Mapping[str, Any] = field(default_factory=dict)
    """Options of the segmenter, by name."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("lease_seconds", "beat_seconds", "idle_seconds"):
            require(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        for name in (
            "per_arm",
            "overlap_annotators",
            "evaluation_annotators",
            "longest",
            "keep_runs",
        ):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in (
            "reserve_minimum",
            "seed_sentences",
            "retrain_after",
            "retrain_characters",
            "retrain_hours",
            "refits",
            "low_water",
        ):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in (
            "overlap_share",
            "control_share",
            "evaluation_share",
            "relabel_share",
            "reserve_fraction",
            "prefill_none_share",
        ):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "between 0 and 1")
        require(
            self.beat_seconds < self.lease_seconds,
            "beat_seconds",
            self.beat_seconds,
            f"less than lease_seconds ({self.lease_seconds})",
        )

        known = self.cold_start is None or self.cold_start in ENGINES
        require(known, "cold_start", self.cold_start, f"one of {', '.join(ENGINES)}, or none")
        weighed = self.refits == 0 or self.segmenter.get("solver", "own") == "own"
        require(weighed, "refits", self.refits, "0 with the solver crfsuite, which weighs nothing")

    @property
    def comparing(self) -> bool:
        """Whether the arms are independent samples, each ranked by its own model: then nothing that
        people are shown may tell them how a sentence was scored."""
        return self.draw.get("scorer", "own") == "own"

    def require_sound(self) -> None:
        """Refuse what no new setting may be, though a project of an earlier version may have it:
        a language that is none, and what would tell annotators how a sentence was scored.

        Raises:
            ConfigError: the language is no tag, or doubts are shown while arms are compared.
        """
        tag = re.fullmatch(_LANGUAGE_TAG, self.language)
        require(tag is not None, "language", self.language, "a tag of BCP 47, such as th")
        expected = "off while the arms are compared, which is so unless the scorer is union"
        blind = not (self.show_doubts and self.comparing)
        require(blind, "show_doubts", self.show_doubts, expected)

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "AnnotateConfig":
        """What was stored.

        Raises:
            DataError: it holds options that this version does not know.
        """
        known = {one.name for one in fields(cls)}
        if extra := sorted({*stored} - known):
            raise DataError(
                f"the project's settings hold {extra[0]!r}, which this version of Attar does not "
                "know; use the version that wrote them"
            )
        return cls(**stored)
