"""What version 0.1 called commands and options, and what they are called now."""

from types import MappingProxyType

#: commands of version 0.1 -> what they are called now
RENAMED = MappingProxyType(
    {
        ("distill", "search"): "attar pipeline search",
        ("distill", "importance"): "attar pipeline evaluate",
        ("draft", "distill"): "attar draft train DRAFT --target TARGET",
        ("draft", "profile"): "attar draft evaluate DRAFT --target TARGET",
        ("tokenizer", "fit"): "attar tokenizer train",
        ("tokenizer", "report"): "attar tokenizer evaluate",
        ("tokenizer", "verify"): "attar tokenizer evaluate --verify",
        ("tokenizer", "train-lm"): "attar pretrain --tokenizer TOKENIZER",
    }
)
#: options of version 0.1 -> what they are called now
RENAMED_OPTIONS = MappingProxyType(
    {
        "max_tokens": "--eval-tokens",
        "block_size": "--context",
        "window_tokens": "--context",
        "max_length": "--context",
        "bpb": "--bits",
        "student": "the model itself: attar distill STUDENT --teacher TEACHER",
        "student_share": "--draft-share",
        "authors": "--sources",
        "study": "--studies",
        "start": "--init",
        "new_tokens": "--max-new-tokens",
    }
)
