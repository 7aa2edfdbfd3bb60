"""Where checkpoints come from, and one sentence for each way in which one can be broken."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers.utils.logging import (
    disable_progress_bar,
    enable_progress_bar,
    is_progress_bar_enabled,
)

from attar.checkpoint.claims import needs_code
from attar.errors import AttarError, CompatibilityError, DataError, MissingExtraError, require
from attar.foreign import read_json

#: what says so where a width is read off a config whose layers differ in it
_WIDTHS = "transformers.integrations.heterogeneity.configuration_utils"
#: where a folder has it, transformers reads the model that it names, and changes its layers
_ADAPTER = "adapter_config.json"


@contextmanager
def unnoticed_widths() -> Iterator[None]:
    """Leave out what transformers says, once for each name, where a width is read off a config
    whose layers differ in it: our classes read that of each layer.
    """
    logger = logging.getLogger(_WIDTHS)

    def other(record: logging.LogRecord) -> bool:
        return "global config value" not in record.getMessage()

    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


@contextmanager
def bars_on_terminals() -> Iterator[None]:
    """Keep the bars of transformers out of pipes and log files, where they would be drawn too."""
    hide = not sys.stderr.isatty() and is_progress_bar_enabled()
    if hide:
        disable_progress_bar()
    try:
        yield
    finally:
        if hide:
            enable_progress_bar()


def folder_of(path: str | Path) -> Path:
    """What may be a folder, or a name on the Hub."""
    fine = isinstance(path, str | Path) and str(path) != ""
    require(fine, "model", path, "a folder or a name on the Hub")
    folder = Path(path)
    try:
        folder.exists()
    except OSError as error:  # too long a name, or a folder above it that is closed
        raise DataError(
            f"cannot look for the model {str(path)[:100]!r}: {error.strerror}; give a folder that "
            "you may read, or a name on the Hugging Face Hub"
        ) from None
    return folder


def read_from(what: str, path: str | Path, call: Any) -> Any:
    """Turn the many ways in which a checkpoint can be absent or broken into one sentence."""
    folder = folder_of(path)
    if not folder.exists() and str(path).startswith((".", "/", "~")):
        raise DataError(
            f"no {what} at {str(path)!r}: there is no such folder; give one with config.json, or a "
            "name on the Hugging Face Hub"
        )
    if folder.is_file():
        raise DataError(f"expected a folder with a {what}, found the file {str(path)!r}")
    if what != "tokenizer" and (folder / _ADAPTER).is_file():
        raise CompatibilityError(
            f"expected a whole model in {str(path)!r}, found an adapter of PEFT ({_ADAPTER}); "
            f"merge it: AutoPeftModelFor{_adapted(folder)}.from_pretrained(folder)"
            ".merge_and_unload().save_pretrained(new_folder)"
        )
    if what != "tokenizer" and folder.is_dir() and not (folder / "config.json").exists():
        raise DataError(
            f"the folder {str(path)!r} has no config.json, so it is not a checkpoint; give "
            "the folder that a model was saved to"
        )
    try:
        with unnoticed_widths(), bars_on_terminals():
            return call()
    except AttarError:
        raise
    except ImportError as error:
        raise MissingExtraError(
            f"the {what} of {str(path)!r} needs a package that is not installed; install it "
            f"({reason_of(error)})"
        ) from error
    except Exception as error:  # libraries raise whatever a damaged file makes them trip over
        reason = reason_of(error)
        if "custom code" in reason:
            raise needs_code(path, f"no class of transformers reads its {what}") from None
        if folder.is_dir():
            raise DataError(
                f"cannot read the {what} of the checkpoint {str(path)!r}, which may be damaged; "
                f"save or download it again ({reason})"
            ) from error
        if absent := not_on_hub(error, "model"):
            raise DataError(
                f"no {what} named {str(path)!r}: there is no folder of that name here, and {absent}"
            ) from error
        raise DataError(
            f"cannot read the {what} of {str(path)!r} from the Hugging Face Hub ({reason}); give "
            "another model"
        ) from error


def _adapted(folder: Path) -> str:
    """The end of the name of PEFT's class for an adapter."""
    stored = read_json(folder / _ADAPTER, "the adapter's config")
    kind = stored.get("task_type") if isinstance(stored, dict) else None
    kinds = {
        "SEQ_CLS": "SequenceClassification",
        "TOKEN_CLS": "TokenClassification",
        "QUESTION_ANS": "QuestionAnswering",
        "SEQ_2_SEQ_LM": "Seq2SeqLM",
        "FEATURE_EXTRACTION": "FeatureExtraction",
    }
    return kinds.get(str(kind), "CausalLM")


def not_on_hub(error: BaseException, kind: str) -> str | None:
    """Why the Hub did not give a model or a data set, and what to do; None where that is not the
    cause of the error.
    """
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    kinds = {base for cause in causes for base in type(cause).__mro__}
    if HFValidationError in kinds:
        return "it cannot be a name on the Hugging Face Hub"
    if GatedRepoError in kinds:
        return "access to it on the Hugging Face Hub has to be asked for, on its page there"
    if RevisionNotFoundError in kinds:
        return "the Hugging Face Hub has it without that revision; give another"
    if RepositoryNotFoundError in kinds:
        return (
            f"the Hugging Face Hub has no {kind} of that name that you may read; check the name, "
            "or log in (hf auth login)"
        )
    if not kinds & {LocalEntryNotFoundError, ConnectionError}:
        return None
    if constants.HF_HUB_OFFLINE:
        return "the Hugging Face Hub is not asked, as HF_HUB_OFFLINE is set; check the name"
    return "the Hugging Face Hub cannot be reached; check the name and the connection"


def reason_of(error: Exception) -> str:
    """What a library says, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
