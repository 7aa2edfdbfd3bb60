import errno

import gguf
import numpy as np
import pytest
import torch

import ggufs
import tiny
from attar import artefacts, checkpoint
from attar.checkpoint.gguf import is_gguf, located
from attar.errors import CompatibilityError, ConfigError, DataError

F16, Q8_0 = gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.Q8_0


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTAR_HOME", str(tmp_path / "home"))


@pytest.fixture
def model():
    # 32 values make a block of Q8_0
    return tiny.model("llama", intermediate_size=64, tie_word_embeddings=True, rms_norm_eps=2**-17)


def test_a_file_gives_the_model_that_it_was_written_from(model, tmp_path):
    file = ggufs.write_llama(tmp_path / "a.gguf", model)
    read = checkpoint.load(file)
    assert read.dtype == torch.float32
    assert read.name_or_path == str(file)
    torch.testing.assert_close(read(tiny.ids()).logits, model(tiny.ids()).logits)
    assert checkpoint.read_config(file).num_hidden_layers == 3
    tokenizer = checkpoint.tokenizer_of(read)
    assert tokenizer.eos_token_id == 2
    assert tokenizer.decode(tokenizer("abc 12")["input_ids"]) == "abc 12"


@pytest.mark.parametrize(
    ("kind", "dtype", "close"), [(F16, torch.float16, 2e-3), (Q8_0, torch.bfloat16, 2e-2)]
)
def test_values_keep_the_type_of_the_file_and_quantised_ones_get_bfloat16(
    kind, dtype, close, model, tmp_path
):
    read = checkpoint.load(ggufs.write_llama(tmp_path / "a.gguf", model, kind=kind))
    assert read.dtype == dtype
    for name, weight in model.state_dict().items():
        difference = (read.state_dict()[name].float() - weight).abs().max()
        assert difference <= close * weight.abs().max(), name


def test_transformers_is_asked_not_to_keep_weights_in_blocks(model, tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(
        "transformers.quantizers.quantizer_gguf.logger.warning", lambda text: warnings.append(text)
    )
    checkpoint.load(ggufs.write_llama(tmp_path / "a.gguf", model, kind=Q8_0))
    assert not warnings


def test_a_file_is_read_once_until_it_changes(model, tmp_path):
    file = ggufs.write_llama(tmp_path / "a.gguf", model)
    first = located(file)
    mark = (first / "model.safetensors").stat().st_mtime_ns
    assert located(file) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == mark
    ggufs.write_llama(file, model, kind=F16)
    assert located(file) != first


def test_unfinished_checkpoints_of_a_killed_process_are_made_anew(model, tmp_path):
    file = ggufs.write_llama(tmp_path / "a.gguf", model)
    kept = located(file)
    kept.rename(kept.with_name(f"{kept.name}.partial"))
    (kept.with_name(f"{kept.name}.partial") / "rest").touch()
    assert located(file) == kept
    assert not (kept / "rest").exists()


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_rotary_factors_of_llama_3_are_read(factor, tmp_path):
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    model = tiny.model("llama", head_dim=32, rope_parameters=rope, tie_word_embeddings=True)
    plain = 1 / 500_000.0 ** (torch.arange(0, 32, 2) / 32)
    factors = (plain / model.model.rotary_emb.inv_freq).numpy()
    assert 1 in factors
    file = ggufs.write_llama(
        tmp_path / "a.gguf", model, tensors={"rope_freqs.weight": factors.astype(np.float32)}
    )
    read = checkpoint.load(file)
    assert read.config.rope_parameters["factor"] == factor
    torch.testing.assert_close(read.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 2.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    ],
)
def test_rope_scaling_is_read(rope, tmp_path):
    model = tiny.model("llama", rope_parameters=rope | {"rope_theta": 10_000.0})
    at = "llama.rope.scaling."
    more = {f"{at}type": rope["rope_type"], f"{at}factor": rope["factor"]}
    if "original_max_position_embeddings" in rope:
        more[f"{at}original_context_length"] = rope["original_max_position_embeddings"]
    read = checkpoint.load(ggufs.write_llama(tmp_path / "a.gguf", model, more=more))
    ids = tiny.ids(length=40)
    torch.testing.assert_close(read(ids).logits, model(ids).logits)


def test_numbers_are_split_as_the_model_was_trained(model, tmp_path):
    file = ggufs.write_llama(tmp_path / "a.gguf", model, more={"tokenizer.ggml.pre": "smollm"})
    backend = checkpoint.load_tokenizer(file).backend_tokenizer
    split = [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str("ab 123")]
    assert split == ["ab", "Ġ", "1", "2", "3"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tokenizer": False}, DataError, "holds no tokenizer"),
        ({"architecture": "nothing"}, CompatibilityError, "cannot read the GGUF file"),
        ({"architecture": "t5"}, CompatibilityError, "expected a decoder .* found t5"),
        ({"more": {"llama.attention.head_count": [8, 8, 4]}}, CompatibilityError, "differ"),
        ({"more": {"llama.rope.scaling.type": "longrope"}}, CompatibilityError, "longrope"),
        (
            {"tensors": {"blk.0.attn_q.bias": np.zeros(32, np.float32)}},
            CompatibilityError,
            r"does not fit LlamaForCausalLM, .* values fit",
        ),
        (
            {"tensors": {"rope_freqs.weight": np.array([1, 3], np.float32)}},
            CompatibilityError,
            "RoPE scaling",
        ),
    ],
)
def test_what_a_file_holds_beyond_transformers_is_refused(options, error, message, model, tmp_path):
    file = ggufs.write_llama(tmp_path / "a.gguf", model, **options)
    with pytest.raises(error, match=message):
        checkpoint.load(file)
    assert not [f for f in (tmp_path / "home" / "gguf").iterdir() if f.is_dir()]


@pytest.mark.parametrize("keep", [0, 20, 2_000, -400])
def test_damaged_files_are_refused_in_a_sentence(keep, model, tmp_path):
    file = ggufs.write_llama(tmp_path / "a.gguf", model)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DataError, match="damaged"):
        checkpoint.load(file)


def test_quantisations_that_cannot_be_undone_are_named(model, tmp_path, monkeypatch):
    def refuse(*_):
        raise NotImplementedError("IQ9_X")

    file = ggufs.write_llama(tmp_path / "a.gguf", model)
    monkeypatch.setattr(gguf, "dequantize", refuse)
    with pytest.raises(CompatibilityError, match="IQ9_X"):
        checkpoint.load(file)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.gguf", "no GGUF file at"),
        ("owner/name:absent.gguf", "the Hugging Face Hub"),
    ],
)
def test_absent_files_are_told_from_those_of_the_hub(name, message):
    assert is_gguf(name)
    with pytest.raises(DataError, match=message):
        checkpoint.load_tokenizer(name)


def test_names_that_no_file_can_have_are_refused():
    with pytest.raises(DataError, match="File name too long"):
        checkpoint.load(f"{'a' * 300}.gguf")


def test_parts_of_a_split_file_are_told_from_damaged_ones(model, tmp_path):
    file = tmp_path / "a-00001-of-00002.gguf"
    ggufs.write_llama(file, model, more={"split.count": 2})
    with pytest.raises(CompatibilityError, match=r"one of 2 parts .* llama-gguf-split --merge"):
        checkpoint.load(file)


def test_the_tokenizer_has_the_tokens_of_the_file_alone(model, tmp_path):
    tokenizer = checkpoint.load_tokenizer(ggufs.write_llama(tmp_path / "a.gguf", model))
    assert len(tokenizer) == model.config.vocab_size
    assert max(tokenizer("<|endoftext|>ab")["input_ids"]) < model.config.vocab_size


def test_generation_stops_at_the_end_of_a_turn_too(model, tmp_path):
    more = {"tokenizer.ggml.eot_token_id": 5, "tokenizer.ggml.eom_token_id": 2}
    read = checkpoint.load(ggufs.write_llama(tmp_path / "a.gguf", model, more=more))
    assert read.generation_config.eos_token_id == [2, 5]


@pytest.mark.parametrize("closed", ["the folder", "the lock"])
def test_where_nothing_can_be_kept_the_folder_to_set_is_named(closed, model, tmp_path, monkeypatch):
    file = ggufs.write_llama(tmp_path / "a.gguf", model)
    if closed == "the folder":
        (tmp_path / "home").touch()
    else:  # as root, who runs tests in containers, may write everywhere

        def refuse(*_, **__):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(artefacts.FileLock, "acquire", refuse)
    with pytest.raises(ConfigError, match=r"cannot write in .*; set ATTAR_HOME to a folder"):
        checkpoint.load(file)
