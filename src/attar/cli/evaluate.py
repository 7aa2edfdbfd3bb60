"""`attar evaluate`: how good a model is, and how fast."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from datasets import Dataset, DatasetDict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.cli.output import require_target, show_pairs, write_json

Lines = list[tuple[str, str]]
_HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


def evaluate(
    model: str,
    /,
    *,
    data: str = "python-stdlib",
    split: Literal["train", "validation", "test", "all"] = "test",
    data_config: str | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    label_column: str | None = None,
    context: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
    max_tokens: int | None = None,
    tasks: str | None = None,
    limit: float | None = None,
    include_path: Path | None = None,
    bpb: bool = False,
    speed: bool = True,
    revision: str | None = None,
    trust_remote_code: bool = False,
    json_to: Annotated[str | None, Parameter(name="--json", allow_leading_hyphen=True)] = None,
) -> int:
    """Measure perplexity, bits per byte and speed of a causal language model, or how well an
    encoder that was trained for a task does on labelled data.

    Compare models with different tokenizers by bits per byte only.

    Parameters
    ----------
    model
        A folder or a name on the Hugging Face Hub.
    data
        `python-stdlib`, a file or folder (.txt, .jsonl, .parquet, .csv, .tsv) or a Hub data set;
        labelled for a model with a head, as `attar distill` takes it.
    split
        Which part of the data to score. Of a file without splits, test is a part cut from it; all
        is the whole file.
    data_config
        The configuration of a Hub data set, such as `wikitext-2-raw-v1`.
    text_column
        The column that holds the text; `text`, or of labelled data a usual name, when not given.
    pair_column
        Of labelled data: the column of the second text.
    label_column
        Of labelled data: the column of the labels.
    context
        Tokens per window; as many as the model takes, at most 2048, when not given. Of labelled
        data the tokens of a text, by default 128.
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
    bpb
        Beside bits per byte what a model that has learned nothing scores with the same tokenizer,
        and what a byte costs.
    speed
        Time prefill and decoding on this machine.
    revision
        Branch, tag or commit on the Hub.
    trust_remote_code
        Run modelling code that comes with the checkpoint.
    json_to
        Write the figures as JSON to this file; `-` prints JSON instead of the table.
    """
    from attar.checkpoint import load, load_tokenizer
    from attar.cli.cost import speed_lines
    from attar.measure.timing import measure
    from attar.runtime import place

    require_target(json_to)
    loaded = load(model, revision=revision, trust_remote_code=trust_remote_code)
    place(loaded)
    tokenizer = load_tokenizer(model, revision=revision, trust_remote_code=trust_remote_code)
    if type(loaded).__name__.endswith(_HEADS):
        lines, figures = _task_scores(
            loaded,
            tokenizer,
            data=data,
            split=split,
            max_length=context or 128,
            config=data_config,
            text_column=text_column,
            pair_column=pair_column,
            label_column=label_column,
        )
        named = []
    else:
        named, results = _harness_scores(
            loaded,
            tokenizer,
            names=[name.strip() for name in (tasks or "").split(",") if name.strip()],
            limit=limit,
            batch_size=batch_size,
            include_path=include_path,
        )  # first, so that a missing extra or a wrong name shows at once
        lines, figures = _text_scores(
            loaded,
            tokenizer,
            data=data,
            split=split,
            config=data_config,
            text_column=text_column or "text",
            context=context,
            stride=stride,
            batch_size=batch_size,
            max_tokens=max_tokens,
            bpb=bpb,
        )
        figures["tasks"] = results
    cost = measure(loaded) if speed else None
    if json_to != "-":
        show_pairs(lines + (speed_lines(cost) if cost else []) + named)
    if json_to:
        about = {"model": model, "data": data, "split": split}
        write_json(json_to, about | figures | {"cost": cost.to_dict() if cost else None})
    return 0


def chosen(documents: "DatasetDict", split: str) -> "Dataset":
    """The rows of a split, or of all of them."""
    from datasets import concatenate_datasets

    return concatenate_datasets(list(documents.values())) if split == "all" else documents[split]


def _text_scores(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    *,
    data: str,
    split: str,
    config: str | None,
    text_column: str,
    bpb: bool,
    **options: Any,
) -> tuple[Lines, dict[str, Any]]:
    from attar.cli.output import bits_lines
    from attar.data.text import load_text
    from attar.evaluation.bits import bits_per_byte
    from attar.evaluation.likelihood import score

    documents = chosen(load_text(data, config=config, text_column=text_column), split)
    bits = bits_per_byte(model, tokenizer, documents, **options) if bpb else None
    found = bits.score if bits else score(model, tokenizer, documents, **options)
    lines = [
        ("data", f"{data} ({split})"),
        ("scored", f"{found.tokens:,} tokens, {found.bytes:,} bytes"),
        ("perplexity", f"{found.perplexity:.3f}  ({found.nll:.4f} nats per token)"),
    ]
    lines += (
        bits_lines(bits.to_dict()) if bits else [("bits per byte", f"{found.bits_per_byte:.4f}")]
    )
    return lines, {"score": found.to_dict()} | ({"bits_per_byte": bits.to_dict()} if bits else {})


def _harness_scores(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    *,
    names: list[str],
    **options: Any,
) -> tuple[Lines, dict[str, dict[str, float]] | None]:
    from attar.evaluation.harness import tasks

    if not names:
        return [], None
    found = tasks(model, tokenizer, names, **options)
    lines = [
        (task, f"{metric} {value:.4g}")
        for task, metrics in found.items()
        for metric, value in metrics.items()
    ]
    return lines, found


def _task_scores(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    *,
    data: str,
    split: str,
    max_length: int,
    **columns: Any,
) -> tuple[Lines, dict[str, Any]]:
    from attar.compatibility import check_length, check_trained
    from attar.data.labelled.load import load_labelled
    from attar.evaluation.labelled import score_on

    documents, task = load_labelled(data, **columns)
    check_trained("model", model, task=task)
    check_length(model, max_length)
    rows = chosen(documents, split)
    found = score_on(model, rows, tokenizer=tokenizer, task=task, max_length=max_length)
    lines = [("data", f"{data} ({split}), {len(rows):,} examples")]
    lines += [(name.replace("_", " "), f"{value:.4f}") for name, value in found.items()]
    return lines, {"score": found, "examples": len(rows)}
