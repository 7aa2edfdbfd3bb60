"""The search for a divergence and a source of texts: cells are trained apart, and shared out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import attar
import scene
from attar.decode.pair import load_pair
from attar.errors import ConfigError
from attar.methods.distillspec import search as room
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.distillspec.loop import fit_draft
from attar.methods.distillspec.search import (
    DraftSearchConfig,
    conclusion,
    search_drafts,
    search_table,
)
from attar.methods.distillspec.start import init_draft
from attar.methods.distillspec.texts import prompts_of
from attar.report.record import Run

CONFIG = DistillSpecConfig(
    max_steps=2,
    eval_steps=2,
    per_device_train_batch_size=4,
    learning_rate=3e-3,
    prompt_tokens=8,
    max_new_tokens=8,
    eval_prompts=6,
    logging_steps=2,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text, a target, and a draft of its layers."""
    folder = tmp_path_factory.mktemp("drafts")
    scene.write_parent(folder / "target", scene.write_text(folder / "text"))
    init_draft(folder / "target", layers=2, output_dir=folder / "draft")
    return folder


def test_a_search_ranks_its_cells_and_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {
        "target": root / "target",
        "config": DraftSearchConfig(divergences=("forward_kl", "tvd"), sources=("draft", "data")),
        "training": CONFIG,
    }
    given = (root / "draft", root / "text")
    whole = search_drafts(*given, output_dir=tmp_path / "whole", **options)
    cells = whole.details["cells"]
    figures = [cell["block_efficiency"] for cell in cells]
    assert figures == sorted(figures, reverse=True)
    assert len(cells) == 4
    assert Run.load(tmp_path / "whole").to_dict() == whole.to_dict()
    assert whole.quality["after"] == {"block_efficiency": figures[0]}
    # each cell is a short training of its own, from the draft as it was
    pair = load_pair(root / "target", root / "draft")
    prompts = prompts_of(pair, root / "text", config=CONFIG)
    held_out = pair.texts(prompts["validation"], temperature=1.0, max_new_tokens=8, seed=0)
    own = replace(CONFIG, divergence=cells[0]["divergence"])
    own = replace(own, draft_share=float(cells[0]["source"] == "draft"))
    _, measured = fit_draft(
        pair.draft.float(),
        pair.target,
        prompts=prompts["train"],
        held_out=held_out,
        config=own,
        stops=pair.stops,
    )
    assert max(one.block_efficiency for one in measured) == figures[0]
    assert whole.quality["before"] == {"block_efficiency": measured[0].block_efficiency}
    plain, calls = room.fit_draft, []

    def dying(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(*args, **kwargs)

    monkeypatch.setattr(room, "fit_draft", dying)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        search_drafts(*given, output_dir=out, **options)
    again = search_drafts(*given, output_dir=out, **options)
    assert len(calls) == 5  # two cells were done
    assert _timeless(again.details["cells"]) == _timeless(cells)
    assert search_drafts(*given, output_dir=out, **options).details == again.details
    assert len(calls) == 5
    recipe = yaml.safe_load((out / "best.yaml").read_text())
    assert next(iter(recipe)) == "verb"
    assert recipe.pop("verb") == "draft train"
    assert recipe["divergence"] == cells[0]["divergence"]
    with scene.brief_profiles(longest=1):
        trained = attar.run(
            str(out / "best.yaml"), *given, target=root / "target", output_dir=tmp_path / "trained"
        )  # the training of the best cell again, with the sizes that the search was given
    assert max(one["block_efficiency"] for one in trained.details["measured"]) == figures[0]
    assert len((out / "study.jsonl").read_text().splitlines()) == 4
    with pytest.raises(ConfigError, match=r"max_steps 2, now 3"):
        search_drafts(
            *given, output_dir=out, **options | {"training": replace(CONFIG, max_steps=3)}
        )
    with pytest.raises(ConfigError, match="nobody"):
        DraftSearchConfig(sources=("nobody",))  # pyright: ignore[reportArgumentType]
    best, before = figures[0], whole.quality["before"]["block_efficiency"]
    errors = [cells[0]["error"], whole.details["before_error"]]
    noise = 1.96 * (errors[0] ** 2 + errors[1] ** 2) ** 0.5
    said = conclusion(whole)
    assert said.startswith("No training" if best - before <= noise else "The best training")
    assert f"a difference of {best - before:+.3f} +- {noise:.3f} (95%)" in said
    whole.details["cells"][0]["error"] = None  # of a study of an earlier version
    assert f"{best:.3f}, from {before:.3f}" in conclusion(whole)
    table = search_table(whole)
    assert [row[2] for row in table.rows][:-1] == [f"{figure:.3f}" for figure in figures]
    assert not (tmp_path / "x").exists()


def _timeless(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [cell | {"seconds": 0.0} for cell in cells]
