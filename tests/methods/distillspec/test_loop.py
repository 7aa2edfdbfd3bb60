"""DistillSpec: what is learned from texts, and that nothing depends on chance."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.decode.agreement import Texts, agreement
from attar.decode.forced import answers, batch_of
from attar.divergences import forward_kl
from attar.errors import ConfigError
from attar.methods.distillspec import loop
from attar.methods.distillspec.config import DistillSpecConfig
from attar.methods.distillspec.loop import draft_loss, fit_draft, sequence_mean
from attar.methods.distillspec.texts import OnPolicySampler
from drafts import CONFIG, PROMPTS, pair


def held_out(target: PreTrainedModel) -> Texts:
    prompts = [prompt.ids for prompt in PROMPTS[20:]]
    return Texts.of(target, prompts, temperature=1.0, max_new_tokens=6, seed=100)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def trained(config: DistillSpecConfig, *, family: str = "llama", **options: Any) -> tuple[Any, ...]:
    target, draft = pair(family)
    found = fit_draft(
        draft,
        target,
        prompts=PROMPTS[:20],
        held_out=held_out(target),
        config=config,
        stops=[2],
        **options,
    )
    return draft, *found


@pytest.mark.parametrize(
    ("divergence", "share"),
    [(name, (0.4, 0.3)) for name in ("forward_kl", "reverse_kl", "js", "tvd", "lk")]
    + [("forward_kl", share) for share in ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0))],
)
def test_a_draft_comes_nearer(divergence: Any, share: tuple[float, float]) -> None:
    config = replace(
        CONFIG,
        max_steps=24,
        divergence=divergence,
        draft_share=share[0],
        target_share=share[1],
        eval_steps=9,
    )
    draft, training, measured = trained(config)
    assert training.steps == 24
    assert [m.step for m in measured] == [0, 9, 18, 24]
    assert measured[-1].alpha > measured[0].alpha + 0.01
    target = pair()[0]
    now = agreement(
        target, draft, texts=held_out(target)
    )  # the weights are the best that were measured
    assert now.block_efficiency(CONFIG.draft_tokens) == max(m.block_efficiency for m in measured)


def test_the_last_weights_may_be_kept_instead() -> None:
    config = replace(
        CONFIG, max_steps=6, eval_steps=2, learning_rate=10.0, divergence="tvd", select_best=False
    )
    target = pair()[0]
    draft, _, measured = trained(config)
    now = agreement(target, draft, texts=held_out(target))
    assert now.block_efficiency(CONFIG.draft_tokens) == measured[-1].block_efficiency
    assert measured[-1].block_efficiency < measured[0].block_efficiency
    kept, _, _ = trained(replace(config, select_best=True))
    assert torch.equal(weights(kept), weights(pair()[1]))  # no step was better than none


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma2", "qwen2", "t5"])
def test_families(family: str) -> None:
    _, _, measured = trained(replace(CONFIG, max_steps=16, eval_steps=16), family=family)
    assert measured[-1].alpha > measured[0].alpha


def test_the_loss_is_the_mean_of_each_text_and_then_of_all() -> None:
    target, draft = pair()
    texts = [[21, 22, 23, 24, 25], [31, 32]]
    batch = batch_of(draft, prompts=[[5, 9, 33], [7]], completions=texts) | {
        "rows": torch.arange(2)
    }
    found = draft_loss(target, CONFIG)(draft, batch)["loss"]
    assert found.per == "texts"
    for row, (prompt, text) in enumerate(zip([[5, 9, 33], [7]], texts, strict=True)):
        ids = torch.tensor([[*prompt, *text]])
        with torch.no_grad():
            p, q = (m(input_ids=ids).logits[:, len(prompt) - 1 : -1] for m in (target, draft))
        expected = forward_kl(q, p).mean()
        torch.testing.assert_close(found.values[row], expected, atol=1e-5, rtol=1e-4)
    tokens = draft_loss(target, replace(CONFIG, average="token"))(draft, batch)["loss"]
    assert tokens.per == "tokens"
    assert not tokens.values[~batch["mask"]].any()
    assert (tokens.values[batch["mask"]] > 0).all()
    torch.testing.assert_close(
        sequence_mean(tokens.values, batch["mask"]), found.values, atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("average", ["sequence", "token"])
def test_what_follows_the_end_and_the_prompt_s_own_tokens_teach_nothing(
    average: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, draft = pair()
    said: list[Tensor] = []

    def spy(model: nn.Module, batch: Any) -> Tensor:
        found = answers(model, batch)
        if model is draft:
            found = found.detach().requires_grad_()
            said.append(found)
        return found

    monkeypatch.setattr(loop, "answers", spy)
    batch = batch_of(draft, prompts=[[5, 9, 33], [7]], completions=[[21, 22, 23], [31, 2]])
    term = draft_loss(target, replace(CONFIG, average=average))(draft, batch)["loss"]
    (gradient,) = torch.autograd.grad(term.values.sum(), said[0])
    assert gradient.shape[:2] == (2, 3)  # of the completions alone
    assert gradient[1, 2].abs().sum() == 0
    assert (gradient[0].abs().sum(-1) > 0).all()
    assert (gradient[1, :2].abs().sum(-1) > 0).all()


def test_texts_are_those_of_the_weights_of_their_step(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, Tensor]] = []
    plain = OnPolicySampler.__call__

    def spy(self: OnPolicySampler, draft: PreTrainedModel, batch: Any, step: int) -> Any:
        seen.append((step, weights(draft)))
        return plain(self, draft, batch, step)

    monkeypatch.setattr(OnPolicySampler, "__call__", spy)
    trained(replace(CONFIG, max_steps=4, select_best=False, gradient_accumulation_steps=2))
    assert [step for step, _ in seen] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert torch.equal(seen[4][1], seen[5][1])
    assert not torch.equal(seen[5][1], seen[6][1])


def test_a_batch_may_be_accumulated_from_smaller_ones() -> None:
    whole, *_ = trained(replace(CONFIG, select_best=False))
    parts, *_ = trained(
        replace(
            CONFIG, per_device_train_batch_size=1, gradient_accumulation_steps=4, select_best=False
        )
    )
    torch.testing.assert_close(weights(whole), weights(parts), atol=2e-5, rtol=0)
    assert (weights(whole) - weights(pair()[1])).abs().max() > 1e-3


def test_a_resumed_run_is_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, draft_share=0.5, max_steps=9)
    whole, _, measured = trained(config)
    plain, dead = OnPolicySampler.__call__, [5]

    def dying(self: OnPolicySampler, draft: PreTrainedModel, batch: Any, step: int) -> Any:
        if step == dead[0]:
            raise RuntimeError("killed")
        return plain(self, draft, batch, step)

    monkeypatch.setattr(OnPolicySampler, "__call__", dying)
    with pytest.raises(RuntimeError, match="killed"):
        trained(config, state_dir=tmp_path)
    dead[0] = -1
    resumed, _, again = trained(config, state_dir=tmp_path, resume=True)
    assert torch.equal(weights(whole), weights(resumed))
    assert measured == again


def test_options_are_checked() -> None:
    for bad, said in (
        ({"divergence": "kl"}, "divergence"),
        ({"draft_share": 0.8, "target_share": 0.3}, "together"),
        ({"average": "mean"}, "average"),
        ({"temperature": -1.0}, "temperature"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"eval_prompts": 1}, "eval_prompts"),
    ):
        with pytest.raises(ConfigError, match=said):
            replace(CONFIG, **bad)  # pyright: ignore[reportArgumentType]
