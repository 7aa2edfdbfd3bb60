"""The command line and Python offer the same verbs and the same options, under the same words."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from cyclopts import App, Parameter

import attar
from attar.cli.app import COMMANDS, NOUNS, run
from attar.data.data import Data, DataLike
from attar.decode.generate import GenerateConfig
from attar.decode.settings import SpecConfig
from attar.errors import ConfigError
from attar.methods.bonsai import BonsaiConfig
from attar.methods.distiller.pipelines import SEARCHED
from attar.recipes.renamed import RENAMED, RENAMED_OPTIONS
from attar.recipes.verbs import takes_recipe
from attar.report.record import Run

#: objects, which no command line can take
PYTHON_ONLY = {"tokenizer", "metric", "each", "stream", "config", "training", "decoding"}
PYTHON_ONLY |= {"drawing", "segmenter", "password"}
PYTHON_ONLY |= {"superposed", "distillation", "mixture", "compressor", "spactor", "compare"}
#: what is said on paper: how results are printed, and shorter ways to say things in a shell
COMMAND_ONLY = {"json_to", "overwrite", "stats", "prompt", "markdown"}
#: these read, run or show things, and are no verbs on a model or on data
OTHERS = {"demo", "run", "recipe", "env", "compare"}
CLOSED = {"init", "import", "train", "search", "evaluate", "encode", "decode", "compress"}
CLOSED |= {"compare", "decompress", "serve", "draw", "status", "simulate", "export"}
#: what running an annotation project needs besides
CLOSED |= {"worker", "event", "curve", "agree", "transfer", "convert", "user"}
CLOSED |= {"backup", "upgrade", "doctor"}


def commands() -> Iterator[tuple[str, Callable[..., Any], Callable[..., Any]]]:
    """Each verb: its words, its function on the command line and in Python."""
    for name in COMMANDS:
        module = import_module(f"attar.cli.{name}")
        if name not in NOUNS:
            if name not in OTHERS:
                yield name, getattr(module, name), getattr(attar, name)
            if name == "pretrain":  # in Python the name of the verb is taken
                yield "pretrain compare", module.compare, attar.compare_objectives
            continue
        yield from verbs_of(module.app, getattr(attar, name), name)


def verbs_of(
    app: App, called: Any, words: str
) -> Iterator[tuple[str, Callable[..., Any], Callable[..., Any]]]:
    """Those of a noun, or of a part of one."""
    for verb in app:
        if verb.startswith("-"):
            continue
        there = getattr(called, f"{verb}_" if iskeyword(verb) else verb)
        if (function := app[verb].default_command) is None:
            yield from verbs_of(app[verb], there, f"{words} {verb}")
        else:
            yield f"{words} {verb}", function, there


VERBS = {words: (typed, called) for words, typed, called in commands()}


def typed_options(function: Callable[..., Any]) -> set[str]:
    """What can be typed, with dataclasses taken apart."""
    options: set[str] = set()
    for name, parameter in inspect.signature(function).parameters.items():
        kind, told = parameter.annotation, Parameter()
        if get_origin(kind) is Annotated:
            kind, *rest = get_args(kind)
            told = next((one for one in rest if isinstance(one, Parameter)), told)
        if dataclasses.is_dataclass(kind) and told.name == ("*",):
            names = {field.name for field in dataclasses.fields(kind)}
            pattern = told.parse
            if hasattr(pattern, "search"):
                names = {one for one in names if pattern.search(one)}
            options |= names
        elif isinstance(told.name, tuple) and len(told.name) > 1:  # one value under several names
            options |= {one.removeprefix("--").replace("-", "_") for one in told.name}
        else:
            options.add(name)
    return options


def python_options(function: Callable[..., Any]) -> set[str]:
    """What can be given in Python, with dataclasses taken apart."""
    hints = typing.get_type_hints(function)
    options: set[str] = set()
    for name in inspect.signature(function).parameters:
        kinds = get_args(hints[name]) or (hints[name],)
        if Data in kinds:
            names = {field.name for field in dataclasses.fields(Data)} - {"source", "config"}
            options |= names | {"data", "data_config"}
            continue
        holder = next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
        if holder is not None and name not in ("model", "teacher"):
            options |= {field.name for field in dataclasses.fields(holder)}
        options.add(name)
    return options


@pytest.mark.parametrize("words", VERBS)
def test_a_verb_has_the_same_options_on_the_command_line_and_in_python(words: str) -> None:
    typed, called = VERBS[words]
    here, there = typed_options(typed), python_options(called)
    assert here - COMMAND_ONLY <= there, "only on the command line"
    columns = {field.name for field in dataclasses.fields(Data)}  # a verb offers those it reads
    missing = there - here - PYTHON_ONLY - columns
    assert missing <= LEFT_OUT.get(words, set()), "only in Python"


#: options of a dataclass that the verb sets itself: the search chooses the pipeline, an evaluation
#: tries every length of a draft, `--budget` and `--apply` are given as text
LEFT_OUT: dict[str, set[str]] = {
    "prune": {"constraints", "text"},
    "distill": {"constraints", "text"},
    "supernet search": {"constraints", "text"},
    "pipeline search": set(SEARCHED),
    "draft evaluate": {"policy", "draft_tokens", "threshold"},
    "generate": {"k"},  # --drafts
    "annotate init": {"draw"},  # options of their own
    "annotate simulate": {"strategy"},  # --arms
}


@pytest.mark.parametrize("words", VERBS)
def test_options_of_a_verb_are_exported_under_their_own_name(words: str) -> None:
    for name, hint in typing.get_type_hints(VERBS[words][1]).items():
        for kind in get_args(hint) or (hint,):
            if dataclasses.is_dataclass(kind) and name != "return":
                assert isinstance(kind, type)
                assert kind.__name__ in attar.__all__
                assert getattr(attar, kind.__name__) is kind


@pytest.mark.parametrize("words", VERBS)
def test_a_verb_takes_its_main_model_first_and_gives_a_record(words: str) -> None:
    typed, called = VERBS[words]
    for function in (typed, called):
        parameters = list(inspect.signature(function).parameters.values())
        positional = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        assert len(positional) <= 2
        assert not {"teacher", "target", "draft"} & {p.name for p in positional}
    parameters = inspect.signature(called).parameters
    if "model" in parameters:
        assert next(iter(parameters)) == "model"
    assert typing.get_type_hints(called)["return"] is Run
    for option, default in (("recipe", None), ("resume", False)):
        if option in parameters:
            assert parameters[option].default is default


@pytest.mark.parametrize("words", VERBS)
def test_defaults_are_the_same(words: str) -> None:
    typed, called = VERBS[words]
    here, there = (inspect.signature(function).parameters for function in (typed, called))
    for name in set(here) & set(there) - {"model", "data", "output_dir", "prompts"}:
        if (one := here[name].default) is not inspect.Parameter.empty:
            other = there[name].default
            if isinstance(one, str) and isinstance(other, tuple):  # a list is typed with commas
                other = ",".join(other)
            assert one == (str(other) if isinstance(one, str) else other), name


def test_nouns_have_verbs_of_one_closed_list() -> None:
    assert {words.split()[1] for words in VERBS if " " in words} <= CLOSED


def test_every_command_is_a_name_in_python() -> None:
    assert set(COMMANDS) <= set(dir(attar))
    assert all(callable(getattr(attar, name)) for name in set(COMMANDS) - NOUNS)


@pytest.mark.parametrize("words", RENAMED)
def test_old_commands_answer_with_the_new_one(
    words: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "x"]) == 2
    assert RENAMED[words] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("evaluate m --max-tokens 5", "max_tokens"),
        ("evaluate m --bpb", "bpb"),
        ("pretrain -o x --block_size=64", "block_size"),
        ("distill --student m -o x", "student"),
        ("draft train d --target t --student-share 1 -o x", "student_share"),
    ],
)
def test_old_options_answer_with_the_new_one(
    line: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line.split()) == 2
    assert RENAMED_OPTIONS[word] in capsys.readouterr().err


def test_an_old_word_in_a_recipe_answers_with_the_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "old.yaml"
    recipe.write_text("block_size: 64\n", encoding="utf-8")
    assert run(["pretrain", "--config", str(recipe), "-o", str(tmp_path / "x")]) == 2
    assert RENAMED_OPTIONS["block_size"] in capsys.readouterr().err
    for verb in (attar.run, lambda name: attar.pretrain(config=name, output_dir=tmp_path / "x")):
        recipe.write_text("verb: pretrain\nblock_size: 64\n", encoding="utf-8")
        with pytest.raises(ConfigError, match="'block_size', which is now --context"):
            verb(str(recipe))


def test_a_recipe_for_another_verb_is_refused_on_both_sides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = str(tmp_path / "other.yaml"), str(tmp_path / "x")
    Path(recipe).write_text("verb: distill\nmax_steps: 5\n", encoding="utf-8")
    assert run(["heal", "m", "--teacher", "t", "--config", recipe, "-o", out]) == 2
    said = "is for attar distill, not for attar heal"
    assert said in capsys.readouterr().err
    with pytest.raises(ConfigError, match=said):
        attar.heal("m", teacher="t", config=recipe, output_dir=out)


def test_a_recipe_may_hold_an_option_that_is_called_like_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(
        "attar.cli.generate.generate_texts", lambda *_, **options: given.append(options) or Run("x")
    )
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("verb: generate\ndraft: small\n", encoding="utf-8")
    run(["run", str(recipe), "model", "def"])
    assert given[0]["draft"] == "small"
    assert given[0]["recipe"] == str(recipe)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("verb: generate\ncost: 5\n", "cost"),
        ("verb: [prune]\n", "names no command"),
        ("verb: draft distill\n", "names no command|draft train"),
        ("verb: run\n", "names no command"),
        ("verb:\n", "names no command to run; add a line"),
        ("verb: pretrian\n", "names no command to run, but 'pretrian'; did you mean 'pretrain'?"),
        ("verb: draft trai\n", "[Dd]id you mean .(draft )?train."),
    ],
)
def test_a_wrong_recipe_is_one_sentence(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(text, encoding="utf-8")
    assert run(["run", str(recipe), "model"]) == 2
    assert re.search(said, capsys.readouterr().err)
    with pytest.raises(ConfigError, match=f"{said}|names no command"):
        attar.run(str(recipe), "model")


def test_a_recipe_runs_in_python_with_options_that_override_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def prune(
        model: str, *, budget: str, config: BonsaiConfig = BonsaiConfig(), recipe: str
    ) -> None:
        given.append((model, budget, config, recipe))

    monkeypatch.setattr(attar, "prune", prune, raising=False)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("verb: prune\nbudget: blocks<=50%\nwindows: 9\nstep: 0.5\n", encoding="utf-8")
    attar.run(str(recipe), "model", step=0.25)
    assert given == [("model", "blocks<=50%", BonsaiConfig(windows=9, step=0.25), str(recipe))]
    attar.run(str(recipe), "model", budget="params<=9%")
    assert given[-1][1] == "params<=9%"


def test_a_recipe_gives_a_verb_in_python_what_the_command_line_takes_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    called: dict[str, Any] = {}

    @takes_recipe("generate")
    def generate(
        model: str,
        data: DataLike = "python-stdlib",
        *,
        draft: str | None = None,
        eval_tokens: int = 5,
        config: GenerateConfig | str = GenerateConfig(),
        decoding: SpecConfig = SpecConfig(),
        recipe: str | None = None,
    ) -> None:
        called.update(locals())

    monkeypatch.setattr(attar, "generate", generate, raising=False)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "verb: generate\ndata: mine\ndata-config: en\ntext_column: words\ndraft: small\n"
        "eval_tokens: 2e3\nmax_new_tokens: 4\ndraft_tokens: 3\nthreshold: null\n",
        encoding="utf-8",
    )
    whole = {
        "model": "m",
        "data": Data("mine", config="en", text_column="words"),
        "draft": "small",
        "eval_tokens": 2000,
        "config": GenerateConfig(max_new_tokens=4),
        "decoding": SpecConfig(draft_tokens=3),
        "recipe": str(recipe),
    }
    generate("m", config=str(recipe))
    assert {name: called[name] for name in whole} == whole
    generate("m", config=recipe)  # pyright: ignore[reportArgumentType] - as paths are given
    assert {name: called[name] for name in whole} == whole
    attar.run(str(recipe), "m")
    assert {name: called[name] for name in whole} == whole
    attar.run(str(recipe), "m", "yours", draft=None, max_new_tokens=5, decoding=SpecConfig())
    mine = {"data": Data("yours", config="en", text_column="words"), "draft": None}
    mine |= {"config": GenerateConfig(max_new_tokens=5), "decoding": SpecConfig()}
    assert {name: called[name] for name in whole} == whole | mine
    with pytest.raises(TypeError, match="sed"):
        attar.run(str(recipe), "m", sed=5)
    recipe.write_text("eval_tokens: many\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"eval_tokens in the recipe .* a whole number"):
        generate("m", config=str(recipe))
