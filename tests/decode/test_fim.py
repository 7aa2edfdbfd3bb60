"""Fill-in-the-middle prompts."""

from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from attar.decode.fim import Chunk, Fim

MARKS = ["<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<fim_pad>"]


def tokenizer_of(*special: str, bos: bool = False) -> Any:
    words = {word: i for i, word in enumerate(["<unk>", "<s>", *special, "a", "b", "c", "d"])}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    if bos:
        inner.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>")


def test_text_in_the_middle_is_asked_for_with_the_tokenizers_own_tokens() -> None:
    assert Fim.of(tokenizer_of()) is None
    for bos in (False, True):
        tokenizer = tokenizer_of(*MARKS, bos=bos)
        fim = Fim.of(tokenizer)
        assert fim is not None
        ids, cut = fim.prompt("a b", "c", extra=[Chunk("d", "b")], room=50)
        shown = "<s> " * bos + "b d <fim_prefix> a b <fim_suffix> c <fim_middle>"
        assert tokenizer.decode(ids) == shown
        assert not cut
        ids, cut = fim.prompt("a b c d", "d c b a", room=8 + bos)
        shown = "<s> " * bos + "<fim_prefix> a b c d <fim_suffix> d <fim_middle>"
        assert cut
        assert tokenizer.decode(ids) == shown
        assert tokenizer.convert_tokens_to_ids("<fim_pad>") in fim.ends
