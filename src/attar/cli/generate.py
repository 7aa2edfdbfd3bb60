"""`attar generate`."""

import json
import re
import sys
from dataclasses import asdict
from itertools import chain, repeat
from pathlib import Path
from typing import Annotated, Any

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
from attar.completion import SHARED
from attar.completion import generate as generate_texts
from attar.data.prompts import read_prompts
from attar.decode.generate import GenerateConfig
from attar.decode.settings import SpecConfig
from attar.decode.stats import SpecStats
from attar.errors import ConfigError
from attar.methods.superposed import Completions, SuperposedConfig

_SAMPLING = Group("Sampling options", sort_key=1)
_DRAFTING = Group("Drafting options", sort_key=2)
_SEVERAL = Group("Options of several drafts", sort_key=3)
#: what other options say already
_OWN = re.compile(rf"^(?!(k|seed|{'|'.join(SHARED)})$)")
#: a line of `--json`
_LINE = rb'\{"prompt": ".*", "text": '


def generate(
    model: str,
    prompt: str | None = None,
    *,
    prompts: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    draft: str | None = None,
    drafts: int | None = None,
    store: Path | None = None,
    suffix: str | None = None,
    stats: bool = False,
    output_dir: Output = None,
    json_to: Json = None,
    overwrite: Overwrite = False,
    recipe: Recipe = None,
    config: Annotated[GenerateConfig, Parameter(name="*", group=_SAMPLING)] = GenerateConfig(),
    decoding: Annotated[SpecConfig, Parameter(name="*", group=_DRAFTING)] = SpecConfig(),
    superposed: Annotated[
        SuperposedConfig, Parameter(name="*", group=_SEVERAL, parse=_OWN)
    ] = SuperposedConfig(),
) -> int:
    """Continue a text. A draft makes it faster and keeps the output: greedy texts stay the same,
    sampled texts keep their distribution, up to rounding in bfloat16 and float16. `--drafts 3`
    gives three short texts at once, for about the price of one.

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
    drafts
        How many drafts of each prompt to write at once, by Superposed Decoding, the best first.
        Those of several lines are printed with `---` between them.
    store
        With --drafts: folder of n-grams, as attar ngrams train writes it, that tell them apart.
    suffix
        With --drafts: text behind the cursor, for a model that was trained to fill in.
    stats
        Print acceptance rates and draft lengths, or scores of several drafts, to stderr.
    output_dir
        Write the record (attar.json), with the texts, into this folder.
    json_to
        Write a line of JSON for each prompt, with its text, to this new file; `-` prints them
        instead of the texts.
    """
    require_target(json_to, overwrite=overwrite, begins=_LINE)
    given = _texts(prompt, prompts)
    chats = config.chat or suffix is not None
    streams = drafts is None and len(given) == 1 and sys.stdout.isatty() and json_to != "-"
    waiting, modes = iter(given), chain("w", repeat("a"))

    def stream(piece: str) -> None:
        sys.stdout.write(for_stdout(piece))
        sys.stdout.flush()

    def each(text: str, drafted: SpecStats | Completions | None) -> None:
        line: dict[str, Any] = {"prompt": next(waiting), "text": text}
        if isinstance(drafted, Completions):
            texts = [one.text if chats else f"{text}{one.text}" for one in drafted.drafts]
            line |= {"text": texts[0], "drafts": [asdict(one) for one in drafted.drafts]}
            # drafts of several lines would run together
            text = ("\n---\n" if any("\n" in one for one in texts) else "\n").join(texts)
        one = json.dumps(line, ensure_ascii=False)
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
        drafts=drafts,
        store=store,
        suffix=suffix,
        config=config,
        decoding=decoding,
        superposed=superposed,
        each=each,
        stream=stream if streams else None,
        output_dir=output_dir,
        recipe=recipe,
    )
    return ExitCode.DONE


def _texts(prompt: str | None, file: Path | None) -> list[str]:
    if (prompt is None) == (file is None):
        raise ConfigError(
            'give a prompt, as in attar generate my-model "Once", or --prompts FILE; '
            f"found {'neither' if file is None else 'both'}"
        )
    if file is None:
        return [str(prompt)]
    lines = read_prompts(file)
    if not lines:
        raise ConfigError(f"a prompt needs at least one word; found nothing in {str(file)!r}")
    return lines
