"""What every pruning run reads and judges by."""

import characters
import tiny
from attar.methods.bonsai import BonsaiConfig
from attar.pruning.run import calibration_windows


def test_calibration_reads_bos_and_never_the_padding_that_only_the_tokenizer_has():
    tokenizer = characters.letters_behind_bos()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    size = tokenizer.pad_token_id  # the model ends before it
    documents = characters.documents(["hello world"] * 20)
    found = calibration_windows(
        tiny.model(vocab_size=size),
        tokenizer,
        documents=documents,
        config=BonsaiConfig(windows=8, context=16, ffn_block=8),
    )
    assert (found[:, 0] == 1).all()
    assert (found[:, 1:] == 1).any()
