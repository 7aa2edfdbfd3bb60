"""What a training run depended on, in hashes, so that a change that nobody logged is noticed."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from attar.methods.active_segmentation.events import Event, Kind
from attar.report.record import version_of


@dataclass(frozen=True)
class Fingerprint:
    """A hash of each thing that a model depends on besides its labels."""

    code: str = ""
    normaliser: str = ""
    features: str = ""
    guideline: str = ""
    corpus: str = ""
    annotators: str = ""
    dictionary: str = ""

    @classmethod
    def of(
        cls,
        *,
        features: Any,
        guideline: str,
        corpus: Iterable[str],
        annotators: Iterable[str],
        dictionary: Iterable[str] = (),
        normaliser: str = "none",
    ) -> "Fingerprint":
        """Of a training run.

        Args:
            features: everything that says how the model is built and trained, as plain JSON.
            guideline: name of the version in force, with its text if that is at hand.
            corpus: `uid` of each sentence, in any order.
            annotators: whose labels are used, in any order.
            dictionary: the words of the dictionary features, in any order.
            normaliser: its name.
        """
        return cls(
            code=code_hash(),
            normaliser=_hash([normaliser]),
            features=_hash([json.dumps(features, sort_keys=True, default=str)]),
            guideline=_hash([guideline]),
            corpus=_hash(sorted(corpus)),
            annotators=_hash(sorted(set(annotators))),
            dictionary=_hash(sorted(set(dictionary))),
        )

    def to_dict(self) -> dict[str, str]:
        """Plain JSON; `from_dict` reads it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, str]) -> "Fingerprint":
        """One that a run left; what it does not name is unknown."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in stored.items() if name in known})


#: part -> the kind that a change of it is logged as, and others that explain it, too
EXPLAINED_BY: Mapping[str, tuple[Kind, ...]] = MappingProxyType(
    {
        "code": ("tool.upgrade", "model.change"),
        "normaliser": ("normaliser.change",),
        "features": ("features.change", "hyper.change", "model.change"),
        "guideline": ("guideline.change",),
        "corpus": ("corpus.add", "corpus.remove"),
        "annotators": ("annotator.join", "annotator.leave"),
        "dictionary": ("features.change", "hyper.change", "model.change"),
    }
)


def detect(
    last: Fingerprint, now: Fingerprint, *, logged: Iterable[Event], sequence: int, time: str = ""
) -> list[Event]:
    """An event for each part that differs from the last run without one in the log.

    A part that either run does not know says nothing.

    Args:
        last: of the last training run.
        now: of this one.
        logged: the events since the last run.
        sequence: the last label that was made so far.
        time: ISO 8601, UTC.
    """
    kinds = {event.kind for event in logged}
    found = []
    for part, explaining in EXPLAINED_BY.items():
        before, after = getattr(last, part), getattr(now, part)
        if before and after and before != after and kinds.isdisjoint(explaining):
            found.append(
                Event(
                    kind=explaining[0],
                    sequence=sequence,
                    before=before,
                    after=after,
                    scope=part,
                    time=time,
                    detected=True,
                )
            )
    return found


def code_hash() -> str:
    """Of Attar's version and the source of this package, which a working copy may have changed."""
    root = files("attar.methods.active_segmentation")
    sources = sorted(
        (part.name, part.read_text(encoding="utf-8"))
        for part in root.iterdir()
        if part.name.endswith(".py")
    )
    return _hash([version_of("attar"), *(text for pair in sources for text in pair)])


def _hash(parts: Iterable[str]) -> str:
    made = hashlib.blake2b(digest_size=16)
    for part in parts:
        written = part.encode("utf-8", "surrogatepass")
        made.update(len(written).to_bytes(8, "little") + written)
    return made.hexdigest()
