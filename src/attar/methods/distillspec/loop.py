"""The training loop of DistillSpec, and the choice of the best weights on the way."""

import json
import logging
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.artefacts import replacing, write_text
from attar.data.prompts import Prompt
from attar.data.sources import Batch
from attar.decode.agreement import Texts, agreement
from attar.decode.forced import answers
from attar.divergences import DIVERGENCES
from attar.foreign import read_json
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.distillspec.texts import OnPolicySampler, Prompts
from attar.models import autocast, computing, in_float32
from attar.runtime import place, processes
from attar.train.callbacks import Watch
from attar.train.trainer import Compute, Term, Training, fit

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """A draft on held-out prompts after some steps, at the temperature that it is to serve at.

    Attributes:
        step: optimizer steps done.
        alpha: acceptance rate of a token, from 0 to 1.
        block_efficiency: tokens for each pass of the target.
        error: its standard error; None of a single prompt.
    """

    step: int
    alpha: float
    block_efficiency: float
    error: float | None = None


def sequence_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of each text over its own tokens, `(B, C)` and `(B, C)` -> `(B,)`; 0 for a text without
    one. GKD and DistillSpec weigh all texts alike, however long (DistillSpec, equation 2)."""
    kept = torch.where(mask, values, 0.0)
    return kept.sum(1) / mask.sum(1).clamp_min(1)


def draft_loss(target: PreTrainedModel, config: DistillSpecConfig) -> Compute:
    """The divergence of the draft from the target on the tokens behind the prompts (step 3 of
    `fit_draft`).

    Where one vocabulary is padded, both are compared on the tokens that they share. No gradient
    goes through the writing of the texts.
    """
    divergence = DIVERGENCES[config.divergence]

    def compute(draft: nn.Module, batch: Batch) -> dict[str, Term]:
        draft.eval()  # without dropout, as it serves
        q_logits = answers(draft, batch)
        mixed = nullcontext() if config.bf16 is False else autocast(target)
        with torch.no_grad(), mixed:
            p_logits = answers(target, batch)
        size = min(p_logits.shape[-1], q_logits.shape[-1])
        distances = divergence(q_logits[..., :size], p_logits[..., :size])
        mask = batch["mask"]
        if config.average == "sequence":
            return {"loss": Term(sequence_mean(distances, mask), per="texts")}
        return {"loss": Term(torch.where(mask, distances, 0.0), per="tokens")}

    return compute


def fit_draft(
    draft: PreTrainedModel,
    target: PreTrainedModel,
    *,
    prompts: Sequence[Prompt],
    held_out: Texts,
    config: DistillSpecConfig,
    stops: Sequence[int] = (),
    state_dir: Path | None = None,
    resume: bool = False,
) -> tuple[Training, list[Measured]]:
    """Train a draft in place, and leave it with the best weights that were measured.

    The algorithm of GKD, which DistillSpec takes over (section 4), in each step:

    1. draw the source of the texts: the draft with probability `draft_share` (lambda of GKD);
    2. take prompts x, and let that source write the texts y;
    3. compute D(p, q)(y | x), averaged over the tokens of each text and then over texts;
    4. take a step down its gradient, of which none goes through the writing of y.

    Args:
        draft: is held in float32 meanwhile.
        target: of the same tokenizer; frozen.
        prompts: to train on.
        held_out: what the target writes behind other prompts.
        config: how.
        stops: tokens that end a text.
        state_dir: where checkpoints go; None: none are written.
        resume: go on from the newest checkpoint in `state_dir`.

    Returns:
        What the training did, and the draft's measurements by step, the first before all training.

    Raises:
        ConfigError: training diverged, or there is nothing to learn from.
    """
    place(draft)
    place(target)
    source = Prompts(prompts, config)
    sampler = OnPolicySampler(target, prompts, config=config, stops=stops)
    with ExitStack() as stack:
        stack.enter_context(computing(target))
        stack.enter_context(in_float32(draft))
        kept = state_dir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        best = _Best(draft, target, held_out, config=config, folder=kept / "best", resume=resume)
        best.look(0)
        steps = {*range(0, config.max_steps, config.eval_steps), config.max_steps} - {0}
        training = fit(  # 4. AdamW
            draft,
            source,
            config=config,
            state_dir=state_dir and state_dir / "trainer",
            resume=resume,
            prepare=sampler,  # 1. and 2.
            compute=draft_loss(target, config),  # 3.
            watch=Watch(best.look, steps=steps),
        )
        if config.select_best:
            best.restore()
        return training, [best.measured[step] for step in sorted(best.measured)]


class _Best:
    """Measures the draft now and then, and remembers the best weights in a folder."""

    def __init__(
        self,
        draft: PreTrainedModel,
        target: PreTrainedModel,
        held_out: Texts,
        *,
        config: DistillSpecConfig,
        folder: Path,
        resume: bool,
    ) -> None:
        self._draft, self._target, self._held_out = draft, target, held_out
        self._length, self._folder = config.draft_tokens, folder
        self.measured: dict[int, Measured] = {}
        if processes().is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            log = folder / "measured.json"
            if resume and log.is_file():
                lines = read_json(log, "the log")
                self.measured = {line["step"]: Measured(**line) for line in lines}

    def look(self, step: int) -> bool:
        """Measure; never asks to stop. The first process does it for all."""
        if not processes().is_main_process or step in self.measured:
            return False
        agreed = agreement(self._target, self._draft, texts=self._held_out)
        length = self._length
        efficiency, error = agreed.block_efficiency(length), agreed.efficiency_error(length)
        now = Measured(step, agreed.alpha, efficiency, error)
        logger.info(
            "step %d  block efficiency %.3f  acceptance rate %.3f",
            *(step, now.block_efficiency, now.alpha),
        )
        others = [other.block_efficiency for other in self.measured.values()]
        if all(now.block_efficiency > other for other in others):
            weights = {n: p.detach().cpu().clone() for n, p in self._draft.named_parameters()}
            with replacing(self._folder / "weights.safetensors") as unfinished:
                save_file(weights, unfinished)
        self.measured[step] = now  # after the weights: a killed run measures once more
        lines = [asdict(measured) for measured in self.measured.values()]
        write_text(self._folder / "measured.json", json.dumps(lines))
        return False

    def restore(self) -> None:
        """Give the draft its best weights back."""
        if not processes().is_main_process:
            return
        weights = load_file(self._folder / "weights.safetensors")
        with torch.no_grad():
            for name, parameter in self._draft.named_parameters():
                parameter.copy_(weights[name])
