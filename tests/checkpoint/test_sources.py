"""What is said of models and data that are not there: one short sentence, not the Hub's own."""

from pathlib import Path
from typing import Any

import datasets
import httpx2
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import PreTrainedConfig

from attar import checkpoint
from attar.data.text import load_text
from attar.errors import DataError

ANSWER = httpx2.Response(404, request=httpx2.Request("GET", "https://huggingface.co/a/b"))
WHY = {
    "access to it .* has to be asked for": GatedRepoError("long", response=ANSWER),
    "without that revision": RevisionNotFoundError("long", response=ANSWER),
    "has no .* of that name that you may read": RepositoryNotFoundError("long", response=ANSWER),
    "cannot be reached": LocalEntryNotFoundError("long"),
}


@pytest.mark.parametrize("why", WHY)
def test_what_the_hub_does_not_give_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    def absent(*_: Any, **__: Any) -> None:
        raise OSError("We couldn't connect " + "and so on " * 30) from WHY[why]

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(PreTrainedConfig, "get_config_dict", absent)
    monkeypatch.setattr(datasets, "load_dataset", absent)
    for load in (checkpoint.load, load_text):
        with pytest.raises(DataError, match=f"there is no .* here, and .*{why}") as caught:
            load("nobody/nothing")
        assert "so on" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing", "nobody/nothing", "a/b/c", "./missing", "/tmp/x/y"])
def test_a_name_of_nothing_is_said_shortly(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for load, longest in ((checkpoint.load, 170), (checkpoint.load_tokenizer, 170)):
        with pytest.raises(DataError, match=r"there is no (such )?folder") as caught:
            load(name)
        assert len(str(caught.value)) < longest
    for file in (name, f"{name}.txt"):
        with pytest.raises(DataError, match="there is no file or folder") as caught:
            load_text(file)
        assert len(str(caught.value)) < 250


def test_another_fault_of_the_library_keeps_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(*_: Any, **__: Any) -> None:
        raise ValueError("Unrecognized model in a/b")

    monkeypatch.setattr(PreTrainedConfig, "get_config_dict", odd)
    with pytest.raises(DataError, match=r"cannot read the model of 'a/b' .*Unrecognized model"):
        checkpoint.load("a/b")
