"""`attar prune`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from attar.cli.data import PromptOptions, Prompts
from attar.cli.output import ExitCode, Output, Recipe, command, require_folder_option, show
from attar.methods.bonsai import BonsaiConfig
from attar.methods.bonsai import prune as prune_model
from attar.pruning.config import Layout, Method
from attar.train.heal import HealConfig

_SEARCH = Group("Search options", sort_key=3)


def prune(
    model: str,
    *,
    data: Prompts = PromptOptions(),
    budget: str | None = None,
    method: Method = "bonsai",
    layout: Layout = "per_layer",
    apply: Path | None = None,
    eval_tokens: int = 50_000,
    output_dir: Output = None,
    resume: bool = False,
    recipe: Recipe = None,
    config: Annotated[BonsaiConfig, Parameter(name="*", group=_SEARCH)] = BonsaiConfig(),
) -> int:
    """Prune a model to a budget and write an ordinary checkpoint with its record (attar.json) and
    plan (plan.json).

    Example: `attar prune my-model --data python-stdlib --budget "blocks<=50%" -o my-model-half`

    The training split of the data is used to calibrate, the test split to report quality.

    Parameters
    ----------
    model
        Folder, GGUF file or Hub name of the parent.
    budget
        Upper bounds, such as "blocks<=50%", "params<=60%, kv_bytes<=1KB" or "latency<=20ms".
        Constraints: params (all parameters), blocks (those of the layers), bytes, kv_bytes, macs,
        latency (per generated token), prefill. A percentage is what is kept of the parent.
    method
        bonsai, or a baseline: blockwise, random, magnitude, wanda, flap.
    layout
        per_layer: every layer has its own width, best quality. uniform: all layers alike, loads in
        plain transformers. depth: removes whole layers. padded: the original shapes with zeros.
    apply
        Do not search: apply this plan.json, or that of this folder.
    eval_tokens
        Tokens of the test split to score, in passages spread over it.
    output_dir
        Where the pruned model goes; must be new or empty.
    resume
        Continue an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    run = prune_model(
        model,
        data.whole(),
        budget=budget,
        method=method,
        layout=layout,
        config=config,
        apply=apply,
        eval_tokens=eval_tokens,
        output_dir=folder,
        recipe=recipe,
        resume=resume,
    )
    show(str(run))
    if apply is not None:
        return ExitCode.DONE
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
        after = ["--teacher", model, *data.words(), "-o", f"{folder}-healed"]
        if eval_tokens != HealConfig.eval_tokens:
            after += ["--eval-tokens", str(eval_tokens)]
        show(f"Next: {command('heal', folder, *after)}")
    if run.budget is not None and not run.budget["met"]:
        return ExitCode.BUDGET_NOT_MET
    return ExitCode.DONE
