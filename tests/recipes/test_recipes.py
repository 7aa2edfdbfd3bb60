"""Every recipe that ships is one that its verb takes, to the letter, and the smallest ones run."""

from dataclasses import asdict, fields
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

import attar
import scene
from attar import annotate, completion
from attar.annotate import printing
from attar.cli import codec, distill, draft, generate, heal, pretrain, prune, supernet
from attar.cli import tokenizer as tokenizer_verbs
from attar.codec.config import CodecConfig
from attar.codec.tables import Measured
from attar.errors import ConfigError
from attar.methods.bonsai import BonsaiConfig
from attar.methods.distiller.config import DistillConfig
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.equal_info.config import EqualInfoConfig
from attar.pretraining.config import PretrainConfig
from attar.recipes import configured, read_recipe, recipes
from attar.recipes.verbs import completed
from attar.report.record import Run
from attar.train.heal import HealConfig
from scene import run

#: for two dataclasses of options: one text, and what is special of several drafts
DRAFTS = sorted(name for name in recipes() if name.startswith("superposed/"))
#: for three: how supernets are trained, and what is special of each method
SUPERNETS = sorted(
    name for name in recipes() if name.startswith(("autodistil/", "mixture_of_supernets/"))
)
#: for two: how a student of a budget is chosen, and how any is trained
COMPRESSORS = sorted(name for name in recipes() if name.startswith("compressor/"))
#: for two: shape and training, and the first stage
FIRST_STAGES = sorted(name for name in recipes() if name.startswith("spactor/"))
#: for three: what is simulated, how batches are drawn, and what is trained
SIMULATIONS = sorted(name for name in recipes() if name.startswith("active_segmentation/"))
ALL = sorted({*recipes()} - {*DRAFTS, *SUPERNETS, *COMPRESSORS, *FIRST_STAGES, *SIMULATIONS})


def config_class(name: str) -> type:
    if name.startswith("pocket/"):
        return PretrainConfig
    if name.startswith("distiller/"):
        return DistillConfig
    if name.startswith("distillspec/"):
        return DistillSpecConfig
    if name.startswith("equal_info/"):
        return EqualInfoConfig
    if name.startswith("walloc/"):
        return CodecConfig
    return HealConfig if "heal" in name else BonsaiConfig


def test_there_are_recipes_for_every_method() -> None:
    assert {"pocket/1m", "bonsai/paper", "bonsai/cpu-tiny", "bonsai/cpu-tiny-heal"} <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_the_command_line_reads_it_as_python_does(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def capture(*_: Any, config: Any, recipe: str, **__: Any) -> Run:
        seen.append(config)
        assert recipe == name
        details = {"form": "uniform", "notes": [], "test_rows": 9}
        details |= {"rows": [asdict(Measured(name="codec"))], "sound": False}
        details |= {"best_length": 3, "predicted_speedup": 1.0, "best_step": 0, "draft_tokens": 5}
        quality = {"after": {"bytes_per_window": 5.0, "bytes_per_id": 5.0}}
        return Run(command="captured", details=details, quality=quality)

    monkeypatch.setattr(pretrain, "train_model", capture)
    monkeypatch.setattr(prune, "prune_model", capture)
    monkeypatch.setattr(heal, "heal_model", capture)
    monkeypatch.setattr(distill, "distill_model", capture)
    monkeypatch.setattr(draft, "train_draft", capture)
    monkeypatch.setattr(tokenizer_verbs, "train_tokenizer", capture)
    monkeypatch.setattr(codec, "train_codec", capture)
    kind = config_class(name)
    command = {
        PretrainConfig: ["pretrain"],
        BonsaiConfig: ["prune", "m", "--budget", "blocks<=50%"],
        HealConfig: ["heal", "m", "--teacher", "t"],
        DistillSpecConfig: ["draft", "train", "m", "--target", "t"],
        EqualInfoConfig: ["tokenizer", "train"],
        CodecConfig: ["codec", "train"],
        DistillConfig: ["distill", "m", "--data", "d", "--teacher", "t"],
    }[kind]
    assert run([*command, "--config", name, "-o", "x"]) == 0
    verb = read_recipe(name)["verb"].split()
    assert verb == command[: len(verb)]  # so that `attar run` runs the same
    assert run(["run", name, *command[len(verb) :], "-o", "x"]) == 0
    assert seen == [configured(name, kind, recipe=None)[0]] * 2


@pytest.mark.parametrize("name", SUPERNETS)
def test_a_recipe_of_supernets_is_read_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def capture(model: str, data: Any, **options: Any) -> Run:
        seen.append({**options, "output_dir": None})
        assert options["recipe"] == name
        return Run(command="captured")

    monkeypatch.setattr(supernet, "train_supernets", capture)
    for typed in (["supernet", "train", "m", "--config", name], ["run", name, "m"]):
        assert run([*typed, "-o", "x"]) == 0
    assert seen[0] == seen[1]
    options = read_recipe(name)
    assert options.pop("verb") == "supernet train"
    given: dict[str, Any] = {"model": "m", "output_dir": "x"}
    called = completed(attar.supernet.train, options, given=given, source=name)
    defaults = signature(attar.supernet.train).parameters
    for key, value in seen[0].items():
        if key not in ("output_dir", "recipe"):
            assert value == called.get(key, defaults[key].default), key
    paper = name.endswith("paper")
    assert seen[0]["config"].learning_rate == (
        {"autodistil": 4e-5, "mixture-of-supernets": 5e-4}[seen[0]["method"]]
        if paper
        else seen[0]["config"].learning_rate
    )


@pytest.mark.parametrize("name", DRAFTS)
def test_a_recipe_of_several_drafts_is_read_alike(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    def capture(model: str, prompts: list[str], **options: Any) -> Run:
        seen.append({"k": options["drafts"], "recipe": options["recipe"]})
        parts = (options["config"], options["decoding"], options["superposed"])
        seen[-1]["made"] = completion.drafting(
            options["drafts"], config=parts[0], decoding=parts[1], superposed=parts[2]
        )
        return Run("captured")

    monkeypatch.setattr(generate, "generate_texts", capture)
    assert run(["generate", "m", "a text", "--config", name]) == 0
    assert run(["run", name, "m", "a text"]) == 0
    monkeypatch.setattr(
        completion, "generate_drafts", lambda model, prompts, **given: seen.append(given)
    )
    completion.generate("m", "a text", config=name)
    assert seen[0] == seen[1]
    assert seen[0]["made"] == seen[2]["config"]
    options = {n: v for n, v in read_recipe(name).items() if n not in ("verb", "dtype", "drafts")}
    for key, value in options.items():
        made = getattr(seen[2]["config"], key)
        assert made == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_recipe_of_a_budget_is_read_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, dict[str, Any]]] = []

    def capture(data: Any, order: Any, **given: Any) -> Run:
        seen.append((order, given["recipe"]))
        return Run("captured", details={"test_rows": 9})

    monkeypatch.setattr("attar.distillation.distill.compress", capture)
    budget = [] if "budget" in read_recipe(name) else ["--budget", "bytes<=3MB"]
    rest = ["--teacher", "t", "--data", "d", *budget, "-o", "x"]
    assert run(["distill", "--config", name, *rest]) == 0
    assert run(["run", name, *rest]) == 0
    given: dict[str, Any] = {"budget": "bytes<=3MB"} if budget else {}
    attar.distill(teacher="t", data="d", config=name, output_dir="x", **given)
    assert seen[0] == seen[1] == seen[2]
    order, recipe = seen[0]
    assert recipe == name
    options = {k: v for k, v in read_recipe(name).items() if k not in ("verb", "budget")}
    for key, value in options.items():
        holder = order.options if hasattr(order.options, key) else order.config
        read = getattr(holder, key)
        assert (list(read) if isinstance(read, tuple) else read) == value, key


@pytest.mark.parametrize("name", FIRST_STAGES)
def test_a_recipe_of_two_stages_is_read_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def capture(model: Any, data: Any, **options: Any) -> Run:
        seen.append({**options, "output_dir": None})
        return Run("captured", details={"bits_per_byte": {}})

    monkeypatch.setattr(pretrain, "train_model", capture)
    monkeypatch.setattr(pretrain, "bits_lines", lambda _: [])
    assert run(["pretrain", "--config", name, "-o", "x"]) == 0
    assert run(["run", name, "-o", "x"]) == 0
    assert seen[0] == seen[1]
    assert seen[0]["recipe"] == name
    options = read_recipe(name)
    assert options.pop("verb") == "pretrain"
    called = completed(attar.pretrain, options, given={"output_dir": "x"}, source=name)
    for key in ("spactor", "config", "tokenizer"):
        assert seen[0][key] == called.get(key), key
    for key, value in options.items():
        usual = getattr(seen[0]["config"], key, getattr(seen[0]["spactor"], key, value))
        assert usual == value, key


@pytest.mark.parametrize("name", SIMULATIONS)
def test_a_recipe_of_a_simulation_is_read_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def capture(data: Any, **options: Any) -> Run:
        seen.append(options)
        return Run("captured", details={"warnings": []})

    verb = annotate.simulate
    monkeypatch.setattr(annotate, "simulate", capture)
    monkeypatch.setattr(printing, "simulate_text", lambda _: "")
    typed = ["--data", "gold.txt", "-o", "x"]
    assert run(["annotate", "simulate", "--config", name, *typed]) == 0
    assert run(["run", name, *typed]) == 0
    assert seen[0] == seen[1]
    options = read_recipe(name)
    assert options.pop("verb") == "annotate simulate"
    given = {"data": "gold.txt", "output_dir": "x"}
    called = completed(verb, options, given=given, source=name)
    for key in ("config", "drawing", "segmenter"):
        assert seen[0][key] == called[key], key
    for key, value in options.items():
        parts = [seen[0][part] for part in ("config", "drawing", "segmenter")]
        holder = next(part for part in parts if hasattr(part, key))
        read = getattr(holder, key)
        assert (list(read) if isinstance(read, tuple) else read) == value, key


@pytest.mark.parametrize("name", ALL)
def test_values_have_the_type_of_their_field(name: str) -> None:
    options = read_recipe(name)
    del options["verb"]
    kind = config_class(name)
    assert set(options) <= {f.name for f in fields(kind)}
    default = kind()
    for key, value in options.items():
        usual = getattr(default, key)
        if usual is not None:
            # YAML reads 1e-3 as a string and 1 as an integer
            assert isinstance(value, int | float if isinstance(usual, float) else type(usual)), key


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("learning_rate: 1e-3", 1e-3),  # text in YAML
        ("learning_rate: '2'", 2.0),
        ("max_steps: 3.0", 3),
        ("max_steps: '7'", 7),
        ("max_steps: 2.5", "a whole number"),
        ("max_steps: many", "a whole number"),
        ("max_steps: true", "a whole number"),
        ("seed: 1e999", "a"),
    ],
)
def test_numbers_are_read_as_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, value: Any
) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text(line + "\n")
    name = line.split(":")[0]
    typed = ["pretrain", "--data", str(tmp_path / "none"), "-o", str(tmp_path / "out")]
    if isinstance(value, str):
        with pytest.raises(ConfigError, match=f"{name} in the recipe .* must be {value}"):
            configured(str(recipe), PretrainConfig, recipe=None)
        assert run([*typed, "--config", str(recipe)]) == 2
        assert name in capsys.readouterr().err
        return
    read = getattr(configured(str(recipe), PretrainConfig, recipe=None)[0], name)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("name", [*ALL, *DRAFTS, *FIRST_STAGES, *SIMULATIONS])
def test_it_says_what_it_gives(name: str) -> None:
    assert recipes()[name].read_text(encoding="utf-8").startswith("# ")


def test_the_defaults_of_pretraining_are_the_smallest_recipe() -> None:
    assert configured("pocket/1m", PretrainConfig, recipe=None)[0] == PretrainConfig()


def test_the_tiny_ones_run(tmp_path: Path, briefly_timed: None) -> None:
    text = scene.write_text(tmp_path / "text", words=9000)
    parent = scene.write_parent(tmp_path / "parent", text, max_position_embeddings=256)
    half, healed = tmp_path / "half", tmp_path / "healed"
    command = ["prune", str(parent), "--data", str(text), "-o", str(half)]
    # a budget that takes one step: the rest is the recipe's
    assert run([*command, "--budget", "blocks<=95%", "--config", "bonsai/cpu-tiny"]) == 0
    assert Run.load(half).settings["context"] == 96
    command = ["heal", str(half), "--teacher", str(parent), "--data", str(text), "-o", str(healed)]
    few = ["--max-steps", "2", "--eval-tokens", "300"]
    assert run([*command, *few, "--config", "bonsai/cpu-tiny-heal"]) == 0
    assert Run.load(healed).settings["learning_rate"] == 0.0002


@pytest.mark.parametrize("again", ["windows: 4", "eval-tokens: 4", "shape: {a: 1, a: 2}"])
def test_an_option_is_given_once(tmp_path: Path, again: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"verb: prune\nwindows: 3\neval_tokens: 3\n{again}\n")
    key = "a" if "{" in again else again.partition(":")[0]
    with pytest.raises(ConfigError, match=rf"each key once, found '{key}' again in .*line 4"):
        read_recipe(str(file))
