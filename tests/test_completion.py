"""`attar generate` with several drafts, on the command line and in Python."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import attar
import scene
from attar import checkpoint
from attar.completion import drafting
from attar.decode.generate import GenerateConfig
from attar.decode.ngram_build import build_store
from attar.decode.ngrams import NGramStore
from attar.decode.settings import SpecConfig
from attar.errors import CompatibilityError, ConfigError
from attar.methods.superposed import SuperposedConfig, SuperposedDecoder
from attar.report.record import Run
from scene import run

PROMPTS = ["def return import", "class self none true"]
FEW = GenerateConfig(max_new_tokens=4)
#: the models are random: what is likely behind a word, no n-gram knows
PLAIN = SuperposedConfig(heal=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model, and n-grams of its tokenizer."""
    folder = tmp_path_factory.mktemp("home")
    text = scene.write_text(folder / "text")
    scene.write_parent(folder / "model", text)
    rows = (text / "train.txt").read_text(encoding="utf-8").splitlines()
    words = checkpoint.load_tokenizer(folder / "model")
    build_store(rows, words, output_dir=folder / "store")
    return folder


def test_drafts_are_those_of_the_decoder_on_the_command_line_and_in_python(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, store = home / "model", home / "store"
    decoder = SuperposedDecoder(
        attar.load(model),
        attar.load_tokenizer(model),
        config=SuperposedConfig(max_new_tokens=4, alpha=0.3),
        store=NGramStore.load(store),
    )
    expected = [[one.text for one in decoder.generate(prompt).drafts] for prompt in PROMPTS]
    called: list[Any] = []
    made = attar.generate(
        model,
        PROMPTS,
        drafts=3,
        store=store,
        config=FEW,
        superposed=SuperposedConfig(alpha=0.3),
        each=lambda prompt, found: called.append((prompt, found)),
        output_dir=tmp_path / "record",
    )
    for details in (made.details, Run.load(tmp_path / "record").details):
        drafts = [[one["text"] for one in row["drafts"]] for row in details["drafts"]]
        assert drafts == expected
        assert details["texts"] == [p + row[0] for p, row in zip(PROMPTS, expected, strict=True)]
    assert [prompt for prompt, _ in called] == PROMPTS
    assert made.paper is not None
    assert made.paper.arxiv == "2405.18400"
    typed = ["generate", str(model), "--drafts", "3", "--store", str(store), "--max-new-tokens=4"]
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS), encoding="utf-8")
    capsys.readouterr()
    assert run([*typed, "--alpha", "0.3", "--prompts", str(prompts), "--json", "-"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [[one["text"] for one in line["drafts"]] for line in lines] == expected
    assert [line["prompt"] for line in lines] == PROMPTS
    assert run([*typed, "--alpha=0.3", PROMPTS[0], "--stats"]) == 0
    out = capsys.readouterr()
    assert out.out == "".join(f"{PROMPTS[0]}{text}\n" for text in expected[0])
    assert "score" in out.err


def test_options_of_one_text_hold_for_drafts_too() -> None:
    one = GenerateConfig(max_new_tokens=7, temperature=0.5, stop=("x",))
    made = drafting(4, config=one, decoding=SpecConfig(seed=3), superposed=PLAIN)
    assert made == SuperposedConfig(
        k=4, max_new_tokens=7, temperature=0.5, stop=("x",), seed=3, heal=False
    )
    unset = drafting(3, config=GenerateConfig(), decoding=SpecConfig(), superposed=PLAIN)
    assert unset == PLAIN
    assert GenerateConfig().new_tokens == 128


def test_a_recipe_says_all_of_it(home: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "verb: generate\ndrafts: 2\nmax_new_tokens: 3\n"
        "temperature: 0.5\nalpha: 0.25\nheal: false\n",
        encoding="utf-8",
    )
    by_name = attar.generate(home / "model", PROMPTS, config=str(recipe))
    assert by_name.settings["k"] == 2
    assert by_name.settings["alpha"] == 0.25
    assert by_name.settings["recipe"] == str(recipe)
    assert (
        run(["run", str(recipe), str(home / "model"), PROMPTS[0], "-o", str(tmp_path / "x")]) == 0
    )
    typed = Run.load(tmp_path / "x")
    assert typed.details["texts"] == by_name.details["texts"][:1]
    for name in ("k", "max_new_tokens", "temperature", "alpha", "heal", "candidates"):
        assert typed.settings[name] == by_name.settings[name]


def test_a_message_is_answered_in_the_chat_template(home: Path) -> None:
    words = attar.load_tokenizer(home / "model")
    with pytest.raises(ConfigError, match="chat needs a model with a chat template"):
        attar.generate(home / "model", "def", drafts=2, config=GenerateConfig(chat=True))
    words.chat_template = "<{{ messages[0]['content'] }}>"
    config = GenerateConfig(chat=True, max_new_tokens=3)
    model = attar.load(home / "model")
    made = attar.generate(model, "def", drafts=2, config=config, tokenizer=words)
    ids = words("<def>", add_special_tokens=False)["input_ids"]
    decoder = SuperposedDecoder(model, words, config=SuperposedConfig(k=2, max_new_tokens=3))
    assert made.details["texts"] == [decoder.generate(ids).drafts[0].text]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"drafts": 0}, "drafts must be at least 1"),
        ({"drafts": 3, "draft": "layers:1"}, "found draft, so leave it out"),
        ({"drafts": 3, "stream": print}, "found stream, so leave it out"),
        ({"drafts": 3, "config": GenerateConfig(top_p=0.9)}, "found top_p, so leave it out"),
        ({"drafts": 3, "config": GenerateConfig(temperature=0.0)}, "temperature must be at least"),
        ({"drafts": 3, "decoding": SpecConfig(draft_tokens=2)}, "an option of drafting with a"),
        ({"store": "x"}, "store is an option of several drafts"),
        ({"suffix": "x"}, "suffix is an option of several drafts"),
        ({"superposed": PLAIN}, "heal is an option of several drafts"),
        ({"drafts": 3, "suffix": "x", "config": GenerateConfig(chat=True)}, "leave one of them"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(
    home: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        attar.generate(home / "model", "def", **options)


def test_a_store_of_another_tokenizer_is_refused(home: Path, tmp_path: Path) -> None:
    other = scene.tokenizer(home / "text", vocab_size=270)
    build_store(["def return"], other, output_dir=tmp_path / "other")
    with pytest.raises(CompatibilityError, match="n-grams of the model's tokenizer"):
        attar.generate(home / "model", "def", drafts=3, store=tmp_path / "other")
