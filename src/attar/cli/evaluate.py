"""`attar evaluate`: how good a model is, and how fast."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from attar.cli.output import require_target, show_pairs, write_json

if TYPE_CHECKING:
    from attar.budget import Cost
    from attar.evaluate import Score


def evaluate(
    model: str,
    /,
    *,
    data: str = "python-stdlib",
    split: Literal["train", "validation", "test"] = "test",
    data_config: str | None = None,
    text_column: str = "text",
    context: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
    max_tokens: int | None = None,
    tasks: str | None = None,
    limit: float | None = None,
    include_path: Path | None = None,
    speed: bool = True,
    revision: str | None = None,
    trust_remote_code: bool = False,
    json_to: Annotated[str | None, Parameter(name="--json", allow_leading_hyphen=True)] = None,
) -> int:
    """Measure perplexity, bits per byte and speed of a causal language model.

    Compare models with different tokenizers by bits per byte only.

    Parameters
    ----------
    model
        A folder or a name on the Hugging Face Hub.
    data
        `python-stdlib`, a file or folder (.txt, .jsonl, .parquet, .csv, .tsv) or a Hub data set.
    split
        Which part of the data to score.
    data_config
        The configuration of a Hub data set, such as `wikitext-2-raw-v1`.
    text_column
        The column that holds the text.
    context
        Tokens per window; as many as the model takes, at most 2048, when not given.
    stride
        New tokens per window; less than the context gives every token more to go on.
    batch_size
        Windows at a time; changes speed and memory, not the result.
    max_tokens
        Score at most this many tokens, in passages spread over all documents.
    tasks
        Tasks of lm-evaluation-harness, separated by commas (needs `attar[eval]`).
    limit
        Documents per task; below 1, a share of them.
    include_path
        A folder with task files of your own.
    speed
        Time prefill and decoding on this machine.
    revision
        Branch, tag or commit on the Hub.
    trust_remote_code
        Run modelling code that comes with the checkpoint.
    json_to
        Write the figures as JSON to this file; `-` prints JSON instead of the table.
    """
    from attar.budget import measure
    from attar.checkpoint import load, load_tokenizer
    from attar.data import load_text
    from attar.evaluate import score
    from attar.evaluate import tasks as score_tasks
    from attar.train.processes import place

    require_target(json_to)
    loaded = load(model, revision=revision, trust_remote_code=trust_remote_code)
    place(loaded)
    tokenizer = load_tokenizer(model, revision=revision)
    documents = load_text(data, config=data_config, text_column=text_column)[split]
    names = [name.strip() for name in (tasks or "").split(",") if name.strip()]
    results: dict[str, dict[str, float]] = {}
    if names:  # first, so that a missing extra or a wrong name shows at once
        results = score_tasks(
            loaded,
            tokenizer,
            names,
            limit=limit,
            batch_size=batch_size,
            include_path=include_path,
        )
    found = score(
        loaded,
        tokenizer,
        documents,
        context=context,
        stride=stride,
        batch_size=batch_size,
        max_tokens=max_tokens,
    )
    cost = measure(loaded) if speed else None
    if json_to != "-":
        show_pairs(_lines(f"{data} ({split})", found, cost, results))
    if json_to:
        figures: dict[str, Any] = {"model": model, "data": data, "split": split}
        figures |= {"score": found.to_dict(), "tasks": results or None}
        write_json(json_to, figures | {"cost": cost.to_dict() if cost else None})
    return 0


def _lines(
    data: str, found: "Score", cost: "Cost | None", tasks: dict[str, dict[str, float]]
) -> list[tuple[str, str]]:
    from attar.cli.cost import speed_lines

    lines = [
        ("data", data),
        ("scored", f"{found.tokens:,} tokens, {found.bytes:,} bytes"),
        ("perplexity", f"{found.perplexity:.3f}  ({found.nll:.4f} nats per token)"),
        ("bits per byte", f"{found.bits_per_byte:.4f}"),
    ]
    lines += speed_lines(cost) if cost else []
    for task, metrics in tasks.items():
        lines += [(task, f"{metric} {value:.4g}") for metric, value in metrics.items()]
    return lines
