"""How many tokens are drafted: by what is accepted, and by time."""

import copy
import random

import pytest

from attar.decode.draft_length import Block, Confidence, Constant, CostModel, Heuristic


def feed(
    policy: CostModel, *, draft: float, verify: float, share: float, blocks: int = 60
) -> list[int]:
    """Blocks of one row on a machine where a pass of the target takes `verify` (+ 10% for each
    further token) and one of the draft `draft`, and each drafted token stays with chance `share`;
    the lengths that were asked for."""
    policy.start(1)
    lengths, rng = [], random.Random(0)
    for _ in range(blocks):
        (length,) = policy.counts()
        lengths.append(length)
        kept = next((i for i in range(length) if rng.random() >= share), length)
        seconds = verify * (1 + 0.1 * length)
        policy.learn(Block([length], [kept], length, draft * length, seconds, 0.0))
    return lengths


def test_a_cheap_draft_that_agrees_is_long_and_a_dear_one_off() -> None:
    assert feed(CostModel(8), draft=0.02, verify=1.0, share=0.95)[-1] >= 6
    assert 1 <= feed(CostModel(8), draft=0.2, verify=1.0, share=0.7)[-1] <= 4
    for dear in ({"draft": 0.9, "share": 0.5}, {"draft": 0.1, "share": 0.02}):
        lengths = feed(CostModel(8), verify=1.0, blocks=200, **dear)
        assert lengths[10:].count(0) > 0.9 * len(lengths[10:])
        assert any(lengths[40:])  # it looks again now and then


@pytest.mark.parametrize("found", [0.5, 0.05])
def test_drafts_that_cost_nothing_are_asked_for_though_there_is_not_always_one(
    found: float,
) -> None:
    policy, rng, lengths = CostModel(8), random.Random(1), []
    policy.start(1)
    for _ in range(120):
        (length,) = policy.counts()
        lengths.append(length)
        drafted = length if rng.random() < found else 0
        policy.learn(Block([drafted], [drafted], 0, 1e-4, 1 + 0.1 * drafted, 0.0))
    assert lengths[40:].count(0) < 5


def test_the_first_block_reads_the_prompt_and_tells_no_times() -> None:
    policy = CostModel(4)
    policy.start(1)
    policy.learn(Block([4], [4], 4, 100.0, 100.0, 100.0, first=True))
    assert policy.rates() == [0.0] * 5
    assert policy.counts() == [4]


def test_times_between_measurements_are_on_a_line() -> None:
    policy = CostModel(8)
    policy.start(1)
    for length, seconds in 2 * ((0, 1.0), (4, 1.4), (2, 1.1)):
        policy.learn(Block([length], [0], length, 0.1 * length, seconds, 0.0))
    assert policy.verify_seconds(3) == pytest.approx(1.1)
    assert policy.verify_seconds(4) == pytest.approx(1.25)
    assert policy.verify_seconds(9) == pytest.approx(1.4 + 4 * 0.1)


def test_the_simple_policies() -> None:
    constant, unsure, steps = Constant(3), Confidence(6, threshold=0.5), Heuristic(4)
    for policy in (constant, unsure, steps):
        policy.start(2)
    assert constant.counts() == [3, 3]
    assert unsure.counts() == [6, 6]
    assert unsure.keep_drafting(0, 1, 0.5)
    assert not unsure.keep_drafting(0, 1, 0.49)
    steps.learn(Block([4, 4], [4, 3], 4, 0.0, 0.0, 0.0))
    assert steps.counts() == [6, 3]
    for _ in range(5):
        steps.learn(Block(steps.counts(), [0, 0], 4, 0.0, 0.0, 0.0))
    assert steps.counts() == [1, 1]
    before = steps.counts()
    steps.learn(Block([0, 0], [0, 0], 0, 0.0, 0.0, 0.0))  # nothing was found to be drafted
    assert steps.counts() == before
    steps.select([1])
    constant.select([0])
    assert steps.counts() == [1]
    assert constant.counts() == [3]


def test_times_are_kept_for_batches_of_the_same_size() -> None:
    policy = CostModel(4)
    feed(policy, draft=0.1, verify=1.0, share=0.9, blocks=8)
    policy.start(2)
    assert policy.rates() == [0.0] * 5
    for _ in range(2):
        policy.learn(Block([4, 4], [4, 4], 4, 0.4, 1.4, 0.0))
    known = policy.rates()
    assert known[4] == pytest.approx(5 / 1.8, rel=0.3)
    policy.select([1])  # one of them is done
    policy.start(2)
    assert policy.rates() == known
    policy.start(1)
    assert policy.rates() == [0.0] * 5


class Machine:
    """A clock that nobody waits for: what each block of one row takes, and what it gives. Of the
    drafts that are asked for a share is `found`."""

    def __init__(self, *, draft: float, share: float, found: float = 1.0) -> None:
        self.draft, self.share, self.found, self.verify = draft, share, found, 1.0
        self.policy, self.rng = CostModel(8), random.Random(0)
        self.policy.start(1)

    def run(self, tokens: int, *, stall: float = 1.0, part: int = 0) -> list[int]:
        """The lengths of blocks for at least so many tokens; in the first block one part of the
        work (0 drafting, 1 the target's pass, 2 the loop) takes `stall` passes more."""
        lengths, written = [], 0
        while written < tokens:
            (length,) = self.policy.counts()
            lengths.append(length)
            count = length if self.rng.random() < self.found else 0
            kept = next((i for i in range(count) if self.rng.random() >= self.share), count)
            seconds = [self.draft * count + 1e-4, self.verify * (1 + 0.05 * count), 0.01]
            seconds[part] += (stall - 1) * self.verify
            self.policy.learn(Block([count], [kept], count, *seconds))
            written, stall = written + kept + 1, 1.0
        return lengths


@pytest.mark.parametrize(
    ("draft", "share", "found"), [(0.05, 0.9, 1.0), (0.15, 0.7, 1.0), (0.0, 0.9, 0.3)]
)
@pytest.mark.parametrize("part", [0, 1, 2])
def test_after_any_single_stall_drafting_is_back_within_200_tokens(
    draft: float, share: float, found: float, part: int
) -> None:
    before = Machine(draft=draft, share=share, found=found)
    for n in range(24):
        for stall in (10.0, 1e5):
            machine = copy.deepcopy(before)
            machine.run(200, stall=stall, part=part)
            lengths = machine.run(100)
            assert lengths.count(0) <= 2  # it looks again whether drafting pays
            assert sorted(lengths)[len(lengths) // 2] >= 3
        before.run(1 if n < 16 else 12)  # the stall comes that much later


def test_a_lasting_change_is_followed_within_200_tokens() -> None:
    machine = Machine(draft=0.05, share=0.9)
    for _ in range(2):
        machine.draft = 5.0  # drafting does not pay any more
        machine.run(200)
        assert machine.run(200).count(0) > 180
        machine.draft = 0.05
        machine.run(200)
        assert machine.run(200).count(0) <= 3
        machine.verify, machine.draft = 10 * machine.verify, 10 * 0.05  # all is slower
        machine.run(200)
        assert machine.run(200).count(0) <= 3
        machine.draft = 0.05


def test_a_stall_of_many_blocks_ends_with_it() -> None:
    for blocks in (1, 3, 8, 20, 60):
        machine = Machine(draft=0.05, share=0.9)
        machine.run(20 + blocks)
        machine.verify, machine.draft = 100.0, 5.0
        for _ in range(blocks):
            machine.run(1)
        machine.verify, machine.draft = 1.0, 0.05
        machine.run(200)
        assert machine.run(200).count(0) <= 3
