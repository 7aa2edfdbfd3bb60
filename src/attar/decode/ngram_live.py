"""N-grams of what a user is writing: a small store in memory, and how it becomes part of one on
disk."""

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from transformers import PreTrainedTokenizerBase

from attar import artefacts, checkpoint
from attar.data.tokens import encode
from attar.decode.ngram_files import TOKENIZER, TOKENS, Integers, require_order
from attar.decode.ngram_index import index
from attar.decode.ngrams import ORDER, CountedNGrams, NGramStore, Tokens, require_tokenizer
from attar.errors import CompatibilityError, DataError
from attar.models import separator

_FORMAT = "attar-live-ngrams-1"
_KEY = "attar"  # of what is said in the file of a saved store


class LiveStore(CountedNGrams):
    """N-grams of texts that are added one by one, in about a kilobyte of memory a token.

    Args:
        tokenizer: of the model that it serves.
        order: the longest n-gram.

    Raises:
        ConfigError: the order is not between 2 and 8.
        DataError: the tokenizer has no token to separate documents.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, order: int = ORDER) -> None:
        require_order(order)
        self.tokenizer, self.order = tokenizer, order
        self.fingerprint = checkpoint.tokenizer_fingerprint(tokenizer)
        self.separator = separator(tokenizer)
        self.documents: list[list[int]] = []
        #: contexts, the last token first -> what followed
        self._after: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)

    def add(self, texts: str | Iterable[str]) -> None:
        """Count the n-grams of a text, or of several, each a document."""
        for ids in encode([texts] if isinstance(texts, str) else list(texts), self.tokenizer):
            self._add(ids)

    def tally(self, context: Tokens, tokens: Tokens) -> tuple[Integers, Integers]:
        """See `CountedNGrams`."""
        counts = np.zeros((self.order - 1, len(tokens)), np.int64)
        whole = np.zeros(self.order - 1, np.int64)
        last = self.last(context)
        for i in range(len(last)):
            if (after := self._after.get(tuple(last[: i + 1]))) is not None:
                counts[i] = [after[int(token)] for token in tokens]
                whole[i] = after.total()
        return counts, whole

    def save(self, file: str | Path) -> None:
        """Write all documents to a file, in place of an earlier one."""
        flat = [token for ids in self.documents for token in ids]
        ends = np.cumsum([len(ids) for ids in self.documents])
        said = {"format": _FORMAT, "tokenizer": self.fingerprint, "order": self.order}
        arrays = {"tokens": np.asarray(flat, np.uint32), "ends": ends.astype(np.int64)}
        with artefacts.replacing(artefacts.expanded(file)) as unfinished:
            save_file(arrays, str(unfinished), metadata={_KEY: json.dumps(said)})

    @classmethod
    def load(cls, file: str | Path, tokenizer: PreTrainedTokenizerBase) -> "LiveStore":
        """Count again what was saved.

        Raises:
            DataError: the file is absent or damaged, or holds something else.
            CompatibilityError: it is of another tokenizer.
        """
        try:
            with safe_open(str(artefacts.expanded(file)), framework="numpy") as saved:
                said = json.loads((saved.metadata() or {})[_KEY])
                flat, ends = saved.get_tensor("tokens"), saved.get_tensor("ends")
                known, made_for, order = said["format"], said["tokenizer"], said["order"]
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(file, str(error)) from error
        if known != _FORMAT:
            raise _unreadable(file, f"its format is {known!r}")
        store = cls(tokenizer, order=order)
        if made_for != store.fingerprint:
            raise CompatibilityError(
                f"expected n-grams of the model's tokenizer, found those of another in "
                f"{str(file)!r}; begin a new store"
            )
        for ids in np.split(flat, ends[:-1]) if len(ends) else ():
            store._add(ids.tolist())
        return store

    def _add(self, ids: Sequence[int]) -> None:
        self.documents.append(list(ids))
        for at in range(1, len(ids)):
            if ids[at] == self.separator:  # which a text may spell
                continue
            last = self.last(ids[max(0, at - self.order + 1) : at])
            for length in range(1, len(last) + 1):
                self._after[tuple(last[:length])][ids[at]] += 1


def compact(store: NGramStore, live: LiveStore, *, output_dir: str | Path) -> NGramStore:
    """A new store of the texts of both: what `build_store` makes of all of them.

    Args:
        store: on disk.
        live: what was added meanwhile; begin a new one afterwards.
        output_dir: where the new store goes; must be new or empty.

    Raises:
        ConfigError: the folder is taken.
        CompatibilityError: they are of different tokenizers.
    """
    require_tokenizer(store, live.tokenizer, name=str(store.folder))
    described = ("tokenizer", "vocab_size", "separator", "dtype", "order", "sources", "licence")
    meta = {name: store.meta[name] for name in described}
    with artefacts.workspace(output_dir, settings={"command": "ngrams"}) as space:
        shutil.copyfile(store.folder / TOKENS, space.path / TOKENS)
        with (space.path / TOKENS).open("ab") as out:
            for ids in live.documents:
                out.write(np.asarray([*ids, store.separator], meta["dtype"]).tobytes())
        shutil.copytree(store.folder / TOKENIZER, space.path / TOKENIZER)
        index(space.path, meta)
    return NGramStore.load(output_dir)


def _unreadable(file: str | Path, reason: str) -> DataError:
    return DataError(
        f"expected n-grams that LiveStore.save wrote in {str(file)!r}, found none that can be read "
        f"({reason}); give another file, or begin a new store"
    )
