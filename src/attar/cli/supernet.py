"""`attar supernet`: train, search, evaluate and export."""

import re
from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter

from attar.cli.data import TextOrPairOptions, TextOrPairs
from attar.cli.output import (
    ExitCode,
    Json,
    Output,
    Overwrite,
    Recipe,
    command,
    noun,
    require_folder_option,
    require_target,
    show,
    show_or_write,
)
from attar.methods.autodistil import AutoDistilConfig
from attar.methods.mixture_of_supernets import MixtureConfig
from attar.search.elastic_training import SupernetConfig
from attar.search.ranking import FRONT, RANKING
from attar.supernet.evaluating import EvaluateSupernetConfig, gap_table
from attar.supernet.evaluating import evaluate as evaluate_supernet
from attar.supernet.exporting import export as export_network
from attar.supernet.methods import MethodName
from attar.supernet.searching import MODEL, SupernetSearchConfig, search_table
from attar.supernet.searching import search as search_supernet
from attar.supernet.training import train as train_supernets

_DISTILLING = Group("Options of AutoDistil (--init: of both methods)", sort_key=3)
_MIXING = Group("Options of Mixture-of-Supernets", sort_key=4)
_TRAINING = Group("Training options", sort_key=5)
_SEARCH = Group("Search options", sort_key=3)
_COMPARING = Group("Comparing options", sort_key=3)
#: what the training says for experts, too
_OWN = re.compile("^(?!(init|seed)$)")


def train(
    model: str,
    *,
    data: TextOrPairs = TextOrPairOptions(),
    method: MethodName = "autodistil",
    space: str | None = None,
    k: int = 3,
    distill: Annotated[float, Parameter(group=_MIXING)] = 0.0,
    output_dir: Output = None,
    resume: bool = False,
    recipe: Recipe = None,
    distillation: Annotated[
        AutoDistilConfig, Parameter(name="*", group=_DISTILLING)
    ] = AutoDistilConfig(),
    mixture: Annotated[
        MixtureConfig, Parameter(name="*", group=_MIXING, parse=_OWN)
    ] = MixtureConfig(),
    config: Annotated[SupernetConfig, Parameter(name="*", group=_TRAINING)] = SupernetConfig(),
) -> int:
    """Train weight-sharing supernets: families of networks that can be used as they stand.

    Example: `attar supernet train bert-base-uncased --data corpus -o supernets`

    Parameters
    ----------
    model
        Folder, GGUF file or Hub name; for AutoDistil the teacher, which is not changed. With
        mixture-of-supernets and --init random a folder with config.json and a tokenizer is enough.
    method
        autodistil: students with the teacher's self-attention relations, in a few sub-spaces.
        mixture-of-supernets: language models, or encoder-decoders on pairs of texts, with routed
        mixtures of feed-forward weights.
    space
        A YAML file with a space, or with several by name; or compact (AutoDistil's sub-spaces, in
        proportion to the teacher), compact-stock (whose heads divide the width) or homogeneous (of
        Mixture-of-Supernets). The method's own when not given.
    k
        Sub-spaces of compact: 3, as published, 2 or 1.
    distill
        Weight of in-place distillation from the largest network of each step, from 0 to 1.
    output_dir
        Where the supernets go; must be new or empty.
    resume
        Continue an interrupted run in the same folder; finished supernets are not trained again.
    """
    folder = require_folder_option(output_dir)
    run = train_supernets(
        model,
        data.whole(),
        method=method,
        space=space,
        k=k,
        config=config,
        distillation=distillation,
        mixture=mixture,
        distill=distill,
        output_dir=folder,
        recipe=recipe,
        resume=resume,
    )
    show(str(run))
    if method == "autodistil":
        show(
            "\nRelation loss is the distance from the teacher on held-out text. Parameters are "
            "counted; the paper's formulas give fewer."
        )
    after = [*data.words(), "-o", f"{folder}-search"]
    show(f"\nWritten to {folder}. Next: {command('supernet', 'search', folder, *after)}")
    return ExitCode.DONE


def search(
    model: str,
    *,
    data: TextOrPairs = TextOrPairOptions(),
    budget: str | None = None,
    teacher: str | None = None,
    space: str | None = None,
    proxy: str | None = None,
    output_dir: Output = None,
    resume: bool = False,
    recipe: Recipe = None,
    config: Annotated[
        SupernetSearchConfig, Parameter(name="*", group=_SEARCH)
    ] = SupernetSearchConfig(),
) -> int:
    """Rank networks by their held-out loss, without training, and write the best in a budget.

    Example: `attar supernet search supernets --data corpus --budget "params<=7M" -o search`

    The folder gets rank.csv, pareto.json and the best network in model. Run the same command again
    to continue a search. Started several times at once, on one machine or with --storage on many,
    it divides the networks among the processes.

    Parameters
    ----------
    model
        Folder that attar supernet train wrote.
    budget
        Upper bounds, such as "params<=7M", "macs<=40%" or "prefill<=20ms". Constraints: params,
        blocks, bytes, kv_bytes, macs, latency (per generated token; an encoder-decoder is timed as
        it reads and writes 30 tokens), prefill. A percentage is of what the supernet was made of.
        Times are measured on this machine.
    teacher
        What the supernet was made of, where it lies elsewhere now.
    space
        Search one of several supernets.
    proxy
        Labelled data: the best networks are fine-tuned on it, and the best of them is written.
    output_dir
        Folder of the search: a new one, or that of a search to continue.
    resume
        Not needed: the same command continues a search with or without it.
    """
    folder = require_folder_option(output_dir)
    run = search_supernet(
        model,
        data.whole(),
        budget=budget,
        teacher=teacher,
        space=space,
        proxy=proxy,
        config=config,
        output_dir=folder,
        recipe=recipe,
        resume=resume,
    )
    details = run.details
    show(search_table(run).text())
    show(
        f"\nThe best of {details['scored']} networks that were scored, of "
        f"{details['networks_of_space']}. Compare losses within one search alone."
    )
    if "proxy" in details:
        tested = details["proxy"]
        show(
            f"On the task, the one that was chosen has {tested['measure'].replace('_', ' ')} "
            f"{tested['test']:.3f} on {tested['test_rows']} test rows."
        )
    show(f"Written to {folder}: {RANKING}, {FRONT} and {MODEL} ({details['class']}).")
    if run.budget is not None and not run.budget["met"]:
        show(f"The budget {run.budget['asked']} is not met, as timed on this machine.")
        return ExitCode.BUDGET_NOT_MET
    return ExitCode.DONE


def evaluate(
    model: str,
    *,
    data: TextOrPairs = TextOrPairOptions(),
    teacher: str | None = None,
    output_dir: Output = None,
    resume: bool = False,
    json_to: Json = None,
    overwrite: Overwrite = False,
    recipe: Recipe = None,
    config: Annotated[
        EvaluateSupernetConfig, Parameter(name="*", group=_COMPARING)
    ] = EvaluateSupernetConfig(),
) -> int:
    """Show what sharing weights costs: networks as they are inherited, and trained alone.

    Example: `attar supernet evaluate supernets --data corpus --standalone-steps 1000`

    Parameters
    ----------
    model
        Folder that attar supernet train wrote.
    teacher
        What the supernet was made of, where it lies elsewhere now.
    output_dir
        Write the record (attar.json) into this folder.
    resume
        Continue an interrupted run in the same folder.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = evaluate_supernet(
        model,
        data.whole(),
        teacher=teacher,
        config=config,
        output_dir=output_dir,
        recipe=recipe,
        resume=resume,
    )
    text = gap_table(run).text()
    if (rank := run.details.get("rank_correlation")) is not None:
        text += f"\n\nRank correlation of loss with parameters: {rank:.2f} (-1: larger is better)."
    show_or_write(run.to_dict(), text, target=json_to)
    return ExitCode.DONE


def export(
    model: str,
    *,
    arch: str = "best",
    ranking: Path | None = None,
    space: str | None = None,
    output_dir: Output = None,
) -> int:
    """Write one network of a supernet as an ordinary checkpoint with its tokenizer.

    Example: `attar supernet export supernets --ranking search --arch 3 -o third`

    Parameters
    ----------
    model
        Folder that attar supernet train wrote.
    arch
        best, the first row of a ranking; the number of another row; largest or smallest; or widths
        as JSON, as in the column arch of rank.csv.
    ranking
        Folder that attar supernet search wrote, or its rank.csv.
    space
        Which of several supernets; the one that has the network when not given.
    output_dir
        Where the checkpoint goes; must be new or empty.
    """
    folder = require_folder_option(output_dir)
    run = export_network(model, arch=arch, ranking=ranking, space=space, output_dir=folder)
    show(str(run))
    plain = run.details["form"] != "per_layer"
    note = "a class of transformers" if plain else "with its modelling file beside it"
    show(f"\nWritten to {folder} as {run.details['class']}, {note}.")
    return ExitCode.DONE


def __getattr__(name: str) -> App:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return noun(
        "supernet",
        "Train a family of networks at once, and take the best within a budget.",
        {"train": train, "search": search, "evaluate": evaluate, "export": export},
    )
