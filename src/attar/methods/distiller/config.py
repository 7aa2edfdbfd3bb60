"""Options of one distillation run, and what cannot learn with them."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from attar.compatibility import same_tokens
from attar.data.labelled.task import Task
from attar.errors import CompatibilityError, ConfigError, require
from attar.methods.distiller.pipelines import IntermediateName, Pipeline, PredictionLoss
from attar.train.features import Pool
from attar.train.labelled import LabelledConfig
from attar.train.labelled_task import LabelledTask
from attar.train.layer_map import Features, LayerMap
from attar.train.mixup import BETA
from attar.train.students import depth

Intermediate = Literal["auto"] | IntermediateName
Baseline = Literal["learned", "fixed"]


@dataclass(frozen=True, kw_only=True)
class DistillConfig(LabelledConfig):
    """One pipeline: augmentation, losses, layers, and how long it trains.

    Names and components are those of section 3 of the paper. The defaults are Attar's own;
    `recipes/distiller/paper.yaml` has those of the published code.
    """

    pred_loss: PredictionLoss = "mse"
    """Loss between the predictions of student and teacher."""
    temperature: float = 1.0
    """Divides the logits in `pred_loss`."""
    tau_squared: bool = True
    """Multiply `pred_loss` by the temperature squared, so that its weight does not depend on it
    (the published code does not)."""
    pred_weight: float = 1.0
    """Weight of `pred_loss`."""
    hard_weight: float = 0.0
    """Weight of the loss on the labels of the data; rows without one do not count."""
    intermediate: Intermediate = "auto"
    """Loss between features. auto: mse for a student with random weights, mi for one with
    pre-trained weights."""
    intermediate_weight: float = 1.0
    """Weight of the intermediate loss, which is summed over the layer map."""
    features: Features = "hidden"
    """What mse and ce compare: hidden states or attention maps."""
    layer_map: str = "skip"
    """Which layer learns from which: skip, last, final (the last from the last alone), emd, or
    pairs of student:teacher such as 0:0,1:2,2:4."""
    pool: Pool = "cls"
    """One vector per text for pkd and mi: the first token's, or the mean over the tokens."""
    alpha: float = 0.9
    """For mi: 1 is InfoNCE, 0 is TUBA."""
    baseline: Baseline = "learned"
    """For mi: fixed makes alpha 0 the bound of Nguyen, Wainwright and Jordan (NWJ)."""
    critic_hidden: int = 128
    """Width of the critic's hidden layers."""
    critic_dim: int = 64
    """Width of the vectors that the critic compares."""
    per_layer: bool = False
    """A critic for every pair of layers instead of one for all; always so with emd."""
    smaller_teacher: bool = False
    """Allow a teacher that is smaller than the student."""

    max_steps: int = 1000
    per_device_train_batch_size: int = 32
    learning_rate: float = 5e-5
    warmup_steps: float = 0.1
    weight_decay: float = 0.1
    lr_scheduler_type: Literal[
        "linear", "cosine", "polynomial", "constant", "constant_with_warmup"
    ] = "linear"
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("pred_weight", "hard_weight", "intermediate_weight"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "zero or more")
        require(self.temperature > 0, "temperature", self.temperature, "above 0")
        require(0 <= self.alpha <= 1, "alpha", self.alpha, "between 0 and 1")
        for name in ("critic_hidden", "critic_dim"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(
            self.features == "hidden" or self.intermediate in ("auto", "none", "mse", "ce"),
            "intermediate",
            self.intermediate,
            "mse or ce where features is attention",
        )

    @property
    def taught(self) -> bool:
        """Whether the teacher says anything in this pipeline."""
        return self.pred_weight > 0 or self.intermediate != "none"


def settled(config: DistillConfig, *, has_teacher: bool, random_student: bool) -> DistillConfig:
    """The same options with the intermediate loss that `auto` stands for.

    Args:
        config: options.
        has_teacher: without one there is no intermediate loss.
        random_student: whether the student starts with random weights.
    """
    if config.intermediate != "auto":
        return config
    if not has_teacher:
        return replace(config, intermediate="none")
    tokens = random_student or config.features == "attention"
    return replace(config, intermediate="mse" if tokens else "mi")


def check_config(config: DistillConfig, *, task: Task, has_teacher: bool) -> None:
    """Refuse options that cannot learn this task.

    Raises:
        ConfigError: with what to change.
    """
    if has_teacher and config.augment and not config.taught:
        raise ConfigError(
            "augmented texts have no labels but the teacher's, which pred_weight 0 and "
            "intermediate none leave out; set pred_weight to 1, or leave the augmenters out "
            "(--empty-augment)"
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


def check_models(job: LabelledTask, config: DistillConfig) -> LayerMap | None:
    """The layer map of two models that fit; None where no features are compared.

    Raises:
        CompatibilityError: what compares tokens one by one, or needs the teacher in every step,
            meets two tokenizers.
        ConfigError: the layer map does not fit the models.
    """
    if job.teacher is None:
        return None
    if not job.same_inputs and (config.mixup_beta is not None or config.features == "attention"):
        raise CompatibilityError(
            "the tokenizers of student and teacher differ, and mixup and attention maps need one "
            "batch for both; leave them out, or take a student of the teacher's family"
        )
    if not same_tokens(*job.tokenizers):
        pooled = config.intermediate in ("none", "pkd", "mi")
        words = job.task.kind in ("token_classification", "question_answering")
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
        student_layers=depth(job.student),
        teacher_layers=depth(job.teacher),
        features=config.features,
    )


def with_pipeline(training: DistillConfig, pipeline: Pipeline) -> DistillConfig:
    """The options of a run of this pipeline; all that is not searched as in `training`, but for the
    batch: with mixup half as many texts, so that with their mixtures it has as many rows."""
    chosen = pipeline.to_dict()
    mixup = chosen.pop("mixup")
    if mixup:
        half = training.per_device_train_batch_size // 2
        chosen["per_device_train_batch_size"] = max(2, half)
    chosen["augment"] = tuple(chosen["augment"])
    chosen["repeated"] = training.repeated and bool(chosen["augment"])  # else there are no copies
    return replace(training, **chosen, mixup_beta=BETA if mixup else None)


def options_of(pipeline: Pipeline) -> dict[str, Any]:
    """The options of `attar distill` that make a pipeline; those without an effect are left out."""
    options = pipeline.active()
    if options.pop("mixup"):
        made = with_pipeline(DistillConfig(), pipeline)
        mixed = ("mixup_beta", "per_device_train_batch_size")
        options |= {name: getattr(made, name) for name in mixed}
    return options
