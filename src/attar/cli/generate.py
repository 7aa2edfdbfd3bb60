"""`attar generate`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from attar.cli.output import ExitCode, Output, Recipe, note, show
from attar.data.prompts import read_prompts
from attar.decode.generate import GenerateConfig
from attar.decode.generate import generate as generate_texts
from attar.decode.settings import SpecConfig
from attar.decode.stats import SpecStats
from attar.errors import ConfigError

_SAMPLING = Group("Sampling options", sort_key=1)
_DRAFTING = Group("Drafting options", sort_key=2)


def generate(
    model: str,
    prompt: str | None = None,
    *,
    prompts: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    draft: str | None = None,
    stats: bool = False,
    output_dir: Output = None,
    recipe: Recipe = None,
    config: Annotated[GenerateConfig, Parameter(name="*", group=_SAMPLING)] = GenerateConfig(),
    decoding: Annotated[SpecConfig, Parameter(name="*", group=_DRAFTING)] = SpecConfig(),
) -> int:
    """Continue a text. With a draft it goes faster, and the text is still the model's own, but for
    ties that bfloat16 and float16 round either way.

    Example: `attar generate my-model "def main(" --draft my-draft --stats`

    Parameters
    ----------
    model
        Folder or Hub name.
    prompt
        The text to continue.
    prompts
        Instead of a prompt: a text file with one on each line, blank lines left out, or a .jsonl,
        .csv, .tsv or .parquet file with a column prompt or text; - reads lines from stdin.
    draft
        Folder or Hub name of a small model, as `attar draft` makes; layers:N for the first N layers
        of the model itself; lookup for prompt lookup: what followed the same tokens earlier.
    stats
        Print acceptance rates and draft lengths to stderr.
    output_dir
        Write the record (attar.json), with the texts, into this folder.
    """

    def each(text: str, drafted: SpecStats | None) -> None:
        show(text)
        if drafted is not None and (stats or decoding.lossy):
            note(str(drafted))

    generate_texts(
        model,
        _texts(prompt, prompts),
        draft=draft,
        config=config,
        decoding=decoding,
        each=each,
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
