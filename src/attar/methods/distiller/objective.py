"""The loss of a distillation pipeline: the labels, the teacher's predictions, and intermediate
features over a layer map.

    L = w_hard L_hard + w_pred L_pred(z_S, z_T) + w_inter sum over (s, t) of L_inter(H_s, H_t)

He et al. 2021, Distiller, arXiv 2109.11105, section 3.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar import divergences
from attar.data.labelled.items import hard_loss, items, real_classes
from attar.data.labelled.task import Task
from attar.data.sources import Batch
from attar.methods.distiller.config import DistillConfig
from attar.methods.distiller.mutual_information import Critic, mi_alpha
from attar.runtime import gather, processes
from attar.train.features import (
    Projection,
    attention_ce,
    attention_mse,
    hidden_ce,
    hidden_cosine,
    hidden_mse,
    pkd,
)
from attar.train.layer_map import LayerMap
from attar.train.mixup import (
    MixedBatch,
    drawn,
    mixed_inputs,
    mixed_labels,
    mixed_sources,
    mixed_targets,
)
from attar.train.outputs import FeatureRequest, Outputs, TeacherOutputs, outputs_of
from attar.train.trainer import Term

#: larger scores of the critic would overflow in the marginal term, as in the published code
CLAMP = 50.0
_PER_TOKEN = {"mse": hidden_mse, "ce": hidden_ce, "cos": hidden_cosine}
_PER_MAP = {"mse": attention_mse, "ce": attention_ce}


def requested_features(
    config: DistillConfig, layer_map: LayerMap | None
) -> tuple[FeatureRequest, FeatureRequest]:
    """The features that the loss reads of the student and of the teacher."""
    if layer_map is None:
        return FeatureRequest(), FeatureRequest()
    requests = []
    for side in (0, 1):
        layers = {pair[side] for pair in layer_map.pairs}
        if layer_map.transport:
            layers |= set(layer_map.blocks[side])
        indices = tuple(sorted(layers))
        if config.intermediate in ("pkd", "mi"):
            requests.append(FeatureRequest(pooled=indices, pool=config.pool))
        elif config.features == "attention":
            requests.append(FeatureRequest(attention=indices))
        else:
            requests.append(FeatureRequest(hidden=indices))
    return requests[0], requests[1]


class AuxiliaryHeads(nn.Module):
    """What is trained with the student and thrown away: projections, critics and baselines.

    Args:
        config: which losses.
        layer_map: layers to match; None: no heads.
        widths: of the hidden states of student and teacher.
    """

    def __init__(
        self, config: DistillConfig, layer_map: LayerMap | None, *, widths: tuple[int, int]
    ) -> None:
        super().__init__()
        self.projections, self.critics = nn.ModuleDict(), nn.ModuleDict()
        self._per_pair = config.per_layer or (layer_map is not None and layer_map.transport)
        if layer_map is None or config.features == "attention":
            return
        generator = torch.Generator().manual_seed(config.seed)
        if config.intermediate == "mi":
            for name in self._critic_names(layer_map):
                self.critics[name] = Critic(
                    *widths,
                    hidden=config.critic_hidden,
                    size=config.critic_dim,
                    baseline="fixed" if config.alpha == 1 else config.baseline,
                    generator=generator,
                )
        elif widths[0] != widths[1]:
            request = requested_features(config, layer_map)[0]
            for index in request.hidden or request.pooled:
                self.projections[str(index)] = Projection(*widths, generator=generator)

    def _critic_names(self, layer_map: LayerMap) -> list[str]:
        if not self._per_pair:
            return ["shared"]
        pairs = list(layer_map.pairs)
        if layer_map.transport:
            pairs += [(s, t) for s in layer_map.blocks[0] for t in layer_map.blocks[1]]
        return [f"{s}-{t}" for s, t in pairs]

    def critic(self, student: int, teacher: int) -> Critic:
        """The critic of a pair of layers."""
        critic = self.critics[f"{student}-{teacher}" if self._per_pair else "shared"]
        assert isinstance(critic, Critic)
        return critic

    def project(self, index: int, features: Tensor) -> Tensor:
        """Features of one of the student's layers at the teacher's width: (..., d_S) ->
        (..., d_T)."""
        name = str(index)
        return self.projections[name](features) if name in self.projections else features


class Objective:
    """The parts of the loss of a batch: `hard`, `pred` and `intermediate`.

    Args:
        config: which losses, and their weights.
        task: what is learnt.
        layer_map: layers to match; None: no intermediate loss.
        heads: projections and critics of that map.
        teacher: the teacher's outputs for a batch; None: hard labels alone.
        teacher_model: the model itself, for mixed inputs.
    """

    def __init__(
        self,
        config: DistillConfig,
        *,
        task: Task,
        layer_map: LayerMap | None,
        heads: AuxiliaryHeads,
        teacher: TeacherOutputs | None,
        teacher_model: PreTrainedModel | None = None,
    ) -> None:
        self.config, self.task, self.layer_map, self.heads = config, task, layer_map, heads
        self.teacher, self.teacher_model = teacher, teacher_model
        self.request = requested_features(config, layer_map)[0]
        self.distance = _prediction_loss(config, task)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Term]:
        """The components of section 3 of the paper, one by one; see `attar.train.trainer.Compute`.

        Args:
            model: the student.
            batch: `input_ids` (B, T) and what else the task has; mixup has drawn its partners.

        Returns:
            Per item, or per token for features of tokens; mixup doubles the items.
        """
        config, parts = self.config, dict[str, Term]()
        # 1. Data augmentation: changed texts are rows of their own; mixup blends embeddings here.
        mixed = drawn(batch)
        inputs = batch if mixed is None else mixed_inputs(model, batch, mixed=mixed)
        student = outputs_of(model, inputs, task=self.task, request=self.request)
        # 2. Loss of the labels, L_hard.
        if config.hard_weight:
            values = self._hard(student.logits, batch, mixed)
            parts["hard"] = Term(values, config.hard_weight, per="labelled")
        if self.teacher is None:
            return parts
        teacher = self._taught(self.teacher, batch, mixed)
        # 3. Prediction loss, L_pred(z_S, z_T).
        if config.pred_weight:
            values = self._predictions(student.logits, teacher.logits, batch)
            parts["pred"] = Term(values, config.pred_weight, per="items")
        # 4. Intermediate loss over the layer map, sum over (s, t) of L_inter(H_s, H_t).
        if self.layer_map is not None:
            mask, same = inputs["attention_mask"], _same(batch, mixed)
            values, per = self._intermediate(student, teacher, mask=mask, same=same)
            parts["intermediate"] = Term(values, config.intermediate_weight, per=per)
        return parts

    def _taught(self, teacher: TeacherOutputs, batch: Batch, mixed: MixedBatch | None) -> Outputs:
        """What the teacher says of the texts, and of their mixtures."""
        if mixed is None:
            return teacher(batch)
        assert self.teacher_model is not None
        with torch.no_grad():
            return teacher(mixed_inputs(self.teacher_model, batch, mixed=mixed))

    def _hard(self, logits: Tensor, batch: Batch, mixed: MixedBatch | None) -> Tensor:
        if mixed is None:
            return hard_loss(logits, batch, task=self.task)
        if self.task.kind != "single_label":
            labels = {"labels": mixed_targets(batch["labels"], mixed=mixed)}
            return hard_loss(logits, labels, task=self.task)
        weight, first, second = mixed_labels(batch["labels"], mixed=mixed)
        ours = hard_loss(logits, {"labels": first}, task=self.task)
        theirs = hard_loss(logits, {"labels": second}, task=self.task)
        return weight * ours + (1 - weight) * theirs

    def _predictions(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        if (real := real_classes(batch, self.task)) is not None:
            student, teacher = (x.masked_fill(~real, -torch.inf) for x in (student, teacher))
        values = self.distance(student, teacher)
        if self.task.kind == "token_classification":
            values = torch.where(items(batch, self.task), values, 0.0)
        return values

    def _intermediate(
        self, student: Outputs, teacher: Outputs, *, mask: Tensor, same: Tensor
    ) -> tuple[Tensor, str]:
        """The loss over the layer map, and what its sum is to be divided by."""
        config, layer_map, heads = self.config, self.layer_map, self.heads
        assert layer_map is not None
        if config.intermediate == "mi":
            return layer_map.total(
                lambda s, t: self._mi(student, teacher, s=s, t=t, same=same)
            ), "rows"
        if config.intermediate == "pkd":
            return layer_map.total(
                lambda s, t: pkd(heads.project(s, student.pooled[s]), teacher.pooled[t])
            ), "rows"
        if config.features == "attention":
            compare = _PER_MAP[config.intermediate]
            return layer_map.total(
                lambda s, t: compare(student.attention[s], teacher.attention[t], mask=mask)
            ), "tokens"
        distance = _PER_TOKEN[config.intermediate]
        return layer_map.total(
            lambda s, t: distance(heads.project(s, student.hidden[s]), teacher.hidden[t], mask=mask)
        ), "tokens"

    def _mi(self, student: Outputs, teacher: Outputs, *, s: int, t: int, same: Tensor) -> Tensor:
        """-I_alpha of one pair of layers, times the items it is over: those of all processes,
        of which this one answers for its share."""
        critic, alpha = self.heads.critic(s, t), self.config.alpha
        scores, log_q = critic(gather(student.pooled[s]), gather(teacher.pooled[t]))
        if bool(same.all()):  # a single source has nothing to be told apart from
            return 0.0 * (scores.sum() + log_q.sum())
        bound = mi_alpha(scores, log_q, alpha=alpha, same=same, clamp=CLAMP)
        return -bound * (len(scores) / processes().num_processes)


def _prediction_loss(config: DistillConfig, task: Task) -> divergences.Divergence:
    many = task.kind == "multi_label"
    losses: dict[str, divergences.Divergence] = {
        "mse": divergences.logit_mse,
        "ce": divergences.binary_cross_entropy if many else divergences.soft_cross_entropy,
        "kl": divergences.binary_kl if many else divergences.forward_kl,
    }
    return divergences.at_temperature(
        losses[config.pred_loss], temperature=config.temperature, tau_squared=config.tau_squared
    )


def _same(batch: Batch, mixed: MixedBatch | None) -> Tensor:
    """Which items of all processes share a text and are no negatives of each other, (K, K)."""
    own = batch["source"]
    pairs = own[:, None] if mixed is None else mixed_sources(own, mixed=mixed)
    texts = gather(pairs)
    return (texts[:, None, :, None] == texts[None, :, None, :]).flatten(2).any(-1)
