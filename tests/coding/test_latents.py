"""Latents, and what their signal was: only what can be stored is made."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from attar.coding.latents import DIGITS, Form, Latents
from attar.errors import ConfigError

FORM = Form(kind="audio", dtype="int16", rate=44_100)
LATENTS = Latents(
    stages=(np.zeros((2, 3), np.int16),), size=(20,), before=(0,), form=FORM, codec="ab" * 32
)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "video"},
        {"dtype": "int64"},
        {"mode": "ü"},
        {"mode": "R" * 17},
        {"rate": 0},
        {"rate": 2**32},
        {"rate": 44_100.0},
        {"channels": 0},
        {"channels": 2**16},
        {"channels": True},
    ],
)
def test_a_form_that_cannot_be_stored_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(FORM, **change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stages": ()}, "number of stages"),
        ({"stages": (LATENTS.stages[0],) * 256}, "number of stages"),
        ({"stages": (np.zeros((2, 3), np.int8),)}, "type of latents must be int16"),
        ({"stages": (np.zeros((2, 3, 4), np.int16),)}, "shape of latents"),
        ({"stages": (np.zeros((2, 0), np.int16),)}, "shape of latents"),
        ({"size": ()}, "size"),
        ({"size": (0,)}, "size"),
        ({"size": (2**63,)}, "size"),
        ({"size": (1, 1, 1, 1), "before": (0, 0, 0, 0)}, "size"),
        ({"before": (0, 0)}, "before"),
        ({"before": (-1,)}, "before"),
        ({"codec": "ab" * 15}, "codec"),
        ({"codec": "AB" * 32}, "codec"),
        ({"codec": "xy" * 32}, "codec"),
        ({"gain": float("inf")}, "gain"),
        ({"mean": float("nan")}, "mean"),
        ({"form": None}, "form"),
    ],
)
def test_latents_that_cannot_be_stored_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(LATENTS, **change)


def test_the_first_digits_of_the_fingerprint_are_kept() -> None:
    assert LATENTS.codec == "ab" * 16
    assert len(LATENTS.codec) == DIGITS
