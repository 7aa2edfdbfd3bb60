"""A space of choices, of which some only exist with others.

Each choice has a name and a few values. A rule says for which earlier choices it has an effect, and
everything here follows the rules: drawing, listing, comparing, and what an Optuna trial suggests.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attar.errors import ConfigError, require

if TYPE_CHECKING:  # Optuna is slow to import
    from optuna.trial import BaseTrial

Condition = Callable[[Mapping[str, Any]], bool]
"""Whether a choice has an effect, given the others."""
_PLAIN = (bool, int, float, str, type(None))


def word(name: str, value: Any) -> str:
    """A value of a choice as a word."""
    return str(value)


@dataclass(frozen=True, eq=False)
class ChoiceSpace(Mapping[str, tuple[Any, ...]]):
    """The choices by name, each with its values; a mapping of the two.

    Attributes:
        choices: values by name, in the order in which they are chosen.
        rules: of choices that do not always have an effect; a rule reads choices before its own.
        label: a value as a word; two values of one choice have different words.
        read: the value that a user means, such as a tuple for a list.
        version: raised when a rule changes, so that `space_id` tells studies under others apart.
        noun: how an error calls what is chosen.
    """

    choices: Mapping[str, tuple[Any, ...]]
    rules: Mapping[str, Condition] = field(default_factory=lambda: MappingProxyType({}))
    label: Callable[[str, Any], str] = word
    read: Callable[[str, Any], Any] = lambda name, value: value
    version: int = 1
    noun: str = "a trial"

    def __getitem__(self, name: str) -> tuple[Any, ...]:
        return self.choices[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.choices)

    def __len__(self) -> int:
        return len(self.choices)

    def space_id(self) -> str:
        """Twelve hexadecimal digits that change with choices, values and the version of the rules,
        for records of a search."""
        text = json.dumps({"rules": self.version, "choices": dict(self.choices)})
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def applies(self, name: str, chosen: Mapping[str, Any]) -> bool:
        """Whether a choice has an effect, given the others."""
        return name not in self.rules or self.rules[name](chosen)

    def active(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of all values that have an effect, in the order of the space."""
        return {name: values[name] for name in self.choices if self.applies(name, values)}

    def contains(self, values: Mapping[str, Any]) -> bool:
        """Whether every choice that has an effect takes a value of the space."""
        return all(value in self.choices[name] for name, value in self.active(values).items())

    def words(self, values: Mapping[str, Any]) -> dict[str, str]:
        """The values that have an effect, as words."""
        return {name: self.label(name, value) for name, value in self.active(values).items()}

    def narrow(self, only: Mapping[str, Sequence[Any]]) -> "ChoiceSpace":
        """The space with fewer values of some choices.

        Raises:
            ConfigError: a choice is unknown, left without a value, or given one out of the space.
        """
        self.require_known(only)
        narrowed = dict(self.choices)
        for name, values in only.items():
            listed = isinstance(values, Iterable) and not isinstance(values, str)
            require(listed and bool(list(values)), name, values, "a list with at least one value")
            kept = tuple(self.read(name, value) for value in values)
            own = self.choices[name]
            expected = f"one of {', '.join(self.label(name, value) for value in own)}"
            for value in kept:
                # In Python True is 1 and 1.0; here only numbers may stand for each other.
                same = [
                    o for o in own if o == value and isinstance(o, bool) == isinstance(value, bool)
                ]
                require(bool(same), name, value, expected)
            narrowed[name] = tuple(value for value in own if value in kept)
        return replace(self, choices=MappingProxyType(narrowed))

    def require_known(self, names: Iterable[str]) -> None:
        """Refuse a name that is no choice.

        Raises:
            ConfigError: with the names that there are.
        """
        unknown = [str(name) for name in names if name not in self.choices]
        if unknown:
            raise ConfigError(
                f"{self.noun} has no choice named {' or '.join(unknown)}; choose among "
                f"{', '.join(self.choices)}"
            )

    def sample(self, rng: random.Random) -> dict[str, Any]:
        """Draw every choice that has an effect uniformly, one after another.

        So each value of an early choice is as likely as any other, however many variants it has.
        """
        return self._compose(lambda name, values: rng.choice(values))

    def suggest(self, trial: "BaseTrial") -> dict[str, Any]:
        """Let an Optuna trial choose; it is only asked for what has an effect."""

        def choose(name: str, values: tuple[Any, ...]) -> Any:
            by_stored = {self._stored(name, value): value for value in values}
            return by_stored[trial.suggest_categorical(name, tuple(by_stored))]

        return self._compose(choose)

    def stored(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values that have an effect, as Optuna stores them: plain ones as they are, others as
        words."""
        return {name: self._stored(name, value) for name, value in self.active(values).items()}

    def _stored(self, name: str, value: Any) -> Any:
        plain = all(isinstance(own, _PLAIN) for own in self.choices[name])
        return value if plain else self.label(name, value)

    def enumerate_all(self) -> list[dict[str, Any]]:
        """Every combination of choices that have an effect once, always in the same order."""

        def extend(chosen: dict[str, Any], names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
            if not names:
                yield chosen
            elif not self.applies(names[0], chosen):
                yield from extend(chosen, names[1:])
            else:
                for value in self.choices[names[0]]:
                    yield from extend({**chosen, names[0]: value}, names[1:])

        return list(extend({}, tuple(self.choices)))

    def _compose(self, choose: Callable[[str, tuple[Any, ...]], Any]) -> dict[str, Any]:
        chosen: dict[str, Any] = {}
        for name, values in self.choices.items():
            if self.applies(name, chosen):
                chosen[name] = choose(name, values)
        return chosen
