"""`attar ngrams` in Python: how often tokens follow each other in a text, in a store on disk."""

from attar.decode.ngram_build import build_store as build_store
from attar.decode.ngram_build import train_ngrams as train
from attar.decode.ngram_evaluation import evaluate_ngrams as evaluate
from attar.decode.ngram_live import LiveStore as LiveStore
from attar.decode.ngram_live import compact as compact
from attar.decode.ngrams import MergedStore as MergedStore
from attar.decode.ngrams import NGramStore as NGramStore
from attar.methods.superposed import search_options as search

__all__ = [
    "LiveStore",
    "MergedStore",
    "NGramStore",
    "build_store",
    "compact",
    "evaluate",
    "search",
    "train",
]
