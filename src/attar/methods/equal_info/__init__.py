"""Equal-Info Windows: a tokenizer that a language model built.

A small byte model and an arithmetic coder turn text into windows of W bits. Both start over in each
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

from attar.methods.equal_info.coders import DelayCoder as DelayCoder
from attar.methods.equal_info.coders import PaperCoder as PaperCoder
from attar.methods.equal_info.config import PAPER as PAPER
from attar.methods.equal_info.config import EqualInfoConfig as EqualInfoConfig
from attar.methods.equal_info.files import compress as compress
from attar.methods.equal_info.files import decompress as decompress
from attar.methods.equal_info.tokenizer import load_equal_info as load_equal_info
from attar.methods.equal_info.tokenizer import make_tokenizer as make_tokenizer
from attar.methods.equal_info.tokenizer import train_tokenizer as train_tokenizer
