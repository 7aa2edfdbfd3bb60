"""Making a tokenizer: what the byte model sees, and that the same text gives the same ids."""

from pathlib import Path
from typing import Any

import pytest
from transformers import (
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

import tiny
from attar import checkpoint
from attar.data.corpus import encode_corpus
from attar.data.text import load_text
from attar.errors import ConfigError
from attar.methods.equal_info.config import PAPER, EqualInfoConfig
from attar.methods.equal_info.tokenizer import (
    load_equal_info,
    make_tokenizer,
    train_tokenizer,
)
from attar.portable.tokenization_equal_info import EqualInfoTokenizer
from attar.pretraining.config import PretrainConfig
from attar.pretraining.pretrain import pretrain
from attar.report.record import Run
from scene import sources, write_text
from windows import SHAPES, made

TEXT = "naïve café ☕ def f(x):\n\treturn x  # 日本語\r\n"


@pytest.fixture(params=SHAPES)
def tokenizer(request: pytest.FixtureRequest) -> EqualInfoTokenizer:
    return made(request.param)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_bits": 7}, "windows of 8 to 32 bits"),
        ({"window_bits": 33}, "windows of 8 to 32 bits"),
        ({"window_bits": 12, "token_bits": 13}, "ids of 1 to 12 bits"),
        ({"window_bits": 32}, "ids of 1 to 20 bits"),
        ({"order": 8}, "order 1 to 7"),
        ({"precision_bits": 9}, "precision of 10 to 24 bits"),
        ({"window_bits": 8, "eos": "in_window"}, "9 bits or more"),
        (
            {"window_bits": 24, "token_bits": 8, "model_kind": "transformer"},
            "of integers for windows",
        ),
        ({"hidden_size": 40}, "multiple of 32"),
        ({"fit_bytes": 0}, "fit_bytes must be 1 or more"),
    ],
)
def test_options_out_of_range_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EqualInfoConfig(**options)


@pytest.mark.parametrize("size", [100, 1000, 5000])
@pytest.mark.parametrize("eos", ["document", "in_window"])
def test_the_byte_model_sees_no_more_than_it_may(eos: Any, size: int) -> None:
    texts = ["a long document " * 200, "", "short ones "] + ["two words "] * 300
    config = EqualInfoConfig(window_bits=12, order=2, eos=eos, fit_bytes=size)
    seen = make_tokenizer(texts, config=config).codec["corpus"]["bytes"]
    assert size / 4 <= seen <= size


def test_the_same_text_gives_the_same_tokenizer(tokenizer: EqualInfoTokenizer) -> None:
    again = make_tokenizer(
        sources(150_000),
        config=EqualInfoConfig(
            order=4,
            window_bits=tokenizer.window_bits,
            token_bits=tokenizer.token_bits,
            eos=tokenizer.codec["eos"],
        ),
    )
    assert again.codec == tokenizer.codec


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made().save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def tiny_shape(**changes: Any) -> PretrainConfig:
    shape: dict[str, Any] = {
        "context": 32,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "eval_tokens": 500,
    }
    return PretrainConfig(**shape | changes)


def test_encoded_text_trains_as_text_with_the_tokenizer_does(
    folder: Path, text: Path, tmp_path: Path
) -> None:
    encode_corpus(folder, text, output_dir=tmp_path / "ids")
    of_ids = pretrain(data=tmp_path / "ids", config=tiny_shape(), output_dir=tmp_path / "a")
    of_text = pretrain(data=text, config=tiny_shape(), tokenizer=folder, output_dir=tmp_path / "b")
    assert of_ids.quality == of_text.quality
    assert isinstance(checkpoint.load_tokenizer(tmp_path / "a"), EqualInfoTokenizer)
    with pytest.raises(ConfigError, match="encoded with a tokenizer already"):
        pretrain(data=tmp_path / "ids", tokenizer=folder, output_dir=tmp_path / "c")


def test_a_model_that_trainer_trained_generates_text(
    folder: Path, text: Path, tmp_path: Path
) -> None:
    """With nothing of Attar but the tokenizer."""
    tokenizer = checkpoint.load_tokenizer(folder)
    rows = load_text(text)["train"].map(
        lambda row: tokenizer(row["text"], truncation=True, max_length=48),
        remove_columns=["text"],
    )
    model: Any = tiny.model(
        vocab_size=len(tokenizer),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"),
        max_steps=8,
        per_device_train_batch_size=4,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        dataloader_pin_memory=False,
    )
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    Trainer(model, arguments, train_dataset=rows, data_collator=collator).train()
    ids = tokenizer(["def ", "return self"], return_tensors="pt", padding=True, padding_side="left")
    written = model.generate(**ids, max_new_tokens=20, do_sample=True)
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    assert texts[0].startswith("def ")
    assert texts[1].startswith("return self")
    assert all(len(one) > 12 for one in texts)


def test_the_code_in_a_card_loads_the_model(text: Path, folder: Path, tmp_path: Path) -> None:
    pretrain(data=text, config=tiny_shape(), tokenizer=folder, output_dir=tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    assert "trust_remote_code=True" in code
    code = code.replace("PATH_OR_NAME", str(tmp_path / "model"))
    found: dict[str, Any] = {}
    exec(code, found)
    assert type(found["tokenizer"]).__name__ == "EqualInfoTokenizer"
    pretrain(data=text, config=tiny_shape(), output_dir=tmp_path / "plain")
    assert "trust_remote_code" not in (tmp_path / "plain" / "README.md").read_text()


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


def test_ids_of_the_same_names_are_told_apart() -> None:
    config = EqualInfoConfig(window_bits=12, token_bits=6, order=2)
    other = make_tokenizer(sources(80_000), config=config)
    prints = {checkpoint.tokenizer_fingerprint(one) for one in (made("12 in 6"), other)}
    assert len(prints) == 2


def test_the_verb_saves_what_make_tokenizer_makes(text: Path, tmp_path: Path) -> None:
    config = EqualInfoConfig(window_bits=10, order=3)
    run = train_tokenizer(text, config=config, output_dir=tmp_path / "t")
    made_here = make_tokenizer(load_text(text)["train"]["text"], config=config)
    assert load_equal_info(tmp_path / "t").codec == made_here.codec == run.details["codec"]
    assert (run.command, run.method, run.paper) == ("tokenizer train", "equal_info", PAPER)
    assert run.model is None
    assert Path(run.data or "").name == text.name
    assert Run.load(tmp_path / "t").to_dict() == run.to_dict()
    assert run.quality["validation"]["bytes_per_window"] > 1
    assert not (tmp_path / "t" / "README.md").exists()


def test_a_recipe_names_the_options(text: Path, tmp_path: Path) -> None:
    run = train_tokenizer(text, config="equal_info/cpu-tiny", output_dir=tmp_path / "t")
    assert run.settings["recipe"] == "equal_info/cpu-tiny"
    assert run.details["codec"]["window_bits"] == 12
