"""Equal-Info Windows: a tokenizer that a language model built.

A small byte model and an arithmetic coder turn text into windows of W bits. Both start anew in each
window, so that a window always says the same, and a language model can learn from windows where it
learns nothing from plain arithmetic code.

Lester, Lee, Alemi, Pennington, Roberts, Sohl-Dickstein, Constant: Training LLMs over Neurally
Compressed Text, 2024, arXiv 2404.03626. There is no official code.

Deviations (paper; here; why):
- Windows: the shortest code of an interval, filled up with zeros; cells of which the first says
  that a string ends. The paper's greedy windows cannot always be read back (`PaperCoder.wrong`
  counts them), and these hold more.
- Model in use: a neural model at every encoding and decoding; none, as all strings are listed once.
- Byte model: a Transformer of 3M parameters on texts of 1,024 bytes; integer counts of n-grams by
  default, or a small Transformer on segments as short as windows are.
- End of a document: a symbol inside windows; by default a special token, so that documents are
  independent. `eos="in_window"` restores the paper's.
"""

from attar.methods.equal_info.config import PAPER, EqualInfoConfig
from attar.methods.equal_info.corpus import decode_corpus, encode_corpus, load_equal_info
from attar.methods.equal_info.dictionary import compile_windows
from attar.methods.equal_info.files import Restored, compress, decompress
from attar.methods.equal_info.make import density, fit_tokenizer, make_tokenizer
from attar.methods.equal_info.ngram import NgramModel
from attar.methods.equal_info.report import BASELINES, Row, tokenizer_report, verify
from attar.methods.equal_info.transformer import TransformerModel, train_transformer
from attar.methods.equal_info.windows import DelayCoder, PaperCoder, StopCoder

__all__ = [
    "BASELINES",
    "PAPER",
    "DelayCoder",
    "EqualInfoConfig",
    "NgramModel",
    "PaperCoder",
    "Restored",
    "Row",
    "StopCoder",
    "TransformerModel",
    "compile_windows",
    "compress",
    "decode_corpus",
    "decompress",
    "density",
    "encode_corpus",
    "fit_tokenizer",
    "load_equal_info",
    "make_tokenizer",
    "tokenizer_report",
    "train_transformer",
    "verify",
]
