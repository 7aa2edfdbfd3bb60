"""Scores are equalities: against token-by-token losses, other batch sizes, other tokenizers."""

import importlib.util
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cyclopts import App
from datasets import Dataset
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
)

import tiny
from attar import checkpoint
from attar.cli import cost as cli_cost
from attar.cli import env as cli_env
from attar.cli import evaluate as cli_evaluate
from attar.data.text import load_text
from attar.errors import CompatibilityError, ConfigError, DataError, MissingExtraError
from attar.evaluation import likelihood
from attar.evaluation.bits import bits_per_byte, unigram_bits
from attar.evaluation.harness import tasks
from attar.evaluation.likelihood import Score
from attar.measure.cost import cost_of
from attar.models import AUTOCAST_FROM, autocast

TEXTS = ["hello world", "", "naïve café ☕ and more text here", "x = 1\n\ty = 2\r\n", "final words"]
# 61 characters take the ids 3..63 of the tiny models; every other one is unknown.
LETTERS = sorted(set("".join(TEXTS)) | set("abcdefghijklmnopqrstuvwxyz"))[:61]


def word_level(vocabulary: dict[str, int], split: str, eos: str) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are the matches of a regular expression."""
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token=eos))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(split), behavior="isolated")
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=eos, unk_token=eos)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2} | {c: i for i, c in enumerate(LETTERS, 3)}
    return word_level(vocabulary, r"[\s\S]", "</s>")


@pytest.fixture
def model() -> Any:
    return tiny.model("llama")


def documents(texts: list[str]) -> Dataset:
    return Dataset.from_dict({"text": texts})


def stream(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[int]:
    ids: list[int] = []
    for text in texts:
        if text:
            ids += [2, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    return ids


@torch.no_grad()
def token_loss(model: Any, ids: list[int], target: int, start: int) -> float:
    """Loss of `ids[target]` with `ids[start:target]` before it, by itself."""
    logits = model(input_ids=torch.tensor([ids[start:target]])).logits[0, -1].double()
    return float(torch.logsumexp(logits, 0) - logits[ids[target]])


@pytest.mark.parametrize(("context", "stride"), [(7, 7), (7, 3), (16, 1), (64, 64), (5, 5)])
def test_score_is_the_mean_of_single_token_losses(
    model: Any, tokenizer: PreTrainedTokenizerFast, context: int, stride: int
) -> None:
    ids = stream(tokenizer, TEXTS)
    expected = []
    for target in range(1, len(ids)):
        # the first window that reaches the target
        window = max(0, math.ceil((target - context) / stride)) * stride
        expected.append(token_loss(model, ids, target, window))
        assert target - window >= min(target, context - stride)
    found = likelihood.score(
        model, tokenizer, documents(TEXTS), context=context, stride=stride, batch_size=3
    )
    assert found.tokens == len(ids) - 1
    assert found.bytes == sum(len(text.encode()) for text in TEXTS)
    assert found.nll == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_score_does_not_depend_on_the_batch_size(
    model: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    found = [
        likelihood.score(model, tokenizer, documents(TEXTS), context=9, batch_size=size)
        for size in (1, 2, 5, 100)
    ]
    assert all(other.nll == pytest.approx(found[0].nll, abs=1e-6) for other in found)
    assert len({(other.tokens, other.bytes) for other in found}) == 1


def test_bits_per_byte_of_a_uniform_model_is_that_of_the_alphabet() -> None:
    """Four letters by ones (4 ids), twos (16) or threes (64): always two bits a byte."""
    text = "abcdabddacbb" * 5
    for length in (1, 2, 3):
        tokens = [""]
        for _ in range(length):
            tokens = [token + letter for token in tokens for letter in "abcd"]
        vocabulary = {token: i for i, token in enumerate(tokens)}
        tokenizer = word_level(vocabulary, "." * length, "a" * length)
        model: Any = tiny.model("llama", vocab_size=len(tokens))
        torch.nn.init.zeros_(model.lm_head.weight)
        found = likelihood.score(model, tokenizer, documents([text]))
        assert found.perplexity == pytest.approx(4**length)
        assert found.bits_per_byte == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("limit", "texts"),
    [
        (1, ["hello world"[:1]]),
        (5, ["hello"]),
        (11, ["hello world"]),
        (13, ["hello world", "n"]),
        (1000, TEXTS),
    ],
)
def test_max_tokens_scores_the_passages_and_their_bytes(
    model: Any, tokenizer: PreTrainedTokenizerFast, limit: int, texts: list[str]
) -> None:
    """One token a character here, and all in one passage, as they are short."""
    found = likelihood.score(model, tokenizer, documents(TEXTS), max_tokens=limit)
    assert found == likelihood.score(model, tokenizer, documents(texts))
    assert found.tokens == len(stream(tokenizer, texts)) - 1 <= limit
    assert found.bytes == sum(len(text.encode()) for text in texts)


def test_a_capped_score_speaks_for_every_document(
    model: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    """A text whose first half is easy for the model and whose second half is hard."""
    losses = {c: likelihood.score(model, tokenizer, documents([c * 200])).nll for c in "abcdefgh"}
    easy, hard = min(losses, key=losses.__getitem__), max(losses, key=losses.__getitem__)
    texts = [letter * 100 for letter in (easy, hard) for _ in range(160)]
    whole = likelihood.score(model, tokenizer, documents(texts))
    sample = likelihood.score(model, tokenizer, documents(texts), max_tokens=8000)
    assert 7990 <= sample.tokens <= 8000
    assert sample.nll == pytest.approx(whole.nll, rel=0.05)
    assert losses[hard] > 1.2 * losses[easy]


def test_nll_equals_the_loss_of_transformers(model: Any) -> None:
    ids = tiny.ids(7, 12)
    expected = float(model(input_ids=ids, labels=ids).loss.detach())
    for size in (1, 3, 7, 50):
        assert likelihood.nll(model, ids, batch_size=size) == pytest.approx(expected, abs=1e-6)


def test_large_logits_are_taken_in_parts(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = tiny.ids(5, 12)
    whole = likelihood.nll(model, ids)
    monkeypatch.setattr(likelihood, "_CHUNK", 1)
    assert likelihood.nll(model, ids) == pytest.approx(whole, abs=1e-7)


def test_measuring_leaves_no_trace(model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    model.train()
    model.model.layers[1].eval()
    modes = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    likelihood.nll(model, tiny.ids())
    likelihood.score(model, tokenizer, documents(TEXTS))
    assert [module.training for module in model.modules()] == modes
    assert torch.is_grad_enabled()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    model.forward = None  # a model that fails in mid-measurement
    with pytest.raises(TypeError):
        likelihood.nll(model, tiny.ids())
    assert [module.training for module in model.modules()] == modes


def test_nll_passes_nan_through_and_score_names_the_damage(
    model: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = math.nan
    assert math.isnan(likelihood.nll(model, tiny.ids()))
    with pytest.raises(DataError, match=r"not finite.*layers\.1\.mlp\.down_proj\.weight"):
        likelihood.score(model, tokenizer, documents(TEXTS))


def test_nll_refuses_shapes_without_a_prediction(model: Any) -> None:
    for shape in [(4, 1), (0, 5), (5,)]:
        with pytest.raises(DataError, match="windows of shape"):
            likelihood.nll(model, torch.zeros(shape, dtype=torch.long))


def test_models_without_a_next_token_loss_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(CompatibilityError, match="causal language model"):
        likelihood.score(tiny.model("bert"), tokenizer, documents(TEXTS))
    config = AutoConfig.for_model(
        "bert", vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    with pytest.raises(CompatibilityError, match="causal language model"):
        likelihood.score(AutoModelForMaskedLM.from_config(config), tokenizer, documents(TEXTS))


def test_a_model_that_sees_later_tokens_is_refused(
    model: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    for layer in model.model.layers:
        layer.self_attn.is_causal = False
    forward = model.model.forward

    def two_sided(input_ids: torch.Tensor, **options: Any) -> Any:
        rows, length = input_ids.shape
        mask = torch.zeros(rows, 1, length, length)
        return forward(input_ids=input_ids, **options | {"attention_mask": mask})

    model.model.forward = two_sided
    with pytest.raises(CompatibilityError, match="sees later tokens"):
        likelihood.score(model, tokenizer, documents(TEXTS))


@pytest.mark.parametrize("family", tiny.CAUSAL)
def test_every_family_can_be_scored(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    found = likelihood.score(tiny.model(family), tokenizer, documents(TEXTS))
    assert math.isfinite(found.nll)


def test_misfits_are_refused(model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    small: Any = tiny.model("llama", vocab_size=10)
    with pytest.raises(CompatibilityError, match="does not fit"):
        likelihood.score(small, tokenizer, documents(TEXTS))
    with pytest.raises(ConfigError, match="64 positions"):
        likelihood.score(model, tokenizer, documents(TEXTS), context=65)
    with pytest.raises(ConfigError, match="stride"):
        likelihood.score(model, tokenizer, documents(TEXTS), context=8, stride=9)
    with pytest.raises(ConfigError, match="batch_size"):
        likelihood.score(model, tokenizer, documents(TEXTS), batch_size=0)
    with pytest.raises(ConfigError, match="max_tokens"):
        likelihood.score(model, tokenizer, documents(TEXTS), max_tokens=0)
    with pytest.raises(DataError, match="no text to score"):
        likelihood.score(model, tokenizer, documents(["", ""]))
    with pytest.raises(DataError, match="column 'text'"):
        likelihood.score(model, tokenizer, Dataset.from_dict({"body": TEXTS}))
    raw = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    bare = PreTrainedTokenizerFast(tokenizer_object=raw)
    with pytest.raises(DataError, match="end-of-text"):
        likelihood.score(model, bare, documents(TEXTS))


def test_autocast_only_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    large = torch.nn.Linear(AUTOCAST_FROM, 1, bias=False)
    small = torch.nn.Linear(8, 8)
    ones = torch.ones(2, 2)
    monkeypatch.setattr(likelihood, "native_bfloat16", lambda: True)
    with autocast(large):
        assert (ones @ ones).dtype == torch.bfloat16
    for module in (small, large.half(), torch.nn.Identity()):
        with autocast(module):
            assert (ones @ ones).dtype == torch.float32
    monkeypatch.setattr(likelihood, "native_bfloat16", lambda: False)
    with autocast(large.float()):
        assert (ones @ ones).dtype == torch.float32


def test_score_to_dict_has_the_derived_figures() -> None:
    found = Score(nll=math.log(2), tokens=30, bytes=10).to_dict()
    assert found == {
        "nll": math.log(2),
        "tokens": 30,
        "bytes": 10,
        "perplexity": pytest.approx(2.0),
        "bits_per_byte": pytest.approx(3.0),
    }
    assert Score(nll=1e4, tokens=1, bytes=1).perplexity == math.inf


HARNESS = importlib.util.find_spec("lm_eval") is not None


@pytest.mark.skipif(HARNESS, reason="lm_eval is installed")
def test_tasks_name_the_missing_extra(model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(MissingExtraError, match=r"attar\[eval\]"):
        tasks(model, tokenizer, ["arc_easy"])


@pytest.mark.skipif(not HARNESS, reason="needs lm_eval: pip install 'attar[eval]'")
@pytest.mark.filterwarnings("default")
def test_tasks_score_a_task_of_the_users_own(
    model: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """The harness's accuracy is that of choosing the likelier answer by our own losses."""
    rows = [
        {"q": f"is {a}", "choices": ["ab", "zz"], "gold": i % 2} for i, a in enumerate("abcdef")
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "letters.yaml").write_text(
        "task: letters\ndataset_path: json\noutput_type: multiple_choice\ntest_split: test\n"
        f"dataset_kwargs:\n  data_files:\n    test: {tmp_path / 'rows.jsonl'}\n"
        "doc_to_text: '{{q}}'\ndoc_to_target: '{{gold}}'\ndoc_to_choice: '{{choices}}'\n"
        "target_delimiter: ''\nmetric_list:\n  - metric: acc\n"
    )
    right = 0
    for row in rows:
        losses = []
        for choice in row["choices"]:
            question = stream(tokenizer, [row["q"]])[1:]
            ids = [*question, *stream(tokenizer, [choice])[1:]]
            losses.append(sum(token_loss(model, ids, t, 0) for t in range(len(question), len(ids))))
        right += losses.index(min(losses)) == row["gold"]
    found = tasks(model, tokenizer, ["letters"], include_path=tmp_path)
    assert found["letters"]["acc"] == pytest.approx(right / len(rows))
    with pytest.raises(ConfigError, match="no task called 'nonsense'"):
        tasks(model, tokenizer, ["nonsense"])


# ----------------------------------------------------------------------------------------- verbs


def verb(function: Callable[..., int], *arguments: str) -> Any:
    app = App(result_action="return_value")
    app.default(function)
    return app(arguments, exit_on_error=False, print_error=False)


def test_verbs_print_what_python_says(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, text = str(tmp_path / "model"), tmp_path / "train.txt"
    checkpoint.save(model, Path(folder), tokenizer=tokenizer)
    text.write_text("\n".join("abc def" * 3 for _ in range(400)))
    options = ("--data", str(text), "--max-tokens", "200", "--json", "-")
    capsys.readouterr()
    assert verb(cli_evaluate.evaluate, folder, *options, "--no-speed") == 0
    printed = json.loads(capsys.readouterr().out)
    documents = load_text(text)["test"]
    loaded, own = checkpoint.load(folder), checkpoint.load_tokenizer(folder)
    assert printed["score"] == likelihood.score(loaded, own, documents, max_tokens=200).to_dict()
    assert printed["cost"] is None

    assert verb(cli_cost.cost, folder, "--no-measure", "--context", "7", "--json", "-") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["cost"] == cost_of(model, context=7).to_dict()
    with pytest.raises(ConfigError, match="--repeats"):
        verb(cli_cost.cost, folder, "--repeats", "0")

    bert = str(tmp_path / "bert")
    tiny.model("bert").save_pretrained(bert)
    assert verb(cli_cost.cost, bert, "--repeats", "1", "--prompt-tokens", "4") == 0
    out = capsys.readouterr().out
    assert "forward pass" in out
    assert re.search(r"KV cache per token +none", out)


def test_env_names_versions_and_no_paths(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", "/private/folder")
    assert verb(cli_env.env) == 0
    out = capsys.readouterr().out
    assert re.search(rf"torch +{re.escape(torch.__version__)}", out)
    assert re.search(r"HF_HOME +set", out)
    assert "/private" not in out


# ------------------------------------------------------------------------------------ bits per byte


def test_bits_per_byte_is_the_score_beside_what_knows_nothing(
    model: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    found = bits_per_byte(model, tokenizer, TEXTS, context=16)
    plain = likelihood.score(model, tokenizer, documents(TEXTS), context=16)
    assert found.score == plain
    assert found.bits_per_byte == plain.bits_per_byte
    assert found.uniform == pytest.approx(math.log2(len(tokenizer)) * plain.tokens / plain.bytes)
    assert found.unigram < found.uniform
    assert found.ends == 3  # before the second, third and fourth text; the first is not predicted
    assert found.steps_per_kilobyte == pytest.approx(1000 * plain.tokens / plain.bytes)
    body = cost_of(model).macs - model.lm_head.weight.numel()
    assert found.flops_per_byte == pytest.approx(2 * body * plain.tokens / plain.bytes)
    both = found.flops_per_byte_with_softmax * plain.bytes / plain.tokens / 2
    assert both == pytest.approx(cost_of(model).macs)


def test_a_model_without_an_opinion_is_uniform_and_has_learned_nothing(
    model: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    with torch.no_grad():
        model.lm_head.weight.zero_()
    found = bits_per_byte(model, tokenizer, TEXTS)
    vocabulary = model.lm_head.weight.shape[0]
    wanted = math.log2(vocabulary) * found.score.tokens / found.score.bytes
    assert found.bits_per_byte == pytest.approx(wanted)
    assert found.learned_nothing == (vocabulary >= len(tokenizer))
    assert found.to_dict()["learned_nothing"] is found.learned_nothing


def test_models_without_a_cache_are_scored(tokenizer: PreTrainedTokenizerFast) -> None:
    shape = MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1, state_size=4)
    found = bits_per_byte(MambaForCausalLM(shape), tokenizer, TEXTS, context=16)
    assert found.bits_per_byte > 0


def test_the_entropy_of_ids_is_corrected_for_how_few_there_are() -> None:
    torch.manual_seed(0)
    rows = [torch.randint(0, 64, (500,)) for _ in range(50)]
    naive = [
        torch.distributions.Categorical(torch.bincount(row).float()).entropy() / math.log(2)
        for row in rows
    ]
    mended = [unigram_bits(row) for row in rows]
    assert abs(sum(mended) / 50 - 6) < 0.1 * abs(float(sum(naive)) / 50 - 6)
    assert unigram_bits(torch.zeros(10, dtype=torch.long)) == 0


def test_any_tokenizer_of_windows_has_its_bits_in_full(tmp_path: Path) -> None:
    """A uniform model pays `W * windows / bytes`, however the bits are cut into ids."""
    from attar.methods.equal_info.config import EqualInfoConfig
    from attar.methods.equal_info.tokenizer import make_tokenizer
    from scene import sources

    texts, found = sources(80_000), []
    for bits in (12, 6, 4):
        config = EqualInfoConfig(window_bits=12, token_bits=bits, order=3)
        windows = make_tokenizer(texts, config=config)
        ids = windows.encode_bytes("".join(texts[:3]).encode())
        found.append(len(ids) * bits)
    assert found[0] == found[1] == found[2]
