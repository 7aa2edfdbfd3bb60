"""`attar supernet export`: one network as a checkpoint of its own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from attar import artefacts, checkpoint
from attar.arch import Arch
from attar.errors import AttarError, ConfigError, shown
from attar.families import Body, is_encoder_decoder
from attar.measure.cost import cost_of
from attar.models import has_cache
from attar.report.artefact import Artefact, artefact
from attar.report.record import Run
from attar.search.ranking import Row, embeddings_of, read_ranking
from attar.supernet.by_autodistil import size_as_published
from attar.supernet.opening import PAPERS, Opened

ARCH_FILE = "arch.json"
_DIGITS = 18  # of the number of a row; longer ones are none


def export(
    model: str | Path,
    *,
    arch: str | int | Mapping[str, Any] = "best",
    ranking: str | Path | None = None,
    space: str | None = None,
    output_dir: str | Path,
) -> Run:
    """Write one network of a supernet as an ordinary checkpoint with its tokenizer.

    Beside it lies `arch.json`, with its widths, what its tensors hold, and what the paper's
    formulas make of it.

    Args:
        model: folder that `attar supernet train` wrote.
        arch: `best`, the first row of a ranking; the number of another row; `largest` or
            `smallest`; or the widths, as in the column `arch` of a ranking.
        ranking: folder that `attar supernet search` wrote, or its rank.csv.
        space: which of several supernets; None: the one that has the network.
        output_dir: where the checkpoint goes; must be new or empty.

    Returns:
        The record: the network's cost, and in `details` its widths, sizes and the class that holds
        it.

    Raises:
        CompatibilityError: no class of transformers can hold the network.
        ConfigError: there is no such network, or the output folder is taken.
        DataError: the supernet or the ranking is missing or damaged.
    """
    settings = {
        "model": str(model),
        "arch": arch if isinstance(arch, str | int) else _as_arch(arch).to_dict(),
        "ranking": None if ranking is None else str(ranking),
        "space": space,
    }
    with artefact(output_dir, command="supernet export", settings=settings) as work:
        opened = Opened.load(model)
        work.run.method = opened.description.method
        work.run.paper = PAPERS[work.run.method]  # pyright: ignore[reportArgumentType]
        name, chosen = find_network(opened, arch, ranking=ranking, space=space)
        save_network(work, opened, name=name, arch=chosen)
    return work.run


def save_network(
    work: Artefact, opened: Opened, *, name: str, arch: Arch, folder: Path | None = None
) -> None:
    """Write a network, `arch.json` and what is known of it into a record.

    Args:
        work: of the record.
        opened: the supernets.
        name: of the one that it is of.
        arch: its widths.
        folder: where the checkpoint goes; None: that of the record.
    """
    network, published = opened.supernets[name].extract(arch), None
    if opened.description.method == "autodistil":
        kind, vocabulary = network.config.model_type, Body(network).vocabulary
        published = size_as_published(arch, kind, vocabulary=vocabulary)
    row = Row(
        name,
        arch,
        loss=None,
        cost=cost_of(network),
        embeddings=embeddings_of(network),
        published=published,
    )
    place = folder or work.folder
    form = checkpoint.save(network, place, tokenizer=opened.tokenizer)
    config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    described = {"space": name, "arch": arch.to_dict(), **row.sizes()}
    described |= {"form": form, "class": config["architectures"][0]}
    artefacts.write_text(place / ARCH_FILE, json.dumps(described, indent=2) + "\n")
    work.run.cost["after"] = row.cost.to_dict()
    work.run.details |= described
    work.card = {"pipeline_tag": _tag(network)}


def _tag(network: PreTrainedModel) -> str | None:
    if has_cache(network):
        return "text-generation"
    if is_encoder_decoder(network):
        return "translation" if "marian" in network.config.model_type else "text2text-generation"
    return None


def find_network(
    opened: Opened,
    arch: str | int | Arch | Mapping[str, Any],
    *,
    ranking: str | Path | None = None,
    space: str | None = None,
) -> tuple[str, Arch]:
    """The network that a user means, and the name of its supernet; see `export`."""
    spaces = opened.description.spaces
    if space is not None and space not in spaces:
        raise ConfigError(
            f"the supernet {str(opened.folder)!r} has no space {space!r}; it has "
            f"{', '.join(spaces)}"
        )
    if arch in ("largest", "smallest"):
        names = [space] if space is not None else list(spaces)
        ends = {name: getattr(spaces[name], str(arch)) for name in names}
        sizes = {name: _params(opened, name, end) for name, end in ends.items()}
        name = (max if arch == "largest" else min)(sizes, key=sizes.__getitem__)
        return name, ends[name]
    number = isinstance(arch, str) and arch.isdecimal() and len(arch) <= _DIGITS
    if arch == "best" or isinstance(arch, int) or number:
        row = _row(1 if arch == "best" else int(str(arch)), ranking, space=space)
        return _owner(opened, row["arch"], space=row.get("space") or space)
    return _owner(opened, _as_arch(arch), space=space)  # pyright: ignore[reportArgumentType]


def _params(opened: Opened, name: str, arch: Arch) -> int:
    return sum(p.numel() for p in opened.supernets[name].child(arch).skeleton.parameters())


def _row(number: int, ranking: str | Path | None, *, space: str | None) -> Mapping[str, Any]:
    if ranking is None:
        raise ConfigError(
            "the best network, or one by its number, is that of a ranking: name the folder that "
            "attar supernet search wrote as ranking (--ranking), or ask for the largest, the "
            "smallest, or widths"
        )
    rows = [row for row in read_ranking(ranking) if space in (None, row.get("space"))]
    if not 1 <= number <= len(rows):
        raise ConfigError(f"expected a row from 1 to {len(rows)} of the ranking; found {number}")
    return rows[number - 1]


def _as_arch(given: str | Arch | Mapping[str, Any]) -> Arch:
    try:
        if isinstance(given, str):
            return Arch.from_json(given)
        return given if isinstance(given, Arch) else Arch.from_dict(given)
    except (AttarError, AttributeError, KeyError, TypeError) as error:
        raise ConfigError(
            "expected best, largest, smallest, the number of a row, or widths as in the column "
            f"arch of rank.csv; found {shown(given)}"
        ) from error


def _owner(opened: Opened, arch: Arch, *, space: str | None) -> tuple[str, Arch]:
    """The supernet that has a network."""
    spaces = opened.description.spaces
    names = [name for name in spaces if space in (None, name)]
    found = [name for name in names if spaces[name].contains(arch)]
    if not found:
        raise ConfigError(
            f"no space of the supernet {str(opened.folder)!r} has the network "
            f"{json.dumps(arch.to_dict())}; choose one of its ranking"
        )
    if len(found) > 1:
        raise ConfigError(
            f"the network is in {' and in '.join(found)}; say which with space (--space)"
        )
    return found[0], arch
