"""Drafts and generation through the door that users take."""

import io
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

import scene
import tiny
from attar import checkpoint
from scene import run

QUICK = (
    "--max-steps 2 --per-device-train-batch-size 2 --prompt-tokens 8 --max-new-tokens 6 "
    "--eval-steps 2 --eval-prompts 3"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("draft")
    text = scene.write_text(folder / "text")
    scene.write_parent(folder / "target", text)
    assert run(["draft", "init", f"{folder / 'target'}", "-o", f"{folder / 'draft'}"]) == 0
    small: Any = checkpoint.load(folder / "draft")
    checkpoint.save(small, folder / "other", tokenizer=scene.tokenizer(text, vocab_size=270))
    (folder / "prompts.txt").write_text("def return\nimport class self\nnone\n")
    (folder / "gaps.txt").write_text("\n\n")
    (folder / "asked.csv").write_text("question,answer\n" + "def,none\n" * 40)
    checkpoint.save(tiny.model("bert"), folder / "encoder", tokenizer=scene.tokenizer(text))
    (folder / "bare.jsonl").write_text(
        "\n".join(json.dumps({"prompt": f"def return {i} class self none"}) for i in range(60))
    )
    (folder / "taken").mkdir()
    (folder / "taken" / "recipes.txt").write_text("pancakes")
    return folder


def command(root: Path, text: str) -> list[str]:
    names = ("target", "draft", "other", "text", "prompts.txt", "gaps.txt", "bare.jsonl", "taken")
    names = (*names, "encoder", "asked.csv")
    words = shlex.split(text)
    verb = 2 if words[0] == "draft" else 1
    return words[:verb] + [str(root / word) if word in names else word for word in words[verb:]]


def printed(root: Path, text: str) -> str:
    said = io.StringIO()
    with redirect_stdout(said):
        assert run(command(root, text)) == 0
    return said.getvalue()


@pytest.fixture(scope="module", autouse=True)
def brief() -> Iterator[None]:
    with scene.brief_profiles(longest=2):
        yield


@pytest.fixture(scope="module")
def trained(root: Path) -> tuple[Path, str]:
    """A trained draft, and what its training printed."""
    out = root / "trained"
    given = f"draft train draft --target target --data text {QUICK} -o {out}"
    return out, printed(root, given)


def test_from_a_target_to_a_draft_that_is_measured(
    root: Path, trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, said = trained
    assert "block efficiency at T=0" in said
    assert "Predicted on this machine" in said
    assert {"attar.json", "speculation.json", "model.safetensors"} <= {
        f.name for f in out.iterdir()
    }
    profile = f"draft evaluate {out} --target target --data text --eval-prompts 2 --longest 2"
    profile += " --prompt-tokens 8 --max-new-tokens 6"
    assert run(command(root, f"{profile} --rounds 1 --temperatures 0")) == 0
    said = capsys.readouterr().out
    assert re.search(r"Drafting (pays|does not pay|makes no difference) here: \d", said)
    assert "100% of the texts identical" in said
    assert run(command(root, f"{profile} --rounds 0 --json - --temperatures 0.5")) == 0
    stored = json.loads(capsys.readouterr().out)["details"]
    assert stored["profiles"][0]["temperature"] == 0.5
    assert len(stored["profiles"][0]["estimates"]) == 2


def test_a_search_gives_a_recipe(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "search"
    given = f"draft search draft --target target --data text {QUICK} --divergences js,lk"
    assert run(command(root, f"{given} --sources=draft -o {out}")) == 0
    said = capsys.readouterr().out
    assert "js" in said
    assert "(before)" in said
    trained = f"draft train draft --target target --data text {QUICK} --config {out / 'best.yaml'}"
    assert run(command(root, f"{trained} -o {tmp_path / 'out'}")) == 0
    record = json.loads((tmp_path / "out" / "attar.json").read_text())
    assert record["settings"]["divergence"] in ("js", "lk")


def test_a_search_of_bare_prompts_leaves_the_data_out(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = f"draft search draft --target target --data bare.jsonl {QUICK} --divergences js"
    given += f" -o {tmp_path / 's'}"
    assert run(command(root, given)) == 0
    said = capsys.readouterr().out
    assert "draft" in said
    assert "target" in said
    assert len((tmp_path / "s" / "study.jsonl").read_text().splitlines()) == 2


PLAIN = "generate target 'def return' --max-new-tokens 20"
SEVERAL = "generate target --prompts prompts.txt --max-new-tokens 20 --batch-size 2"


@pytest.fixture(scope="module")
def plain(root: Path) -> tuple[str, str]:
    """What is written without a draft, behind one prompt and behind several."""
    return printed(root, PLAIN), printed(root, SEVERAL)


@pytest.mark.parametrize("draft", ["draft", "other", "layers:1", "lookup"])
def test_texts_are_those_without_a_draft(
    root: Path, plain: tuple[str, str], draft: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plain[0].startswith("def return")
    assert run(command(root, f"{PLAIN} --draft {draft} --stats")) == 0
    found = capsys.readouterr()
    assert found.out == plain[0]
    assert "tokens per forward pass" in found.err
    assert printed(root, f"{SEVERAL} --draft {draft}") == plain[1]


@pytest.mark.parametrize("draft", ["", " --draft draft"])
def test_a_terminal_sees_the_text_as_it_is_written(
    root: Path, plain: tuple[str, str], draft: str
) -> None:
    class Terminal(io.StringIO):
        pieces = 0

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            self.pieces += 1
            return super().write(text)

    with redirect_stdout(terminal := Terminal()):
        assert run(command(root, PLAIN + draft)) == 0
    assert terminal.getvalue() == plain[0]
    assert terminal.pieces > 3


def test_a_script_gets_a_line_of_json_for_each_prompt(
    root: Path, plain: tuple[str, str], tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in printed(root, f"{SEVERAL} --json -").splitlines()]
    assert [one["prompt"] for one in lines] == ["def return", "import class self", "none"]
    assert "".join(one["text"] + "\n" for one in lines) == plain[1]
    assert printed(root, f"{SEVERAL} --json {tmp_path / 'texts.jsonl'}") == plain[1]
    written = (tmp_path / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in written] == lines


def test_drawn_texts_repeat_by_their_seed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def text(more: str) -> str:
        given = "generate target 'def return' --temperature 1 --max-new-tokens 20 --top-p 0.9"
        assert run(command(root, f"{given} {more}")) == 0
        return capsys.readouterr().out

    assert text("--seed 3") == text("--seed 3") != text("--seed 4")
    draft = "--draft draft --policy constant"
    assert text(f"--seed 3 {draft}") == text(f"--seed 3 {draft}") != text(f"--seed 4 {draft}")


@pytest.mark.parametrize("draft", ["", "--draft draft --policy constant"])
def test_every_prompt_has_random_numbers_of_its_own(
    root: Path, tmp_path: Path, draft: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "same.txt").write_text("def return\n" * 4)
    given = f"generate target --prompts {tmp_path / 'same.txt'} --temperature 1 --seed 3 {draft}"
    said = []
    for size in (1, 2):
        assert run(command(root, f"{given} --max-new-tokens 12 --batch-size {size}")) == 0
        said.append(capsys.readouterr().out)
    for out in said:
        assert len(set(out.split("def return")[1:])) == 4
    if draft:  # nor do they depend on the batch
        assert said[0] == said[1]


def test_a_text_ends_where_it_should(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "generate target 'def return' --max-new-tokens 20"
    assert run(command(root, long)) == 0
    whole = capsys.readouterr().out
    stop = whole.strip()[len("def return") + 8 : len("def return") + 10]
    for draft in ("", "--draft draft"):
        assert run([*command(root, f"{long} {draft}"), "--stop", stop]) == 0
        assert capsys.readouterr().out.rstrip("\n").endswith(stop)


def test_lossy_texts_are_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = "generate target 'def return' --max-new-tokens 8 --draft draft --lossy lin"
    assert run(command(root, f"{given} --epsilon 0.5")) == 0
    assert "not the model's own" in capsys.readouterr().err


def test_a_draft_of_another_target_is_told(
    root: Path, trained: tuple[Path, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changed = checkpoint.load(root / "target")
    with torch.no_grad():
        next(changed.parameters()).add_(0.1)
    tokenizer = checkpoint.load_tokenizer(root / "target")
    checkpoint.save(changed, tmp_path / "changed", tokenizer=tokenizer)
    given = ["--max-new-tokens", "4", "--draft", str(trained[0])]
    assert run(["generate", str(tmp_path / "changed"), "def", *given]) == 0
    assert "trained for another model" in caplog.text


MISTAKES = {
    "no prompt": ("generate target", "found neither"),
    "two prompts": ("generate target def --prompts prompts.txt", "found both"),
    "an empty prompt": ("generate target ''", "at least one word"),
    "no line": ("generate target --prompts gaps.txt", "found nothing in"),
    "lossy and not": ("generate target def --draft draft --lossy lin", "smaller epsilon"),
    "no words": ("generate target def --temperature 1 --top-p 0", "top_p"),
    "all of its layers": ("draft init target --layers 3 -o x", "fewer layers"),
    "an encoder": ("draft init encoder --layers 1 -o x", "must be a decoder"),
    "an encoder that writes": ("generate encoder def", "must be a decoder"),
    "other columns": (
        "draft train draft --target target --data asked.csv --max-new-tokens 8 -o x",
        "prompt or messages",
    ),
    "rounds": ("draft evaluate draft --target target --rounds -1", "rounds must be"),
    "no file": ("generate target --prompts nowhere.txt", "cannot read prompts"),
    "too long": ("generate target def --max-new-tokens 90", "64 positions"),
    "too long with a draft": (
        "generate target def --max-new-tokens 90 --draft draft",
        "64 positions",
    ),
    "no tokens": ("generate target def --max-new-tokens 0", "at least 1"),
    "a negative temperature": ("generate target def --temperature -1", "0 or more"),
    "no draft": ("generate target def --draft nowhere/at/all", "nowhere/at/all"),
    "all layers": ("generate target def --draft layers:3", "between 1 and 2 layers"),
    "no number": ("generate target def --draft layers:two", "layers:N"),
    "drafting without a draft": (
        "generate target def --policy cost --draft-tokens 3",
        "need a draft",
    ),
    "lossy by accident": ("generate target def --draft draft --epsilon 0.5", "lossy is unset"),
    "no chat": ("generate target def --chat", "leave chat out"),
    "too many layers": ("draft init target --layers 9 -o x", "between 1 and 3"),
    "layers that are none": ("draft init target --layers some -o x", "found 'some'"),
    "layers in disorder": ("draft init target --layers 2,0 -o x", "ascending"),
    "no folder": ("draft init target", "--output-dir"),
    "a taken folder": ("draft init target -o taken", "is not empty"),
    "another tokenizer": (
        "draft train other --target target --data text -o x",
        "share one tokenizer",
    ),
    "a large draft": ("draft train target --target draft --data text -o x", "must be smaller"),
    "no such divergence": (
        "draft train draft --target target --data text --divergence kl -o x",
        "divergence",
    ),
    "no such text": (
        "draft train draft --target target --data nowhere.jsonl --max-new-tokens 8 -o x",
        "no file or folder",
    ),
    "texts that are too long": (
        "draft train draft --target target --data text --max-new-tokens 60 -o x",
        "64 positions",
    ),
    "nothing that follows": (
        "draft train draft --target target --data bare.jsonl --draft-share 0 "
        "--max-new-tokens 8 -o x",
        "prompts have none",
    ),
    "shares above one": (
        "draft train draft --target target --data text --target-share 0.5 -o x",
        "one together",
    ),
    "no such writer": (
        "draft search draft --target target --data text --sources nobody -o x",
        '"draft", "target", "data"',
    ),
    "temperatures": ("draft evaluate draft --target target --temperatures hot", "--temperatures"),
    "no length": ("draft evaluate draft --target target --longest 0", "longest must be"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(
    root: Path,
    tmp_path: Path,
    mistake: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given, said = MISTAKES[mistake]
    assert run(command(root, given)) == 2
    found = capsys.readouterr()
    lines = [line for line in found.err.splitlines() if line and "Loading weights" not in line]
    assert len(lines) == 1  # the bars are switched off in a process of its own
    assert lines[0].startswith("attar: ")
    assert said in lines[0]
    assert not list(tmp_path.iterdir())


def test_prompts_may_come_from_stdin(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("def return\nnone\n"))
    assert run(command(root, "generate target --prompts - --max-new-tokens 3")) == 0
    said = capsys.readouterr().out
    assert said.startswith("def return")
    assert "\nnone" in said
