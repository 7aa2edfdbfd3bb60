"""Trained supernets on disk: a description, and each parent as an ordinary checkpoint.

OUT/supernet.json               method, spaces by name, providers, teacher, options
OUT/NAME/                       the parent of one space, with its tokenizer
OUT/NAME/providers.safetensors  the weights of its providers, where it has any
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import artefacts, checkpoint
from attar.arch import Space
from attar.errors import CompatibilityError, ConfigError, DataError, expect
from attar.foreign import read_json
from attar.report.places import found_from, seen_from
from attar.search.supernet import Depth, Supernet
from attar.slicing import HeadSlicing

FORMAT = 1
FILE = "supernet.json"
PROVIDERS = "providers.safetensors"
#: names that mean something else in the folder of a run
_TAKEN = ("state", "model")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

MakeProvider = Callable[[PreTrainedModel, Space, Mapping[str, Any]], nn.Module | None]
"""(parent, space, options) -> a provider without trained weights; None: this space needs none."""


@dataclass(frozen=True)
class Description:
    """What `supernet.json` says.

    Attributes:
        method: that trained the supernets.
        spaces: of each supernet, by name.
        depth: which layers of its parent a shallower network has.
        head_slicing: what heads keep where layers have hidden widths of their own.
        providers: kind and options of each provider, the same for all supernets.
        teacher: folder or Hub name; None: there is none, or it was never stored.
        options: of the method.
        training: of the training loop.
    """

    method: str
    spaces: Mapping[str, Space]
    depth: Depth = "spread"
    head_slicing: HeadSlicing = "head"
    providers: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    teacher: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "format": FORMAT,
            "method": self.method,
            "spaces": {name: space.to_dict() for name, space in self.spaces.items()},
            "depth": self.depth,
            "head_slicing": self.head_slicing,
            "providers": [{"kind": kind, "options": dict(o)} for kind, o in self.providers],
            "teacher": self.teacher,
            "options": dict(self.options),
            "training": dict(self.training),
        }


def check_name(name: str) -> None:
    """Refuse a name of a space that cannot be a folder beside the others.

    Raises:
        ConfigError: it is one of those.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in _TAKEN:
        raise ConfigError(
            f"expected a name of a space of letters, digits, - and _, other than "
            f"{' and '.join(_TAKEN)}; found {name!r}"
        )


# ----------------------------------------------------------------------------------------- saving


def save_supernets(
    folder: str | Path,
    supernets: Mapping[str, Supernet],
    *,
    description: Description,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Write trained supernets.

    Args:
        folder: is made if need be.
        supernets: by the names of their spaces.
        description: of all of them.
        tokenizer: is written beside each parent.

    Raises:
        CompatibilityError: a parent cannot be saved for transformers.
        ConfigError: a name cannot be a folder's.
        ResourceError: the disk is full.
    """
    for name, supernet in supernets.items():
        save_supernet(folder, name, supernet, tokenizer=tokenizer)
    write_description(folder, description)


def save_supernet(
    folder: str | Path,
    name: str,
    supernet: Supernet,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Write one of the supernets of a folder, with the errors of `save_supernets`."""
    check_name(name)
    place = Path(folder) / name
    checkpoint.save(supernet.parent, place, tokenizer=tokenizer)
    if weights := supernet.providers.state_dict():
        plain = {key: w.detach().cpu().contiguous() for key, w in weights.items()}
        with artefacts.replacing(place / PROVIDERS) as unfinished:
            save_file(plain, unfinished)


def write_description(folder: str | Path, description: Description) -> None:
    """Write `supernet.json`, which makes a folder one of supernets; files are named as seen from
    there."""
    stored = seen_from(Path(folder), description.to_dict())
    artefacts.write_text(Path(folder) / FILE, json.dumps(stored, indent=2) + "\n")


# ---------------------------------------------------------------------------------------- loading


def read_description(folder: str | Path) -> Description:
    """What the `supernet.json` in a folder says.

    Raises:
        DataError: there is none, or it is damaged or of another format.
    """
    file = Path(folder) / FILE
    if not file.is_file():
        unfinished = Path(f"{folder}.partial").is_dir()
        hint = "finish its training with resume (--resume)" if unfinished else "train one"
        raise DataError(
            f"expected a folder that attar supernet train wrote; {str(folder)!r} holds no {FILE}: "
            f"{hint}, or give another folder"
        )
    stored = read_json(file, "the description of the supernet")
    expect(isinstance(stored, dict), str(file), type(stored).__name__, "a description of supernets")
    if stored.get("format") != FORMAT:
        raise DataError(
            f"{file} is of format {stored.get('format')!r}, but this attar reads format {FORMAT}; "
            "use the version that wrote it, or train the supernet again"
        )
    try:
        spaces = {name: Space.from_dict(space) for name, space in stored["spaces"].items()}
        for name in spaces:
            check_name(name)
        if not spaces or stored["depth"] not in get_args(Depth):
            raise ValueError("no spaces, or no rule of depth")
        head_slicing = stored.get("head_slicing", "head")
        if head_slicing not in get_args(HeadSlicing):
            raise ValueError(f"no such head_slicing, {head_slicing!r}")
        teacher = stored["teacher"]
        return Description(
            method=str(stored["method"]),
            spaces=spaces,
            depth=stored["depth"],
            head_slicing=head_slicing,
            providers=tuple(
                (str(one["kind"]), dict(one["options"])) for one in stored["providers"]
            ),
            teacher=None if teacher is None else found_from(folder, teacher),
            options=dict(stored["options"]),
            training=dict(stored["training"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError, ConfigError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise DataError(f"{file} is damaged ({reason}); train the supernet again") from error


def load_supernets(
    folder: str | Path, *, providers: Mapping[str, MakeProvider] = MappingProxyType({})
) -> dict[str, Supernet]:
    """The supernets of a folder by name, in evaluation mode, in float32.

    Args:
        folder: that `save_supernets` wrote.
        providers: what makes the providers of each kind.

    Raises:
        CompatibilityError: a parent does not hold its space.
        DataError: the folder, or something in it, is missing or damaged.
    """
    description = read_description(folder)
    return {
        name: load_supernet(folder, name, description=description, providers=providers)
        for name in description.spaces
    }


def load_supernet(
    folder: str | Path,
    name: str,
    *,
    description: Description,
    providers: Mapping[str, MakeProvider] = MappingProxyType({}),
) -> Supernet:
    """One of the supernets of a folder, with the errors of `load_supernets`."""
    place, space = Path(folder) / name, description.spaces[name]
    if not place.is_dir():
        raise DataError(
            f"the folder {str(folder)!r} lacks {name!r}, one of the supernets that its {FILE} "
            "names; copy it whole, or train it again"
        )
    parent = checkpoint.load(place, dtype=torch.float32)
    try:
        made = [_provider(kind, providers)(parent, space, o) for kind, o in description.providers]
    except ConfigError as error:
        raise DataError(
            f"{Path(folder) / FILE} is damaged ({error}); train the supernet again"
        ) from error
    try:
        rules: dict[str, Any] = {
            "depth": description.depth,
            "head_slicing": description.head_slicing,
        }
        needed = [provider for provider in made if provider is not None]
        supernet = Supernet(parent, space, providers=needed, **rules)
    except CompatibilityError as error:
        raise CompatibilityError(f"the supernet {str(place)!r} is damaged: {error}") from error
    _fill(supernet.providers, place / PROVIDERS)
    return supernet.eval()


def _provider(kind: str, known: Mapping[str, MakeProvider]) -> MakeProvider:
    if kind not in known:
        raise DataError(
            f"the supernet has weights of kind {kind!r}, which this attar cannot make; use the "
            "version that trained it"
        )
    return known[kind]


def _fill(providers: nn.ModuleList, file: Path) -> None:
    if not providers.state_dict():
        if file.exists():  # without them the networks would be others
            raise DataError(
                f"{str(file)!r} holds weights that {FILE} does not name; copy the supernet whole, "
                "or train it again"
            )
        return
    try:
        providers.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"the weights {str(file)!r} are missing, damaged or of other shapes ({reason}); copy "
            "the supernet whole, or train it again"
        ) from error
