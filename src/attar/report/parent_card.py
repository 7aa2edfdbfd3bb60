"""What a model card takes from the card of the model that it was made from."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, hf_hub_download

#: a licence of its own is told in three keys
_INHERITED = ("license", "license_name", "license_link", "language")
_SECONDS = 5.0  # that the Hub may take to say whether there is a newer card


def inherited(parent: str | None, *, on_hub: bool) -> dict[str, Any]:
    """The licence and the languages of a parent, and for a folder the model of the Hub that it
    comes from, as its card says; empty where there is no card that can be read.

    Args:
        parent: its folder or Hub name.
        on_hub: whether that is a name on the Hub.
    """
    if not parent:
        return {}
    try:
        file = Path(parent) / "README.md"
        if on_hub:
            file = Path(hf_hub_download(parent, "README.md", etag_timeout=_SECONDS))
        stored = ModelCard(file.read_text(encoding="utf-8"), ignore_metadata_errors=True).data
    except Exception:  # no network, no card, or something else of that name
        return {}
    kept = {name: stored.get(name) for name in _INHERITED}
    if not on_hub and isinstance(stored.get("base_model"), str):
        kept["base_model"] = stored.get("base_model")
    return {name: value for name, value in kept.items() if value}
