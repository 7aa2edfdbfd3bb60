"""The byte model that is a Transformer: trained, listed, and refused where it is not over bytes."""

from pathlib import Path

import numpy as np
import pytest

from attar.coding.ngram import symbols_of
from attar.coding.windows import compile_windows
from attar.errors import CompatibilityError
from attar.methods.equal_info.config import EqualInfoConfig
from attar.methods.equal_info.transformer import TransformerModel, train_transformer
from attar.portable.equal_info_windows import END
from scene import sources
from windows import unseen


def test_a_small_transformer_is_trained_and_listed(tmp_path: Path) -> None:
    config = EqualInfoConfig(
        window_bits=10,
        model_kind="transformer",
        hidden_size=32,
        num_hidden_layers=1,
        max_steps=30,
        per_device_train_batch_size=32,
        eos="in_window",
    )
    documents = [symbols_of(text, end=True) for text in sources(50_000)]
    model = train_transformer(documents, config=config, state_dir=tmp_path)
    found = model.frequencies(np.asarray([[32], [END]], np.uint16))
    assert found.shape == (2, 257)
    assert found.sum(axis=1).tolist() == [2**16] * 2
    dictionary = compile_windows(model, window_bits=10)
    text = unseen()
    assert dictionary.decode(dictionary.encode(text)).tolist() == text.tolist()
    assert len(dictionary.encode(text)) < len(text)


def test_a_model_that_is_not_over_bytes_is_refused() -> None:
    import tiny

    with pytest.raises(CompatibilityError, match="over bytes"):
        TransformerModel(tiny.model("llama"), alphabet=256, precision=16)
