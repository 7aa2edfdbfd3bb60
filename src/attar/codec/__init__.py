"""`attar codec` in Python: pictures and sound stored small, in a form that models train on."""

from attar.codec.config import CodecConfig as Config
from attar.codec.dataset import compress_dataset as compress_dataset
from attar.codec.decoding import decode as decode
from attar.codec.encoding import encode as encode
from attar.codec.evaluating import evaluate as evaluate
from attar.codec.loader import LatentLoader as LatentLoader
from attar.codec.training import train as train

__all__ = ["Config", "LatentLoader", "compress_dataset", "decode", "encode", "evaluate", "train"]
