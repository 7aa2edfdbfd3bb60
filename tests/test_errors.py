"""Options made in Python have the types of their fields, whoever they belong to."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

import attar
import tiny
from attar.decode.generate import GenerateConfig
from attar.errors import ConfigError, check_types
from attar.methods.bonsai import BonsaiConfig
from attar.train.heal import HealConfig
from scene import run, write_text


@dataclass(frozen=True, kw_only=True)
class Options:
    """One field of each kind."""

    switch: bool = False
    count: int = 0
    share: float = 0.5
    word: Literal["one", "two"] = "one"
    words: tuple[str, ...] = ()
    place: Path | None = None
    more: Mapping[str, int] | None = None
    anything: Any = None

    def __post_init__(self) -> None:
        check_types(self)


@pytest.mark.parametrize(
    "options",
    [
        {"switch": True},
        {"count": -3},
        {"share": 1},  # a whole number is a number
        {"word": "two"},
        {"words": ("a", "b")},
        {"words": ["a"]},
        {"place": "a/b"},
        {"place": Path("a/b")},
        {"more": {"a": 1}},
        {"anything": object()},
    ],
)
def test_what_fits_is_taken_as_it_is(options: dict[str, Any]) -> None:
    ((name, value),) = options.items()
    assert getattr(Options(**options), name) is value


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"switch": 1}, "true or false"),
        ({"switch": "false"}, "true or false"),
        ({"count": True}, "a whole number"),
        ({"count": 1.0}, "a whole number"),
        ({"count": None}, "a whole number"),
        ({"share": True}, "a finite number"),
        ({"share": "0.5"}, "a finite number"),
        ({"share": math.nan}, "a finite number"),
        ({"share": -math.inf}, "a finite number"),
        ({"word": "One"}, "one of one, two"),
        ({"word": ("one",)}, "one of one, two"),
        ({"words": "one"}, "a list, each text"),
        ({"words": ("one", 2)}, "a list, each text"),
        ({"place": 3}, "a path"),
        ({"more": [1]}, "a mapping"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_was_expected(
    options: dict[str, Any], expected: str
) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ConfigError) as refused:
        Options(**options)
    assert str(refused.value) == f"{name} must be {expected}; found {value!r}"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (HealConfig, {"kl_weight": math.nan}),
        (HealConfig, {"seed": True}),
        (HealConfig, {"max_steps": 2.5}),
        (HealConfig, {"divergence": "kl"}),
        (BonsaiConfig, {"seed": True}),
        (BonsaiConfig, {"protect": "layers.0.mlp"}),
        (GenerateConfig, {"stop": "##("}),
        (GenerateConfig, {"chat": "false"}),
    ],
)
def test_the_options_of_verbs_are_checked(kind: Any, options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=f"^{name} must be "):
        kind(**options)


def test_a_layout_of_another_spelling_is_refused_before_any_work(tmp_path: Path) -> None:
    layout: Any = "Uniform"
    with pytest.raises(ConfigError, match="layout must be one of per_layer, uniform, depth"):
        attar.prune(
            tiny.model(), "x", budget="blocks<=50%", layout=layout, output_dir=tmp_path / "out"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_tracker_is_refused_before_any_folder_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, out = write_text(tmp_path / "text", words=300), tmp_path / "out"
    recipe = tmp_path / "own.yaml"
    recipe.write_text("report_to: wanbd\n")
    there = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="report_to must be none, all, or a tracker that is inst"):
        attar.pretrain(data=text, config=str(recipe), output_dir=out)
    for options in (["--config", str(recipe)], ["--report-to", "wanbd"]):
        assert run(["pretrain", "--data", str(text), *options, "-o", str(out)]) == 2
        assert "wanbd" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == there  # no out, and no out.partial
