"""Do these models, tokenizers and tasks fit together?

`check_*` and `require_*` refuse what does not fit, with the reason; `same_*` only say whether it
does. `side` names a model in errors, such as teacher.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as ENCODERS

from attar import checkpoint
from attar.data.labelled.task import Task
from attar.errors import CompatibilityError
from attar.heads import has_head
from attar.models import require_generator


def check_encoder(side: str, config: PreTrainedConfig, *, name: str) -> None:
    """Refuse what does not read a text from both sides.

    Raises:
        CompatibilityError: a decoder, or an encoder-decoder.
    """
    kind = config.model_type
    if kind not in ENCODERS or config.is_encoder_decoder or getattr(config, "is_decoder", False):
        raise CompatibilityError(
            f"the {side} must be an encoder, such as BERT, RoBERTa, DistilBERT, ELECTRA or "
            f"ModernBERT, but {name or 'it'} is of type {kind}; to make a decoder small, use "
            "attar prune and attar heal"
        )


def check_trained(side: str, model: PreTrainedModel, *, task: Task) -> None:
    """Refuse a model that was not trained on this task, or numbers its classes in another way.

    Raises:
        CompatibilityError: it has no head for the task, as many outputs as another, or the names of
            its outputs are the data's in another order.
    """
    if not has_head(type(model).__name__, task):
        raise CompatibilityError(
            f"the {side} must be trained on this task, but {type(model).__name__} has no head "
            f"for {task.kind}; train one with attar distill "
            f"{model.name_or_path or 'MODEL'} --data DATA --config distiller/teacher -o TEACHER"
        )
    check_outputs(side, model, task=task)
    named: dict = dict(model.config.id2label or {})
    names = tuple(str(named[i]) for i in sorted(named))
    if not task.labels or names == task.labels:
        return
    if Counter(names) == Counter(task.labels):
        raise CompatibilityError(
            f"the {side}'s outputs are {', '.join(names)} and the labels of the data "
            f"{', '.join(task.labels)}: the same in another order; train the {side} on this data"
        )
    if not _may_be(names, task.labels):
        raise CompatibilityError(
            f"the {side}'s outputs are {', '.join(names)}, but the labels of the data are "
            f"{', '.join(task.labels)}; train the {side} on this data, or give the labels its "
            "names or their numbers"
        )


def _may_be(names: Sequence[str], labels: Sequence[str]) -> bool:
    """Whether labels may be meant by names: numbers tell nothing, and one of `neg` and `NEGATIVE`
    is the other in short."""
    numbers = all(label.isdecimal() for label in labels)
    unnamed = all(re.fullmatch(r"LABEL_\d+|\d+", name) for name in names)
    pairs = [(a.lower(), b.lower()) for a, b in zip(names, labels, strict=True)]
    return numbers or unnamed or all(a.startswith(b) or b.startswith(a) for a, b in pairs)


def check_teacher_size(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Refuse a teacher that is smaller than its student: the two were swapped, mostly. Embeddings
    do not count, as they follow the vocabulary.

    Raises:
        CompatibilityError: so it is.
    """
    ours, theirs = (m.num_parameters(exclude_embeddings=True) for m in (student, teacher))
    if theirs < ours:
        raise CompatibilityError(
            f"expected a teacher of at least {ours:,} parameters besides embeddings, as many as "
            f"its student has; it has {theirs:,}: swap the two, or set smaller_teacher"
        )


def check_outputs(side: str, model: PreTrainedModel, *, task: Task) -> None:
    """Refuse a model whose head is of another task.

    Raises:
        CompatibilityError: it has more or fewer outputs.
    """
    if model.config.num_labels != task.outputs:
        many = "output" if task.outputs == 1 else "outputs"
        raise CompatibilityError(
            f"{task.kind} on this data takes {task.outputs} {many}, but the {side} has "
            f"{model.config.num_labels}; train the {side} on this data, or give another"
        )


def check_pair(target: PreTrainedModel, draft: PreTrainedModel) -> None:
    """Refuse a draft that cannot serve a target.

    Raises:
        CompatibilityError: one of them cannot generate text, or the draft is larger, of another
            kind, or on another device.
    """
    require_generator("target", target)
    require_generator("draft", draft)
    if target.config.is_encoder_decoder != draft.config.is_encoder_decoder:
        kinds = [
            "an encoder-decoder" if m.config.is_encoder_decoder else "a decoder"
            for m in (target, draft)
        ]
        raise CompatibilityError(
            f"target and draft must be of one kind, but the target is {kinds[0]} and the draft "
            f"{kinds[1]}; give another draft"
        )
    sizes = [model.num_parameters() for model in (target, draft)]
    if sizes[1] > sizes[0]:
        raise CompatibilityError(
            f"the draft must be smaller than the target, but it has {sizes[1]:,} parameters and "
            f"the target {sizes[0]:,}; swap them, or give another draft"
        )
    if target.device != draft.device:
        raise CompatibilityError(
            f"target and draft must be on one device, but they are on {target.device} and "
            f"{draft.device}; move the draft"
        )


# --------------------------------------------------------------------- tokenizers and vocabularies


def same_tokens(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers give the same ids."""
    return checkpoint.tokenizer_fingerprint(one) == checkpoint.tokenizer_fingerprint(other)


def same_inputs(
    one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase, *, task: Task
) -> bool:
    """Whether a batch of one tokenizer can be given to the model of the other: the ids are the
    same, and where there are two texts, both tell them apart in the same way."""
    typed = ["token_type_ids" in tokenizer.model_input_names for tokenizer in (one, other)]
    return same_tokens(one, other) and (not task.pair or typed[0] == typed[1])


def require_same_tokenizer(
    one: PreTrainedTokenizerBase,
    other: PreTrainedTokenizerBase,
    *,
    sides: tuple[str, str] = ("student", "teacher"),
) -> None:
    """Refuse two models whose token ids do not mean the same.

    Args:
        one: tokenizer of the first model.
        other: tokenizer of the second.
        sides: what the models are called in the error.

    Raises:
        CompatibilityError: the tokenizers differ.
    """
    if not same_tokens(one, other):
        names = [
            tokenizer.name_or_path or f"the {side}"
            for tokenizer, side in zip((one, other), sides, strict=True)
        ]
        raise CompatibilityError(
            f"{sides[0]} and {sides[1]} must share one tokenizer, but those of {names[0]} and "
            f"{names[1]} differ; choose a {sides[0]} and a {sides[1]} of one family"
        )


def vocabulary_size(model: PreTrainedModel) -> int:
    """Outputs of a language model, padding included."""
    head: Any = model.get_output_embeddings()
    return int(head.weight.shape[0])


def require_tokens(model: PreTrainedModel, largest: int) -> None:
    """Refuse texts with tokens that a model has no embedding for.

    Args:
        model: reads the texts.
        largest: the largest of their ids.

    Raises:
        CompatibilityError: the table of embeddings is too short for it.
    """
    table: Any = model.get_input_embeddings()
    if largest >= (known := len(table.weight)):
        raise CompatibilityError(
            f"expected a tokenizer with the ids of its model, 0 to {known - 1}, found {largest} in "
            f"a text, which {model.name_or_path or 'the model'} has no embedding for; give it the "
            "tokenizer that it was trained with"
        )


def require_same_vocabulary(student: PreTrainedModel | int, teacher: PreTrainedModel | int) -> None:
    """Refuse a student and a teacher with outputs of different size.

    Args:
        student: the model, or the size of its vocabulary as of `vocabulary_size`.
        teacher: the same of the teacher.

    Raises:
        CompatibilityError: the sizes differ.
    """
    sizes = [
        model if isinstance(model, int) else vocabulary_size(model) for model in (student, teacher)
    ]
    if sizes[0] != sizes[1]:
        raise CompatibilityError(
            "the student and its teacher must share one vocabulary, but the student has "
            f"{sizes[0]} outputs and the teacher {sizes[1]}; choose a teacher of the same family"
        )
