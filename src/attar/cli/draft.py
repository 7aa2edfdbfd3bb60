"""`attar draft`: init, distill, search and profile."""

from pathlib import Path
from typing import Annotated, get_args

from cyclopts import App, Group, Parameter

from attar.cli.app import ExitCode, parse_list, require_folder_option
from attar.cli.generate import require_lossy
from attar.cli.output import require_target, show, write_json
from attar.decode.bench import Profile
from attar.decode.settings import SpecConfig, Verification
from attar.decode.verification import LossyKind
from attar.divergences import DIVERGENCES
from attar.errors import ConfigError
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.distillspec.distill import distill_draft
from attar.methods.distillspec.profile import profile_draft
from attar.methods.distillspec.search import Author, search_drafts
from attar.methods.distillspec.start import init_draft
from attar.report.record import Run
from attar.report.tables import Table
from attar.train.students import StudentInit

#: a speed-up nearer to 1 than this may be the clock's
_NOISE = 0.03
_TRAINING = Group("Training options", sort_key=2)


def init(
    target: str,
    *,
    layers: str = "2",
    output_dir: Annotated[Path | None, Parameter(alias="-o")] = None,
    width: int | None = None,
    start: StudentInit = "cut",
    seed: int = 0,
) -> int:
    """Make a draft of some of the target's own layers.

    Example: `attar draft init my-model --layers 2 -o my-draft`

    It has the target's embeddings, head and tokenizer, and agrees with it no more than by chance of
    birth: train it next, with `attar draft distill`.

    Parameters
    ----------
    target
        Folder or Hub name of the model that is to write faster.
    layers
        How many, evenly spread from the first to the last; or which, counted from 0, as in 0,5.
    output_dir
        Where the draft goes; must be new or empty.
    width
        With --start random: the width of its hidden states; the target's when not given.
    start
        cut copies the target's weights, random does not.
    seed
        Of random weights.
    """
    folder = require_folder_option(output_dir)
    run = init_draft(
        target,
        layers=_layers(layers),
        output_dir=folder,
        width=width,
        init=start,
        seed=seed,
    )
    show(str(run))
    show(
        f"\nWritten to {folder}. Next: attar draft distill {target} {folder} -o {folder}-distilled"
    )
    return ExitCode.DONE


def distill(
    target: str,
    draft: str,
    *,
    data: str = "python-stdlib",
    output_dir: Annotated[Path | None, Parameter(alias="-o")] = None,
    resume: bool = False,
    options: Annotated[
        DistillSpecConfig, Parameter(name="*", group=_TRAINING)
    ] = DistillSpecConfig(),
) -> int:
    """Train a draft until it agrees with its target (DistillSpec).

    Example: `attar draft distill my-model my-draft --data python-stdlib -o my-draft-distilled`

    Give prompts like those that the target will serve, and the --temperature that it will serve at.

    Parameters
    ----------
    target
        Folder or Hub name of the model that is to write faster.
    draft
        Folder or Hub name of a small model with the same tokenizer; `attar draft init` makes one.
    data
        Prompts (a table with a column prompt or messages, perhaps completion) or plain text, of
        which they are cut: a Hub name, a .jsonl, .parquet, .csv, .tsv or .txt file (also .gz), a
        folder of them, or python-stdlib.
    output_dir
        Where the trained draft goes; must be new or empty.
    resume
        Go on with an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    run = distill_draft(
        draft, data, target=target, output_dir=folder, config=options, resume=resume
    )
    show(str(run))
    show(_promise(run, folder, target))
    return ExitCode.DONE


def search(
    target: str,
    draft: str,
    *,
    data: str = "python-stdlib",
    output_dir: Annotated[Path | None, Parameter(alias="-o")] = None,
    divergences: str | None = None,
    authors: str | None = None,
    resume: bool = False,
    options: Annotated[DistillSpecConfig, Parameter(name="*", group=_TRAINING)] = DistillSpecConfig(
        max_steps=60
    ),
) -> int:
    """Try divergences and writers of texts in short trainings, and write the best as a recipe.

    Example: `attar draft search my-model my-draft --data prompts.jsonl --max-steps 60 -o search`

    Parameters
    ----------
    target
        As of attar draft distill.
    draft
        Likewise; it stays as it is.
    data
        Likewise.
    output_dir
        For cells.jsonl, best.yaml and the record; must be new or empty.
    divergences
        To try, with commas; all when not given: forward_kl, reverse_kl, js, tvd, lk.
    authors
        Whose texts to try, with commas: student, target, data. When not given all, but for data
        where prompts have nothing that follows.
    resume
        Go on with an interrupted search in the same folder.
    """
    folder = require_folder_option(output_dir)
    found = search_drafts(
        draft,
        data,
        target=target,
        output_dir=folder,
        config=options,
        divergences=_chosen("divergences", divergences, tuple(DIVERGENCES)),  # pyright: ignore[reportArgumentType]
        authors=None if authors is None else _chosen("authors", authors, get_args(Author)),  # pyright: ignore[reportArgumentType]
        resume=resume,
    )
    rows = [
        [one.divergence, one.author, f"{one.tau:.3f}", f"{one.alpha:.3f}", f"{one.seconds:.0f} s"]
        for one in found.cells
    ]
    rows.append(["(before)", "", f"{found.tau_before:.3f}", "", ""])
    show(Table(["divergence", "texts of the", "tau", "alpha", "time"], rows).text())
    show(
        f"\nThe tokens for each pass of the target (tau) are of held-out prompts, at temperature "
        f"{options.temperature:g}. Next: attar draft distill {target} {draft} --data {data} "
        f"--config {folder / 'best.yaml'} -o ..."
    )
    return ExitCode.DONE


def profile(
    target: str,
    draft: str,
    *,
    data: str = "python-stdlib",
    temperatures: str = "0,1",
    longest: int = 8,
    rounds: int = 3,
    prompts: int = 16,
    prompt_tokens: int = 32,
    max_new_tokens: int = 64,
    prompt_column: str | None = None,
    text_column: str = "text",
    draft_temperature: float | None = None,
    verification: Verification = "token",
    lossy: LossyKind | None = None,
    epsilon: float = 1.0,
    seed: int = 0,
    json_to: Annotated[str | None, Parameter(name="--json", allow_leading_hyphen=True)] = None,
) -> int:
    """Tell whether a draft pays on this machine: acceptance, times, prediction and measurement.

    Example: `attar draft profile my-model my-draft --data prompts.jsonl --temperatures 0,1`

    Parameters
    ----------
    target
        Folder or Hub name of the model that is to write faster.
    draft
        Folder or Hub name of its draft.
    data
        Prompts or text, as of attar draft distill; the test split is used.
    temperatures
        With commas; 0 is greedy.
    longest
        Drafts of up to so many tokens are looked at.
    rounds
        Of measurement against plain decoding; 0: prediction alone.
    prompts
        So many.
    prompt_tokens
        Of a prompt, at most.
    max_new_tokens
        Of a text, at most.
    prompt_column
        Column of a table that holds prompts; prompt or messages when not given.
    text_column
        Column that holds documents, where there are no prompts.
    draft_temperature
        Of the draft in the measurement, if not the target's; 0 takes its likeliest token.
    verification
        In the measurement: token judges one drafted token after another, block all together.
    lossy
        In the measurement, keep more of the draft than the target's law allows: faster, and
        another text.
    epsilon
        How strict --lossy is, from 0 to 1.
    seed
        Of the prompts and of what the target writes.
    json_to
        Write the figures as JSON to this file; `-` prints JSON instead of the table.
    """
    require_target(json_to)
    if longest < 1 or rounds < 0:
        raise ConfigError(
            f"--longest must be at least 1 and --rounds 0 or more, found {longest} and {rounds}"
        )
    require_lossy(lossy, epsilon)
    decoding = SpecConfig(
        draft_temperature=draft_temperature,
        verification=verification,
        lossy=lossy,
        epsilon=epsilon,
        seed=seed,
    )
    profiles = profile_draft(
        draft,
        data,
        target=target,
        temperatures=_temperatures(temperatures),
        lengths=range(1, longest + 1),
        rounds=rounds,
        config=DistillSpecConfig(
            eval_prompts=prompts,
            prompt_tokens=prompt_tokens,
            max_new_tokens=max_new_tokens,
            prompt_column=prompt_column,
            text_column=text_column,
            seed=seed,
        ),
        decoding=decoding,
    )
    if json_to != "-":
        show("\n\n".join(_described(one, lossy) for one in profiles))
    if json_to:
        about = {"target": target, "draft": draft, "data": data, "lossy": lossy}
        write_json(json_to, about | {"profiles": [one.to_dict() for one in profiles]})
    return ExitCode.DONE


def _described(found: Profile, lossy: str | None) -> str:
    """A profile for people."""
    rows = [
        [
            str(one.length),
            f"{one.tau:.2f}",
            f"{chance:.2f}",
            f"{one.published:.2f}",
            f"{one.predicted:.2f}",
        ]
        for one, chance in zip(found.outlooks, found.acceptance, strict=True)
    ]
    head = f"at temperature {found.temperature:g}" if found.temperature else "greedy"
    times = found.times
    wide = max(times.verify)
    dearer = times.verify[wide] / times.verify[1]
    lines = [
        f"{head}: acceptance rate alpha {found.alpha:.3f}, cost of a drafted token c "
        f"{times.cost:.2f}, a pass over {wide} tokens takes {dearer:.2f} times one over a single "
        "token",
        "",
        Table(
            ["drafted", "tau", "accepted there", "published formula", "predicted here"], rows
        ).text(),
        "",
    ]
    for race in found.races:
        name = "lengths by the cost model" if race.policy == "cost" else f"drafts of {race.policy}"
        same = "" if race.equal is None else f", {race.equal:.0%} of the texts the same"
        if race.margin:
            same += f" (largest gap of logits where they differ {race.margin:.2g})"
        lines.append(
            f"measured, {name}: {race.speedup:.2f} times plain decoding "
            f"({race.speedup_decode:.2f} without the prompt), tau {race.tau:.2f}{same}"
        )
    if lossy:
        lines.append(f"lossy verification ({lossy}): the texts are not the target's own")
    best = max(found.races, key=lambda race: race.speedup, default=None)
    gain = found.best.predicted if best is None else best.speedup
    verdict = "makes no difference"
    if abs(gain - 1) > _NOISE:
        verdict = "pays" if gain > 1 else "does not pay"
    lines.append(f"Drafting {verdict} here: {gain:.2f} times plain decoding.")
    return "\n".join(lines)


def _promise(run: Run, folder: Path, target: str) -> str:
    length, speed = run.details["best_length"], run.details["predicted_speedup"]
    best = run.details["best_step"]
    lines = [
        f"\ntau: tokens for each pass of the target, with drafts of {run.details['draft_tokens']}; "
        f"best after {best} steps. Predicted here: {speed:.2f} times plain decoding with drafts of "
        f"{length}."
    ]
    if not best:
        lines.append("No step was better than none: train longer, or search for other options.")
    lines.append(f"Written to {folder}. Next: attar draft profile {target} {folder}")
    return "\n".join(lines)


def __getattr__(name: str) -> App:
    """`app` is the verb with its sub-commands: a new one each time, as the command line that takes
    it in changes it."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    app = App(name="draft", help="Make, train and measure a draft for speculative decoding.")
    for verb in (init, distill, search, profile):
        app.command(verb)
    return app


def _layers(text: str) -> int | list[int]:
    try:
        numbers = [int(part) for part in parse_list(text)]
    except ValueError:
        raise ConfigError(
            f"--layers is a number of layers, or their numbers as in 0,5; found {text!r}"
        ) from None
    return numbers if "," in text else numbers[0] if numbers else []


def _chosen(option: str, text: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    found = tuple(parse_list(text)) if text is not None else known
    if wrong := [one for one in found if one not in known]:
        raise ConfigError(f"--{option} are of {', '.join(known)}; found {wrong[0]!r}")
    return found


def _temperatures(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in parse_list(text))
    except ValueError:
        found = ()
    if not found or min(found) < 0:
        raise ConfigError(
            f"--temperatures are numbers from 0 on with commas, as in 0,1; found {text!r}"
        )
    return found
