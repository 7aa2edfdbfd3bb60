"""`attar tokenizer` in Python: tokenizers that a language model built."""

from attar.data.corpus import decode_corpus as decode
from attar.data.corpus import encode_corpus as encode
from attar.evaluation.tokenizers import evaluate_tokenizer as evaluate
from attar.methods.equal_info import EqualInfoConfig as Config
from attar.methods.equal_info import compress as compress
from attar.methods.equal_info import decompress as decompress
from attar.methods.equal_info import train_tokenizer as train

__all__ = ["Config", "compress", "decode", "decompress", "encode", "evaluate", "train"]
