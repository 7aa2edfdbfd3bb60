"""The verb `evaluate`: how good a model is, and how fast."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset, DatasetDict, concatenate_datasets
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar import checkpoint
from attar.compatibility import check_trained
from attar.data.chats import is_chat, load_documents
from attar.data.data import STDLIB, Data, DataLike
from attar.data.labelled.load import load_labelled
from attar.errors import ConfigError, check_types
from attar.evaluation.bits import bits_per_byte
from attar.evaluation.documents import score_documents
from attar.evaluation.harness import TaskOptions, figures
from attar.evaluation.labelled import score_on
from attar.measure.model import speed_lines
from attar.measure.timing import measure
from attar.models import computed_in, computing, require_context
from attar.recipes import configured
from attar.recipes.verbs import takes_recipe
from attar.report.artefact import artefact
from attar.report.record import Run
from attar.runtime import place

Lines = list[tuple[str, str]]
"""What is shown of a result: labels and texts."""

_HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
#: tokens of a labelled text, unless the options say otherwise
_LABELLED_CONTEXT = 128


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(TaskOptions):
    """What is scored, and how."""

    split: Literal["train", "validation", "test", "all"] = "test"
    """Split of the data to score. A file without splits is cut into three; all takes the whole
    file."""
    context: int | None = None
    """Tokens per window. Default: the model's context, at most 2048. On labelled data: tokens per
    text, by default 128."""
    stride: int | None = None
    """Tokens by which a window moves on. Below the context windows overlap, so that each token is
    predicted from more of the text before it. Default: the context."""
    batch_size: int = 8
    """Windows per forward pass; changes speed and memory, not the result."""
    eval_tokens: int | None = None
    """Score at most this many tokens, in passages spread over all documents."""
    bits: bool = False
    """Also report the uniform and the unigram baseline of the tokenizer, and FLOPs per byte."""
    speed: bool = True
    """Time prefill and decoding on this machine."""

    def __post_init__(self) -> None:
        check_types(self)


@takes_recipe("evaluate")
def evaluate(
    model: str | Path | PreTrainedModel,
    data: DataLike = STDLIB,
    *,
    config: EvaluateConfig | str = EvaluateConfig(),
    tokenizer: PreTrainedTokenizerBase | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    output_dir: str | Path | None = None,
    recipe: str | None = None,
) -> Run:
    """Measure perplexity, bits per byte and speed of a causal language model, or how well an
    encoder that was trained for a task does on labelled data.

    Args:
        model: folder, Hub name or a model.
        data: text or conversations (see `attar.data.chats.load_documents`), of which the tokens of
            the assistant are scored; or for a model with a head whatever `load_labelled` takes.
        config: what is scored, and how; or the name or path of a recipe.
        tokenizer: None: the model's own.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run modelling code that comes with the checkpoint.
        output_dir: where the record goes; None: it is only returned.
        recipe: name of the recipe that the options came from, for the record.

    Returns:
        The record: `quality["after"]` the scores, `cost["after"]` what the model costs, with
        timings unless `config.speed` is off, `details` what was scored.

    Raises:
        ConfigError: options do not suit the model.
        CompatibilityError: the model neither predicts text nor has a head for these labels.
        DataError: the model or the data cannot be read.
        MissingExtraError: tasks are asked for and lm-eval is not installed.
    """
    config, recipe = configured(config, EvaluateConfig, recipe=recipe)
    data = Data.of(data)
    settings = {"model": checkpoint.name_of(model), **data.settings(), **asdict(config)}
    with artefact(output_dir, command="evaluate", settings=settings, recipe=recipe) as work:
        options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        loaded = checkpoint.model_of(model, **options)
        place(loaded)
        tokenizer = checkpoint.tokenizer_of(model, tokenizer, **options)
        run = work.run
        run.details = {"split": config.split, "computed_in": computed_in(loaded)}
        has_head = type(loaded).__name__.endswith(_HEADS)
        with computing(loaded):
            (_score_labels if has_head else _score_text)(
                run, loaded, tokenizer, data=data, config=config
            )
        if config.speed:
            run.cost = {"after": measure(loaded).to_dict()}
    return work.run


def _score_text(
    run: Run,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    data: Data,
    config: EvaluateConfig,
) -> None:
    # first, so that a missing extra or a wrong name shows at once
    tasks = config.scores(model, tokenizer, batch_size=config.batch_size)
    if tasks:
        run.details["tasks"] = tasks
    documents = rows_of(load_documents(data, tokenizer), config.split)
    options = {
        name: getattr(config, name) for name in ("context", "stride", "batch_size", "eval_tokens")
    }
    if is_chat(documents) and (config.bits or config.stride is not None):
        raise ConfigError(
            f"bits and stride are for text, but {data.origin} holds conversations; leave them out"
        )
    if config.bits:
        bits = bits_per_byte(model, tokenizer, texts=documents, **options)
        run.details["bits_per_byte"] = bits.to_dict()
        run.quality = {"after": bits.score.to_dict()}
    else:
        scored = score_documents(model, tokenizer, documents=documents, **options)
        run.quality = {"after": scored.to_dict()}
    run.quality["after"] |= figures(tasks)


def _score_labels(
    run: Run,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    data: Data,
    config: EvaluateConfig,
) -> None:
    documents, task = load_labelled(data)
    context = config.context or _LABELLED_CONTEXT
    check_trained("model", model, task=task)
    require_context(model, context)
    rows = rows_of(documents, config.split)
    scores = score_on(model, rows, tokenizer=tokenizer, task=task, context=context)
    run.quality = {"after": scores}
    run.details |= {"test_rows": len(rows), "task": task.to_dict()}


def rows_of(documents: DatasetDict, split: str) -> Dataset:
    """The rows of a split, or of all of them."""
    return concatenate_datasets(list(documents.values())) if split == "all" else documents[split]


# -------------------------------------------------------------------------------- what is shown


def evaluation_lines(run: Run) -> Lines:
    """The record of an evaluation as labels and texts."""
    quality, details = run.quality["after"], run.details
    source = f"{run.data} ({details['split']})"
    if "test_rows" in details:
        lines = [("data", f"{source}, {details['test_rows']:,} examples")]
        lines += [(name.replace("_", " "), f"{value:.4f}") for name, value in quality.items()]
    else:
        lines = [
            ("data", source),
            ("scored", f"{quality['tokens']:,} tokens, {quality['bytes']:,} bytes"),
            ("perplexity", f"{quality['perplexity']:.3f}  ({quality['nll']:.4f} nats per token)"),
        ]
        bits = details.get("bits_per_byte")
        lines += (
            bits_lines(bits) if bits else [("bits per byte", f"{quality['bits_per_byte']:.4f}")]
        )
    if run.cost:
        lines += speed_lines(run.cost["after"])
    return [*lines, *_harness_lines(details.get("tasks", {}))]


def bits_lines(bits: dict[str, float]) -> Lines:
    """Bits per byte next to uniform and unigram baselines, and what a byte costs."""
    verdict = "; the model has learned nothing" if bits["learned_nothing"] else ""
    with_softmax = bits["flops_per_byte_with_softmax"] / 1e6
    return [
        ("bits per byte", f"{bits['bits_per_byte']:.4f}{verdict}"),
        ("  uniform baseline", f"{bits['uniform']:.4f}"),
        ("  unigram baseline", f"{bits['unigram']:.4f}"),
        ("bytes per id", f"{bits['bytes_per_token']:.3f}"),
        ("ids per kilobyte", f"{bits['steps_per_kilobyte']:.1f}"),
        (
            "FLOPs per byte",
            f"{bits['flops_per_byte'] / 1e6:.3g}M, with the output layer {with_softmax:.3g}M",
        ),
    ]


def _harness_lines(scores: dict[str, dict[str, float]]) -> Sequence[tuple[str, str]]:
    return [
        (task, f"{'documents' if metric == 'sample_len' else metric} {value:.4g}")
        for task, metrics in scores.items()
        for metric, value in metrics.items()
    ]
