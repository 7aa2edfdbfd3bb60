"""Task scores by lm-evaluation-harness."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.errors import ConfigError, MissingExtraError
from attar.models import inference


def tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    names: Sequence[str],
    limit: int | float | None = None,
    batch_size: int = 8,
    include_path: str | Path | None = None,
) -> dict[str, dict[str, float]]:
    """Task scores by lm-evaluation-harness, as `{task: {metric: value}}`.

    Args:
        model: a loaded causal LM.
        tokenizer: its tokenizer.
        names: task names as `lm_eval --tasks list` shows them, or of the YAML files under
            `include_path`.
        limit: documents per task (a number), or a share below 1; None takes all.
        batch_size: requests per model call.
        include_path: a folder with task YAML files of your own.

    Raises:
        MissingExtraError: lm-eval is not installed.
        ConfigError: a task of that name does not exist.
    """
    try:
        lm_eval = import_module("lm_eval")
        huggingface = import_module("lm_eval.models.huggingface")
        manager_class = import_module("lm_eval.tasks").TaskManager
    except ImportError as error:
        raise MissingExtraError(
            f"task scores need lm-evaluation-harness, which is not installed ({error}); "
            "run pip install '.[eval]' in the checkout of Attar."
        ) from error
    manager = manager_class(include_path=None if include_path is None else str(include_path))
    unknown = [name for name in names if name not in manager.all_tasks]
    if unknown or not names:
        raise ConfigError(
            f"lm-eval knows no task called {', '.join(map(repr, unknown)) or '(none given)'}; "
            "`lm_eval --tasks list` shows all, include_path adds a folder of your own."
        )
    with inference(model):
        harness = huggingface.HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        answer = lm_eval.simple_evaluate(
            model=harness, tasks=list(names), limit=limit, task_manager=manager, bootstrap_iters=0
        )
    results = (answer or {}).get("results", {})
    return {
        task: {
            key.removesuffix(",none"): value
            for key, value in metrics.items()
            if isinstance(value, int | float)
        }
        for task, metrics in results.items()
    }
