"""What a model card takes from the card of the model that it was made from."""

import re
from pathlib import Path
from typing import Any

from attar import artefacts

#: a licence of its own is told in three keys
_INHERITED = ("license", "license_name", "license_link", "language")
_SECONDS = 5.0  # that the Hub may take to say whether there is a newer card


def is_hub_id(name: str | None) -> bool:
    """`owner/name`, perhaps with a file of it, or a bare name, and no local path: a card must not
    point to a folder here.
    """
    return (
        bool(name and re.fullmatch(r"[\w][\w.-]*(/[\w][\w.-]*(:[^:]+\.gguf)?)?", name))
        and not Path(name or "").exists()
    )


def inherited(parent: str | None) -> dict[str, Any]:
    """What the card of a parent says of its licence and languages, and as `base_model` the model of
    the Hub that it is or comes from; without what cannot be read.

    Args:
        parent: its folder, GGUF file or Hub name.
    """
    if not parent:
        return {}
    # the command line imports this module, and the Hub's takes as long as all the rest of it
    from huggingface_hub import ModelCard

    on_hub = parent.partition(":")[0] if is_hub_id(parent) else None
    try:
        text = _file(parent, on_hub).read_text(encoding="utf-8")
        stored = ModelCard(text, ignore_metadata_errors=True).data
    except Exception:  # no network, no card, or something else of that name
        return {"base_model": on_hub} if on_hub else {}
    kept = {name: stored.get(name) for name in _INHERITED}
    base = on_hub or stored.get("base_model")
    if isinstance(base, str):
        kept["base_model"] = base
    return {name: value for name, value in kept.items() if value}


def _file(parent: str, on_hub: str | None) -> Path:
    """The card of a model of the Hub, of a folder, or of the folder that a file was read into."""
    if on_hub:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(on_hub, "README.md", etag_timeout=_SECONDS))
    path = Path(parent)
    return (artefacts.kept_form(path) if path.is_file() else path) / "README.md"
