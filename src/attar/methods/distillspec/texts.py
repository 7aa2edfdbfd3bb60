"""What a draft learns from: prompts, with texts that are written when their step comes."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from attar.data.data import DataLike
from attar.data.prompts import Prompt, load_prompts
from attar.data.sources import Batch
from attar.decode.forced import batch_of
from attar.decode.pair import Pair
from attar.decode.sampling import sample
from attar.errors import ConfigError
from attar.methods.distillspec.config import DistillSpecConfig, TextSource


def prompts_of(pair: Pair, data: DataLike, *, config: DistillSpecConfig) -> dict[str, list[Prompt]]:
    """Prompts by split; of the held-out splits `eval_prompts` that are drawn by the seed.

    Args:
        pair: whose tokenizer is used.
        data: whatever `attar.data.prompts.load_prompts` takes.
        config: lengths of prompts and texts, how many are held out, and the seed.

    Raises:
        ConfigError: the models have no room for texts of that length.
        DataError: the data cannot be read.
    """
    pair.require_room(config.prompt_tokens + config.max_new_tokens)
    prompts = load_prompts(
        data,
        pair.tokenizer,
        prompt_tokens=config.prompt_tokens,
        completion_tokens=config.max_new_tokens,
        encoder_decoder=bool(pair.target.config.is_encoder_decoder),
    )
    held_out = {
        split: _drawn(prompts[split], config.eval_prompts, seed=config.seed)
        for split in ("validation", "test")
    }
    return prompts | held_out


def _drawn(prompts: Sequence[Prompt], count: int, *, seed: int) -> list[Prompt]:
    """Some of the prompts, in their order."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(prompts), min(count, len(prompts)), replace=False)
    return [prompts[row] for row in sorted(rows.tolist())]


#: stands for a row where the source of a step is drawn, so that it shares no number with a text
_CHOICE = 2**32 - 1


class Prompts:
    """A source of batches that hold nothing but row numbers; `OnPolicySampler` puts the texts in.

    Raises:
        ConfigError: some steps learn from texts of the data, and a prompt has none.
    """

    def __init__(self, prompts: Sequence[Prompt], config: DistillSpecConfig) -> None:
        self.prompts = prompts
        self.tokens_per_row = float(config.max_new_tokens)
        bare = sum(not prompt.completion for prompt in prompts)
        if bare and config.data_share > 1e-9:
            raise ConfigError(
                f"{config.data_share:.0%} of the steps use the completions in the data, but "
                f"{bare:,} of {len(prompts):,} prompts have none; give a column of completions, "
                "or set draft_share and target_share to 1 together"
            )

    def __len__(self) -> int:
        return len(self.prompts)

    def batch(self, rows: Sequence[int]) -> Batch:
        """`rows` (B,)."""
        return {"rows": torch.tensor(rows)}

    def counts(self, batch: Batch) -> dict[str, float]:
        """The texts, and their tokens."""
        mask = batch["mask"]
        return {"texts": len(mask), "tokens": float(mask.sum())}

    def fingerprint(self) -> str:
        """Of all prompts and what follows them."""
        digest = hashlib.sha256()
        for prompt in self.prompts:
            digest.update(json.dumps([prompt.ids, prompt.completion]).encode())
        return digest.hexdigest()


class OnPolicySampler:
    """Makes a batch of a batch of row numbers: the draft writes, or the target, or the data has it.

    The source is drawn for a whole step; what is written depends on the seed, the step, the prompt
    and the weights alone.
    """

    def __init__(
        self,
        target: PreTrainedModel,
        prompts: Sequence[Prompt],
        *,
        config: DistillSpecConfig,
        stops: Sequence[int],
    ) -> None:
        self._target, self._prompts = target, prompts
        self._config, self._stops = config, stops

    def __call__(self, draft: PreTrainedModel, batch: Batch, step: int) -> Batch:
        """The batch for a step, with the weights that it begins with (steps 1 and 2 of
        `fit_draft`)."""
        config, rows = self._config, batch["rows"].tolist()
        prompts = [self._prompts[row].ids for row in rows]
        # 1. draw where the texts of this step come from
        source = self.source(step)
        # 2. let the draft (or the target) write behind the prompts, or take the texts of the data
        if source == "data":
            texts = [list(self._prompts[row].completion) for row in rows]
        else:
            texts = sample(
                draft if source == "draft" else self._target,
                prompts,
                max_new_tokens=config.max_new_tokens,
                seeds=[_seed(config.seed, step, row) for row in rows],
                temperature=config.sampling_temperature,
                stops=self._stops,
            )
        made = batch | batch_of(draft, prompts=prompts, completions=texts)
        return {name: value.to(batch["rows"].device) for name, value in made.items()}

    def source(self, step: int) -> TextSource:
        """Where the texts of a step come from."""
        u = _seed(self._config.seed, step, _CHOICE) / 2**32
        if u < self._config.draft_share:
            return "draft"
        if u < self._config.draft_share + self._config.target_share:
            return "target"
        return "data" if self._config.data_share > 1e-9 else "target"


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
