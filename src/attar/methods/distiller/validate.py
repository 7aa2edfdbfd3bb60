"""What cannot learn is refused before any training, with the fix."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as ENCODERS

from attar import checkpoint
from attar.data.labelled import Task
from attar.errors import CompatibilityError, ConfigError
from attar.methods.distiller.config import DistillConfig
from attar.train.layers import LayerMap
from attar.train.students import depth
from attar.train.tasks import has_head


def check_config(config: DistillConfig, *, task: Task, has_teacher: bool) -> None:
    """Refuse options that cannot learn this task.

    Raises:
        ConfigError: with what to change.
    """
    taught = config.pred_weight > 0 or config.intermediate != "none"
    if has_teacher and config.augment and not taught:
        raise ConfigError(
            "augmented texts have no labels but the teacher's, which pred_weight 0 and "
            "intermediate none leave out; set pred_weight to 1, or leave the augmenters out"
        )
    if not has_teacher and not config.hard_weight:
        raise ConfigError(
            "without a teacher only the labels can teach, but hard_weight is 0; set hard_weight to "
            "1, or name a teacher"
        )
    if has_teacher and not config.pred_weight and not config.hard_weight:
        raise ConfigError(
            "pred_weight and hard_weight are both 0, so that nothing trains the head: features "
            "alone leave it as it was; set one of them above 0"
        )
    if task.kind == "regression" and config.pred_loss != "mse" and config.pred_weight:
        raise ConfigError(
            f"{config.pred_loss} compares distributions over classes, and over the single output "
            "of a regression it is constant; set pred_loss to mse"
        )
    if has_teacher and config.intermediate == "mi" and config.per_device_train_batch_size < 2:
        raise ConfigError(
            f"mi tells the texts of a batch apart and needs at least 2, but "
            f"per_device_train_batch_size is {config.per_device_train_batch_size}; set it to 8 or "
            "more"
        )
    words = task.kind in ("token_classification", "question_answering")
    if config.mixup_beta is not None and words:
        raise ConfigError(
            f"mixup blends two texts, in which {task.kind} could not say whose words it tags; "
            "unset mixup_beta"
        )
    if config.repeated and not config.augment:
        raise ConfigError(
            "repeated puts augmented copies into a batch; name augmenters to make any"
        )


def check_mixup(config: DistillConfig, *, task: Task, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse to blend the first text of one pair with the second of another.

    Raises:
        ConfigError: pairs whose two texts are told apart by token types.
    """
    typed = "token_type_ids" in tokenizer.model_input_names
    if config.mixup_beta is not None and task.pair and typed:
        raise ConfigError(
            "mixup must not mix across token types, and in pairs of texts they hardly ever agree "
            "between two rows; unset mixup_beta for this task"
        )


def check_models(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    *,
    config: DistillConfig,
    task: Task,
    tokenizers: tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase],
) -> LayerMap | None:
    """The layer map of two models that fit; None where no features are compared.

    Raises:
        CompatibilityError: what compares tokens one by one, or needs the teacher in every step,
            meets two tokenizers.
        ConfigError: the layer map does not fit the models.
    """
    apart = not same_inputs(*tokenizers, task=task)
    if apart and (config.mixup_beta is not None or config.features == "attention"):
        raise CompatibilityError(
            "the tokenizers of student and teacher differ, and mixup and attention maps need one "
            "batch for both; leave them out, or take a student of the teacher's family"
        )
    if not same_tokens(*tokenizers):
        pooled = config.intermediate in ("none", "pkd", "mi")
        words = task.kind in ("token_classification", "question_answering")
        if not pooled or words:
            raise CompatibilityError(
                "the tokenizers of student and teacher differ, so their tokens cannot be compared "
                "one by one: only whole texts can be, with intermediate none, pkd or mi; change "
                "that, or take a student of the teacher's family"
            )
    if config.intermediate == "none":
        return None
    return LayerMap.parse(
        config.layer_map,
        student_layers=depth(student),
        teacher_layers=depth(teacher),
        features=config.features,
    )


def check_outputs(side: str, model: PreTrainedModel, *, task: Task) -> None:
    """Refuse a model whose head is of another task.

    Raises:
        CompatibilityError: it has more or fewer outputs.
    """
    if (found := model.config.num_labels) != task.outputs:
        many = "output" if task.outputs == 1 else "outputs"
        raise CompatibilityError(
            f"{task.kind} on this data takes {task.outputs} {many}, but the {side} has {found}; "
            f"train the {side} on this data, or give another"
        )


def check_length(model: PreTrainedModel, length: int) -> None:
    """Refuse texts that are longer than a model has positions for.

    Raises:
        ConfigError: with the longest that it takes.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None or positions < 0:
        return
    # RoBERTa and its kin number positions from after that of padding.
    table: Any = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    offset = 0 if padding is None else padding + 1
    if length > (most := positions - offset):
        raise ConfigError(
            f"max_length must be at most {most}, which {model.name_or_path or 'the model'} has "
            f"positions for, but it is {length}; lower it, and longer texts are cut"
        )


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
            f"for {task.kind}; train one with attar distill --student "
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
