"""`attar prune`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from attar.cli.app import ExitCode, require_folder_option
from attar.cli.output import show
from attar.errors import ConfigError
from attar.methods.bonsai import BonsaiConfig
from attar.methods.bonsai import prune as prune_model
from attar.pruning.config import Layout, Method
from attar.pruning.run import apply_plan

_SEARCH = Group("Search options", sort_key=1)


def prune(
    model: str,
    *,
    data: str = "python-stdlib",
    budget: str | None = None,
    output_dir: Annotated[Path | None, Parameter(alias="-o")] = None,
    method: Method = "bonsai",
    layout: Layout = "per_layer",
    apply: Path | None = None,
    text_column: str = "text",
    data_config: str | None = None,
    eval_tokens: int = 50_000,
    resume: bool = False,
    config: Annotated[BonsaiConfig, Parameter(name="*", group=_SEARCH)] = BonsaiConfig(),
) -> int:
    """Prune a model to a budget and write an ordinary checkpoint with its record (attar.json) and
    plan (plan.json).

    Example: `attar prune my-model --data python-stdlib --budget "blocks<=50%" -o my-model-half`

    Parameters
    ----------
    model
        Folder or Hub name of the parent.
    data
        Text to calibrate on and to report quality on: a Hub name, a .txt, .jsonl, .parquet, .csv or
        .tsv file (also .gz), a folder of them, or python-stdlib.
    budget
        Upper bounds, such as "blocks<=50%", "params<=60%, kv_bytes<=1KB" or
        "latency<=20ms". Currencies: params, bytes, kv_bytes, macs, latency (per generated token),
        prefill. A percentage is what is kept of the parent.
    output_dir
        Where the pruned model goes; must be new or empty.
    method
        bonsai, or a baseline: blockwise, random, magnitude, wanda, flap.
    layout
        per_layer: every layer its own width, best quality. uniform: a stock class that loads
        anywhere. depth: whole layers go.
        padded: the original shapes with zeros.
    apply
        Do not search; cut by this plan.json, or that of this folder.
    text_column
        Column of the text in the data.
    data_config
        Configuration of a data set on the Hub.
    eval_tokens
        Tokens of the test split, in passages spread over it, that quality is reported on.
    resume
        Go on with an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    if apply is not None:
        if budget is not None:
            raise ConfigError(
                "--apply cuts by a plan and --budget searches for one: give one of the two"
            )
        show(str(apply_plan(model, apply, output_dir=folder, layout=layout, resume=resume)))
        return ExitCode.DONE
    if budget is None:
        raise ConfigError('say what the result may cost, as in --budget "blocks<=50%"')
    run = prune_model(
        model,
        data,
        budget=budget,
        output_dir=folder,
        method=method,
        layout=layout,
        config=config,
        text_column=text_column,
        data_config=data_config,
        eval_tokens=eval_tokens,
        resume=resume,
    )
    show(str(run))
    for note in run.details["notes"]:
        show(f"Note: {note}.")
    show(f"\nWritten to {folder}.")
    decoder = "perplexity" in run.quality["after"]
    if run.details["form"] == "per_layer":
        auto = "AutoModelForCausalLM" if decoder else "AutoModel"
        show(
            f'Load it with attar.load("{folder}"), or in plain transformers with '
            f'{auto}.from_pretrained("{folder}", trust_remote_code=True).'
        )
    if decoder:
        more = "" if text_column == "text" else f" --text-column {text_column}"
        more += "" if data_config is None else f" --data-config {data_config}"
        show(f"Next: attar heal {folder} --teacher {model} --data {data}{more} -o {folder}-healed")
    if run.budget is not None and not run.budget["met"]:
        return ExitCode.BUDGET_NOT_MET
    return ExitCode.DONE
