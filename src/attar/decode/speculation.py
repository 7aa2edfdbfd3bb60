"""`speculation.json`: what a draft was made for, and what it promises where it was measured."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from attar import artefacts, checkpoint
from attar.decode.bench import Profile
from attar.decode.pair import Pair
from attar.errors import DataError
from attar.foreign import read_json
from attar.report.places import seen_from
from attar.report.record import hardware, versions

FILE = "speculation.json"
_FORMAT = 1


def write_speculation(
    folder: Path, pair: Pair, *, profiles: list[Profile], trained: dict[str, Any]
) -> None:
    """Write it next to the draft.

    Args:
        folder: of the draft.
        pair: it and its target.
        profiles: the first is at the temperature that the draft is to serve at.
        trained: how.
    """
    best = profiles[0].best
    about = {
        "format": _FORMAT,
        "target": pair.target.name_or_path,
        "target_fingerprint": checkpoint.fingerprint(pair.target),
        "tokenizer_fingerprint": checkpoint.tokenizer_fingerprint(pair.tokenizer),
        "temperature": profiles[0].temperature,
        "draft_tokens": best.length,
        "predicted_speedup": best.predicted,
        "trained": trained,
        "profiles": [profile.to_dict() for profile in profiles],
        "made_on": hardware(),
        "versions": versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    artefacts.write_text(folder / FILE, json.dumps(seen_from(folder, about), indent=2) + "\n")


def made_for(folder: str | Path, target: PreTrainedModel) -> bool | None:
    """Whether a draft was trained for exactly this target; None where nothing is said of it."""
    file = Path(folder) / FILE
    try:
        stored = read_json(file, "the record of the draft")
        return stored["target_fingerprint"] == checkpoint.fingerprint(target)
    except (DataError, KeyError, TypeError):
        return None
