"""What the documents tell users to type exists: commands parse, Python compiles and its names are
there, links lead somewhere, and the tables name what the code has.
"""

import ast
import importlib
import importlib.util
import inspect
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclopts.config import Dict

import attar
from attar.cli.app import build_app, with_recipe
from attar.families import FAMILIES
from attar.recipes import recipes

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]
)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`(attar [^`]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def fences(page: Path, *languages: str) -> Iterator[tuple[int, str]]:
    """Line number and text of every fenced block in one of the languages."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        if found[1] in languages:
            yield text.count("\n", 0, found.start()) + 2, found[2]


def typed(page: Path) -> Iterator[list[str]]:
    """The words of every line of a shell block."""
    for _, block in fences(page, "sh", "bash", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of every `attar ...` in shell blocks and in running text."""
    yield from (words[1:] for words in typed(page) if Path(words[0]).name == "attar")
    if page.name == "CHANGELOG.md":  # names commands of earlier versions, too
        return
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for found in _SPAN.finditer(prose):
        yield shlex.split(found[1])[1:]


COMMANDS = [(name(page), words) for page in PAGES for words in commands(page)]
PYTHON = [
    pytest.param(block, id=f"{name(page)}:{line}")
    for page in PAGES
    for line, block in fences(page, "python")
] + [
    pytest.param(script.read_text(encoding="utf-8"), id=name(script))
    for script in sorted((ROOT / "examples").glob("*.py"))
]


#: packages that a page uses and nothing of Attar needs
FOREIGN = {"torchao"}
#: recipes that a command of the docs has written before, and the commands they name
WRITTEN = {"study/best.yaml": ("distill",), "search/best.yaml": ("draft", "train")}


def parse(words: list[str]) -> None:
    """Parse a command line as `attar` does, without running it."""
    app = build_app()
    quiet: dict[str, Any] = {"exit_on_error": False, "print_error": False}
    _, bound, _ = app.meta.parse_args(words, **quiet)
    tokens, config = tuple(bound.arguments.get("tokens", ())), bound.arguments.get("config")
    if tokens[:1] == ("run",) and tokens[1] in WRITTEN:
        tokens = (*WRITTEN[tokens[1]], *tokens[2:])
    if config not in (None, *recipes()):  # a file of the reader's
        config = None
    tokens, options, config = with_recipe(tokens, config)
    if options is not None:
        app.config = (Dict(options, source=str(config)),)
    if tokens:  # else it was --help or --version
        app.parse_args(list(tokens), **quiet)


def test_there_is_something_to_check() -> None:
    assert len(COMMANDS) > 30
    assert len(PYTHON) > 8


@pytest.mark.parametrize(
    "words", [pytest.param(words, id=f"{page}: {shlex.join(words)}") for page, words in COMMANDS]
)
def test_commands_parse(words: list[str]) -> None:
    if len(words) == 1 and not words[0].startswith("-"):  # only the verb is meant
        assert words[0] in build_app()
    else:
        parse(words)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_folder_is_written_twice(page: Path) -> None:
    """Whoever types a page from top to bottom is not refused: a full folder is not replaced."""
    outputs = ("-o", "--output-dir")
    written = [
        words[words.index(option) + 1]
        for words in typed(page)
        for option in outputs
        if option in words and not {"--resume", "search"} & {*words}
    ]
    assert sorted(written) == sorted({*written})


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_scripts_and_targets_exist(page: Path) -> None:
    """Whatever else is typed: `make TARGET`, `python SCRIPT` and `python -m MODULE`."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    shell = {" ".join(words) for words in typed(page)}
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for line in shell | {*re.findall(r"`((?:make|python) [^`]+)`", prose)}:
        program, *words = shlex.split(line)
        if program == "make":
            assert set(words) <= {*targets}, f"there is no {line}"
        elif Path(program).name == "python" and words[0] == "-m":
            # setuptools warns where pip is looked for after torch has compiled
            assert words[1] == "pip" or importlib.util.find_spec(words[1]), f"there is no {line}"
        elif Path(program).name == "python":
            assert (ROOT / words[0]).is_file(), f"there is no {line}"
        else:
            assert Path(program).name in {"attar", "accelerate", "pip"}, f"{line} is not checked"


@pytest.mark.parametrize(
    "words", [["prune", "m", "--bugdet", "x"], ["prnue", "m"], ["prune", "m", "--layout", "flat"]]
)
def test_a_wrong_command_is_noticed(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"(?i)unknown|invalid|unused"):
        parse(words)


@pytest.mark.parametrize("block", PYTHON)
def test_python_compiles_and_its_names_exist(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")  # what scripts share lies beside them
    check_python(block)


def test_wrong_python_is_noticed() -> None:
    for block in (
        "from attar import prnue",
        "import attar\nattar.purne()",
        "import attar\nattar.prune('m', 'd', bugdet='x')",
    ):
        with pytest.raises(AssertionError):
            check_python(block)


def check_python(block: str) -> None:
    """Imports resolve, `attar.x` exists, and calls of what was imported use its keywords."""
    tree = ast.parse(block)
    known: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                known[alias.asname or alias.name] = importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            package = (node.module or "").split(".")[0]
            if package in FOREIGN and importlib.util.find_spec(package) is None:
                continue
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"
                known[alias.asname or alias.name] = getattr(module, alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "attar":
            assert node.attr in attar.__all__, f"attar has no {node.attr}"
        if isinstance(node, ast.Call) and (target := resolve(node.func, known)) is not None:
            taken = inspect.signature(target).parameters
            for keyword in node.keywords:
                assert keyword.arg is None or keyword.arg in taken, (
                    f"{ast.unparse(node.func)} has no {keyword.arg}"
                )


def resolve(function: ast.expr, known: dict[str, Any]) -> Any:
    """What a call calls, when that is something of Attar's."""
    path = ast.unparse(function).split(".")
    target = known.get(path[0])
    for part in path[1:]:
        target = getattr(target, part, None)
    ours = getattr(target, "__module__", None) or ""
    return target if callable(target) and ours.startswith("attar") else None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in _LINK.findall(text):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", t).lower().replace(" ", "-") for t in titles]


def test_every_family_is_in_the_table() -> None:
    text = (ROOT / "docs/concepts/architectures.md").read_text(encoding="utf-8")
    table = text.partition("## Families")[2].partition("##")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")][1:]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(FAMILIES)


@pytest.mark.parametrize(
    ("page", "claims"),
    [
        ("docs/results.md", "*"),
        ("docs/methods/bonsai.md", "bonsai-*"),
        ("docs/methods/distiller.md", "distiller-*"),
    ],
)
def test_results_have_their_place(page: str, claims: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    begin, end = text.index("<!-- results:begin -->"), text.index("<!-- results:end -->")
    table = text[begin:end]
    for claim in (ROOT / "benchmarks").glob(f"{claims}/run.py"):
        assert f"benchmarks/{claim.parent.name}/run.py" in table


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_paths_of_a_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.~])/(home|root|tmp|work|opt|mnt)/", text)


def test_tables_of_results_are_those_of_the_result_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which the script adds its own folder
    file = ROOT / "benchmarks" / "table.py"
    spec = importlib.util.spec_from_file_location("table", file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert made.results()
    for page in made.PAGES:
        assert made.filled(page) == page.read_text(encoding="utf-8"), (
            f"run make results: {page.name} does not show the committed results"
        )
    for file, text in made.drawn().items():
        assert text == file.read_text(encoding="utf-8"), "run make results"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
