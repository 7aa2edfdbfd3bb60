"""The random arm is the smallest keys of the corpus, whatever else happens."""

from typing import ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import pools
from attar.methods.active_segmentation import arms
from attar.methods.active_segmentation.drawing import DrawConfig, Pick, draw_active, draw_random

READER = pools.Reader()
WORLD = pools.pool(60, words=5)
RESERVE = arms.reserve([one.uid for one in WORLD], threshold=0.15)


class Project(RuleBasedStateMachine):
    """A corpus that grows and shrinks while both arms are drawn from it."""

    by_uid: ClassVar = {one.uid: one for one in WORLD}

    @initialize(first=st.sets(st.integers(0, 59), min_size=5))
    def begin(self, first: set[int]) -> None:
        self.corpus = {WORLD[index].uid for index in first}
        self.picks: list[Pick] = []
        self.drawn = {"random": set(), "active": set()}

    def ordered(self) -> list[str]:
        """What can be drawn, by key, from the definition."""
        return sorted(self.corpus - RESERVE, key=lambda uid: arms.key(uid, arms.RANDOM))

    @rule(more=st.sets(st.integers(0, 59), max_size=20))
    def add(self, more: set[int]) -> None:
        self.corpus |= {WORLD[index].uid for index in more}

    @rule(fewer=st.sets(st.integers(0, 59), max_size=20))
    def remove(self, fewer: set[int]) -> None:
        self.corpus -= {WORLD[index].uid for index in fewer}

    @rule(budget=st.integers(1, 120), turned=st.booleans())
    def draw_for_random(self, budget: int, turned: bool) -> None:
        pool = [self.by_uid[uid] for uid in sorted(self.corpus, reverse=turned)]
        draw = draw_random(
            pool,
            drawn=self.drawn["random"],
            reserved=RESERVE,
            config=DrawConfig(budget=budget),
            batch=len(self.picks),
        )
        left = [uid for uid in self.ordered() if uid not in self.drawn["random"]]
        assert [pick.uid for pick in draw.picks] == left[: len(draw.picks)]
        assert bool(draw.picks) == bool(left)
        self.keep(draw.picks)

    @rule(
        budget=st.integers(1, 120),
        strategy=st.sampled_from(("mnlp", "stochastic", "random")),
        scored=st.booleans(),
    )
    def draw_for_active(self, budget: int, strategy: str, scored: bool) -> None:
        draw = draw_active(
            [self.by_uid[uid] for uid in self.corpus],
            segmenter=READER if scored else None,
            drawn=self.drawn["active"],
            reserved=RESERVE,
            labelled=self.drawn["random"] | self.drawn["active"],
            config=DrawConfig(budget=budget, strategy=strategy),
            batch=len(self.picks),
        )
        self.keep(draw.picks)

    @rule()
    def restart(self) -> None:
        """All that is known after a restart is the record of picks."""
        self.drawn = {
            arm: {pick.uid for pick in self.picks if pick.arm == arm} for arm in self.drawn
        }

    def keep(self, picks: tuple[Pick, ...]) -> None:
        for pick in picks:
            assert pick.uid not in self.drawn[pick.arm]
            assert pick.uid in self.corpus
            assert pick.uid not in RESERVE
            self.drawn[pick.arm].add(pick.uid)
        self.picks += picks

    @invariant()
    def it_is_the_smallest_keys_as_soon_as_it_is_filled_up(self) -> None:
        order = self.ordered()
        have = self.drawn["random"] & set(order)
        missing = arms.backfill(order, drawn=self.drawn["random"])
        assert have | set(missing) == set(order[: len(have) + len(missing)])


TestProject = Project.TestCase
TestProject.settings = settings(max_examples=25, stateful_step_count=12)
