"""`attar serve`."""

from typing import Annotated

from cyclopts import Group, Parameter

from attar.cli.output import ExitCode, Output, Recipe
from attar.decode.settings import SpecConfig
from attar.server.config import ServeConfig
from attar.server.serving import serve as serve_model

_SERVING = Group("Serving options", sort_key=1)
_DRAFTING = Group("Drafting options", sort_key=2)


def serve(
    model: str,
    *,
    draft: str | None = None,
    store: str | None = None,
    output_dir: Output = None,
    recipe: Recipe = None,
    config: Annotated[ServeConfig, Parameter(name="*", group=_SERVING)] = ServeConfig(),
    decoding: Annotated[SpecConfig, Parameter(name="*", group=_DRAFTING)] = SpecConfig(),
) -> int:
    """Serve a model to clients of the OpenAI API, until Ctrl-C: completions, chats and, where the
    tokenizer has tokens for it, fill-in-the-middle as llama.vim asks for it.

    Example: `attar serve my-model --draft my-draft`

    Parameters
    ----------
    model
        Folder, GGUF file or Hub name.
    draft
        Folder or Hub name of a small model, as `attar draft` makes; layers:N for the first N layers
        of the model itself; lookup, which copies what followed the same tokens earlier; or
        ngrams:FOLDER, which copies what followed them most often in the texts of a store that
        `attar ngrams train` made.
    store
        Folder that attar ngrams train wrote, for the mode superposed.
    output_dir
        Write the record (attar.json) into this folder when the server stops.
    """
    serve_model(
        model,
        draft=draft,
        store=store,
        config=config,
        decoding=decoding,
        output_dir=output_dir,
        recipe=recipe,
    )
    return ExitCode.DONE
