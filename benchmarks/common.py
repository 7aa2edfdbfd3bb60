"""What the benchmarks share: a trained parent that is kept, and the line that says how it went."""

import argparse
import json
import platform
import re
import statistics
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from attar import artefacts
from attar.data.data import STDLIB
from attar.pretraining.pretrain import pretrain
from attar.recipes import configured
from attar.report.record import hardware, versions

C = TypeVar("C")


def arguments(description: str) -> argparse.Namespace:
    return parse(description).parse_args()


def parse(description: str) -> argparse.ArgumentParser:
    """The options of every benchmark, to which one may add its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="under 50 seconds, a smaller setting")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="further corpora")
    parser.add_argument("--no-write", action="store_true", help="leave results/ as it is")
    return parser


def parent(size: str, data: str | Path = STDLIB) -> Path:
    """A pocket model trained on some text, made once and kept under ATTAR_HOME."""
    suffix = "" if data == STDLIB else f"-{Path(data).name}"
    folder = artefacts.home() / "benchmarks" / f"pocket-{size}{suffix}"
    if not (folder / "attar.json").exists():
        pretrain(data=data, config=f"pocket/{size}", output_dir=folder, resume=True)
    return folder


def options(recipe: str, kind: type[C], **changes: Any) -> C:
    """The options of a recipe, with some changed."""
    return replace(configured(recipe, kind, recipe=None)[0], **changes)


def finish(file: str, line: Mapping[str, Any], details: Mapping[str, Any], args: Any) -> None:
    """Write results/<name>.json beside the benchmark and print the claim as the last line.

    The name is that of the setting; of a run on a GPU, which stands beside those on processors, the
    card's comes behind it.
    """
    name = "quick" if args.quick else "full"
    if card := details.get("card"):
        name += "-" + re.sub(r"\W+", "-", card.lower())
    record = {
        **line,
        "details": details,
        "setting": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "hardware": hardware() | {"machine": platform.machine()},
    }
    if not args.no_write:
        target = Path(file).parent / "results" / f"{name}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(record, indent=2, default=float) + "\n", encoding="utf-8")
    print(json.dumps(line, default=float))


def kept_rows(file: Path, *, key: str = "cell") -> dict[str, dict[str, Any]]:
    """What a benchmark has measured so far, one JSON object a line, by the value of a key."""
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        with suppress(json.JSONDecodeError):  # of a run that was killed while it wrote
            stored = json.loads(line)
            found[stored[key]] = stored
    return found


def spread(values: list[float]) -> str:
    """Mean and range, for a table."""
    return f"{statistics.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})"
