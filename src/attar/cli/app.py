"""The command line: which verbs there are, how a recipe is read, and what an error looks like.

Verbs are registered by name and imported on use, so that `attar --help` answers at once.
"""

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import cyclopts
from cyclopts import App, Parameter
from cyclopts.config import Dict

from attar import __version__
from attar.errors import AttarError

_VERBS = {
    "demo": "See it work: train a pocket model, prune it to half, heal it, and read the report.",
    "pretrain": "Train a small language model and its tokenizer on plain text.",
    "prune": "Prune a model to a budget (Bonsai and baselines).",
    "heal": "Repair a pruned model by distilling from its parent.",
    "distill": "Train a small encoder for a task from a larger one (Distiller).",
    "recommend": "Which distillation pipelines to try first on new data (AutoDistiller).",
    "generate": "Continue a text, faster with a draft and word for word the same.",
    "draft": "Make, train and measure a draft for speculative decoding (DistillSpec).",
    "tokenizer": "Make and use a tokenizer that a language model built (Equal-Info Windows).",
    "evaluate": "Perplexity, bits per byte, speed and benchmark tasks of a model.",
    "cost": "What a model costs: parameters, bytes, MACs, cache, latency.",
    "compare": "Put the records of several runs side by side.",
    "recipe": "List, show and copy the recipes that come with Attar.",
    "env": "Versions and hardware, for a bug report.",
}
#: verbs that have verbs of their own
_GROUPS = frozenset({"distill", "draft", "tokenizer"})
_EPILOGUE = """\
Every verb has its own --help. Options can come from a recipe, flags override it:
`attar pretrain --config pocket/1m --output-dir my-model`.
Exit codes: 0 done; 1 the run failed; 2 wrong usage or input; 3 budget not met (artefact kept); 130
interrupted.
"""


def build_app(verb: str | None = None) -> App:
    """The command line, with verbs that are not imported yet.

    Args:
        verb: the one that is going to run: its own docstring explains it, at more length.
    """
    app = App(
        name="attar",
        version=__version__,
        help="Attar makes language models small, fast and cheap, on one modest machine.",
        help_epilogue=_EPILOGUE,
        help_format="markdown",
        result_action="return_value",
        suppress_keyboard_interrupt=False,  # `run` turns it into the exit code
    )
    app.meta.suppress_keyboard_interrupt = False
    for name, text in _VERBS.items():
        what = "app" if name in _GROUPS else name
        app.command(f"attar.cli.{name}:{what}", name=name, help=None if name == verb else text)

    @app.meta.default
    def _launch(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        config: Annotated[
            str | None,
            Parameter(help="A recipe's name (see attar recipe list) or YAML file with options."),
        ] = None,
    ) -> Any:
        if config is not None:
            from attar.cli.recipe import overruled
            from attar.recipes import read_recipe

            options = overruled(read_recipe(config), tokens)
            if tokens[:2] == ("distill", "search"):
                from attar.cli.distill_search import without_searched

                options = without_searched(options)
            app.config = (Dict(options, source=config, use_commands_as_keys=False),)
        return app(tokens, exit_on_error=False, print_error=False)

    return app


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code; a mistake of the user's prints one sentence, no
    traceback.
    """
    _quiet_libraries()
    try:
        verb = next((token for token in argv if token in _VERBS), None)
        code = build_app(verb).meta(list(argv), exit_on_error=False, print_error=False)
    except AttarError as error:
        return _complain(str(error), error.exit_code)
    except cyclopts.CycloptsError as error:
        return _complain(str(error), ExitCode.USAGE)
    except KeyboardInterrupt:
        return _complain("interrupted", ExitCode.INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as in `attar env | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    return code if isinstance(code, int) else ExitCode.DONE


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"attar: {' '.join(message.split())}\n")
    return code


def _quiet_libraries() -> None:
    """Progress and results are ours to print; libraries speak up from warnings on."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    first = os.environ.get("RANK", "0") == "0"
    logging.getLogger("attar").setLevel(logging.INFO if first else logging.WARNING)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
