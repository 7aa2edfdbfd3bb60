"""Mixture-of-Supernets' side of the verbs of supernets: language models and encoder-decoders."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.arch import Arch, Space
from attar.data.data import DataLike
from attar.data.pairs import Pairs
from attar.data.sequences import Sequences
from attar.data.sources import Source, Windows
from attar.data.text import load_text
from attar.data.tokens import pack
from attar.errors import CompatibilityError, require
from attar.evaluation.masked import masked_loss
from attar.evaluation.pairs import pair_loss
from attar.families import FAMILIES, Body, is_encoder_decoder
from attar.methods.mixture_of_supernets import (
    PAPER,
    Mixture,
    MixtureConfig,
    mixture_of_supernets,
)
from attar.models import has_cache
from attar.recipes import options_from
from attar.report.record import Paper
from attar.search.bottlenecks import make_bottlenecks
from attar.search.elastic_losses import LanguageModelling, Task
from attar.search.elastic_training import Sandwich, SupernetConfig
from attar.search.parents import Init, make_parent
from attar.search.supernet import Draws, Supernet
from attar.search.supernet_files import FILE
from attar.supernet.methods import MethodName, Scorer, rules_of
from attar.supernet.rows import load_sequences, load_some_pairs, spread
from attar.train.trainer import Training, cross_entropy, fit

KIND = "mixture"
_SAMPLE = 64  # rows that tell which channels matter
_PREDICTED = {"causal": "token", "masked": "masked token", "pairs": "token of the targets"}
_RATIOS = (2.0, 2.5, 3.0, 3.5, 4.0)


@dataclass(frozen=True)
class MixtureOfSupernets:
    """See `attar.supernet.methods.Method`.

    Attributes:
        mixture: experts and routers.
        init: what of the model a parent keeps; with `random` the experts are random, too.
        distill: weight of in-place distillation from the largest network.

    Raises:
        CompatibilityError: the model predicts no tokens.
        ConfigError: `distill` is out of range.
    """

    model: PreTrainedModel
    mixture: MixtureConfig
    config: SupernetConfig
    init: Init = "truncate"
    distill: float = 0.0
    name: MethodName = "mixture-of-supernets"
    paper: Paper = PAPER

    def __post_init__(self) -> None:
        require(0 <= self.distill <= 1, "distill", self.distill, "from 0 to 1")
        if self.model.get_output_embeddings() is None:
            raise CompatibilityError(
                "mixture-of-supernets needs a model that predicts tokens, such as "
                f"BertForMaskedLM or LlamaForCausalLM; found {type(self.model).__name__}"
            )

    @property
    def task(self) -> Task:
        """What is predicted: the next token, those that are masked, or the second text of a
        pair."""
        if is_encoder_decoder(self.model):
            return "pairs"
        return "causal" if has_cache(self.model) else "masked"

    @property
    def unit(self) -> str:
        """Of the losses."""
        return f"nats per {_PREDICTED[self.task]}"

    @property
    def providers(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        """Experts and routers."""
        return ((KIND, asdict(self.mixture)),)

    @property
    def options(self) -> Mapping[str, Any]:
        """Those that are not the experts'."""
        return {"init": self.init, "distill": self.distill}

    def default_spaces(self, name: str | None, *, k: int) -> dict[str, Space]:
        """`homogeneous`, the published one, in proportion to the model; none for an
        encoder-decoder."""
        known = "homogeneous, or a YAML file"
        if self.task == "pairs":
            require(False, "space", name, "a YAML file with a space and, inside, its decoder")
        require(name in (None, "homogeneous"), "space", name, known)
        return {"whole": homogeneous(self.model)}

    def rows(
        self, data: DataLike, tokenizer: PreTrainedTokenizerBase, *, split: str
    ) -> Sequences | Windows | Pairs:
        """Windows of text for a decoder, pieces of documents with masks for an encoder, and pairs
        of texts for both together."""
        config = self.config
        if self.task == "pairs":
            start: Any = getattr(self.model.config, "decoder_start_token_id", None)
            return load_some_pairs(
                data, tokenizer, split=split, config=config, decoder_start_token_id=start
            )
        if self.task == "masked":
            share = config.mask_probability
            require(share > 0, "mask_probability", share, "above 0: an encoder predicts what is")
            if tokenizer.mask_token_id is None:
                raise CompatibilityError(
                    "mixture-of-supernets trains an encoder on masked tokens, and the tokenizer "
                    "has no mask token; give the tokenizer that the model was trained with"
                )
            return load_sequences(
                data, tokenizer, split=split, config=config, mask_probability=share
            )
        packed = pack(
            load_text(data)[split],
            tokenizer,
            context=config.context,
            vocab_size=Body(self.model).vocabulary,
        )
        windows = Windows(packed)
        if split == "train":
            return windows
        return windows.select(spread(len(windows), config.eval_sequences))

    def start(self, space: Space, rows: Source, *, plain: bool = False) -> Supernet:
        """The model, cut to the space's largest widths, or that shape with random weights."""
        sample = None
        if self.init in ("importance", "pca") and self.task != "pairs":
            sample = rows.batch(range(min(len(rows), _SAMPLE)))
            sample = {"attention_mask": torch.ones_like(sample["input_ids"])} | sample
        parent = make_parent(
            self.model, space, init=self.init, sample=sample, seed=self.config.seed
        )
        between = make_bottlenecks(parent, space)
        others = () if between is None else (between,)
        rules = rules_of(self.config, self.model)
        if plain:
            return Supernet(parent, space, providers=others, **rules)
        return mixture_of_supernets(parent, space, config=self.mixture, others=others, **rules)

    def train(
        self,
        supernet: Supernet,
        draws: Draws,
        rows: Source,
        *,
        max_steps: int | None = None,
        state_dir: Path | None = None,
        resume: bool = False,
    ) -> Training:
        """Predicting tokens, with nothing dropped, balanced or annealed."""
        smoothing = self.config.label_smoothing if self.task == "pairs" else 0.0
        begin = LanguageModelling(
            supernet, self.task, distill=self.distill, label_smoothing=smoothing
        )
        sandwich = Sandwich(supernet, draws, begin, reduce=self.config.grad_reduce)
        training = fit(
            supernet.parent,
            rows,
            config=replace(self.config, max_steps=max_steps or self.config.max_steps),
            state_dir=state_dir,
            resume=resume,
            compute=sandwich,
            prepare=sandwich.prepare,
            auxiliary=supernet.providers if len(supernet.providers) else None,
        )
        supernet.eval()
        return training

    def scorer(self, rows: Source, *, batch_size: int = 32) -> Scorer:
        """The loss of predicting held-out tokens."""

        def score(supernet: Supernet, archs: Sequence[Arch]) -> list[float]:
            supernet.eval()
            return [one(supernet, arch) for arch in archs]

        def one(supernet: Supernet, arch: Arch) -> float:
            device = supernet.parent.device
            with supernet.frozen(arch) as run:
                if isinstance(rows, Sequences):
                    return masked_loss(run, rows, batch_size=batch_size, device=device)
                if isinstance(rows, Pairs):
                    return pair_loss(run, rows, batch_size=batch_size, device=device)
                return _next_token_loss(run, rows, batch_size=batch_size, device=device)

        return score

    def published_size(self, arch: Arch, *, vocabulary: int) -> tuple[int, int] | None:
        """None: the paper counts what it trains."""
        return None


def _next_token_loss(run: Any, rows: Source, *, batch_size: int, device: torch.device) -> float:
    total = count = 0.0
    with torch.no_grad():
        for start in range(0, len(rows), batch_size):
            batch = rows.batch(range(start, min(start + batch_size, len(rows))))
            ids = batch["input_ids"].to(device)
            losses = cross_entropy(run(input_ids=ids, use_cache=False).logits[:, :-1], ids[:, 1:])
            total += float(losses.sum(dtype=torch.float64))
            count += losses.numel()
    return total / count


def make_mixture(parent: PreTrainedModel, space: Space, options: Mapping[str, Any]) -> Mixture:
    """A mixture without trained weights, of the options in a description."""
    config = options_from(options, MixtureConfig, source=FILE)
    return Mixture(parent, space, config=config)


def homogeneous(model: PreTrainedModel) -> Space:
    """The space that the paper holds against AutoDistil, in proportion to a model: hidden widths
    from 5/32 of the model's in steps of its number of heads, and five ratios of the feed-forward
    network, with all layers. The paper's has 6 or 12 heads; here they stay, as in a network of half
    the heads each would be wider than the model's.

    Args:
        model: of a supported family.
    """
    arch = Arch.of(model)
    shape, width = arch.layers[0], arch.hidden_size or 0
    heads, groups = shape.num_attention_heads, shape.num_key_value_heads
    rotary = FAMILIES[model.config.model_type].rotary
    step = heads if not rotary else max(1, width // 64)
    widths = range(width, width * 5 // 32 - 1, -step)
    whole = shape.intermediate_size / width
    return Space(
        (arch.num_hidden_layers,),
        tuple(sorted(widths)),
        (heads,),
        intermediate_ratio=tuple(ratio * whole / 4 for ratio in _RATIOS),
        num_key_value_heads=() if groups == heads else (groups,),
        head_dim=(arch.head_dim,) if rotary and arch.head_dim else (),
    )
