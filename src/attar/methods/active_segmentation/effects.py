"""What each kind of event does to the two kinds of arm, and what is to be done about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from attar.methods.active_segmentation.events import Kind, Policy

Change = Literal[
    "none",
    "unknown",
    "new_text_first",
    "not_uniform",
    "labels_go",
    "stays_uniform",
    "old_labels_contradict",
    "doubt_moves",
    "offsets_move",
    "picked_for_another",
    "mixed_rules",
    "corrections_differ",
    "habits_on_hard_items",
    "habits_on_average_items",
]
Action = Literal[
    "backfill",
    "rescore",
    "refit",
    "recompute",
    "relabel_test",
    "check_transfer",
    "train_annotator",
    "raise_overlap",
    "new_batch",
]


@dataclass(frozen=True)
class Effect:
    """What an event changes about a ranked and about a random sample, what to do then, and the
    policies for old labels that make sense, the best first. Advice, which the service shows.
    """

    active: Change = "none"
    random: Change = "none"
    actions: tuple[Action, ...] = ()
    policies: tuple[Policy, ...] = ("keep",)


_EFFECTS: dict[Kind, Effect] = {
    "corpus.add": Effect("new_text_first", "not_uniform", ("backfill", "rescore")),
    "corpus.remove": Effect("labels_go", "stays_uniform", ("rescore", "refit")),
    "guideline.change": Effect(
        "doubt_moves",
        "old_labels_contradict",
        ("relabel_test", "refit", "recompute", "rescore"),
        ("migrate", "relabel", "tag", "drop", "keep"),
    ),
    "normaliser.change": Effect("offsets_move", "offsets_move", ("refit", "recompute", "rescore")),
    "features.change": Effect("picked_for_another", "none", ("refit", "rescore", "check_transfer")),
    "model.change": Effect(
        "picked_for_another", "none", ("refit", "recompute", "rescore", "check_transfer")
    ),
    "hyper.change": Effect("picked_for_another", "none", ("refit", "rescore")),
    "strategy.change": Effect("mixed_rules", "none", ("new_batch",)),
    "prefill.change": Effect("corrections_differ", "corrections_differ"),
    "evalset.change": Effect("none", "none", ("relabel_test", "recompute")),
    "annotator.join": Effect(
        "habits_on_hard_items", "habits_on_average_items", ("train_annotator", "raise_overlap")
    ),
    "annotator.leave": Effect(policies=("keep", "drop")),
    "tool.upgrade": Effect("unknown", "unknown", ("refit",)),
    "annotator.train": Effect(),
    "account.change": Effect(),
    "pause": Effect(),
    "resume": Effect(),
}
EFFECTS: Mapping[Kind, Effect] = MappingProxyType(_EFFECTS)
