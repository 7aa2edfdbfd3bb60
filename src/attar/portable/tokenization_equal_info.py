"""A tokenizer whose ids are equal-information windows of a small language model's code.

What a byte language model with an arithmetic coder would write in `window_bits` bits is a fixed
table of byte strings, as the model starts over in every window. This file reads that table and runs
no model, so its ids are the same on every machine. It needs transformers, numpy and safetensors
alone (numba makes it about a hundred times faster) and travels with every tokenizer, so that
`AutoTokenizer.from_pretrained(folder, trust_remote_code=True)` works where Attar is not installed.
Windows too long for a table need the byte model, and so Attar: `attar.load_tokenizer(folder)`.

Method: Lester et al., "Training LLMs over Neurally Compressed Text", 2024, arXiv 2404.03626; the
table is that of Attar's stop-cell coder.
"""

import hashlib
import json
import re
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from transformers import BatchEncoding, PreTrainedTokenizer

from .equal_info_generation import Canonical, StartsWith, StreamDecoder
from .equal_info_windows import COMPILED, END, FORMAT, WindowDictionary, bytes_among, regroup

DICTIONARY_FILE = "equal_info.safetensors"
CODEC_FILE = "codec.json"


# --------------------------------------------------------------------------------- the tokenizer


@cache
def _letters():
    """A printable character for every byte, those of ASCII for themselves."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {
        byte: chr(256 + i) for i, byte in enumerate(other)
    }


def _read_dictionary(file, *, window_bits):
    if window_bits > COMPILED:
        raise ValueError(
            f"expected windows of at most {COMPILED} bits, whose strings are all listed, found "
            f"{window_bits}; the byte model of longer ones comes with Attar: load this tokenizer "
            "with attar.load_tokenizer(folder)"
        )
    return WindowDictionary.load(file, window_bits=window_bits)


def bytes_of(text):
    """The UTF-8 bytes of a text, `(S,)` uint8."""
    return np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)


def codec_hash(codec):
    """A hash of what `codec.json` says besides the two hashes in it."""
    facts = {name: value for name, value in codec.items() if name not in ("sha256", "codec_sha256")}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class EqualInfoTokenizer(PreTrainedTokenizer):
    """Equal-information windows as the ids of an ordinary Hugging Face tokenizer.

    Ids below `2**token_bits` are codes, or parts of codes where `token_bits < window_bits`; special
    tokens follow. Every text and every bytes object comes back to the byte, and every sequence of
    ids decodes. Text is UTF-8; what is not valid UTF-8 may come in as bytes, or as a string
    decoded with `errors="surrogateescape"`.

    Args:
        dictionary_file: `equal_info.safetensors`; from_pretrained finds it.
        codec_file: `codec.json`, with the hash that the dictionary must have.
        dictionary: instead of the file, what encodes and decodes windows; windows above 20 bits
            need one (`attar.load_tokenizer` gives it).
        codec: instead of the file, its content.
    """

    vocab_files_names = {"dictionary_file": DICTIONARY_FILE, "codec_file": CODEC_FILE}
    model_input_names = ["input_ids", "attention_mask"]
    add_prefix_space = False  # texts, and words that were split before, are encoded as they stand
    _auto_class = "AutoTokenizer"

    def __init__(
        self, dictionary_file=None, codec_file=None, *, dictionary=None, codec=None, **kwargs
    ):
        if codec is None:
            codec = json.loads(Path(codec_file).read_text(encoding="utf-8"))
        if codec["format"] != FORMAT:
            raise ValueError(
                f"expected a tokenizer of format {FORMAT}, found {codec['format']}; load it with "
                "the version of Attar that wrote it"
            )
        if codec.get("codec_sha256") != codec_hash(codec):
            raise ValueError(
                f"expected a codec with the hash that it names, found another in {codec_file}; it "
                "was changed, take another copy"
            )
        self.codec = codec
        self.window_bits, self.token_bits = codec["window_bits"], codec["token_bits"]
        if not 1 <= self.token_bits <= min(self.window_bits, COMPILED):
            raise ValueError(
                f"expected ids of 1 to {min(self.window_bits, COMPILED)} bits for windows of "
                f"{self.window_bits}, found {self.token_bits} in {codec_file}; it is damaged, take "
                "another copy"
            )
        if dictionary is None:
            dictionary = _read_dictionary(dictionary_file, window_bits=self.window_bits)
        if dictionary.digest.hex() != codec["sha256"]:
            raise ValueError(
                f"expected a dictionary with the hash {codec['sha256'][:16]}, found "
                f"{dictionary.digest.hex()[:16]} in {dictionary_file}; it is damaged or of another "
                "tokenizer, take another copy of both files"
            )
        self.dictionary = dictionary
        kwargs.setdefault("eos_token", "<|endoftext|>")
        kwargs.setdefault("pad_token", "<|pad|>")  # not the end: collators mask padding
        kwargs.setdefault("special_tokens_pattern", "none")
        kwargs.setdefault("clean_up_tokenization_spaces", False)
        self._end_text = str(kwargs["eos_token"]) if codec["eos"] == "in_window" else None
        super().__init__(**kwargs)

    # ------------------------------------------------------------------------------- vocabulary

    @property
    def vocab_size(self):
        """Ids of codes, without special tokens."""
        return 2**self.token_bits

    @property
    def one_string_an_id(self):
        """Whether an id always means the same string, as it does where it is a whole window."""
        return self.token_bits == self.window_bits

    @property
    def ends_inside(self):
        """Whether the end of a document is coded inside windows, as one more symbol."""
        return self._end_text is not None

    @property
    def id_count(self):
        """How many different ids documents with their ends can have."""
        return self.vocab_size + (not self.ends_inside)

    @property
    def content_hash(self):
        """SHA-256 of the strings of all windows, which the names of ids may not tell."""
        return self.codec["sha256"]

    @property
    def dependencies(self):
        """All that the ids of a text depend on, as JSON has it."""
        return {
            "codec": self.codec,
            "added": self.added_tokens_encoder,
            "end": self.eos_token_id,
        }

    @cached_property
    def _names(self):
        """What convert_ids_to_tokens shows of each id."""
        if not self.one_string_an_id:
            return [f"<{i:0{-(-self.token_bits // 4)}x}>" for i in range(self.vocab_size)]
        letters = _letters() | ({} if self._end_text is None else {END: self._end_text})
        ends = np.cumsum(self.dictionary.lengths)
        text = [letters[s] for s in self.dictionary.decode(np.arange(self.vocab_size)).tolist()]
        starts = [0, *ends[:-1].tolist()]
        return ["".join(text[a:b]) for a, b in zip(starts, ends.tolist(), strict=True)]

    @cached_property
    def _ids(self):
        return {name: i for i, name in enumerate(self._names)}

    def _add_tokens(self, new_tokens, special_tokens=False):
        for token in map(str, new_tokens or ()):
            if token in self._ids and token != self._end_text:
                raise ValueError(
                    f"the token {token!r} is also the string of a window; choose another"
                )
        return super()._add_tokens(new_tokens, special_tokens=special_tokens)

    def __getstate__(self):
        """Without tables that can be made again, so that pickles stay small and the same."""
        derived = ("_names", "_ids")
        return {name: value for name, value in self.__dict__.items() if name not in derived}

    def get_vocab(self):
        """Names of all ids, special tokens among them."""
        return self._ids | self._added_tokens_encoder

    def _convert_token_to_id(self, token):
        return self._ids.get(token)

    def _convert_id_to_token(self, index):
        if not 0 <= index < self.vocab_size:
            raise IndexError(
                f"expected ids of 0 to {len(self) - 1}, found {index}, which no token has; take "
                "padding of labels, such as -100, out before"
            )
        return self._names[index]

    def convert_tokens_to_string(self, tokens):
        """The text that tokens stand for."""
        return self._decode(self.convert_tokens_to_ids(tokens))

    def save_vocabulary(self, save_directory, filename_prefix=None):
        """Write the dictionary and `codec.json`."""
        start = f"{filename_prefix}-" if filename_prefix else ""
        files = [Path(save_directory) / f"{start}{name}" for name in (DICTIONARY_FILE, CODEC_FILE)]
        self.dictionary.save(files[0])
        files[1].write_text(json.dumps(self.codec, indent=2) + "\n", encoding="utf-8")
        return tuple(map(str, files))

    # --------------------------------------------------------------------------------- encoding

    def encode_bytes(self, data):
        """Ids of a bytes object, `(S,)` int32; special tokens are not looked for."""
        return self.encode_symbols(np.frombuffer(data, np.uint8))

    def decode_bytes(self, ids):
        """The bytes of ids; special tokens give none, nor does an unfinished window."""
        return b"".join(map(bytes_among, self._stretches(ids)))

    def encode_symbols(self, symbols):
        """Ids of symbols: bytes, and 256 for the end of a document where that is coded."""
        codes = self.dictionary.encode(symbols)
        ids = regroup(codes, bits=self.window_bits, to_bits=self.token_bits)
        return ids.astype(np.int32, copy=False)

    def encode_documents(self, texts):
        """Ids of documents with their ends, `(S,)` int32: what a model trains on."""
        if self.ends_inside:
            ended = [part for text in texts for part in (bytes_of(text), _symbols_of(None, True))]
            return self.encode_symbols(np.concatenate(ended) if ended else np.zeros(0, np.uint8))
        end = np.asarray([self.eos_token_id], np.int32)
        parts = [part for text in texts for part in (self.encode_symbols(bytes_of(text)), end)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)

    def decode_documents(self, ids):
        """The texts between the ends, and what comes after the last one if it is anything."""
        if self.ends_inside:
            symbols = np.concatenate(list(self._stretches(ids)))
            parts = np.split(symbols, np.flatnonzero(symbols == END))
            data = [bytes_among(part) for part in parts]
        else:
            ids = np.asarray(ids, np.int64)
            parts = np.split(ids, np.flatnonzero(ids == self.eos_token_id))
            data = [self.decode_bytes(part) for part in parts]
        texts = [one.decode("utf-8", "replace") for one in data]
        return texts if texts[-1] else texts[:-1]

    def count_ends(self, ids):
        """How many ends of documents there are in ids."""
        if not self.ends_inside:
            return int((np.asarray(ids, np.int64) == self.eos_token_id).sum())
        return sum(int((symbols == END).sum()) for symbols in self._stretches(ids))

    def head_bytes(self, ids):
        """How many bytes the first of these ids stands for: its share of its window's, rounded."""
        window = self.decode_bytes(ids[: -(-self.window_bits // self.token_bits)])
        return round(len(window) * min(1, self.token_bits / self.window_bits))

    def _stretches(self, ids):
        """Symbols of ids, an array for each stretch between special tokens: windows start over
        behind one. Negative ids, as labels have them, give none."""
        ids = np.asarray(ids, np.int64)
        ids = ids[ids >= 0]
        special = np.flatnonzero(ids >= self.vocab_size)
        for first, last in zip([0, *(special + 1)], [*special, len(ids)], strict=True):
            yield self._symbols(ids[first:last])

    def _symbols(self, ids):
        whole = len(ids) * self.token_bits // self.window_bits
        codes = regroup(ids, bits=self.token_bits, to_bits=self.window_bits)
        return self.dictionary.decode(codes[:whole])

    def _runs(self, text, *, split_special):
        """Special ids, and lists of what is encoded between them, each with its place in the text.

        A run is (id, [(start, part, whether it is a special token)]), the id None for text.
        """
        added = [] if split_special else [t for t in self._added_tokens_encoder if t in text]
        parts = [text]
        if added:
            longest_first = sorted(added, key=len, reverse=True)
            parts = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
        at, waiting = 0, []
        for i, part in enumerate(parts):
            if i % 2 and part != self._end_text:
                yield from [(None, waiting)] if waiting else []
                yield self._added_tokens_encoder[part], [(at, part, True)]
                waiting = []
            elif part:
                waiting.append((at, part, bool(i % 2)))
            at += len(part)
        yield from [(None, waiting)] if waiting else []

    def _encode_text(self, text, *, split_special):
        """Ids of a text, special tokens among them."""
        ids = []
        for special, parts in self._runs(text, split_special=split_special):
            if special is None:
                symbols = np.concatenate([_symbols_of(*part[1:]) for part in parts])
                ids.extend(self.encode_symbols(symbols).tolist())
            else:
                ids.append(special)
        return ids

    def _spans(self, text, *, split_special):
        """First and last + 1 character of every id of `_encode_text`."""
        spans = []
        for special, parts in self._runs(text, split_special=split_special):
            if special is not None:
                spans.append((parts[0][0], parts[0][0] + len(parts[0][1])))
                continue
            covers = np.concatenate([_characters_of(*part) for part in parts])
            codes = self.dictionary.encode(np.concatenate([_symbols_of(*p[1:]) for p in parts]))
            lengths = self.dictionary.sizes(codes)
            ends = np.cumsum(lengths)
            # An id has the span of the windows that its bits lie in.
            first = np.arange(-(-len(codes) * self.window_bits // self.token_bits))
            opens = first * self.token_bits // self.window_bits
            last = ((first + 1) * self.token_bits - 1) // self.window_bits
            closes = np.minimum(last, len(codes) - 1)
            starts = covers[(ends - lengths)[opens], 0]
            spans.extend(zip(starts.tolist(), covers[ends[closes] - 1, 1].tolist(), strict=True))
        return spans

    def _tokenize(self, text, **kwargs):
        return [self._names[i] for i in self._encode_text(text, split_special=True)]

    def _encode_plus(self, text, text_pair=None, *, return_offsets_mapping=False, **kwargs):
        split_special = kwargs.get("split_special_tokens", self.split_special_tokens)
        split = kwargs.get("is_split_into_words")
        words = split or kwargs.get("sanitize_control_tokens")

        tokens = self._added_tokens_decoder.values()
        bent = any(token.lstrip or token.rstrip or token.single_word for token in tokens)

        def ids(one):
            if split and isinstance(one, list | tuple) and not one:
                return ""  # a text of no words, which transformers refuses as a list
            if not isinstance(one, str) or not one or words or bent:
                return one  # transformers takes care of it, slowly
            return self._encode_text(one, split_special=split_special)

        if return_offsets_mapping and (text_pair is not None or words or bent):
            raise ValueError(
                "offsets are given for texts, not for pairs, for words that were split before or "
                "next to tokens that take the spaces around them; leave return_offsets_mapping out"
            )
        if return_offsets_mapping and isinstance(text, list | tuple):
            kwargs["return_offsets_mapping"] = True  # this method is called again with each text
        encoding = super()._encode_plus(ids(text), ids(text_pair), **kwargs)
        if return_offsets_mapping and isinstance(text, str):
            spans = self._spans(text, split_special=split_special)
            spans = self._offsets(spans, encoding, **kwargs)
            tensors = kwargs.get("return_tensors")
            added = BatchEncoding(
                {"offset_mapping": spans}, tensor_type=tensors, prepend_batch_axis=True
            )
            encoding["offset_mapping"] = added["offset_mapping"] if tensors else spans
        return encoding

    def _offsets(self, spans, encoding, *, add_special_tokens=True, **kwargs):
        """Spans cut and filled up as the ids of an encoding were."""
        size = np.asarray(encoding["input_ids"]).size
        around = self.num_special_tokens_to_add() if add_special_tokens else 0
        kept = min(len(spans), size - around)
        spans = spans[:kept] if self.truncation_side == "right" else spans[len(spans) - kept :]
        if add_special_tokens:
            inner = iter(spans)
            mask = self.get_special_tokens_mask([0] * kept)
            spans = [(0, 0) if special else next(inner) for special in mask]
        return self._filled(spans, size, kwargs.get("padding_side"))

    def _filled(self, spans, size, side):
        fill = [(0, 0)] * (size - len(spans))
        return fill + spans if (side or self.padding_side) == "left" else spans + fill

    def _pad(self, encoded_inputs, *args, **kwargs):
        padded = super()._pad(encoded_inputs, *args, **kwargs)
        if "offset_mapping" in padded:
            size = len(padded["input_ids"])
            side = kwargs.get("padding_side")
            padded["offset_mapping"] = self._filled(padded["offset_mapping"], size, side)
        return padded

    # --------------------------------------------------------------------------------- decoding

    def _decode(self, token_ids, skip_special_tokens=False, **kwargs):
        data = b"".join(self._pieces(token_ids, skip_special_tokens))
        return data.decode("utf-8", "replace")

    def _pieces(self, token_ids, skip_special_tokens):
        """The bytes of ids and of the special tokens between them; ids of nothing give none."""
        ids = np.atleast_1d(np.asarray(token_ids, np.int64))
        ids = ids[ids >= 0]  # labels that are left out of a loss are negative
        end = b"" if skip_special_tokens or self._end_text is None else self._end_text.encode()
        special = np.flatnonzero(ids >= self.vocab_size)
        for start, stop in zip([-1, *special], [*special, len(ids)], strict=True):
            if start >= 0 and (token := self._added_tokens_decoder.get(int(ids[start]))):
                yield b"" if skip_special_tokens and token.special else token.content.encode()
            symbols = self._symbols(ids[start + 1 : stop])
            ends = np.flatnonzero(symbols == END)
            for i, part in enumerate(np.split(symbols, ends)):
                yield (end if i else b"") + part[part < END].astype(np.uint8).tobytes()

    def stream_decoder(self, *, skip_special_tokens=True):
        """Text from ids as they come: `put(ids)` and at last `end()` return what is new."""
        return StreamDecoder(self, skip_special_tokens=skip_special_tokens)

    # ------------------------------------------------------------------------------- generation

    def heal(self, ids):
        """Take back the last of a prompt's ids, `(S,)`, whose string the prompt's end cut short.

        Returns:
            The ids before it, and a logits processor (or None) under which the next id begins with
            what was taken back: `generate(ids, logits_processor=[processor])`.
        """
        self._require_strings("token healing")
        ids = np.asarray(ids, np.int64).tolist()
        if len(ids) < 2 or ids[-1] >= self.vocab_size:
            return ids, None  # a prompt needs an id to begin with
        allowed = self.dictionary.starting_with(self.dictionary.decode([ids[-1]]))
        return ids[:-1], StartsWith(allowed, prompt_length=len(ids) - 1)

    def canonical(self):
        """A logits processor that forbids ids which encoding would never put after the last one."""
        self._require_strings("canonical generation")
        return Canonical(self.dictionary)

    def _require_strings(self, what):
        if not self.one_string_an_id:
            raise ValueError(
                f"{what} expects an id for every window, found ids of {self.token_bits} bits for "
                f"windows of {self.window_bits}; make one with windows of at most {COMPILED} bits "
                "and token_bits left out"
            )


def _symbols_of(part, special):
    return np.asarray([END], np.uint16) if special else bytes_of(part)


def _characters_of(start, part, special):
    """First and last + 1 character of each symbol, `(S, 2)`."""
    if special:
        return np.asarray([[start, start + len(part)]])
    sizes = [len(one.encode("utf-8", "surrogateescape")) for one in part]
    at = start + np.repeat(np.arange(len(part)), sizes)
    return np.stack([at, at + 1], axis=1)
