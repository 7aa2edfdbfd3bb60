"""What a draft is trained on: prompts, with texts that are written when their step comes."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from transformers import PreTrainedModel

from attar.data.prompts import Prompt, load_prompts
from attar.data.sources import Batch
from attar.decode.forced import batch_of
from attar.decode.pair import Pair
from attar.decode.sampling import sample
from attar.errors import ConfigError
from attar.methods.distillspec.config import DistillSpecConfig


def prompts_of(
    pair: Pair, data: str | Path | Dataset | DatasetDict, *, config: DistillSpecConfig
) -> dict[str, list[Prompt]]:
    """Prompts of the data; of the held-out splits `eval_prompts` that are drawn by the seed.

    Raises:
        ConfigError: the models have no room for texts of that length.
        DataError: the data cannot be read.
    """
    pair.require_room(config.prompt_tokens + config.max_new_tokens)
    found = load_prompts(
        data,
        pair.tokenizer,
        prompt_tokens=config.prompt_tokens,
        completion_tokens=config.max_new_tokens,
        encoder_decoder=bool(pair.target.config.is_encoder_decoder),
        config=config.data_config,
        prompt_column=config.prompt_column,
        completion_column=config.completion_column,
        text_column=config.text_column,
    )
    held_out = {
        split: drawn(found[split], config.eval_prompts, seed=config.seed)
        for split in ("validation", "test")
    }
    return found | held_out


def drawn(prompts: Sequence[Prompt], count: int, *, seed: int) -> list[Prompt]:
    """Some of the prompts, in their order."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(prompts), min(count, len(prompts)), replace=False)
    return [prompts[row] for row in sorted(rows.tolist())]


#: tells the random number that chooses the writer from those that write
_CHOICE = 2**32 - 1


class Prompts:
    """A source of batches that hold nothing but row numbers; `Writer` puts the texts in.

    Raises:
        ConfigError: texts of the data are asked for and a prompt has none.
    """

    def __init__(self, prompts: Sequence[Prompt], config: DistillSpecConfig) -> None:
        self.prompts = prompts
        self.tokens_per_row = float(config.max_new_tokens)
        bare = sum(not prompt.completion for prompt in prompts)
        if bare and config.data_share > 1e-9:
            raise ConfigError(
                f"{config.data_share:.0%} of the steps learn from what follows the prompts in the "
                f"data, but {bare:,} of {len(prompts):,} prompts have nothing that follows; give a "
                "column of completions, or set student_share and target_share to 1 together"
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


class Writer:
    """Makes a batch of a batch of row numbers: the draft writes, or the target, or the data has it.

    Which one is drawn for a whole step; what it writes hangs on the seed, the step, the prompt and
    the weights alone.
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
        """The batch for a step, with the weights that it begins with."""
        rows = batch["rows"].tolist()
        prompts = [self._prompts[row].ids for row in rows]
        author = self.author(draft, step)
        if author is None:
            texts = [list(self._prompts[row].completion) for row in rows]
        else:
            texts = sample(
                author,
                prompts,
                max_new_tokens=self._config.max_new_tokens,
                seeds=[_seed(self._config.seed, step, row) for row in rows],
                temperature=self._config.sampling_temperature,
                stops=self._stops,
            )
        made = batch | batch_of(draft, prompts=prompts, completions=texts)
        return {name: value.to(batch["rows"].device) for name, value in made.items()}

    def author(self, draft: PreTrainedModel, step: int) -> PreTrainedModel | None:
        """Who writes the texts of a step; None: they are in the data."""
        point = _seed(self._config.seed, step, _CHOICE) / 2**32
        if point < self._config.student_share:
            return draft
        if point < self._config.student_share + self._config.target_share:
            return self._target
        return None if self._config.data_share > 1e-9 else self._target


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
