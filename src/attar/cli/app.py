"""The command line: which commands there are, how a recipe is read, and what an error looks like.

Commands are registered by name and imported on use, so that `attar --help` answers at once.
"""

import logging
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from inspect import Parameter as Argument
from inspect import signature
from io import TextIOWrapper
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import cyclopts
from cyclopts import App, Parameter
from cyclopts.config import Dict

from attar.artefacts import disk_is_full
from attar.cli.output import ExitCode
from attar.cli.typed import check
from attar.errors import AttarError, ConfigError, did_you_mean, printable
from attar.recipes.renamed import RENAMED, RENAMED_OPTIONS
from attar.recipes.typed import as_type

#: command -> what it does; those with an `app` have commands of their own
COMMANDS = MappingProxyType(
    {
        "demo": "See it work: train a pocket model, prune it to half, heal it, read the report.",
        "pretrain": "Train a decoder or a T5 on plain text, from nothing or further.",
        "prune": "Prune a model to a budget (Bonsai and baselines).",
        "heal": "Repair a pruned model by distilling from its parent.",
        "distill": "Train a small encoder from a larger one (Distiller, Compressor).",
        "pipeline": "Search distillation pipelines on your data (Distiller).",
        "recommend": "Which distillation pipelines to try first on new data (AutoDistiller).",
        "generate": "Continue a text, faster with a draft, or in several drafts at once.",
        "serve": "Serve a model to clients of the OpenAI API.",
        "draft": "Make, train and evaluate a draft for speculative decoding (DistillSpec).",
        "supernet": "Train a family of networks at once, and take the best within a budget.",
        "tokenizer": "Make and use a tokenizer that a language model built (Equal-Info Windows).",
        "ngrams": "Count which tokens follow which in a text, for drafts without a forward pass.",
        "codec": "Make and use a codec: pictures or sound small, as models train on them (WaLLoC).",
        "annotate": "Label text with people, and see whether choosing what they label pays.",
        "evaluate": "Perplexity, bits per byte, speed and benchmark tasks of a model.",
        "cost": "What a model costs: parameters, bytes, MACs, cache, latency.",
        "export": "Write a model for llama.cpp and Ollama (GGUF) or onnxruntime (ONNX).",
        "compare": "Put the records of several runs side by side.",
        "recipe": "List, show and copy the recipes that come with Attar.",
        "run": "Run a recipe: the command that it names, with its options.",
        "env": "Versions and hardware, for a bug report.",
    }
)
NOUNS = frozenset({"annotate", "codec", "draft", "ngrams", "pipeline", "supernet", "tokenizer"})
#: parts of a noun that have verbs of their own
PARTS = frozenset({("annotate", "event"), ("annotate", "user")})
#: verbs with a sub-command
COMPARED = frozenset({("pretrain", "compare")})
_WITHOUT_RECIPE = frozenset(
    {"compare", "demo", "env", "export", "pipeline evaluate", "recipe", "supernet export"}
    | {"codec encode", "codec decode"}
    | {f"tokenizer {verb}" for verb in ("decode", "compress", "decompress")}
    | {f"annotate {verb}" for verb in ("init", "import", "serve", "worker", "draw", "train")}
    | {f"annotate {verb}" for verb in ("status", "curve", "agree", "transfer", "export", "convert")}
    | {f"annotate {verb}" for verb in ("backup", "upgrade", "doctor", "event add", "event list")}
    | {f"annotate user {verb}" for verb in ("add", "role", "list")}
)
#: the recipe of options that are not given, where a student of `attar distill` has a budget
_OF_A_BUDGET = "compressor/default"
_EPILOGUE = """\
Every command has its own --help. Options can come from a recipe; flags override it:
`attar pretrain --config pocket/1m --output-dir my-model`, or `attar run pocket/1m -o my-model`.
Exit codes: 0 done; 1 the run failed; 2 wrong usage or input; 3 budget not met (the result is
written); 130 interrupted.
"""


_Tokens = Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]
_Config = Annotated[
    str | None,
    Parameter(help="A recipe's name (see attar recipe list) or YAML file with options."),
]


def build_app(command: str | None = None) -> App:
    """The command line, with commands that are not imported yet.

    Args:
        command: the one that is going to run: its own docstring explains it, at more length.
    """
    from attar import __version__

    app = _empty_app(
        version=__version__,
        help="Attar makes language models smaller and faster.",
        help_epilogue=_EPILOGUE,
        help_format="markdown",
    )
    app.meta.suppress_keyboard_interrupt = False
    for name, text in COMMANDS.items():
        what = "app" if name in NOUNS | {verb for verb, _ in COMPARED} else name
        help_text = None if name == command else text
        app.command(f"attar.cli.{name}:{what}", name=name, help=help_text)

    @app.meta.default
    def _launch(*tokens: _Tokens, config: _Config = None) -> Any:
        tokens, options, config = with_recipe(tokens, config)
        app.config = () if options is None else (Dict(options, source=str(config)),)
        return app(tokens, exit_on_error=False, print_error=False)

    return app


def _empty_app(**options: Any) -> App:
    """A command line without commands."""
    return App(
        name="attar",
        result_action="return_value",
        default_parameter=Parameter(converter=as_type),
        suppress_keyboard_interrupt=False,  # `run` turns it into the exit code
        **options,
    )


def _check(*tokens: _Tokens, config: _Config = None) -> None:
    """Refuse what the options of a command do not take, before it is imported."""
    tokens, options, config = with_recipe(tokens, config)
    words = _command_words(tokens)
    if words and words[0] in COMMANDS and words == tokens[: len(words)]:
        recipe = () if options is None else (Dict(options, source=str(config)),)
        check(_empty_app(config=recipe), words, tokens)


def with_recipe(
    tokens: tuple[str, ...], config: str | None
) -> tuple[tuple[str, ...], dict[str, Any] | None, str | None]:
    """What is typed, with `run RECIPE` as the command that the recipe names, and the options of the
    recipe, if any, under that command, with its name.

    Raises:
        ConfigError: there is no such recipe, or it is for another command.
    """
    if tokens[:1] == ("run",):
        first = "--config" if config is not None else "".join(tokens[1:2])
        if not first or first.startswith("-"):
            raise ConfigError(
                "attar run takes a recipe first, then the options of the command that it names, as "
                f"in attar run RECIPE -o FOLDER; found {first or 'nothing'} in place of a recipe"
            )
        tokens, config = (*_command_of(tokens[1]), *tokens[2:]), tokens[1]
    given = {token.partition("=")[0].replace("_", "-") for token in tokens}
    if config is None and tokens[:1] == ("distill",) and given & {"--budget", "--plan"}:
        config = _OF_A_BUDGET
    return tokens, None if config is None else _options(config, tokens), config


def _command_of(name: str) -> tuple[str, ...]:
    """The command that a recipe names."""
    from attar.recipes import no_command, read_recipe

    verb = str(read_recipe(name).get("verb", ""))
    words, known = tuple(verb.split()), set(COMMANDS) - {"run"}
    if not words or words[0] not in known:
        raise no_command(verb, known, source=name)
    return words


def _options(config: str, tokens: Sequence[str]) -> dict[str, Any]:
    """A recipe's options for the command that is typed."""
    from attar.recipes import check_recipe, read_recipe
    from attar.recipes.verbs import overruled

    options = read_recipe(config)
    verb = str(options.pop("verb", ""))
    words = _command_words(tokens)
    command = " ".join(words)
    if command in _WITHOUT_RECIPE:
        raise ConfigError(f"attar {command} takes no recipe; leave --config out")
    check_recipe(options, verb=verb, command=command, source=config)
    if command == "pipeline search":
        from attar.cli.pipeline import without_searched

        options = without_searched(options)
    given = (token.partition("=")[0] for token in tokens if token.startswith("--"))
    names = [name.lstrip("-").replace("-", "_") for name in given]
    options = {**overruled(options, names), "recipe": config}
    for word in reversed(words):  # cyclopts looks for a command's options under its name
        options = {word: options}
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by >&-
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (until the process ends)
    if isinstance(sys.stdout, TextIOWrapper):  # a console may lack letters that a model writes
        sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _interrupted_in(os.getpid()))
    code = run(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the work is done, and libraries take a moment
    sys.exit(code)


def _interrupted_in(process: int) -> Callable[[int, object], None]:
    """Makes of a signal what Ctrl-C is; a process that was forked just ends."""

    def interrupt(number: int, frame: object) -> None:
        if os.getpid() != process:
            os._exit(128 + number)
        raise KeyboardInterrupt

    return interrupt


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code; a mistake of the user's prints one sentence, no
    traceback.
    """
    _quiet_libraries()
    try:
        _require_utf8(argv)
        _require_command(argv)
        _refuse_old_words(argv)
        checker = _empty_app(default_command=_check, help_flags=(), version_flags=())
        checker(list(argv), exit_on_error=False, print_error=False)
        command = next((token for token in argv if token in COMMANDS), None)
        code = build_app(command).meta(list(argv), exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except AttarError as error:
        return _complain(str(error), error.exit_code)
    except cyclopts.UnusedCliTokensError as error:
        return _complain(_too_many(error), ExitCode.USAGE)
    except cyclopts.MissingArgumentError as error:
        return _complain(_missing(error), ExitCode.USAGE)
    except cyclopts.CycloptsError as error:
        return _complain(_with_new_word(str(error), argv), ExitCode.USAGE)
    except KeyboardInterrupt as error:
        return _complain(": ".join(["interrupted", *map(str, error.args)]), ExitCode.INTERRUPTED)
    except OSError as error:
        if not (isinstance(error, BrokenPipeError) or disk_is_full(error)):
            raise
        return _end_of_output(error)
    return code if isinstance(code, int) else ExitCode.DONE


def _require_utf8(argv: Sequence[str]) -> None:
    for token in argv:
        if not token.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in token):
            raise ConfigError(
                f"expected UTF-8 on the command line; found {token!r}: set a UTF-8 locale, or "
                "rename the file"
            )


def _require_command(argv: Sequence[str]) -> None:
    """Refuse an unknown command; cyclopts would import all of them for its suggestion."""
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        near = did_you_mean(argv[0], COMMANDS) or ";"
        raise ConfigError(f"there is no command {argv[0]!r}{near} `attar --help` lists all")


def _command_words(tokens: Sequence[str]) -> tuple[str, ...]:
    """The words that name the command."""
    typed = tuple(token for token in tokens if not token.startswith("-"))
    if typed[:2] in PARTS:
        return typed[:3]
    return typed[: 2 if (typed[:1] and typed[0] in NOUNS) or typed[:2] in COMPARED else 1]


def _refuse_old_words(argv: Sequence[str]) -> None:
    words = tuple(token for token in argv[:2] if not token.startswith("-"))
    if (new := RENAMED.get(words[:2])) is not None:  # pyright: ignore[reportArgumentType,reportCallIssue]
        raise ConfigError(f"attar {' '.join(words)} is now: {new}")


def _too_many(error: cyclopts.CycloptsError) -> str:
    """What to do with words that no option takes: data, mostly."""
    assert error.target is not None
    found = shlex.join(error.unused_tokens or ())
    options = signature(error.target).parameters
    first = [name for name, one in options.items() if one.kind is not Argument.KEYWORD_ONLY]
    typed = " ".join(["attar", *(error.command_chain or ()), *map(str.upper, first)])
    hint = f"data has an option, --data {found}" if "data" in options else "quote text with spaces"
    if error.command_chain and tuple(error.command_chain) in COMPARED:
        hint = "`attar compare RUN RUN` puts finished runs side by side"
    return f"expected {typed}, then options; found {found} as well: {hint}"


def _missing(error: cyclopts.MissingArgumentError) -> str:
    """What a command needs besides."""
    argument = error.argument
    assert argument is not None
    name = argument.name
    if error.keyword is not None:
        name = f"a value after {error.keyword}"
    elif argument.field_info.is_positional:
        name = name.lstrip("-").upper()
    command = " ".join(["attar", *(error.command_chain or ())])
    return f"{command} needs {name}; `{command} --help` says what that is"


def _end_of_output(error: OSError) -> int:
    """The exit code where no more can be written."""
    try:
        sys.stdout.flush()
    except OSError:  # and would fail once more at the interpreter's end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):  # the reader has gone, as in `attar env | head -1`
        return ExitCode.DONE
    return _complain(f"cannot write the output ({error.strerror}); make room", ExitCode.FAILED)


def _with_new_word(message: str, argv: Sequence[str]) -> str:
    """A usage error, with the new name of an option of version 0.1, or where all are listed."""
    for token in argv:
        name = token.partition("=")[0].lstrip("-").replace("-", "_")
        if (
            token.startswith("--")
            and name in RENAMED_OPTIONS
            and token.partition("=")[0] in message
        ):
            what = message.split("Did you mean")[0].rstrip(". ")
            return f"{what}. In this version it is {RENAMED_OPTIONS[name]}."
    if message.startswith("Unknown option") and "Did you mean" not in message:
        return f"{message} `{' '.join(['attar', *_command_words(argv)])} --help` lists all."
    return message


class _Lines(logging.Formatter):
    """Messages in which names from files cannot move the cursor."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().formatMessage(record).split("\n")))


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"attar: {printable(' '.join(message.split()))}\n")
    return code


def _quiet_libraries() -> None:
    """Progress and results are ours to print; libraries speak up from warnings on."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Lines("%(message)s"))
    first = os.environ.get("RANK", "0") == "0"
    logging.getLogger("attar").setLevel(logging.INFO if first else logging.WARNING)
    # lm-evaluation-harness warns that it was given a model and not a name, as it is by us
    logging.getLogger("lm_eval.models.huggingface").setLevel(logging.ERROR)
    # the Hub's retries; how they end is told in one sentence
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
