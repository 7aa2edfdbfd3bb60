"""`attar generate`."""

import json
import sys
from itertools import chain, repeat
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from attar.cli.output import (
    ExitCode,
    Json,
    Output,
    Overwrite,
    Recipe,
    for_stdout,
    note,
    require_target,
    show,
)
from attar.data.prompts import read_prompts
from attar.decode.generate import GenerateConfig
from attar.decode.generate import generate as generate_texts
from attar.decode.settings import SpecConfig
from attar.decode.stats import SpecStats
from attar.errors import ConfigError

_SAMPLING = Group("Sampling options", sort_key=1)
_DRAFTING = Group("Drafting options", sort_key=2)
#: a line of `--json`
_LINE = rb'\{"prompt": ".*", "text": '


def generate(
    model: str,
    prompt: str | None = None,
    *,
    prompts: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    draft: str | None = None,
    stats: bool = False,
    output_dir: Output = None,
    json_to: Json = None,
    overwrite: Overwrite = False,
    recipe: Recipe = None,
    config: Annotated[GenerateConfig, Parameter(name="*", group=_SAMPLING)] = GenerateConfig(),
    decoding: Annotated[SpecConfig, Parameter(name="*", group=_DRAFTING)] = SpecConfig(),
) -> int:
    """Continue a text. A draft makes it faster and keeps the output: greedy texts stay the same,
    sampled texts keep their distribution, up to rounding in bfloat16 and float16.

    Example: `attar generate my-model "def main(" --draft my-draft --stats`

    Parameters
    ----------
    model
        Folder, GGUF file or Hub name.
    prompt
        The text to continue.
    prompts
        Instead of a prompt: a text file with one on each line, blank lines left out, or a .jsonl,
        .csv, .tsv or .parquet file with a column prompt or text; - reads lines from stdin.
    draft
        Folder or Hub name of a small model, as `attar draft` makes; layers:N for the first N layers
        of the model itself; lookup, which copies what followed the same tokens earlier; or
        ngrams:FOLDER, which copies what followed them most often in the texts of a store that
        `attar ngrams train` made.
    stats
        Print acceptance rates and draft lengths to stderr.
    output_dir
        Write the record (attar.json), with the texts, into this folder.
    json_to
        Write a line of JSON for each prompt, with its text, to this new file; `-` prints them
        instead of the texts.
    """
    require_target(json_to, overwrite=overwrite, begins=_LINE)
    given = _texts(prompt, prompts)
    streams = len(given) == 1 and sys.stdout.isatty() and json_to != "-"
    waiting, modes = iter(given), chain("w", repeat("a"))

    def stream(piece: str) -> None:
        sys.stdout.write(for_stdout(piece))
        sys.stdout.flush()

    def each(text: str, drafted: SpecStats | None) -> None:
        one = json.dumps({"prompt": next(waiting), "text": text}, ensure_ascii=False)
        show(one if json_to == "-" else "" if streams else text)
        sys.stdout.flush()  # a script that reads need not wait for the last
        if json_to not in (None, "-"):
            with Path(str(json_to)).open(next(modes), encoding="utf-8") as file:
                file.write(one + "\n")
        if drafted is not None and (stats or decoding.lossy):
            note(str(drafted))

    generate_texts(
        model,
        given,
        draft=draft,
        config=config,
        decoding=decoding,
        each=each,
        stream=stream if streams else None,
        output_dir=output_dir,
        recipe=recipe,
    )
    return ExitCode.DONE


def _texts(prompt: str | None, file: Path | None) -> list[str]:
    if (prompt is None) == (file is None):
        raise ConfigError('give a prompt, as in attar generate my-model "Once", or --prompts FILE')
    if file is None:
        return [str(prompt)]
    lines = read_prompts(file)
    if not lines:
        raise ConfigError(f"a prompt needs at least one word; found nothing in {str(file)!r}")
    return lines
