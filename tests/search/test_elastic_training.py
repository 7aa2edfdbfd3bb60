"""A step of a supernet: several networks, one module for data-parallel wrappers, one result."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import processes
import tiny
from attar.arch import Arch, Space
from attar.data.sources import Batch, Windows
from attar.search.elastic_training import NetworkLoss, Sandwich, SupernetConfig
from attar.search.supernet import Draws, Supernet
from attar.slicing import Slice
from attar.train.trainer import Term, cross_entropy, fit

SPACE = Space((1, 3), (16, 32), (8,), (24, 48), num_key_value_heads=(4,), head_dim=(4,))


class Doubled(nn.Module):
    """A provider with a weight of its own: what is added to the last norm."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Parameter(torch.zeros(32))

    def taking(self, arch: Arch) -> Callable[[Slice], Tensor | None]:
        def take(where: Slice) -> Tensor | None:
            return 1 + where.of(self.extra) if where.name == "model.norm.weight" else None

        return take


def windows() -> Tensor:
    return torch.randint(4, tiny.VOCAB, (32, 8), generator=torch.manual_seed(0))


def trained(config: SupernetConfig, **draws: object) -> dict[str, Tensor]:
    """The weights of parent and provider after some steps."""
    parent = tiny.model("llama")
    supernet = Supernet(parent, SPACE, providers=[Doubled()])

    def begin(batch: Batch) -> NetworkLoss:
        def loss(arch: Arch) -> dict[str, Term]:
            logits = supernet(arch, input_ids=batch["input_ids"]).logits[:, :-1]
            return {"lm": Term(cross_entropy(logits, batch["input_ids"][:, 1:]))}

        return loss

    sandwich = Sandwich(
        supernet,
        Draws(SPACE, config.sampling, n_random=config.n_random, seed=config.seed),
        begin,
        reduce=config.grad_reduce,
    )
    fit(
        parent,
        Windows(windows()),
        config=config,
        compute=sandwich,
        prepare=sandwich.prepare,
        auxiliary=supernet.providers,
    )
    return {name: tensor.contiguous() for name, tensor in supernet.state_dict().items()}


def quick(**changes: object) -> SupernetConfig:
    options: dict[str, object] = {"max_steps": 4, "learning_rate": 1e-2}
    return SupernetConfig(**(options | changes))  # type: ignore[arg-type]


def train_in_two(out: Path) -> None:
    # random draws: most steps leave weights out, which a wrapper must not wait for
    config = quick(per_device_train_batch_size=4, sampling="random", n_random=1)
    weights = trained(config)
    if torch.distributed.get_rank() == 0:
        save_file(weights, out)


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    processes.in_two(train_in_two, tmp_path / "two.safetensors")
    two = load_file(tmp_path / "two.safetensors")
    one = trained(quick(per_device_train_batch_size=8, sampling="random", n_random=1))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], atol=1e-5, rtol=1e-4, msg=name)


def test_accumulated_batches_have_the_same_networks() -> None:
    whole = trained(quick(per_device_train_batch_size=8))
    parts = trained(quick(per_device_train_batch_size=2, gradient_accumulation_steps=4))
    for name, tensor in whole.items():
        torch.testing.assert_close(tensor, parts[name], atol=1e-5, rtol=1e-4, msg=name)
    assert whole["providers.0.extra"].any()


def test_averaged_losses_are_the_sum_over_the_number_of_networks() -> None:
    parent = tiny.model("llama")
    supernet, batch = Supernet(parent, SPACE), {"input_ids": windows()[:4]}

    def begin(batch: Batch) -> NetworkLoss:
        def loss(arch: Arch) -> dict[str, Term]:
            return {"loss": Term(supernet(arch, input_ids=batch["input_ids"]).logits.square())}

        return loss

    found = {}
    for reduce in ("sum", "mean"):
        sandwich = Sandwich(supernet, Draws(SPACE), begin, reduce=reduce)  # type: ignore[arg-type]
        term = sandwich(parent, sandwich.prepare(parent, batch, 0))["loss"]
        found[reduce] = term.weight * term.values.sum()
    torch.testing.assert_close(found["mean"], found["sum"] / 4)
