"""Mistakes of someone who has read the README alone: one sentence, exit code 2, nothing left."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

import encoders
import scene
from attar import checkpoint

_PRUNE = "prune model --data text -o out --budget"
_DISTILL = "distill encoder --teacher classifier -o out --data"
#: what is typed -> what is said of it
MISTAKES = {
    "prune --data text --budget blocks<=50% -o out": r"attar prune needs MODEL; `attar prune --hel",
    "evaluate": r"attar evaluate needs MODEL; `attar evaluate --help`",
    "heal model --data text -o out": r"attar heal needs --teacher; `attar heal --help`",
    "draft train model --data text -o out": r"attar draft train needs --target;",
    "draft init": r"attar draft init needs MODEL; `attar draft init --help`",
    "compare": r"attar compare needs RUNS;",
    "recipe": r"attar recipe needs ACTION;",
    "demo --quickly": r"Unknown option: --quickly\. `attar demo --help` lists all\.",
    f"{_PRUNE} params<=50": r"did you mean params<=50%, or params<=50M",
    f"{_PRUNE} blocks=50%": r"write blocks<=50%",
    f"{_PRUNE} bytes<=3": r"did you mean bytes<=3%, or bytes<=3MB",
    f"{_PRUNE} block<=50%": r"unknown constraint 'block'.*did you mean 'blocks'",
    f"{_PRUNE} 50%": r"found '50%'; write CONSTRAINT<=VALUE",
    f"{_PRUNE} ''": r"found nothing; write CONSTRAINT<=VALUE",
    "evaluate missing --data text": r"no model named 'missing': there is no folder of that name",
    "evaluate nobody/nothing --data text": r"HF_HUB_OFFLINE is set; check the name",
    "evaluate ./missing --data text": r"no model at './missing': there is no such folder",
    "evaluate model --data nobody/nothing": r"no file or folder 'nobody/nothing' here, and the H",
    "evaluate model --data docs.csv --text-column contents": r"did you mean 'content'",
    "heal model --teacher classifier --data text -o out": r"teacher.*BertForSequenceClassification",
    "generate encoder --prompt a": r"must be a decoder .* but encoder is a Bert",
    "draft init classifier -o out": r"must be a decoder .* but classifier is a Bert",
    "distill model --teacher classifier --data reviews.csv -o out": r"student must be an encoder",
    f"{_DISTILL} empty.csv": r"found none in row 1 \(text\) and 19 others; .*--skip-empty",
    f"{_DISTILL} numbers.csv": r"column 'text' of numbers.csv, found numbers alone",
    f"{_DISTILL} docs.csv --text-column contents": r"did you mean 'content'",
    f"{_DISTILL} reviews.csv --context 2": r"context must be at least 3",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and data as a user has them."""
    root = tmp_path_factory.mktemp("mistakes")
    scene.write_parent(root / "model", scene.write_text(root / "text"))
    for name in ("encoder", "classifier"):
        checkpoint.save(encoders.encoder("bert"), root / name, tokenizer=encoders.tokenizer())
    rows = encoders.documents(200)["train"]
    texts, labels = rows["text"][:], [("bad", "good")[label] for label in rows["label"]]

    def write(name: str, column: str, cells: Sequence[object]) -> None:
        lines = (f"{text},{label}" for text, label in zip(cells, labels, strict=True))
        (root / name).write_text("\n".join([f"{column},label", *lines]), encoding="utf-8")

    write("reviews.csv", "text", texts)
    write("docs.csv", "content", texts)
    write("empty.csv", "text", [text if i % 10 else "" for i, text in enumerate(texts)])
    write("numbers.csv", "text", range(len(texts)))
    return root


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_one_sentence(
    typed: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    assert scene.run(shlex.split(typed)) == 2
    out, said = capsys.readouterr()
    assert out == ""
    said = said[said.rindex("attar: ") :]  # behind what transformers shows in a process of tests
    assert re.fullmatch(r"attar: [^\n]+\n", said), said
    assert re.search(MISTAKES[typed], said), said
    assert len(said) < 400
    assert sorted(folder.rglob("*")) == before
