"""Whether a draft pays on this machine: how much of it is accepted, what each part costs, what
follows from that, and what is then measured.

Leviathan et al. (2023) predict a speed-up of tau / (c g + 1) for drafts of g tokens, with tau the
block efficiency and c the draft's time over the target's. It holds where a pass over g + 1 tokens
takes as long as one over a single token, which on a processor it does not. So the times are
measured: with t_1 a token of plain decoding, t_d a drafted one, t_v(g + 1) the verification and t_o
all else in a block,

    speed-up(g) = tau(g) t_1 / (g t_d + t_v(g + 1) + t_o).

A shared machine has slow minutes that make a wide pass dearer and one over a single token hardly
so. Parts are therefore timed along with the races, and a prediction holds for the machine that a
race saw.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from transformers import PreTrainedModel

from attar.decode.agreement import Texts, agreement
from attar.decode.draft_vocabulary import shortened
from attar.decode.forced import Ids
from attar.decode.race import Race, race
from attar.decode.settings import SpecConfig
from attar.decode.timer import StepTimer, Times
from attar.decode.verification import LossyKind
from attar.errors import ConfigError
from attar.report.tables import Table

#: prompts that the parts are timed on, at most, and half of those that there are
_TIMED = 4
#: a speed-up nearer to 1 than this may be the clock's
_NOISE = 0.03


@dataclass(frozen=True)
class SpeedupEstimate:
    """What drafts of some length give at one temperature.

    Attributes:
        length: tokens of a draft.
        block_efficiency: tokens for each pass of the target, read off the target's texts.
        published: speed-up by the published formula, tau / (c g + 1).
        predicted: speed-up by measured times.
    """

    length: int
    block_efficiency: float
    published: float
    predicted: float


@dataclass(frozen=True)
class Profile:
    """A pair at one temperature.

    Attributes:
        temperature: 0 is greedy.
        length: of the drafts that promised most before anything was raced.
        alpha: acceptance rate of a token.
        acceptance: of the first, second, ... drafted token, where it is drafted.
        estimates: for each length of a draft.
        times: of the parts.
        races: what was then measured.
    """

    temperature: float
    length: int
    alpha: float
    acceptance: list[float]
    estimates: list[SpeedupEstimate]
    times: Times
    races: list[Race] = field(default_factory=list)

    @property
    def best(self) -> SpeedupEstimate:
        """What drafts of the chosen length give."""
        return next(one for one in self.estimates if one.length == self.length)

    @property
    def speedup(self) -> float:
        """The best that was measured; what is predicted where no race was run."""
        return max((race.speedup for race in self.races), default=self.best.predicted)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"best": self.best.length, "c": self.times.cost}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Profile":
        """A profile back from what `to_dict` gives, also where it went through a file."""
        given: dict[str, Any] = {field.name: stored[field.name] for field in fields(cls)}
        times = dict(stored["times"])
        times["verify"] = {int(width): seconds for width, seconds in times["verify"].items()}
        given["estimates"] = [SpeedupEstimate(**one) for one in stored["estimates"]]
        given["races"] = [Race(**one) for one in stored["races"]]
        given["times"] = Times(**times)
        return cls(**given)

    def text(self, lossy: LossyKind | None = None) -> str:
        """The profile for people, with its verdict in the last line.

        Args:
            lossy: how verification in the races was, for a line that says so.
        """
        head = f"at temperature {self.temperature:g}" if self.temperature else "greedy"
        wide = max(self.times.verify)
        dearer = self.times.verify[wide] / self.times.verify[1]
        rows = [
            [
                str(one.length),
                f"{one.block_efficiency:.2f}",
                f"{chance:.2f}",
                f"{one.published:.2f}",
                f"{one.predicted:.2f}",
            ]
            for one, chance in zip(self.estimates, self.acceptance, strict=True)
        ]
        lines = [
            f"{head}: acceptance rate {self.alpha:.3f}, cost of a drafted token c "
            f"{self.times.cost:.2f}, a pass over {wide} tokens takes {dearer:.2f} times as long as "
            "one over a single token",
            "",
            Table(_COLUMNS, rows).text(),
            "speed-up: published, by the paper's formula; predicted, from times measured here",
            "",
            *(f"measured, {race}" for race in self.races),
        ]
        if lossy:
            lines.append(f"lossy verification ({lossy}): the texts are not the target's own")
        verdict = "makes no difference"
        if abs(self.speedup - 1) > _NOISE:
            verdict = "pays" if self.speedup > 1 else "does not pay"
        lines.append(f"Drafting {verdict} here: {self.speedup:.2f} times plain decoding.")
        return "\n".join(lines)


_COLUMNS = [
    "drafted tokens",
    "block efficiency",
    "last one accepted",
    "published",
    "predicted",
]


def profile(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    *,
    prompts: Sequence[Ids],
    temperature: float,
    max_new_tokens: int = 64,
    lengths: Sequence[int] = range(1, 9),
    rounds: int = 3,
    stops: Sequence[int] = (),
    config: SpecConfig = SpecConfig(),
    seed: int = 0,
) -> Profile:
    """Measure a pair at one temperature.

    Args:
        target: in evaluation mode.
        draft: in evaluation mode, of the same tokenizer.
        prompts: token ids.
        temperature: 0 is greedy.
        max_new_tokens: of a text.
        lengths: of drafts.
        rounds: of the races, plain and with drafts in turns; 0: none are run.
        stops: tokens that end a text.
        config: how drafts are made and verified; lengths are set here.
        seed: of what the target writes.

    Raises:
        ConfigError: there is no prompt, or no length.
    """
    if not prompts or not lengths:
        raise ConfigError("a profile needs at least one prompt and one length of a draft")
    draft = shortened(draft, config.draft_vocabulary)
    texts = Texts.of(
        target,
        prompts,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        seed=seed,
        stops=stops,
    )
    agreed = agreement(target, draft, texts=texts)
    timer = StepTimer(
        target, draft, lengths=lengths, temperature=temperature, tokens=max_new_tokens
    )
    count = min(_TIMED, -(-len(prompts) // 2))
    timed = list(prompts[:: max(1, len(prompts) // count)][:count])
    for prompt in timed:
        timer.time(prompt)
    times = timer.times()
    efficiencies = {length: agreed.block_efficiency(length) for length in lengths}
    estimates = _estimates(efficiencies, times)
    predicted = Profile(
        temperature=temperature,
        length=max(estimates, key=lambda one: one.predicted).length,
        alpha=agreed.alpha,
        acceptance=agreed.acceptance(max(lengths)),
        estimates=estimates,
        times=times,
    )
    if not rounds:
        return predicted
    policies = [replace(config, policy="constant", draft_tokens=predicted.length)]
    policies.append(replace(config, policy="cost", draft_tokens=max(lengths)))
    races = race(
        target,
        draft,
        prompts=prompts,
        policies=policies,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        rounds=rounds,
        stops=stops,
        before=lambda prompt: timer.time(prompt) if prompt in timed else None,
    )
    times = timer.times()
    return replace(predicted, races=races, times=times, estimates=_estimates(efficiencies, times))


def _estimates(efficiencies: dict[int, float], times: Times) -> list[SpeedupEstimate]:
    """For each length, with tau tokens for each pass of the target."""
    return [
        SpeedupEstimate(
            length,
            tau,
            tau / (times.cost * length + 1),
            tau * times.plain / times.block(length),
        )
        for length, tau in efficiencies.items()
    ]
